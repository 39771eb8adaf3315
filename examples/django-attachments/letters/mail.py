"""Sends a letter as an e-mail."""

import re
from collections.abc import Iterable

from django.conf import settings
from django.core.mail import EmailMessage

# Mail servers may change the line ends of text and messages: these are sent as application/octet-stream.
_UNCHANGED = re.compile(r"(?:application|audio|font|image|model|video)/[\w.+-]+", re.ASCII)


def send_letter(subject: str, text: str, files: Iterable[tuple[str, str, bytes]]) -> None:
    """Send a letter with *files*, each of a name, a media type and its bytes.

    :raises OSError: it could not be sent.
    """
    message = EmailMessage(subject, text, to=[settings.LETTERS_TO])
    for name, mimetype, content in files:
        unchanged = _UNCHANGED.fullmatch(mimetype) is not None
        message.attach(name, content, mimetype if unchanged else "application/octet-stream")
    message.send()
