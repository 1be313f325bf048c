"""Trim the LM head of a speculative-decoding drafter to the ids that matter."""
