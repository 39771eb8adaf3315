"""GET requests that the component answers: the capability, the heartbeat, and files if ``serve_files`` is set."""

from __future__ import annotations

import json
import logging
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import unquote, urlsplit
from wsgiref.types import WSGIEnvironment

from webob import Response

from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.record_attachments.storage import Storage
from fileupload.apps.record_attachments.subrequests import forward, json_of
from fileupload.apps.record_attachments.urls import RecordTemplate
from fileupload.errors import FileMissing
from fileupload.wsgi.file_responses import ServedFile, file_response

log = logging.getLogger("fileupload")


class RecordService:
    """Answers GET requests for the server's root, its heartbeat, and the files of records."""

    def __init__(self, app: Any, settings: RecordSettings, template: RecordTemplate, storage: Storage) -> None:
        self._app = app
        self._settings = settings
        self._storage = storage
        self._root = template.at_root("").rstrip("/")
        self._heartbeat = template.at_root("__heartbeat__")
        public = settings.base_url or settings.extra_base_url
        self._files_path = unquote(urlsplit(public).path) if settings.serve_files else ""

    def respond(self, environ: WSGIEnvironment) -> Response | None:
        """Return the answer, or None for a request that the app answers.

        :raises FileMissing: the file does not exist.
        """
        path = environ.get("PATH_INFO", "")
        if path.rstrip("/") == self._root:
            return self._add_capability(forward(self._app, environ))
        if path == self._heartbeat:
            return self._add_heartbeat(forward(self._app, environ))
        whole = environ.get("SCRIPT_NAME", "") + path
        if self._files_path and whole.startswith(self._files_path):
            return self._serve(environ, whole.removeprefix(self._files_path))
        return None

    def _add_capability(self, answer: Response) -> Response:
        """Add the capability ``attachments`` to those of the server."""
        data = json_of(answer)
        if answer.status_code == 200 and isinstance(data, dict):
            capabilities = data.setdefault("capabilities", {})
            if isinstance(capabilities, dict):
                capabilities["attachments"] = {
                    "version": _version(),
                    "description": "Add file attachments to records",
                    "url": "",  # as Kinto has it for a capability without a page
                    "base_url": self._settings.extra_base_url or self._settings.base_url,
                }
                answer.body = json.dumps(data).encode()
        return answer

    def _add_heartbeat(self, answer: Response) -> Response:
        data = json_of(answer)
        if isinstance(data, dict):
            data["attachments"] = self._is_alive()
            answer.body = json.dumps(data).encode()
            if not data["attachments"]:
                answer.status_code = 503
        return answer

    def _is_alive(self) -> bool:
        try:
            if not self._settings.readonly:
                self._storage.ping()
        except Exception:
            log.exception("heartbeat: a test file could not be written and deleted")
            return False
        return True

    def _serve(self, environ: WSGIEnvironment, location: str) -> Response:
        file = self._storage.find(location)
        if file is None:
            raise FileMissing
        served = ServedFile(
            name=file.filename,
            content_type=file.mimetype,
            size=file.size,
            etag=file.hash,
            inline=file.is_shown,
        )
        response = file_response(environ, served, partial(self._storage.open, file), self._settings)
        # The file is public. It may be cached: a file that replaces it has another location. By default caches must
        # ask for each use, so that a removed file is not served for long.
        response.headers["Cache-Control"] = self._settings.cache_control or "public, no-cache"
        return response


def _version() -> str:
    try:
        return version("fileupload")
    except PackageNotFoundError:  # a source checkout that is not installed
        return "0"
