"""Random headers, paths, queries and bodies at every app: each response is valid, and none is an internal error."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fileupload import RecordAttachments, SessionAttachments, UploadMiddleware
from fileupload.apps.upload_page.app import UploadPage
from fileupload.deploy import S3Fileup, make_manager
from fileupload.settings import Settings
from fileupload.wsgi.json_body import parse_json
from tests.support.wsgi_client import FORM_TYPE, field_part, file_part, form, make_environ

KEY = "a key that all the apps of these tests have"
DIGITS = "9" * 5000
FORM = {"CONTENT_TYPE": FORM_TYPE}
DATES = [
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 19940 08:49:37 GMT",
    "Sun, 06 Nov 0000 08:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:37 +9999999",
    "Sun, 06 Nov 1994 08:49:37 -2500",
    "Sun, 99 Nov 99999999 99:99:99 GMT",
    f"Sun, 06 Nov {DIGITS} 08:49:37 GMT",
    " GMT",
]
TEXTS = [
    "",
    " ",
    ",",
    ";",
    "=",
    '"',
    "\\",
    "*",
    "\x00",
    "\x7f",
    "\xff\xfe",
    "ü",
    "a" * 9000,
    DIGITS,
    "%00%ff",
    "\r\nX-Evil: 1",
]
VALUES: dict[str, list[str]] = {
    "HTTP_RANGE": [
        *("bytes=0-9", "bytes=-", "bytes=", "bytes=-0", "bytes=-5", "bytes=5-", "bytes=0-0,-1", "BYTES = 0 - 9"),
        *(f"bytes={DIGITS}-", f"bytes=0-{DIGITS}", f"bytes=-{DIGITS}", "bytes=" + "," * 9000, "bytes=٣-٣", "lines=1-2"),
    ],
    "HTTP_IF_MODIFIED_SINCE": DATES,
    "HTTP_IF_UNMODIFIED_SINCE": DATES,
    "HTTP_IF_RANGE": [*DATES, '"x"', 'W/"x"', '"', '""'],
    "HTTP_IF_NONE_MATCH": ["*", '"x"', 'W/"x", "y"', '"' * 9001, '"\\"' * 3000, '"x",' * 3000],
    "HTTP_IF_MATCH": ["*", '"x"', '"' * 9001],
    "HTTP_HOST": [
        *("a:80", "a:", "[::1]:80", "[::1", "a b", "a/b", "a\\b", "a@b", "ü", "a:99999999", "<script>", "a\x00"),
    ],
    "HTTP_ACCEPT": ["text/html", "application/json", "*/*;q=9", "a/b;q=" + DIGITS, "text/html;" * 900, "/", "a/b;x=\""],
    "HTTP_ACCEPT_LANGUAGE": ["de", "*", ";q=x"],
    "HTTP_COOKIE": ["fileupload_session=x", "fileupload_session=", "a" * 9000, "=;=;=", 'fileupload="\\', "\xff=\xff"],
    "HTTP_ORIGIN": ["null", "https://a.example.com", "https://[", "https://a:99999999", "file://", "\xff://\xff"],
    "HTTP_SEC_FETCH_SITE": ["cross-site", "same-origin", "none"],
    "HTTP_X_PROGRESS_ID": ["x", "0" * 32, "0" * 32 + "~" + "A" * 1400 + ".A." + "A" * 43, "../../etc"],
    "HTTP_CONTENT_DISPOSITION": [
        *('attachment; filename="a"', "filename", "; filename*=utf-8''%ff%00", "; filename*=utf-8''" + "%41" * 3000),
        *('; filename="' + "\\" * 9001, "; filename*=x", '; filename="\xed\xa0\x80"', "; a=b" * 2000),
    ],
    "HTTP_CONTENT_RANGE": ["bytes 0-9/10", "x"],
    "HTTP_CONTENT_ENCODING": ["gzip", "identity", ","],
    "HTTP_TRANSFER_ENCODING": ["chunked", "gzip", "chunked, chunked"],
    "HTTP_EXPECT": ["100-continue", "x"],
    "HTTP_X_FORWARDED_HOST": ["a b"],
    "HTTP_X_HTTP_METHOD_OVERRIDE": ["PUT", "\xff"],
    "HTTP_ACCESS_CONTROL_REQUEST_METHOD": ["PUT", "\xff"],
    "CONTENT_TYPE": [
        *("application/json", "multipart/form-data", "multipart/form-data; boundary=----gap5", "application/json;"),
        *("application/x-www-form-urlencoded", 'multipart/form-data; boundary="', "text/plain; charset=\xff"),
        *("application/json; charset=utf-7", "/", "a/b;a=b;a=c", "multipart/form-data; boundary=" + "a" * 9000),
    ],
    "CONTENT_LENGTH": ["-1", "+1", "1e3", DIGITS, "٣", "99999999999"],
}  # fmt: skip

latin_text = st.text(st.characters(max_codepoint=255), max_size=40)
headers = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(st.sampled_from(values), st.sampled_from(TEXTS), latin_text) for name, values in VALUES.items()
    },
)
few_headers = st.dictionaries(st.sampled_from(sorted(VALUES)), st.none(), max_size=4).flatmap(
    lambda names: st.fixed_dictionaries(
        {name: st.one_of(st.sampled_from(VALUES[name]), st.sampled_from(TEXTS), latin_text) for name in names}
    )
)
methods = st.sampled_from(
    ["GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "X", "\xff"]
)

numbers = st.one_of(
    st.integers(), st.floats(), st.sampled_from([10**400, -(10**400), 2**63, 1e308, float("nan"), float("inf"), True])
)
json_texts = st.one_of(
    st.text(max_size=10), st.sampled_from(["\ud800", "a\udfffb", "\0", "../x", "a" * 5000, "text/html", "a.png", "ü"])
)
json_values = st.recursive(
    st.one_of(st.none(), numbers, json_texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(json_texts, inner, max_size=3)),
    max_leaves=6,
)
NAMES = ["filename", "size", "content-type", "type", "sha256", "method", "parts", "number", "etag", "key", "PartNumber",
         "ETag", "s3_object_name", "s3_object_size", "s3_object_type", "data", "permissions", "attachment"]  # fmt: skip
json_objects = st.one_of(
    json_values,
    st.dictionaries(st.sampled_from(NAMES), json_values, max_size=5),
    st.fixed_dictionaries({"filename": json_texts, "size": numbers}),
    st.fixed_dictionaries(
        {
            "parts": st.lists(
                st.dictionaries(st.sampled_from(["number", "etag", "PartNumber", "ETag"]), json_values), max_size=3
            )
        }
    ),
)
plain_names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"\r\n\0'), max_size=10)
form_parts = st.one_of(
    st.builds(file_part, st.binary(max_size=20), plain_names),
    st.builds(
        field_part,
        st.sampled_from(["data", "permissions", "attachment", "a", "file"]),
        st.one_of(json_objects.map(lambda data: json.dumps(data).encode()), st.binary(max_size=20)),
    ),
    st.builds(lambda data: file_part(data, name="attachment"), st.binary(max_size=20)),
)
bodies = st.one_of(
    st.just(b""),
    st.binary(max_size=60),
    json_objects.map(lambda data: json.dumps(data).encode()),
    st.sampled_from(
        [b"[" * 100_000, b'{"filename": "\\ud800", "size": 1}', b"\xff", b'{"size": ' + DIGITS.encode() + b"}"]
    ),
    st.lists(form_parts, max_size=3).map(lambda parts: form(*parts)),
)


@dataclass
class Target:
    """An app, and the paths and queries that it handles.

    :ivar mounts: values of SCRIPT_NAME.
    """

    app: Any
    paths: list[str]
    queries: list[str]
    mounts: tuple[str, ...] = ("", "/mount", "/\xff\xfe", "/%")


def trivial(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer every request."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


class RecordApp:
    """An app with JSON records at any path."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {"/api/pictures/one": {"name": "one"}}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        status, record = "200 OK", self.records.get(path)
        if method in {"PUT", "PATCH"}:
            try:
                record = {**(record or {}), **parse_json(environ["wsgi.input"].read())}
                self.records[path] = record
            except (ValueError, TypeError):
                status = "400 Bad Request"
        elif method == "DELETE":
            self.records.pop(path, None)
        elif record is None:
            status = "404 Not Found"
        body = json.dumps(record).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    """Return all apps on one pool, which has uploads of each kind."""
    given = {"directory": str(tmp_path_factory.mktemp("fuzz") / "pool"), "durable": False, "min_free_space": 0}
    given |= {"upload_key": KEY}
    whole = {**given, "downloads": True, "anonymous": True, "jsonp": True, "cors_origins": "*"}
    manager = make_manager(Settings.parse(whole))
    done, running = manager.create_identifier(), manager.create_identifier(max_size="1K")
    uploads = UploadMiddleware(trivial, **whole)
    send(uploads, "PUT", "/upload", f"X-Progress-ID={done}&filename=a.txt", b"some bytes", {})
    begin = json.dumps({"filename": "a", "size": 5}).encode()
    begun = json.loads(send(uploads, "POST", "/upload/direct", f"X-Progress-ID={running}", begin, {})[2])
    ids = [f"X-Progress-ID={done}", f"X-Progress-ID={running}", "X-Progress-ID=x", f"X-Progress-ID={done}%00"]
    ways = [
        "status",
        "clear",
        "from=1",
        "from=x",
        "file=0",
        "file=9",
        f"callback=a.b&{ids[0]}",
        "callback=<>",
        "filename=%ED%A0%80",
    ]
    queries = [*ids, *(f"{each}&{way}" for each in ids[:2] for way in ways), urlsplit(begun["url"]).query]
    upload_paths = [
        "/upload",
        "/upload/status",
        "/upload/identifier",
        "/upload/direct",
        "/upload/direct/part",
        "/upload/direct/complete",
    ]
    filter_settings = {
        **given,
        "record_url": "/api/{collection}/{id}",
        "api": "rest",
        "serve_files": True,
        "base_url": "/files/",
    }
    in_records = RecordAttachments(RecordApp(), **filter_settings)
    attached = form(file_part(b"some bytes", name="attachment"))
    location = json.loads(send(in_records, "POST", "/api/pictures/one/attachment", "", attached, FORM)[2])["location"]
    in_session = SessionAttachments(trivial, session=lambda environ: "the only one", **given)
    send(in_session, "PUT", "/attachments/letter/a.txt/", "", b"some bytes", {})
    own = S3Fileup(anonymous=True, cors_origins="*", **given)
    sent = json.loads(send(own, "POST", "/s3/multipart", "", b'{"filename": "a"}', {})[2])
    keyed = f"key={sent['key']}"
    put = json.loads(send(own, "GET", "/s3put/", "s3_object_name=a&s3_object_size=1", b"", {})[2])
    send(own, "PUT", "/part", urlsplit(put["url"]).query, b"x", {})
    file_query = urlsplit(json.loads(send(own, "GET", "/s3get/", f"key={put['key']}", b"", {})[2])["url"]).query
    return {
        "middleware": Target(uploads, upload_paths, queries),
        "page": Target(
            UploadMiddleware.from_manager(UploadPage(), manager),
            ["", "/", "/static/", "/static/upload.js", "/static/\xff", "/x", *upload_paths],
            queries,
        ),
        "session": Target(
            in_session,
            [
                *(
                    "/attachments" + rest
                    for rest in ("", "/letter/", "/letter/a.txt/", "/\xff/", "/a/b/delete/", "/l\x00/")
                ),
                "/attachments/" + "a" * 300 + "/",
                "/attachments/letter/" + "b" * 300,
                "/x",
            ],
            ["identifier", "status", "filename=a.txt", *queries],
        ),
        "records": Target(
            in_records,
            [
                *(f"/api/pictures/{rest}" for rest in ("one/attachment", "one", "\xff/attachment", "new/attachment")),
                location,
                "/api/pictures",
                "/files/",
                "/files/a/b",
                "/files/\xff",
                "/files/" + "a" * 300,
                "/api",
                "/",
                "",
            ],
            queries,
        ),
        "s3fileup": Target(
            own,
            [
                *(
                    "/s3put/",
                    "/s3get/",
                    "/complete",
                    "/part",
                    "/file",
                    "/s3/params",
                    "/s3/multipart",
                    "/s3/multipart/\xff/1",
                    "/",
                ),
                *(f"/s3/multipart/{sent['uploadId']}{rest}" for rest in ("", "/1", "/batch", "/complete")),
            ],
            [
                keyed,
                f"{keyed}&partNumbers=1,2",
                f"{keyed}&partNumbers={DIGITS}",
                "key=%00",
                "filename=%ED%A0%80",
                "key=\xff",
                *(f"s3_object_name=a&s3_object_size={size}" for size in ("5", DIGITS)),
                "ticket=x",
                "ticket=" + "A" * 9000,
                file_query,
            ],
        ),
    }


def send(
    app: Any, method: str, path: str, query: str, body: bytes, given: dict[str, Any]
) -> tuple[str, list[Any], bytes]:
    """Send one request; return the status, the headers and the body of the response."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        started.append((status, headers))
        return lambda data: None

    environ = {**make_environ(method, path, query, body, given), "wsgi.errors": io.StringIO()}
    result = app(environ, start_response)
    try:
        answer = b"".join(result)
    finally:
        if hasattr(result, "close"):
            result.close()
    return (*started[-1], answer)


def check(method: str, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
    """Check that a response can be sent by any server, and is no internal error."""
    assert re.fullmatch(r"[1-4]\d\d [ -~]+", status) or status.startswith("505 "), (status, body)
    for name, value in headers:
        assert re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name), name
        assert isinstance(value, str)
        assert not re.search(r"[\x00-\x1f\x7f]", value), (name, value)
        value.encode("latin-1")
    given = {name.lower(): value for name, value in headers}
    if method != "HEAD" and "content-length" in given:
        assert len(body) == int(given["content-length"]), (status, given)
    if given.get("content-type", "").endswith("json") and body:
        json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} in an answer"))


@pytest.mark.parametrize("name", ["middleware", "page", "session", "records", "s3fileup"])
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_request_gets_a_valid_response(targets: dict[str, Target], name: str, data: st.DataObject) -> None:
    """Any request gets a response, and never 5xx."""
    target = targets[name]
    tail = st.one_of(st.just(""), st.sampled_from(["/", "/\xff", "/attachment", "/..", "\x00"]), latin_text)
    path = data.draw(st.sampled_from(target.paths)) + data.draw(tail)
    query = data.draw(
        st.one_of(st.sampled_from(target.queries), st.sampled_from(target.queries), latin_text, st.sampled_from(TEXTS))
    )
    method, body = data.draw(methods), data.draw(bodies)
    given = {"SCRIPT_NAME": data.draw(st.sampled_from(target.mounts)), **data.draw(st.one_of(few_headers, headers))}
    if data.draw(st.booleans()) and "CONTENT_TYPE" not in given:
        given |= FORM
    check(method, *send(target.app, method, path, query, body, given))


@pytest.mark.parametrize("name", ["middleware", "page", "session", "records", "s3fileup"])
def test_each_hostile_header_value_gets_a_valid_response(targets: dict[str, Target], name: str) -> None:
    """Each value that is hard to parse gets a valid response, at each path and with each query."""
    target = targets[name]
    for header, values in VALUES.items():
        for value in (*values, *TEXTS):
            for path in target.paths:
                for method, query in (("GET", target.queries[0]), ("POST", target.queries[0]), ("GET", "")):
                    check(method, *send(target.app, method, path, query, b"{}", {header: value}))
