"""Entries of uploaded files."""

from django.db import models


class Entry(models.Model):
    """An uploaded file; its name on disk is the project's own, and ``filename`` is the one that was sent."""

    title = models.CharField(max_length=200)
    filename = models.TextField()
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    file = models.FileField()
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Newest first."""

        ordering = ("-pk",)

    def __str__(self) -> str:
        return str(self.title)
