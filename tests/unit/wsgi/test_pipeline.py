"""The HTTP pipeline: methods, preflights, errors, draining, and requests that reach the app."""

from __future__ import annotations

import errno
import io
import json
import logging
from collections.abc import Callable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import setup_testing_defaults

import pytest
from webob import Response
from webob.exc import HTTPSeeOther

from fileupload.errors import TooLarge, UploadError
from fileupload.settings import Settings
from fileupload.wsgi.cors import CorsPolicy
from fileupload.wsgi.pipeline import Answer, PassThrough, Pipeline, Resource
from fileupload.wsgi.request import Request

TRUSTED_ORIGIN = "https://www.example.com"
CORS = CorsPolicy(origins=(TRUSTED_ORIGIN,), refusal="Not from there.")


class Result:
    """A response as a server would send it, and its iterable, which is not closed yet."""

    def __init__(self, answer: Any, started: list[Any]) -> None:
        self.answer = answer
        self.status = int(started[0].split()[0])
        self.headers = [(name.lower(), value) for name, value in started[1]]
        self.body = b"".join(answer)

    def header(self, name: str) -> str | None:
        return next((value for each, value in self.headers if each == name), None)


def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Own", "app")])
    return [b"the app"]


def run(pipeline: Pipeline, resource: Resource | UploadError | None, method: str = "GET", **environ: Any) -> Result:
    def route(request: Request) -> Resource | None:
        if isinstance(resource, UploadError):
            raise resource
        return resource

    given: dict[str, Any] = {"REQUEST_METHOD": method, **environ}
    setup_testing_defaults(given)
    started: list[Any] = []
    start: Any = lambda status, headers, exc_info=None: started.extend([status, headers])  # noqa: E731
    return Result(pipeline.run(Request(given), start, route, app), started)


def say(text: str) -> Callable[[Request], Answer]:
    return lambda request: Response(text, content_type="text/plain", charset="utf-8")


def fail(error: BaseException) -> Callable[[Request], Answer]:
    def handler(request: Request) -> Answer:
        raise error

    return handler


BOTH = Resource("thing", {"GET": say("shown"), "DELETE": say("removed")})


def test_each_method_has_its_handler() -> None:
    """The method selects the handler; HEAD is handled as GET, without a body."""
    pipeline = Pipeline(Settings())
    assert run(pipeline, BOTH).body == b"shown"
    assert run(pipeline, BOTH, "DELETE").body == b"removed"
    head = run(pipeline, BOTH, "HEAD")
    assert (head.status, head.body, head.header("content-length")) == (200, b"", "5")


@pytest.mark.parametrize("method", ["POST", "PATCH", "OPTIONS", "TRACE", "get"])
def test_another_method_is_refused_with_those_that_are_possible(method: str) -> None:
    """A 405 response lists the allowed methods of the resource in Allow (RFC 9110, 15.5.6)."""
    answer = run(Pipeline(Settings()), BOTH, method)
    assert (answer.status, answer.header("allow")) == (405, "GET, HEAD, DELETE")
    assert json.loads(answer.body)["code"] == "method-not-allowed"


def test_a_resource_may_pass_other_methods_to_the_app() -> None:
    """A resource in front of an app passes other methods to the app."""
    resource = Resource("thing", {"PUT": say("stored")}, otherwise=lambda request: PassThrough((("X-Added", "1"),)))
    answer = run(Pipeline(Settings()), resource, "POST")
    assert (answer.body, answer.header("x-added"), answer.header("x-own")) == (b"the app", "1", "app")


def test_a_request_without_a_resource_reaches_the_app_unchanged() -> None:
    """The app decides alone which pages may read its own answers: no CORS header is added to them."""
    answer = run(Pipeline(Settings(), cors=CORS), None, HTTP_ORIGIN=TRUSTED_ORIGIN)
    assert [name for name, _ in answer.headers] == ["content-type", "x-own"]


@pytest.mark.parametrize(
    ("method", "environ"),
    [
        ("GET", {}),
        ("DELETE", {}),
        ("POST", {}),
        ("PATCH", {}),
        ("OPTIONS", {"HTTP_ORIGIN": TRUSTED_ORIGIN, "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "GET"}),
    ],
)
def test_a_resource_adds_its_headers_to_every_answer(method: str, environ: dict[str, str]) -> None:
    """A resource's headers are in answers of its handlers and of the app, in errors, 405 and preflights."""
    handlers: dict[str, Callable[[Request], Answer]] = {
        "GET": say("shown"),
        "DELETE": fail(TooLarge("It is too large.")),
        "POST": lambda request: PassThrough(),
    }
    resource = Resource("thing", handlers, headers=[("Tus-Resumable", "1.0.0")])
    assert run(Pipeline(Settings(), cors=CORS), resource, method, **environ).header("tus-resumable") == "1.0.0"


def test_pages_may_read_the_headers_that_the_policy_lists() -> None:
    """Access-Control-Expose-Headers names the headers of all answers, and those of the application."""
    cors = CorsPolicy(origins=(TRUSTED_ORIGIN,), refusal="", response_headers=("Upload-Offset",))
    exposed = run(Pipeline(Settings(), cors=cors), BOTH, HTTP_ORIGIN=TRUSTED_ORIGIN).header(
        "access-control-expose-headers"
    )
    assert exposed == "Location, Content-Disposition, Content-Length, ETag, Upload-Offset"


def test_a_preflight_lists_the_methods_of_the_resource() -> None:
    """A preflight lists the methods that have a handler, and calls neither a handler nor the guard."""
    pipeline = Pipeline(Settings(), cors=CORS, guard=lambda request: pytest.fail("a preflight has no credentials"))
    asked = {"HTTP_ORIGIN": TRUSTED_ORIGIN, "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "DELETE"}
    answer = run(pipeline, BOTH, "OPTIONS", **asked)
    assert (answer.status, answer.header("access-control-allow-methods")) == (204, "GET, HEAD, DELETE")
    assert answer.header("access-control-allow-origin") == TRUSTED_ORIGIN
    stranger = run(pipeline, BOTH, "OPTIONS", **{**asked, "HTTP_ORIGIN": "https://evil.example"})
    assert (stranger.status, stranger.header("access-control-allow-origin")) == (403, None)
    assert json.loads(stranger.body)["detail"] == "Not from there."


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (TooLarge("It is too large."), 413, "too-large"),
        (OSError(errno.ENOSPC, "full"), 507, "pool-full"),
        (OSError(errno.EIO, "broken"), 500, "storage-failed"),
    ],
)
def test_errors_become_answers(caplog: pytest.LogCaptureFixture, error: Exception, status: int, code: str) -> None:
    """An error of a handler gets the application's error response, with CORS headers, and one log line.

    The traceback of an error of the pool is another one.
    """
    pipeline = Pipeline(Settings(), name="app", cors=CORS)
    with caplog.at_level(logging.INFO, logger="fileupload"):
        answer = run(
            pipeline, Resource("thing", {"GET": fail(error)}), HTTP_ORIGIN=TRUSTED_ORIGIN, QUERY_STRING="secret=1"
        )
    assert (answer.status, json.loads(answer.body)["code"]) == (status, code)
    assert answer.header("access-control-allow-origin") == TRUSTED_ORIGIN
    assert len([record for record in caplog.records if record.exc_info is None]) == 1
    assert "secret" not in caplog.text


def test_an_application_formats_its_own_errors() -> None:
    """The application formats errors; the required headers of an error are added to any format."""
    pipeline = Pipeline(Settings(), render_error=lambda error, environ: Response("no", status=error.status))
    answer = run(pipeline, BOTH, "PUT")
    assert (answer.status, answer.body, answer.header("allow")) == (405, b"no", "GET, HEAD, DELETE")


def test_a_route_may_refuse() -> None:
    """An error of the route is handled like an error of a handler."""
    assert run(Pipeline(Settings()), TooLarge("It is too large.")).status == 413


def test_the_guard_comes_before_the_method() -> None:
    """The guard refuses a request before its method is checked; a resource may omit the guard."""

    def guard(request: Request) -> None:
        raise TooLarge("guarded")

    pipeline = Pipeline(Settings(), guard=guard)
    assert run(pipeline, BOTH, "PUT").status == 413
    assert run(pipeline, Resource("signed", {"GET": say("file")}, guarded=False)).body == b"file"


def test_exceptions_of_the_app_are_not_handled() -> None:
    """The pipeline does not handle exceptions of the app."""
    given: dict[str, Any] = {}
    setup_testing_defaults(given)
    start: Any = lambda *_: None  # noqa: E731
    for error in (TooLarge("the app's"), OSError("the app's")):

        def broken(environ: Any, start_response: Any, error: Exception = error) -> list[bytes]:
            raise error

        with pytest.raises(type(error)):
            Pipeline(Settings()).run(Request(given), start, lambda request: None, broken)


def test_the_body_is_drained_when_the_answer_is_closed() -> None:
    """The unread body is drained when the response is closed, and not before, even if a handler detached it."""
    body = io.BytesIO(b"x" * 100_000)

    def detach(request: Request) -> Answer:
        request.environ["wsgi.input"] = io.BytesIO()
        request.environ["CONTENT_LENGTH"] = "0"
        raise TooLarge("It is too large.")

    class Watch:
        """The watch of a request on a server that exposes its connections."""

        def start(self, wait: Any) -> None: ...
        def stop(self, wait: Any) -> None: ...
        def end(self) -> bool:
            return False

    watched = {"wsgi.input": body, "CONTENT_LENGTH": "100000", "fileupload.watch": Watch()}
    answer = run(Pipeline(Settings()), Resource("thing", {"PUT": detach}), "PUT", **watched)
    assert (answer.status, body.tell()) == (413, 0)
    answer.answer.close()
    assert body.tell() == 100_000


def test_head_is_named_once() -> None:
    """A resource with a handler of its own for HEAD names each method once."""
    assert Resource("thing", {"HEAD": say(""), "GET": say("shown"), "PATCH": say("")}).methods == (
        "GET",
        "HEAD",
        "PATCH",
    )


@pytest.mark.parametrize("location", ["/things/1", "../1?a=b", "https://www.example.com/things/1"])
@pytest.mark.parametrize("kind", [Response, HTTPSeeOther])
def test_a_location_stays_as_it_is(location: str, kind: type[Response]) -> None:
    """A relative Location, also one of the app behind, gets no scheme and no host, which a proxy may have changed."""
    resource = Resource("x", {"GET": lambda request: kind(location=location)})
    assert run(Pipeline(Settings()), resource).header("location") == location
