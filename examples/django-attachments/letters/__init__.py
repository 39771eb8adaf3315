"""A small Django project: a letter with attachments, for which nobody needs to log in."""
