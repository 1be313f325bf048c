"""Text to ids, and which of them are counted."""
