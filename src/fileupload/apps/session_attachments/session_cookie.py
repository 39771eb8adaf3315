"""The session of a request: from a signed session cookie, or from the application's function."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from collections.abc import Iterator, Sequence
from wsgiref.types import WSGIEnvironment

from itsdangerous import BadData, TimestampSigner
from webob.cookies import make_cookie

from fileupload import clocks
from fileupload.apps.session_attachments.errors import NoSession
from fileupload.apps.session_attachments.settings import SessionSettings
from fileupload.signing import CurrentSigner, KeyRing
from fileupload.wsgi.proxy import public_address

_SALT = b"fileupload.session"
_COOKIE_PATTERN = re.compile(r"[0-9a-f]{32}\.[A-Za-z0-9_-]{1,12}\.[A-Za-z0-9_-]{43}", re.ASCII)


class SessionCookieSigner:
    """Signs and verifies session cookies."""

    def __init__(self, keys: KeyRing | Sequence[str], settings: SessionSettings) -> None:
        """Sign with *keys*, newest first."""
        self.settings = settings
        self.max_age = None if settings.session_age is None else math.ceil(settings.session_age)
        self._signer = CurrentSigner(keys, _make_signer)

    def cookie_of(self, environ: WSGIEnvironment) -> SessionCookie:
        """Return the session cookie of a request; the cookie is not read yet."""
        return SessionCookie(self, environ)

    def sign(self, secret: str) -> str:
        """Return the value of a cookie with this *secret*."""
        return self._signer.current.sign(secret).decode()

    def read(self, value: str) -> tuple[str, float] | None:
        """Return the secret in a cookie's *value*, and when it was signed; None if it is not valid.

        A cookie that was signed ahead of this host's clock is valid: its visitor would lose the attachments.
        """
        if _COOKIE_PATTERN.fullmatch(value) is None:
            return None
        try:
            # The age is checked here, since itsdangerous refuses every signature from the future.
            secret, signed = self._signer.verify(lambda signer: signer.unsign(value, return_timestamp=True))
        except BadData:
            return None
        moment = signed.timestamp()
        if self.max_age is not None and clocks.age_of(moment) > self.max_age:
            return None
        return secret.decode(), moment

    def is_due(self, signed: float) -> bool:
        """Return whether a cookie that was *signed* at that moment is to be signed again."""
        if self.max_age is None:
            return False
        return clocks.age_of(signed) >= self.max_age / 3 or clocks.is_far_ahead(signed)


def _make_signer(keys: list[bytes]) -> TimestampSigner:
    return TimestampSigner(keys, salt=_SALT, key_derivation="hmac", digest_method=hashlib.sha256)


class SessionCookie:
    """The session cookie of one request.

    A session is created when the request first uses it, or with a page of the app (see ``session_pages``).
    """

    def __init__(self, signer: SessionCookieSigner, environ: WSGIEnvironment) -> None:
        self._signer = signer
        self._environ = environ
        self._session = ""
        self._to_be_set = ""

    def session(self) -> str:
        """Return the session as a segment of a key in the pool's index: a hash, which does not reveal the secret.

        :raises NoSession: the function in the setting ``session`` has returned no session.
        """
        if not self._session:
            find = self._signer.settings.session
            secret = find(self._environ) if find else self._secret_of_cookie()
            if not secret:
                raise NoSession
            self._session = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()[:40]
        return self._session

    def begin(self) -> None:
        """Begin a session, unless the client has sent a cookie of that name.

        An invalid one may be that of another application on this host, at another port: a page must not replace it.
        """
        if not any(True for _ in self._cookies()):
            self.session()

    def headers(self) -> list[tuple[str, str]]:
        """Return the header that sets the cookie, if the session was used, and is new or its cookie due for renewal."""
        if not self._to_be_set:
            return []
        settings = self._signer.settings
        site = public_address(self._environ, settings)
        cookie = make_cookie(
            settings.cookie_name,
            self._signer.sign(self._to_be_set),
            max_age=self._signer.max_age,
            path=site.mount.replace(";", "%3B").replace(",", "%2C") or "/",  # they would end the attribute
            secure=site.scheme == "https",
            httponly=True,
            samesite="Lax",
        )
        return [("Set-Cookie", cookie)]

    def _secret_of_cookie(self) -> str:
        for value in self._cookies():
            if found := self._signer.read(value):
                secret, signed = found
                if self._signer.is_due(signed):
                    self._to_be_set = secret
                return secret
        self._to_be_set = secrets.token_hex(16)
        return self._to_be_set

    def _cookies(self) -> Iterator[str]:
        """Yield the values of all cookies with the configured name, those of longer paths first (RFC 6265, 5.4)."""
        for pair in self._environ.get("HTTP_COOKIE", "").split(";"):
            name, _, value = pair.partition("=")
            if name.strip() == self._signer.settings.cookie_name:
                yield value.strip().strip('"')
