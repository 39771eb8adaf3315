"""A small Django project: upload files with a title, list them, download them."""
