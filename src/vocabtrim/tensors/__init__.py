"""Checkpoints as lazily read rows of bytes."""
