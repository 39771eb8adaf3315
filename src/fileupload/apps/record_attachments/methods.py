"""Checks of method overrides and of the Host header, by which an app may interpret a request differently."""

from __future__ import annotations

import re
from wsgiref.types import WSGIEnvironment

from fileupload.apps.record_attachments.bodies import METHOD_FIELD, query_of, read_pairs
from fileupload.apps.record_attachments.errors import AmbiguousRequest
from fileupload.apps.record_attachments.paths import AddressKind
from fileupload.apps.record_attachments.subrequests import method_overrides

_METHOD = re.compile(r"[A-Za-z]+")
_HOST = re.compile(r"[0-9A-Za-z_.:\[\]%~!$&'()*+=-]*")  # RFC 3986, 3.2.2, with a port, but without "," and ";"


def overriding_methods(environ: WSGIEnvironment, query: str | None = None) -> set[str]:
    """Return the methods, in upper case, by which an app may replace the request's own.

    Some apps use a header, some a parameter of the query. Of a header with two values, some use the first and some the
    last, so all are returned.

    :param query: the query of the request, if it is not in *environ*.
    """
    named = [str(environ[name]) for name in method_overrides(environ)]
    named += [
        value for name, value in read_pairs(query_of(environ) if query is None else query) if name == METHOD_FIELD
    ]
    return {each.upper() for value in named for each in _METHOD.findall(value)}


def require_override_of_post(method: str, others: set[str], kind: AddressKind) -> None:
    """Refuse an override of a method other than POST, or at an address other than that of a record or of a list.

    Only POST needs overrides: clients whose network blocks other methods send it. If an app ignored an override, or
    followed an unexpected one, the component would not know which records the request has removed.

    :raises AmbiguousRequest: the override is not allowed.
    """
    if others and (method != "POST" or kind in {AddressKind.BATCH, AddressKind.FLUSH}):
        raise AmbiguousRequest(f"{method} cannot be overridden here; send the intended method.")


def require_plain_host(host: str) -> None:
    """Refuse a Host header that cannot be the authority of a URL (RFC 9112, 3.2).

    Apps search the whole URL for the path. Kinto's default bucket treats the text after the path's first occurrence as
    the query, so a path inside of the host would lead it to another address than that of the request.

    :raises AmbiguousRequest: the header is not valid.
    """
    if _HOST.fullmatch(host) is None:
        raise AmbiguousRequest("The header Host is not valid.")
