"""The HTTP front of all applications here: route, handler, answer.

A *route* finds the :class:`Resource` of a request, which has a handler for each method. What must be the same for every
answer happens in :class:`Pipeline`, and nowhere else: errors become answers, other origins are told what they may do,
HEAD is answered as GET, an unknown method with 405, and the rest of a refused body is drained behind the answer.

    def route(request: Request) -> Resource | None:
        return Resource("status", {"GET": show, "DELETE": reset}) if request.environ["PATH_INFO"] == "/status" else None

    Pipeline(settings).run(Request(environ), start_response, route, app)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from webob import Response

from fileupload.errors import MethodNotAllowed, UploadError, storage_error
from fileupload.settings import Settings
from fileupload.wsgi.cors import CorsPolicy, adding_headers
from fileupload.wsgi.request import Request
from fileupload.wsgi.request_body import BODY_KEY, BodyReader, unread_body
from fileupload.wsgi.responses import problem, with_error_headers

log = logging.getLogger("fileupload")


@dataclass(frozen=True)
class PassThrough:
    """The app behind answers the request.

    :ivar headers: what is added to its answer.
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
    ) -> None:
        """Take the *handlers*.

        :param name: of the address, for the log; it holds nothing that the client chose.
        :param otherwise: answers the methods that have no handler.
        :param guarded: whether the pipeline's guard comes before the handler.
        """
        self.name = name
        self.guarded = guarded
        self._handlers = handlers
        self._otherwise = otherwise

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that have a handler."""
        return tuple(each for method in self._handlers for each in (("GET", "HEAD") if method == "GET" else (method,)))

    def answer(self, request: Request) -> Answer:
        """Answer *request* with the handler of its method.

        :raises MethodNotAllowed: there is none.
        """
        method = "GET" if request.method == "HEAD" and "HEAD" not in self._handlers else request.method
        handler = self._handlers.get(method, self._otherwise)
        if handler is None:
            raise MethodNotAllowed(request.method, self.methods)
        return handler(request)


# Finds the resource of a request: None if the app behind is to answer, UploadError if there is none.
Route = Callable[[Request], Resource | None]


class Pipeline:
    """Answers requests."""

    def __init__(
        self,
        settings: Settings,
        *,
        name: str = "",
        cors: CorsPolicy | None = None,
        guard: Callable[[Request], None] | None = None,
        render_error: Callable[[UploadError, WSGIEnvironment], Response] = problem,
    ) -> None:
        """Take what is the same for all requests to an application.

        :param settings: the limits for draining.
        :param name: what the log calls the application, beside the name of the resource.
        :param cors: what other origins may do. Without it, preflights go to the handlers of ``OPTIONS``.
        :param guard: called before a handler; it raises UploadError to refuse the request.
        :param render_error: makes the answer to an error, in the form that the application's clients know.
        """
        self._settings = settings
        self._name = name
        self._cors = cors
        self._guard = guard
        self._render_error = render_error

    def run(
        self, request: Request, start_response: StartResponse, route: Route, app: WSGIApplication | None = None
    ) -> Iterable[bytes]:
        """Answer *request* by its *route*, or have *app* answer it.

        An app that raises is not caught: its errors are its server's affair.
        """
        environ = request.environ
        environ.setdefault(BODY_KEY, [])
        received = dict(environ)  # a handler may detach the body; what is left of it must be drained all the same
        start = adding_headers(start_response, self._cors.headers(environ) if self._cors else [])
        answer = self._answer(request, route)
        if isinstance(answer, PassThrough):
            assert app is not None
            return app(environ, adding_headers(start, list(answer.headers)))
        return send(answer, received, start, self._settings)

    def _answer(self, request: Request, route: Route) -> Answer:
        name = self._name
        try:
            resource = route(request)
            if resource is None:
                return PassThrough()
            name = f"{name} {resource.name}".lstrip()
            if self._cors is not None and request.is_preflight:
                return self._cors.preflight(request.environ, resource.methods)
            if self._guard is not None and resource.guarded:
                self._guard(request)
            return resource.answer(request)
        except UploadError as error:  # before OSError: some are both
            log.info("%s %s refused: %s", request.method, name, error.code)
            return self._refuse(error, request)
        except OSError as error:
            log.exception("the pool failed")
            return self._refuse(storage_error(error), request)

    def _refuse(self, error: UploadError, request: Request) -> Response:
        return with_error_headers(self._render_error(error, request.environ), error)


def send(
    response: Response, environ: WSGIEnvironment, start_response: StartResponse, settings: Settings
) -> Iterable[bytes]:
    """Send *response*, and drain what is left of the request's body after it.

    The answer goes out first, and so at once: a server calls ``close()`` of it when it has been sent (PEP 3333).
    """
    body = unread_body(environ, settings)
    if body is not None:
        body.prepare_to_drain()
    answer: Iterable[bytes] = response(environ, start_response)
    return answer if body is None else _DrainingAnswer(answer, body)


class _DrainingAnswer:
    """An answer; when the server has sent it, what is left of the request's body is drained."""

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
