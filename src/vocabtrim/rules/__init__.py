"""Which ids are kept; one file each."""
