"""The demo pair and its data, shipped with the package."""
