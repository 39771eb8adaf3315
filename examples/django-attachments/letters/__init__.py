"""A small Django project: a letter with attachments, without a login."""
