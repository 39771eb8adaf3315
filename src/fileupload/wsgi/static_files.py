"""Responses with files of this package: scripts and styles, which browsers keep and revalidate."""

from __future__ import annotations

from wsgiref.types import WSGIEnvironment

from webob import Response

from fileupload.wsgi.conditional_requests import answer_conditions

STATIC_TYPES = {"css": "text/css", "js": "text/javascript"}


def static_response(environ: WSGIEnvironment, content: bytes, content_type: str) -> Response:
    """Return a static file, or the 304 or 206 that the request's conditions and range require in its place.

    Its address has no version, so browsers may keep the file, but ask each time whether it has changed.
    """
    response = Response(content, content_type=content_type, charset="utf-8", conditional_response=True)
    response.md5_etag()
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return answer_conditions(environ, response)
