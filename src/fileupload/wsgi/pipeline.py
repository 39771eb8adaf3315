"""The HTTP pipeline of all applications of this package: route, handler, answer.

A *route* finds the :class:`Resource` of a request, which has a handler for each method. :class:`Pipeline` has the rules
that hold for every answer: errors become responses, CORS headers are added, HEAD is answered as GET, an unknown method
with 405, and the rest of a refused request's body is drained after the answer.

    def route(request: Request) -> Resource | None:
        return Resource("status", {"GET": show, "DELETE": reset}) if request.environ["PATH_INFO"] == "/status" else None

    Pipeline(settings).run(Request(environ), start_response, route, app)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from webob import Response

from fileupload.errors import MethodNotAllowed, StorageFailed, UploadError, storage_error
from fileupload.settings import Settings
from fileupload.wsgi.cors import CorsPolicy, adding_headers
from fileupload.wsgi.request import Request
from fileupload.wsgi.request_body import BODY_KEY, BodyReader, unread_body
from fileupload.wsgi.responses import problem, with_error_headers
from fileupload.wsgi.upload_log import RequestLog, request_log

_log = logging.getLogger("fileupload")


@dataclass(frozen=True)
class PassThrough:
    """An answer by which the app behind handles the request.

    :ivar headers: headers to add to the app's answer.
    """

    headers: tuple[tuple[str, str], ...] = ()


Answer = Response | PassThrough
Handler = Callable[[Request], Answer]


class Resource:
    """The handlers of one address, by method.

    ``HEAD`` is answered by the handler of ``GET`` (RFC 9110, 9.3.2). Any other method that has no handler is refused
    with 405 and an ``Allow`` that names those that have one.
    """

    def __init__(
        self,
        name: str,
        handlers: Mapping[str, Handler],
        *,
        otherwise: Handler | None = None,
        guarded: bool = True,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Answer with *handlers*, by method.

        :param name: the name of the address in the log; it must contain no text from the client.
        :param otherwise: the handler of all other methods, instead of 405.
        :param guarded: whether the pipeline calls its guard before the handler.
        :param headers: headers of every answer: those of the handlers, of the app behind, errors and preflights.
        """
        self.name = name
        self.headers = headers
        self.guarded = guarded
        self._handlers = handlers
        self._otherwise = otherwise

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that have a handler."""
        own = tuple(method for method in self._handlers if method != "HEAD" or "GET" not in self._handlers)
        return tuple(each for method in own for each in (("GET", "HEAD") if method == "GET" else (method,)))

    def answer(self, request: Request) -> Answer:
        """Answer *request* with the handler of its method.

        :raises MethodNotAllowed: the method has no handler.
        """
        method = "GET" if request.method == "HEAD" and "HEAD" not in self._handlers else request.method
        handler = self._handlers.get(method, self._otherwise)
        if handler is None:
            raise MethodNotAllowed(request.method, self.methods)
        return handler(request)


# Returns the resource of a request, or None if the app behind answers it; raises UploadError if neither does.
Route = Callable[[Request], Resource | None]


class Pipeline:
    """Answers the requests to one application, by the rules that all applications share."""

    def __init__(
        self,
        settings: Settings,
        *,
        name: str = "",
        cors: CorsPolicy | None = None,
        guard: Callable[[Request], None] | None = None,
        render_error: Callable[[UploadError, WSGIEnvironment], Response] = problem,
    ) -> None:
        """Answer with these rules.

        :param settings: the limits for draining: ``drain_time`` and ``drain_size``.
        :param name: the application's name in the log, before the name of the resource.
        :param cors: the CORS policy. Without one, preflights go to the handlers of ``OPTIONS``.
        :param guard: called before a handler; it raises UploadError to refuse the request.
        :param render_error: returns the response for an error, in the form that the application's clients expect.
        """
        self._settings = settings
        self._name = name
        self._cors = cors
        self._guard = guard
        self._render_error = render_error

    def run(
        self, request: Request, start_response: StartResponse, route: Route, app: WSGIApplication | None = None
    ) -> Iterable[bytes]:
        """Answer *request* by its *route*, or pass it through to *app*.

        Exceptions of *app* are not caught; the server handles them.
        """
        environ = request.environ
        environ.setdefault(BODY_KEY, [])
        received = dict(environ)  # a handler may detach the body from environ; the rest of it must still be drained
        answer: Answer | None = None
        with request_log(environ, self._settings) as log:
            try:
                resource = route(request)
            except UploadError as error:
                log.write_error(error, request.method, self._name)
                answer = self._render(error, request)
            else:
                if resource is not None:
                    start_response = adding_headers(start_response, resource.headers)
                    answer = self._answer(request, resource, log)
        if answer is None:
            assert app is not None
            return app(environ, start_response)
        start = adding_headers(start_response, self._cors.headers(environ) if self._cors else ())
        if isinstance(answer, PassThrough):
            assert app is not None
            return app(environ, adding_headers(start, answer.headers))
        return _send(answer, received, start, self._settings)

    def _answer(self, request: Request, resource: Resource, log: RequestLog) -> Answer:
        try:
            if self._cors is not None and request.is_preflight:
                return self._cors.preflight(request.environ, resource.methods)
            if self._guard is not None and resource.guarded:
                self._guard(request)
            answer = resource.answer(request)
        except UploadError as error:  # before OSError: some are both
            # No other variable may refer to the error: its traceback refers to this frame, and such a cycle would keep
            # the body and its buffers until the next garbage collection.
            return self._refuse(error, request, resource, log)
        except OSError as error:
            _log.exception("the pool failed")
            return self._refuse(storage_error(error), request, resource, log)
        except BaseException:
            if log.begun:
                log.write_error(StorageFailed(), request.method, self._address_of(resource))
            raise
        log.write_end()
        return answer

    def _refuse(self, error: UploadError, request: Request, resource: Resource, log: RequestLog) -> Response:
        log.write_error(error, request.method, self._address_of(resource))
        return self._render(error, request)

    def _address_of(self, resource: Resource) -> str:
        return " ".join(filter(None, (self._name, resource.name)))

    def _render(self, error: UploadError, request: Request) -> Response:
        return with_error_headers(self._render_error(error, request.environ), error)


def _send(
    response: Response, environ: WSGIEnvironment, start_response: StartResponse, settings: Settings
) -> Iterable[bytes]:
    """Send *response*, and drain the rest of the request's body after it.

    A server calls ``close()`` of the answer when the answer has been sent (PEP 3333), so the client does not wait for
    the draining.
    """
    body = unread_body(environ, settings)
    if body is not None:
        body.prepare_to_drain()
    location = response.headers.get("Location")
    if location is not None:
        start_response = _keeping_location(start_response, location)
    answer: Iterable[bytes] = response(environ, start_response)
    return answer if body is None else _DrainingAnswer(answer, body)


def _keeping_location(start_response: StartResponse, location: str) -> StartResponse:
    """Return a ``start_response`` that sends *location* as it is.

    WebOb makes a relative one absolute, with the scheme and the host of the connection, which are wrong behind a proxy.
    """

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
        kept = [(name, location if name.lower() == "location" else value) for name, value in headers]
        return start_response(status, kept, *([exc_info] if exc_info else []))

    return start


class _DrainingAnswer:
    """An answer that drains the rest of the request's body when the server closes it."""

    def __init__(self, answer: Iterable[bytes], body: BodyReader) -> None:
        self._answer = answer
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._answer)

    def close(self) -> None:
        try:
            close: Any = getattr(self._answer, "close", None)
            if close is not None:
                close()
        finally:
            self._body.drain()
