"""Engines as servers that are started, asked, measured and ended; one file each."""
