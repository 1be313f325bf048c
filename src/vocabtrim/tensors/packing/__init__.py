"""How rows of a head are taken from each packed layout."""
