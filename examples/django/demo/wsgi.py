"""The project as a WSGI application, with the upload middleware in front."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from fileupload import UploadMiddleware

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")

application = UploadMiddleware(
    get_wsgi_application(),
    directory=settings.UPLOAD_POOL,
    max_size=settings.UPLOAD_MAX_SIZE,
)
