"""How `count` works: in parallel, in bounded memory, and so that it can go on."""
