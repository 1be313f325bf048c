"""How `bench` works: arms served side by side, asked in turns, and compared."""
