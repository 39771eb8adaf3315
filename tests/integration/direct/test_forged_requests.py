"""Hostile requests to the addresses of direct uploads: each is refused clearly, without a server error or a trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.direct_site import DirectSite, outcome
from tests.support.folders import files_in
from tests.support.wsgi_client import Stream, UploadSite

MEBIBYTE = 1 << 20
BAD_TEXTS = {
    "nothing": b"",
    "blank": b" \n",
    "half": b'{"filename": "a", "size": 1',
    "no JSON": b"filename=a&size=1",
    "not UTF-8": b'{"filename": "\xff", "size": 1}',
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "long number": b'{"filename": "a", "size": ' + b"9" * 100_000 + b"}",
    "list": b"[1]",
    "text": b'"a"',
    "null": b"null",
}
FINE: dict[str, Any] = {"filename": "a.bin", "content-type": "text/plain", "size": 1}
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.0,
    1e300,
    float("nan"),
    float("inf"),
    10**19,
    "",
    "1",
    "ü",
    [],
    [1],
    {},
    {"a": 1},
)
ADDRESSES = ("/direct", "/direct/part", "/direct/complete", "/direct/part?ticket=x")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")


@pytest.fixture
def kind() -> str:
    """Return a pool in a folder: a store makes no difference here."""
    return "directory"


@pytest.fixture
def untouched(site: DirectSite) -> Iterator[DirectSite]:
    """Return a site, and check that nothing was made in its pool."""
    yield site
    assert list(site.pool.buckets()) == []


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_an_invalid_upload_request_is_refused(untouched: DirectSite, text: bytes) -> None:
    """A request that is no JSON object with a name and a size is refused before anything is made."""
    answer = untouched.ask("POST", "/direct", untouched.identifier(), data=text)
    assert outcome(answer) == (400, "malformed-request")


@pytest.mark.parametrize("name", ["filename", "size", "content-type", "sha256", "method"])
def test_a_value_of_the_wrong_type_is_refused_by_its_name(site: DirectSite, name: str) -> None:
    """A value of the wrong type is refused by its name; none causes a server error."""
    for value in ODD:
        answer = site.ask("POST", "/direct", site.identifier(), data=json.dumps({**FINE, name: value}))
        if answer.status_code == 200:
            continue
        assert outcome(answer) in {(400, "malformed-request"), (413, "too-large")}, value
        expected = "no number in JSON" if value != value or value == float("inf") else name
        assert expected in answer.json()["detail"] or answer.status_code == 413 or name == "filename"


def test_an_overlong_upload_request_is_refused(untouched: DirectSite) -> None:
    """JSON above 2 MiB is refused, and the client reads the answer while it sends; so is an excessively long name."""
    identifier = untouched.identifier()
    long = json.dumps({**FINE, "filename": "a" * 4097})
    assert outcome(untouched.ask("POST", "/direct", identifier, data=long)) == (400, "malformed-request")
    for address in ("/direct", "/direct/complete"):
        answer = untouched.ask("POST", address, identifier, data=b" " * (8 * MEBIBYTE))
        assert outcome(answer) == (413, "too-large")


@pytest.mark.parametrize("stop", [None, 0, 5], ids=["chunked", "nothing", "half"])
def test_an_incomplete_upload_request_is_refused(tmp_path: Path, stop: int | None) -> None:
    """A chunked body must have its final chunk, and a body with a length must be complete."""
    site = UploadSite(tmp_path / "pool")
    body = json.dumps(FINE).encode()
    query = urlencode({"X-Progress-ID": site.identifier()})
    if stop is None:
        answer = site.send("POST", "/upload/direct", query, Stream([body]), **{"wsgi.input_terminated": False})
        assert answer.outcome == (411, "length-required")
    else:
        answer = site.send("POST", "/upload/direct", query, Stream([body[:stop]]), CONTENT_LENGTH=str(len(body)))
        assert answer.outcome == (400, "incomplete")
    assert list(site.manager.pool.buckets()) == []


@pytest.mark.parametrize(
    "named",
    [
        *(1, "a", [], [1], {"parts": None}, {"parts": 1}, {"parts": [1]}, {"parts": [{}]}, {"parts": {"1": "a"}}),
        *({"parts": [{"number": number, "etag": "a"}]} for number in (None, "1", 1.5, [1], {"a": 1})),
        *({"parts": [{"number": 1, "etag": etag}]} for etag in (None, 1, [1], {"a": 1})),
    ],
    ids=str,
)
def test_an_invalid_list_of_parts_is_refused(site: DirectSite, named: Any) -> None:
    """A body that is no list of parts with numbers and ETags is refused, and the upload is unchanged."""
    identifier = site.identifier()
    site.put(site.offer(identifier, 1)["url"], b"x")
    assert outcome(site.complete(identifier, data=json.dumps(named))) == (400, "malformed-request")
    assert outcome(site.complete(identifier, data=b"{")) == (400, "malformed-request")
    assert site.complete(identifier, data=b" ").status_code == 200


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../../etc/passwd", "passwd"),
        ("C:\\Windows\\a.dll", "a.dll"),
        ("..", ""),
        ("a\0b\r\nX-Evil: 1", "abX-Evil: 1"),
        ("\ud800a\udfff", "a"),
        ("\u202egpj.exe", "\u202egpj.exe"),
        ('"><script>', '"><script>'),
        ("a" * 4096, "a" * 4096),
        ("", ""),
    ],
    ids=["folders", "drive", "dots", "control", "surrogates", "direction", "markup", "long", "empty"],
)
def test_hostile_filenames_are_cleaned(site: DirectSite, tmp_path: Path, name: str, kept: str) -> None:
    """A name is never used as a path, and characters that are not allowed in names are removed."""
    identifier = site.identifier()
    before = {path for path in files_in(tmp_path) if not path.is_relative_to(tmp_path / "pool")}
    answer = site.ask("POST", "/direct", identifier, data=json.dumps({**FINE, "filename": name}))
    assert answer.status_code == 200
    assert site.put(answer.json()["url"], b"x").status_code == 200
    assert site.complete(identifier).json()["filename"] == site.status(identifier)["filename"] == kept
    assert {path for path in files_in(tmp_path) if not path.is_relative_to(tmp_path / "pool")} == before
    assert {Path(path).name for path in site.leftovers(identifier)} == {"0"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("address", ADDRESSES)
def test_unsupported_methods_are_refused_with_the_allowed_ones(site: DirectSite, method: str, address: str) -> None:
    """Each address refuses other methods than its own, and lists those it has."""
    identifier = site.identifier()
    for chosen in ("", identifier, identifier[:-1], "x"):
        answer = site.ask(method, address, chosen, data=b"{}")
        if answer.status_code == 405:
            assert method not in answer.headers["Allow"].split(", ")
        else:
            assert answer.status_code in {200, 400, 403, 404}
    assert list(site.pool.buckets()) == []


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "ü", "", "100000", "9" * 5000, "1 ", "٣"])
def test_an_invalid_part_number_is_refused(untouched: DirectSite, number: str) -> None:
    """An invalid part number is refused, also where it would start an upload."""
    identifier = untouched.identifier()
    for method in ("POST", "GET"):
        answer = untouched.ask(method, "/direct", identifier, params={"from": number}, json=FINE)
        assert outcome(answer) == (400, "malformed-request")


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.sampled_from(["PUT", "POST", "a" * 64, "text/plain"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=5,
)
upload_requests = st.one_of(
    values,
    st.dictionaries(st.sampled_from(["filename", "size", "content-type", "sha256", "method", "parts", "acl"]), values),
    st.fixed_dictionaries({"filename": st.text(), "size": st.integers(0, 100)}, optional={"content-type": values}),
    st.fixed_dictionaries({"parts": st.lists(st.fixed_dictionaries({"number": values, "etag": values}), max_size=2)}),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(upload_request=upload_requests)
def test_any_json_is_accepted_or_refused(lasting_site: UploadSite, upload_request: Any) -> None:
    """Any JSON results in an offer or a refusal, and so it does when an upload is completed."""
    body, query = json.dumps(upload_request).encode(), urlencode({"X-Progress-ID": lasting_site.identifier()})
    assert lasting_site.send("POST", "/upload/direct", query, body).status in {200, 400, 413}
    assert lasting_site.send("POST", "/upload/direct/complete", query, body).status in {400, 404}
