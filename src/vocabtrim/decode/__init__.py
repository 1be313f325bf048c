"""Lossless speculative decoding in PyTorch."""
