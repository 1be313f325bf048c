"""Which tensors of a drafter follow the vocabulary; one file each."""
