"""The project as a WSGI application, with the attachments in front."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from fileupload import SessionAttachments

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "letters.settings")

application = SessionAttachments(
    get_wsgi_application(),
    path=settings.ATTACHMENTS_PATH,
    directory=settings.ATTACHMENTS_POOL,
    session="fileupload.apps.session_attachments.django:session",
    max_file_size=settings.ATTACHMENTS_MAX_FILE_SIZE,
    max_bundle_size=settings.ATTACHMENTS_MAX_BUNDLE_SIZE,
    max_bundle_files=settings.ATTACHMENTS_MAX_BUNDLE_FILES,
)
