"""Any server that speaks the OpenAI protocol, as an author of text."""
