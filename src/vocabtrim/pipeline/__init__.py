"""The verbs: one module, one public function each."""
