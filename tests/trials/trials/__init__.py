"""The trials; ../run.py lists and runs them."""
