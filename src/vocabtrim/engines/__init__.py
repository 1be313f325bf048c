"""Engines that serve models: what is exported to them and asked of them."""
