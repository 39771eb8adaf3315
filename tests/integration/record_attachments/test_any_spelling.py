"""Record requests in generated spellings: none sets the attribute, and none leaves a file behind."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.records.kinto_harness import ALICE, JEAN, MAT, RECORD, THING, Kinto, Rest
from tests.support.records.raw_http import Answer, send_raw

FORGED = {"location": "/files/things/forged", "filename": "a.exe", "hash": "0", "mimetype": "a/b", "size": 1}
BUCKET, COLLECTION = "/v1/buckets/fennec", "/v1/buckets/fennec/collections/fonts"

SEPARATORS = [
    "//",
    "/./",
    "/x/../",
    "%2F",
    "%5C",
    "\\",
    "%252F",
    "/%2E/",
    "/%2e%2e/",
    "/;a/",
    "/%20/",
    "/%00/",
    "/%FF/",
]
ENDS = [
    "%20",
    "%0A",
    "%0D",
    "%09",
    "%00",
    "%FF",
    "%C2%A0",
    "%C2%85",
    "%E2%80%A8",
    ";x",
    "%3Bx",
    "%2500",
    "%250A",
    ".",
    "+",
]
TAILS = [
    "/",
    "//",
    "?",
    "/?a",
    "?/v1/buckets",
    "/?/v1/buckets/",
    "%3F",
    "%23a",
    "?_method=PATCH",
    "?_method=DELETE",
    "/.",
]

few = st.sampled_from([0, 0, 1, 1, 1, 2, 3])


@st.composite
def path_variant(draw: st.DrawFn, path: str) -> str:
    """Return another spelling of *path* that a server may treat as the same."""
    segments = path.split("/")[1:]
    separators = ["/"] * len(segments)
    tail = ""
    for _ in range(draw(few)):
        place = draw(st.integers(0, len(segments) - 1))
        segment = segments[place]
        way = draw(st.sampled_from(["separator", "end", "begin", "encoded", "twice", "upper", "within", "tail"]))
        if way == "separator":
            separators[place] = draw(st.sampled_from(SEPARATORS))
        elif way == "end":
            segments[place] = segment + draw(st.sampled_from(ENDS))
        elif way == "begin":
            segments[place] = draw(st.sampled_from(["%20", "%FF", "%09", "%EF%BB%BF", "%00"])) + segment
        elif way == "encoded":
            segments[place] = f"%{ord(segment[0]):02x}" + segment[1:]
        elif way == "twice":
            segments[place] = f"%25{ord(segment[0]):02X}" + segment[1:]
        elif way == "upper":
            segments[place] = segment.upper()
        elif way == "within":
            segments[place] = segment[:1] + draw(st.sampled_from(["%FF", "%C0", "%00", "%E2%80%8B"])) + segment[1:]
        else:
            tail = draw(st.sampled_from(TAILS))
    return "".join(map("".join, zip(separators, segments, strict=True))) + tail


ENCODINGS = ["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-7", "latin-1", "cp500"]
KINDS = [
    *["application/json"] * 4,
    *("application/merge-patch+json", "application/json-patch+json", "application/vnd.api+json", "text/plain", ""),
    *("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "Application/JSON", "application/xml"),
]
PARAMETERS = [
    *[""] * 5,
    *("; charset=utf-8", "; charset={}", '; charset="{}"', "; xcharset=utf-8; charset={}", '; a="; charset={}"'),
    *("; charset=utf-8; charset={}", "; charset*=utf-8''{}", ";charset = {}", "; CHARSET={}", "; charset='{}'", ";"),
]


@st.composite
def content_types(draw: st.DrawFn, encoding: str) -> str:
    return draw(st.sampled_from(KINDS)) + draw(st.sampled_from(PARAMETERS)).format(encoding)


@st.composite
def contents(draw: st.DrawFn, envelope: bool) -> str:
    """Return the text of a body that sets the attribute, or removes it."""
    value: Any = draw(st.sampled_from([FORGED, {**FORGED, "size": True}, {"size": 9}, "x", None, [], 0]))
    inner: dict[str, Any] = {"attachment": value}
    place = "/data/attachment" if envelope else "/attachment"
    record = {"data": inner} if envelope else inner
    operations = [
        {"op": "replace", "path": place, "value": value},
        {"op": "add", "path": place + "/location", "value": "x"},
        {"op": "add", "path": place.removesuffix("/attachment"), "value": inner},
        {"op": "remove", "path": place},
        {"op": "copy", "from": "/data" if envelope else "/color", "path": place},
        {"op": "move", "from": place, "path": place + "s"},
        {"op": "add", "path": place.replace("attachment", "~0attachment/../attachment"), "value": value},
    ]
    text = json.dumps(draw(st.sampled_from([record, record, record, [record], *([each] for each in operations)])))
    way = draw(
        st.sampled_from(["plain", "plain", "escaped", "twice", "first", "space", "comment", "form", "multipart"])
    )
    changed = {
        "escaped": text.replace('"attachment"', '"\\u0061ttachment"'),
        "twice": text.replace('"attachment":', '"attachment": null, "attachment":'),
        "first": text.replace('{"attachment"', '{"color": "x", "attachment"', 1),
        "space": f"\n\t {text} \r\n",
        "comment": f"/**/{text}",
        "form": draw(
            st.sampled_from(["attachment=x", "a=1;attachment[size]=2", "data[attachment]=x", "data.attachment=x"])
        ),
        "multipart": '--x\r\nContent-Disposition: form-data; name="attachment"\r\n\r\nx\r\n--x--\r\n',
    }
    return changed.get(way, text)


@dataclass(frozen=True, kw_only=True)
class RequestVariant:
    """A request."""

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def send(self, url: str, user: dict[str, str]) -> Answer:
        return send_raw(url, self.method, self.target, self.body, {**user, **self.headers})


OVERRIDES = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "x-http-method-override"]


@st.composite
def methods(draw: st.DrawFn, meant: str) -> tuple[str, dict[str, str], str]:
    """Return a method, headers and a query that an app may treat as the given method."""
    way = draw(st.sampled_from(["plain", "plain", "lower", "header", "query"]))
    if way == "plain":
        return meant, {}, ""
    if way == "lower":
        return meant.lower(), {}, ""
    other = draw(st.sampled_from(["POST", "POST", "GET", "PUT", "DELETE", "OPTIONS", "HEAD"]))
    value = draw(st.sampled_from([meant, meant.lower(), f" {meant}", f"{meant}, GET", f"GET,{meant}"]))
    if way == "header":
        return other, {draw(st.sampled_from(OVERRIDES)): value}, ""
    return other, {}, "?_method=" + value.strip().replace(" ", "+")


@st.composite
def writes(draw: st.DrawFn, path: str, *, envelope: bool) -> RequestVariant:
    """Return a request that tries to set the attribute."""
    method, headers, query = draw(methods(draw(st.sampled_from(["PATCH", "PUT", "POST"]))))
    encoding = draw(st.sampled_from(ENCODINGS))
    body = draw(contents(envelope)).encode(encoding)
    headers = {**headers, "Content-Type": draw(content_types(encoding))}
    return RequestVariant(method=method, target=draw(path_variant(path)) + query, headers=headers, body=body)


@st.composite
def removals(draw: st.DrawFn, path: str, meant: str = "DELETE") -> RequestVariant:
    """Return a request that tries to remove the resource at *path*."""
    method, headers, query = draw(methods(meant))
    form = draw(st.booleans()) and method == "POST"
    headers = {**headers, **({"Content-Type": "application/x-www-form-urlencoded"} if form else {})}
    return RequestVariant(
        method=method, target=draw(path_variant(path)) + query, headers=headers, body=b"_method=DELETE" if form else b""
    )


@st.composite
def batches(draw: st.DrawFn) -> RequestVariant:
    """Return a batch with requests of both kinds."""
    requests = []
    for _ in range(draw(st.integers(1, 3))):
        path = draw(path_variant(draw(st.sampled_from([RECORD, RECORD, f"{COLLECTION}/records", COLLECTION, BUCKET]))))
        path = path.removeprefix("/v1") if draw(st.booleans()) else path
        request: dict[str, Any] = {"path": path, "method": draw(st.sampled_from(["PATCH", "PUT", "POST", "DELETE"]))}
        try:
            request["body"] = json.loads(draw(contents(True)))
        except ValueError:
            request["body"] = {"data": {"+AGE-ttachment": FORGED}}
        if draw(st.booleans()):
            kind = draw(content_types("utf-7"))
            request["headers"] = {draw(st.sampled_from(["Content-Type", "content-type"])): kind, **draw(other_headers)}
        requests.append(request)
    body: dict[str, Any] = {"requests": requests}
    if draw(st.booleans()):
        body["defaults"] = {name: requests[0].pop(name) for name in ("method", "body") if name in requests[0]}
    encoding = draw(st.sampled_from(ENCODINGS))
    headers = {"Content-Type": draw(content_types(encoding))}
    target = draw(st.one_of(st.just("/v1/batch"), path_variant("/v1/batch")))
    return RequestVariant(method="POST", target=target, headers=headers, body=json.dumps(body).encode(encoding))


other_headers = st.sampled_from([{}, {}, JEAN, {"Host": "x/v1/buckets?"}, {"content-length": "5"}, {"If-Match": '"1"'}])

each_example = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
in_pool = pytest.mark.parametrize("kinto", ["pool"], indirect=True)


def check_rest(rest: Rest, request: RequestVariant) -> None:
    """Send a request to a REST app in which one record has a file, and check the remaining files."""
    rest.forget()
    attachment = rest.attach(data='{"color": "red"}').json()
    answer = request.send(rest.url, ALICE)
    assert answer.status < 500, answer.body
    assert all(record.get("attachment") in (None, attachment) for record in rest.records())
    rest.check_whole()


@pytest.mark.full
@each_example
@given(request=st.one_of(writes(THING, envelope=False), writes("/api/things", envelope=False)))
def test_no_request_variant_sets_the_attribute_of_a_rest_app(rest: Rest, request: RequestVariant) -> None:
    """With the most lenient app, no request gives a record another attachment."""
    check_rest(rest, request)


@pytest.mark.full
@each_example
@given(request=st.one_of(removals(THING), removals("/api/things")))
def test_no_request_variant_leaves_a_file_of_a_rest_app(rest: Rest, request: RequestVariant) -> None:
    """After any removal, the remaining files are those of the remaining records."""
    check_rest(rest, request)


def check_kinto(kinto: Kinto, request: RequestVariant) -> None:
    """Send a request to a Kinto in which one record has a file, and check the remaining files."""
    kinto.make_collection()
    before = kinto.attachment() if kinto.request("GET", RECORD).ok else None
    before = before or kinto.attached()
    answer = request.send(kinto.url, MAT)
    assert answer.status < 500, answer.body
    listed = kinto.request("GET", f"{COLLECTION}/records")
    left = [record.get("attachment") for record in listed.json()["data"]] if listed.ok else []
    assert all(attachment in (None, before) for attachment in left)
    assert kinto.contents() == [b"--fake--" for attachment in left if attachment]
    assert kinto.fetch(before["location"]).ok == (before in left)


@pytest.mark.full
@in_pool
@each_example
@given(request=st.one_of(writes(RECORD, envelope=True), writes(f"{COLLECTION}/records", envelope=True)))
def test_no_request_variant_sets_the_attribute_in_kinto(kinto: Kinto, request: RequestVariant) -> None:
    """No request gives a record of Kinto another attachment."""
    check_kinto(kinto, request)


@pytest.mark.full
@in_pool
@each_example
@given(
    request=st.one_of(
        *(removals(path) for path in (RECORD, f"{COLLECTION}/records", COLLECTION, BUCKET)),
        removals("/v1/__flush__", "POST"),
    )
)
def test_no_request_variant_leaves_a_file_in_kinto(kinto: Kinto, request: RequestVariant) -> None:
    """After any removal of records, collections, buckets or all, no file is left without its record."""
    check_kinto(kinto, request)


@pytest.mark.full
@in_pool
@each_example
@given(request=batches())
def test_no_batch_sets_the_attribute_or_leaves_a_file(kinto: Kinto, request: RequestVariant) -> None:
    """Batches, in any spelling of their path and of the paths within, neither set the attribute nor leave a file."""
    check_kinto(kinto, request)
