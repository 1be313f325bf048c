"""Faults that a drafter can have, one small check each."""
