"""Ourselves and others, side by side: ``python -m bench``."""
