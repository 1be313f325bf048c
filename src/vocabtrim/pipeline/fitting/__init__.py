"""What `vocabtrim fit` is made of; see `pipeline/fit.py`."""
