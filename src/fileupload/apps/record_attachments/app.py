"""The WSGI component for record attachments: files are uploaded by ``POST {record-url}/attachment``."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Self
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

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
from fileupload.apps.record_attachments.urls import RecordAddress, RecordTemplate
from fileupload.errors import UploadError
from fileupload.factory import make_manager
from fileupload.manager import UploadManager
from fileupload.wsgi.pipeline import Answer, PassThrough, Pipeline, Resource
from fileupload.wsgi.request import Request

log = logging.getLogger("fileupload")


class RecordAttachments:
    """Attaches files to the records of a REST app, and removes the files that no record refers to any more.

    ::

        app = RecordAttachments(app, directory="/srv/uploads")

    Under the app, every request finds the :class:`~fileupload.manager.UploadManager` in ``environ['fileupload']``.
    """

    def __init__(self, app: WSGIApplication, **settings: Any) -> None:
        """Wrap *app*.

        :param settings: those of :class:`~fileupload.apps.record_attachments.settings.RecordSettings`.
        :raises SettingError: a setting is unknown or invalid, or the pool cannot be used.
        """
        parsed = RecordSettings.parse(settings)
        if warning := RecordSettings.unit_warning(settings):
            log.warning(warning)
        self._set_up(app, make_manager(parsed), parsed)

    @classmethod
    def from_manager(cls, app: WSGIApplication, manager: UploadManager, settings: RecordSettings) -> Self:
        """Return the component in front of *app*, with the pool of *manager*."""
        self = cls.__new__(cls)
        self._set_up(app, manager, settings)
        return self

    def _set_up(self, app: WSGIApplication, manager: UploadManager, settings: RecordSettings) -> None:
        self.app = app
        self.manager = manager
        manager.pool.check()
        self._template = RecordTemplate(settings.record_url)
        api: ApiAdapter = (KintoApi if settings.uses_kinto_api else RestApi)(self._template)
        self._api = api
        storage = make_storage(manager.pool, settings)
        if not (settings.base_url or settings.extra_base_url):
            settings = replace(settings, base_url=storage.address)
        ledger = RecordLedger(storage, settings)
        changes = ChangeGuard(self._template, api, ledger)
        self._uploads = RecordUploads(manager, settings, api, ledger, changes)
        self._passthrough = RecordPassthrough(app, settings, self._template, api, changes)
        self._service = RecordService(app, settings, self._template, storage)
        self._pipeline = Pipeline(manager.settings, name="attachment", render_error=self._render_error)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.setdefault("fileupload", self.manager)
        # In upper case: an app may treat "delete" as DELETE, and that change must be guarded, too.
        request = Request(environ, method=str(environ["REQUEST_METHOD"]).upper())
        try:
            return self._pipeline.run(request, start_response, self._route, self.app)
        except AppFailed as failure:
            raise failure.error from None

    def _route(self, request: Request) -> Resource:
        record = self._template.endpoint(request.environ.get("PATH_INFO", ""))
        if record is None:
            return Resource("record", {}, otherwise=self._pass_on)
        return Resource(
            "file",
            {
                "POST": partial(self._attach, record),
                "DELETE": partial(self._detach, record),
                "OPTIONS": partial(self._preflight, record),
            },
        )

    def _attach(self, record: RecordAddress, request: Request) -> Response:
        return self._uploads.attach(self._client(request), record, request)

    def _detach(self, record: RecordAddress, request: Request) -> Response:
        return self._uploads.detach(self._client(request), record)

    def _preflight(self, record: RecordAddress, request: Request) -> Response:
        return self._uploads.preflight(self._client(request), record, request.environ)

    def _client(self, request: Request) -> AppClient:
        return AppClient(self.app, request.environ)

    def _pass_on(self, request: Request) -> Answer:
        """Answer a request that changes a record, or that requests a file; any other passes through to the app.

        :raises UploadError: the change is refused.
        :raises AppFailed: the app raised an exception.
        """
        response = self._passthrough.respond(request.environ)
        if response is None and request.method in {"GET", "HEAD"}:
            response = self._service.respond(request.environ)
        return PassThrough() if response is None else response

    def _render_error(self, error: UploadError, environ: WSGIEnvironment) -> Response:
        response = self._api.problem(error, environ)
        if "HTTP_ORIGIN" in environ:
            response.headers.extend(self._cors_headers(environ))
        return response

    def _cors_headers(self, environ: WSGIEnvironment) -> list[tuple[str, str]]:
        """Return the CORS headers that the app's own answers have for the requesting page (Fetch standard)."""
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
