"""The upload middleware: the requests that it handles, those that it passes on, and the request that the app gets."""

import hashlib
import json
import logging
from importlib.resources import files
from typing import Any

import pytest
import webtest

from fileupload import UploadMiddleware
from fileupload.errors import SettingError

BODY = b"the bytes of a file"


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Return the request that the app gets."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    seen: dict[str, Any] = {name: value for name, value in environ.items() if isinstance(value, str)}
    seen["body"] = body.decode("utf-8", "replace")
    seen["uploads"] = "fileupload" in environ
    seen["bucket"] = environ["fileupload.bucket"].id if "fileupload.bucket" in environ else None
    start_response("201 Created", [("Content-Type", "application/json"), ("X-App", "echo")])
    return [json.dumps(seen).encode()]


def make(directory: str, **settings: Any) -> tuple[webtest.TestApp, Any]:
    """Return an app behind the middleware, and its manager."""
    middleware = UploadMiddleware(echo, directory=directory, **settings)
    return webtest.TestApp(middleware), middleware.manager


def test_the_app_gets_the_descriptor(pool_directory: str) -> None:
    """The app gets the same request with the descriptor as JSON body, and its response is returned."""
    app, uploads = make(pool_directory)
    identifier = uploads.create_identifier()
    answer = app.post(
        f"/form/upload?X-Progress-ID={identifier}&next=%2Fhome",
        {"title": "Möbius"},
        upload_files=[("file", "ü.txt", BODY)],
        headers={"X-Custom": "kept", "Cookie": "session=1"},
    )
    assert answer.status_int == 201
    assert answer.headers["X-App"] == "echo"
    seen = answer.json
    assert (seen["REQUEST_METHOD"], seen["PATH_INFO"]) == ("POST", "/form/upload")
    assert seen["QUERY_STRING"].endswith("&next=%2Fhome")
    assert (seen["HTTP_X_CUSTOM"], seen["HTTP_COOKIE"]) == ("kept", "session=1")
    assert seen["CONTENT_TYPE"] == "application/json"
    assert seen["CONTENT_LENGTH"] == str(len(seen["body"].encode()))
    descriptor = json.loads(seen["body"])
    assert descriptor["identifier"] == identifier
    assert descriptor["state"] == "done"
    assert descriptor["files"] == [
        {
            "field": "file",
            "filename": "ü.txt",
            "content-type": "text/plain",
            "size": len(BODY),
            "sha256": hashlib.sha256(BODY).hexdigest(),
        }
    ]
    assert descriptor["fields"] == {"title": ["Möbius"]}
    assert identifier.startswith(seen["bucket"])


def test_a_put_reaches_the_app_like_a_form(pool_directory: str) -> None:
    """A plain body reaches the app like a form; the client's method is passed in addition."""
    app, uploads = make(pool_directory)
    answer = app.put(f"/upload?X-Progress-ID={uploads.create_identifier()}&filename=a%2Fb.png", BODY)
    seen = answer.json
    assert (seen["REQUEST_METHOD"], seen["fileupload.request_method"]) == ("POST", "PUT")
    descriptor = json.loads(seen["body"])
    assert (descriptor["filename"], descriptor["content-type"]) == ("b.png", "image/png")


def test_headers_of_the_client_body_do_not_reach_the_app(pool_directory: str) -> None:
    """The app sees no header that describes the body that the descriptor has replaced."""
    app, uploads = make(pool_directory)
    headers = {
        "Content-Digest": "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
        "Repr-Digest": "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
        "Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg==",
        "Content-Language": "de",
        "Content-Encoding": "identity",
        "Expect": "100-continue",
        "Trailer": "Expires",
    }
    seen = app.put(f"/upload?X-Progress-ID={uploads.create_identifier()}", BODY, headers=headers).json
    about_bodies = {"HTTP_" + name.upper().replace("-", "_") for name in headers}
    assert not about_bodies & seen.keys()


def test_a_query_with_too_many_fields_is_refused(pool_directory: str) -> None:
    """An identifier among more fields than are read is not lost in silence: the app would get the bare body."""
    app, uploads = make(pool_directory)
    query = "&".join(f"a{number}=1" for number in range(1000))
    answer = app.put(f"/upload?{query}&X-Progress-ID={uploads.create_identifier()}", BODY, expect_errors=True)
    assert (answer.status_int, answer.json["detail"]) == (400, "The query has more than 1000 fields.")


def test_a_direct_upload_is_completed_by_a_post_without_a_body(pool_directory: str) -> None:
    """A request that declares no body has none (RFC 9112, 6.3): completing is not refused with 411."""
    app, uploads = make(pool_directory)
    query = f"X-Progress-ID={uploads.create_identifier()}"
    begun = app.post_json(f"/upload/direct?{query}", {"filename": "a.txt", "size": len(BODY)})
    app.put(begun.json["url"], BODY)
    request = webtest.TestRequest.blank(f"/upload/direct/complete?{query}", method="POST")
    request.environ.pop("CONTENT_LENGTH", None)
    assert json.loads(app.do_request(request).json["body"])["state"] == "done"


def test_direct_urls_for_no_host_begin_no_upload(pool_directory: str) -> None:
    """A Host header that cannot be part of a URL is refused before anything is stored."""
    app, uploads = make(pool_directory)
    query = f"X-Progress-ID={uploads.create_identifier()}"
    refused = app.post_json(
        f"/upload/direct?{query}", {"filename": "a", "size": 1}, headers={"Host": "a b"}, status=400
    )
    assert refused.json["code"] == "malformed-request"
    assert list(uploads.pool.buckets()) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/"),
        ("POST", "/upload"),
        ("POST", "/upload/x?X-Progress-ID=anything"),
        ("POST", "/uploads?X-Progress-ID=anything"),
        ("POST", "/upload/identifier"),
        ("GET", "/upload/status"),
        ("GET", "/upload?X-Progress-ID=anything"),
        ("PATCH", "/upload?X-Progress-ID=anything"),
    ],
)
def test_other_requests_pass_through(pool_directory: str, method: str, path: str) -> None:
    """A request without an identifier, with another path or another method reaches the app unchanged."""
    app, _ = make(pool_directory)
    seen = app.request(path, method=method, body=b"a=b", content_type="text/plain").json
    assert seen["body"] == "a=b"
    assert seen["uploads"] is True


@pytest.mark.parametrize(
    "path",
    ["/upload", "/a/b/upload"],
)
def test_uploads_are_accepted_below_any_prefix(pool_directory: str, path: str) -> None:
    """Uploads are accepted below any prefix, also one in SCRIPT_NAME."""
    app, uploads = make(pool_directory)
    app.put(f"{path}?X-Progress-ID={uploads.create_identifier()}", BODY)
    environ = {"SCRIPT_NAME": "/mounted/upload"}
    identifier = uploads.create_identifier()
    request = webtest.TestRequest.blank(f"/?X-Progress-ID={identifier}", environ, method="PUT", body=BODY)
    request.path_info = ""
    request.script_name = "/mounted/upload"
    app.do_request(request, 201, expect_errors=False)
    assert uploads.access_upload_bucket(identifier).is_complete()


def test_only_the_set_path_accepts_uploads(pool_directory: str) -> None:
    """With `path`, only that path accepts uploads."""
    app, uploads = make(pool_directory, path="/in/box")
    identifier = uploads.create_identifier()
    assert app.put(f"/upload?X-Progress-ID={identifier}", BODY).json["bucket"] is None
    assert app.put(f"/in/box?X-Progress-ID={identifier}", BODY).json["bucket"]
    assert app.get(f"/in/box/status?X-Progress-ID={identifier}").json["state"] == "done"
    assert app.get(f"/x/in/box/status?X-Progress-ID={identifier}").json["bucket"] is None


def test_upload_url_leaves_uploads_to_the_dedicated_server(pool_directory: str) -> None:
    """With `upload_url` the app gets the URL of the dedicated server, and finds the buckets."""
    app, uploads = make(pool_directory, upload_url="https://u.example/files")
    identifier = uploads.create_identifier()
    seen = app.put(f"/upload?X-Progress-ID={identifier}", BODY).json
    assert seen["REQUEST_METHOD"] == "PUT"
    assert uploads.upload_url == "https://u.example/files/upload"
    server, _ = make(pool_directory)
    server.put(f"/upload?X-Progress-ID={identifier}", BODY)
    with uploads.access_upload_bucket(identifier).open() as file:
        assert file.read() == BODY


def test_the_identifier_may_be_a_header(pool_directory: str) -> None:
    """X-Progress-ID is read from the query, or otherwise from the header of that name."""
    app, uploads = make(pool_directory)
    identifier = uploads.create_identifier()
    app.put("/upload", BODY, headers={"X-Progress-ID": identifier})
    assert app.get("/upload/status", headers={"X-Progress-ID": identifier}).json["state"] == "done"


def test_both_status_urls_report_and_reset_an_upload(pool_directory: str) -> None:
    """Both forms of the status URL work; DELETE, and POST with clear, remove the upload."""
    app, uploads = make(pool_directory)
    identifier = uploads.create_identifier()
    ask = f"X-Progress-ID={identifier}"
    assert app.get(f"/upload/status?{ask}", status=404).json == {"identifier": identifier, "state": "unknown"}
    for method, reset in (("DELETE", f"/upload/status?{ask}"), ("POST", f"/upload/status?clear&{ask}")):
        app.put(f"/upload?{ask}", BODY)
        assert app.get(f"/upload?status&{ask}").json == app.get(f"/upload/status?{ask}").json
        assert app.request(reset, method=method).json == {"success": True}
        app.get(f"/upload/status?{ask}", status=404)
    app.post(f"/upload/status?{ask}", status=405)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_clear_at_the_upload_path_resets(pool_directory: str, method: str) -> None:
    """``U?clear`` resets the upload, as in the predecessor, by POST or DELETE; the app is not called."""
    app, uploads = make(pool_directory)
    ask = f"X-Progress-ID={uploads.create_identifier()}"
    for _ in range(2):  # a second time there is nothing to reset, which is no error
        app.put(f"/upload?{ask}", BODY)
        assert app.request(f"/upload?clear&{ask}", method=method).json == {"success": True}
        app.get(f"/upload/status?{ask}", status=404)
    assert app.request(f"/upload?clear=&{ask}", method=method).json == {"success": True}


def test_clear_at_the_upload_path_by_a_script_element(pool_directory: str) -> None:
    """With ``jsonp``, GET of ``U?clear`` resets the upload, and answers with a script."""
    app, uploads = make(pool_directory, jsonp=True, downloads=True)
    ask = f"X-Progress-ID={uploads.create_identifier()}"
    app.put(f"/upload?{ask}", BODY)
    answer = app.get(f"/upload?clear&callback=done&{ask}")
    assert (answer.content_type, answer.text) == ("text/javascript", '/**/done({"success": true});')
    app.get(f"/upload/status?{ask}", status=404)
    app.put(f"/upload?{ask}", BODY)
    app.head(f"/upload?clear&{ask}", status=405)
    assert app.get(f"/upload?clear&{ask}").json == {"success": True}
    app.get(f"/upload/status?{ask}", status=404)


def test_clear_at_the_upload_path_by_other_methods(pool_directory: str) -> None:
    """Without ``jsonp``, GET of ``U?clear`` is refused with the methods that reset, and changes nothing."""
    app, uploads = make(pool_directory, downloads=True)
    ask = f"X-Progress-ID={uploads.create_identifier()}"
    app.put(f"/upload?{ask}", BODY)
    for method in ("GET", "HEAD", "PUT"):
        answer = app.request(f"/upload?clear&{ask}", method=method, status=405)
        assert answer.headers["Allow"] == "POST, DELETE"
    assert app.get(f"/upload/status?{ask}").json["state"] == "done"
    app.post("/upload?clear&X-Progress-ID=forged", status=403)
    assert app.post("/upload?clear").json["bucket"] is None  # without an identifier the app answers


def test_the_app_writes_the_status_as_json(pool_directory: str) -> None:
    """``json.dumps(bucket.get_status())`` works as in the predecessor, where it was a dictionary."""
    app, uploads = make(pool_directory)
    identifier = uploads.create_identifier()
    app.put(f"/upload?filename=a&X-Progress-ID={identifier}", BODY)
    status = uploads.access_upload_bucket(identifier).get_status()
    assert json.loads(json.dumps(status)) == app.get(f"/upload/status?X-Progress-ID={identifier}").json
    assert (status["state"], status.get("size"), status.get("error")) == ("done", len(BODY), None)


def test_a_finished_upload_is_not_overwritten(pool_directory: str) -> None:
    """A second upload is refused with a reason, and the first one is kept."""
    app, uploads = make(pool_directory)
    path = f"/upload?X-Progress-ID={uploads.create_identifier()}"
    app.put(path, BODY)
    answer = app.put(path, b"other", status=409)
    assert answer.content_type == "application/problem+json"
    assert answer.json["code"] == "already-done"
    assert app.get(path.replace("?", "/status?")).json["size"] == len(BODY)


def test_errors_are_html_pages_for_browsers(pool_directory: str) -> None:
    """A client that prefers HTML gets a page with the same status and message."""
    app, _ = make(pool_directory)
    answer = app.post("/upload?X-Progress-ID=forged", b"", headers={"Accept": "text/html"}, status=403)
    assert answer.content_type == "text/html"
    assert "Reload the page" in answer.text
    assert 'data-fileupload-state="error"' in answer.text


def test_a_refusal_is_in_the_status(pool_directory: str) -> None:
    """An upload refused before its first byte has a status with the reason, and can be repeated."""
    app, uploads = make(pool_directory, max_size="10b")
    path = f"/upload?X-Progress-ID={uploads.create_identifier()}"
    assert app.put(path, BODY, status=413).json["code"] == "too-large"
    found = app.get(path.replace("?", "/status?")).json
    assert (found["state"], found["code"], found["error"]) == (
        "error",
        "too-large",
        "At most 10 bytes can be sent here.",
    )
    app.put(path, BODY[:10])
    assert app.get(path.replace("?", "/status?")).json["state"] == "done"


def test_identifiers_are_issued_only_if_anonymous_is_set(pool_directory: str) -> None:
    """New identifiers are issued by POST if `anonymous` is set."""
    app, uploads = make(pool_directory, anonymous=True)
    identifier = app.post("/upload/identifier", status=201).json["identifier"]
    assert uploads.verify_identifier(identifier)
    assert app.get("/upload/identifier", status=405).headers["Allow"] == "POST"


def test_logs_and_errors_hold_no_identifier(pool_directory: str, caplog: pytest.LogCaptureFixture) -> None:
    """A refused request is one log line, without the identifier."""
    app, uploads = make(pool_directory, max_size="1b")
    identifier = uploads.create_identifier()
    with caplog.at_level(logging.DEBUG):
        answer = app.put(f"/upload?X-Progress-ID={identifier}", BODY, status=413)
    ours = [record.getMessage() for record in caplog.records if record.name == "fileupload"]
    assert ours == [f"PUT upload refused: too-large bucket={identifier[:32]} protocol=put"]
    assert identifier not in caplog.text
    assert identifier not in answer.text


def test_a_bad_setting_stops_the_start(pool_directory: str) -> None:
    """The middleware cannot be created with an invalid setting, or without a pool."""
    with pytest.raises(SettingError, match="max_size"):
        UploadMiddleware(echo, directory=pool_directory, max_size="much")
    with pytest.raises(SettingError, match="setting 'directory' is missing"):
        UploadMiddleware(echo)


def test_the_server_that_buffers_is_named_once(pool_directory: str, caplog: pytest.LogCaptureFixture) -> None:
    """On a server that buffers bodies, the log says so once, and every status says so."""
    app, uploads = make(pool_directory)
    for _ in range(2):
        identifier = uploads.create_identifier()
        app.put(f"/upload?X-Progress-ID={identifier}", BODY, extra_environ={"SERVER_SOFTWARE": "waitress"})
        assert app.get(f"/upload/status?X-Progress-ID={identifier}").json["buffered"] is True
    assert len([record for record in caplog.records if "buffers bodies" in record.getMessage()]) == 1


@pytest.mark.parametrize(
    ("settings", "path"),
    [({}, "/upload/fileupload.js"), ({}, "/app/any/upload/fileupload.js"), ({"path": "/send"}, "/send/fileupload.js")],
)
def test_the_script_is_served_below_the_upload_path(pool_directory: str, settings: dict[str, str], path: str) -> None:
    """Any client gets fileupload.js there, revalidates it, and may load it into pages of other origins."""
    app, _ = make(pool_directory, **settings)
    answer = app.get(path)
    assert answer.body == files("fileupload").joinpath("static/fileupload.js").read_bytes()
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert app.get(path, headers={"If-None-Match": answer.headers["ETag"]}, status=304).body == b""
    assert app.head(path).headers["Content-Length"] == str(len(answer.body))
    assert app.post(path, status=405).headers["Allow"] == "GET, HEAD"


def test_other_scripts_are_those_of_the_app(pool_directory: str) -> None:
    """Other names below the upload path, and all of them with upload_url, are addresses of the app."""
    app, _ = make(pool_directory)
    assert app.get("/upload/other.js").headers["X-App"] == "echo"
    app, _ = make(pool_directory, upload_url="https://uploads.example.com")
    assert app.get("/upload/fileupload.js").headers["X-App"] == "echo"
