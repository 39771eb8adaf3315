"""Dedicated upload server, ``fileupload serve``."""
