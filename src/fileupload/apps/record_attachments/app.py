"""Files attached to the records of a REST app: ``POST {record-url}/attachment``."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from webob import Response

from fileupload.apps.record_attachments.api_adapters import ApiAdapter, KintoApi, RestApi
from fileupload.apps.record_attachments.change_guard import ChangeGuard
from fileupload.apps.record_attachments.ledger import RecordLedger
from fileupload.apps.record_attachments.passthrough import RecordPassthrough
from fileupload.apps.record_attachments.public_storage import make_storage
from fileupload.apps.record_attachments.service import RecordService
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.record_attachments.subrequests import AppClient, AppFailed
from fileupload.apps.record_attachments.uploads import RecordUploads
from fileupload.apps.record_attachments.urls import RecordTemplate
from fileupload.errors import MethodNotAllowed, UploadError, storage_error
from fileupload.manager import UploadManager
from fileupload.wsgi.request_body import BODY_KEY
from fileupload.wsgi.responses import Environ, send

log = logging.getLogger("fileupload")


class RecordFilter:
    """Stands in front of *app*, takes the files for its records, and keeps track of them.

    Under *app*, every request finds the :class:`UploadManager` in ``environ['fileupload']``.
    """

    def __init__(self, app: Any, manager: UploadManager, settings: RecordSettings) -> None:
        self.app = app
        self.manager = manager
        self._template = RecordTemplate(settings.record_url)
        api: ApiAdapter = (KintoApi if settings.uses_kinto_api else RestApi)(self._template)
        self._api = api
        storage = make_storage(manager.pool, settings)
        if not (settings.base_url or settings.extra_base_url):
            settings = replace(settings, base_url=storage.address)
        files = RecordLedger(storage, settings)
        changes = ChangeGuard(self._template, api, files)
        self._uploads = RecordUploads(manager, settings, api, files, changes)
        self._traffic = RecordPassthrough(app, settings, self._template, api, changes)
        self._service = RecordService(app, settings, self._template, storage)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        environ.setdefault("fileupload", self.manager)
        environ.setdefault(BODY_KEY, [])
        try:
            response = self._respond(environ)
        except UploadError as error:
            log.info("%s of an attachment refused: %s", environ["REQUEST_METHOD"], error.code)
            response = self._refuse(error, environ)
        except OSError as error:
            log.exception("the pool failed")
            response = self._refuse(storage_error(error), environ)
        except AppFailed as failure:
            raise failure.error from None
        if response is None:
            passed_on: Iterable[bytes] = self.app(environ, start_response)
            return passed_on
        return send(response, environ, start_response, self.manager.settings)

    def _respond(self, environ: Environ) -> Response | None:
        """Return the answer, or None where the app is to answer.

        :raises UploadError: the request is refused.
        :raises AppFailed: the app raised an error.
        """
        method, path = str(environ["REQUEST_METHOD"]).upper(), environ.get("PATH_INFO", "")
        if (record := self._template.endpoint(path)) is not None:
            client = AppClient(self.app, environ)
            if method == "POST":
                return self._uploads.attach(client, record, environ)
            if method == "DELETE":
                return self._uploads.detach(client, record)
            if method == "OPTIONS":
                return self._uploads.preflight(client, record, environ)
            raise MethodNotAllowed(method, ("POST", "DELETE", "OPTIONS"))
        response = self._traffic.respond(environ)
        return self._service.respond(environ) if response is None and method in {"GET", "HEAD"} else response

    def _refuse(self, error: UploadError, environ: Environ) -> Response:
        response = self._api.problem(error, environ)
        if "HTTP_ORIGIN" in environ:
            response.headers.extend(self._cors_headers(environ))
        return response

    def _cors_headers(self, environ: Environ) -> list[tuple[str, str]]:
        """Return what the app tells the page of another origin on its own answers (Fetch, CORS protocol)."""
        record = self._template.endpoint(environ.get("PATH_INFO", ""))
        try:
            answer = AppClient(self.app, environ).request(
                "GET", record.path if record else self._template.at_root("") + "/"
            )
        except AppFailed:
            return []
        return [
            (name, value) for name, value in answer.headerlist if name.lower().startswith(("access-control-", "vary"))
        ]
