"""What decoding would have come to, without decoding again."""
