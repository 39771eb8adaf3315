"""Methods and hosts of requests, as headers and queries may give them to the app."""

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
    """Return the methods, in upper case, that an app may take in the place of the request's own.

    Some take a header, some a parameter of the query; of a header that came twice, some take the first value and some
    the last.

    :param query: that of the request, if *environ* does not have it.
    """
    named = [str(environ[name]) for name in method_overrides(environ)]
    named += [
        value for name, value in read_pairs(query_of(environ) if query is None else query) if name == METHOD_FIELD
    ]
    return {each.upper() for value in named for each in _METHOD.findall(value)}


def require_override_of_post(method: str, others: set[str], kind: AddressKind) -> None:
    """Refuse to have another method taken for one of *others*, unless it is the POST of a record or of a list.

    Clients whose network lets only GET and POST pass send a POST. Where an app does not follow the override, or
    follows one that is not expected, it would not be known which records have gone.

    :raises AmbiguousRequest: it is another method, or another address.
    """
    if others and (method != "POST" or kind in {AddressKind.BATCH, AddressKind.FLUSH}):
        raise AmbiguousRequest(f"{method} cannot stand for another method here; send the method that is meant.")


def require_plain_host(host: str) -> None:
    """Refuse a Host header that cannot be the authority of a URL (RFC 9112, 3.2).

    Apps look for the path in the whole URL. Kinto's default bucket takes what follows the first place where it finds
    it for the query, so that a path within the host leads it to another address than that of the request.

    :raises AmbiguousRequest: it cannot.
    """
    if _HOST.fullmatch(host) is None:
        raise AmbiguousRequest("The header Host is not valid.")
