"""Drafters: what proposes tokens over a draft vocabulary."""
