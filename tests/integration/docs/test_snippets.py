"""Snippets of the documentation, run as they are written, but for ports and folders."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import webtest
from paste.deploy import loadapp, loadfilter
from playwright.sync_api import Browser, expect

from fileupload import RecordAttachments, SessionAttachments, UploadManager, UploadMiddleware
from fileupload.cli.main import main
from fileupload.settings import Settings
from tests.support.chromium import open_context
from tests.support.processes import start_group, stop_group, wait_for_line
from tests.support.snippets import ROOT, Snippet, documents, snippet, snippets_in
from tests.support.threaded_server import served
from tests.support.waiting import PATIENCE

SHELL = re.compile(r"(curl|fileupload|pip|make|python3?|gunicorn|export|action=|[A-Z_]+=)[^\n]*(?:\n|$)")

# How the snippets of each section are run: by a test of this module, or by the named one.
RUN_BY = {
    ("README.txt", "fileupload"): "test_the_first_app_receives_an_upload, test_make_knows_the_targets",
    ("README.txt", "Upload with curl"): "test_curl_uploads_resets_and_uploads_again",
    ("README.txt", "Wrap your app"): "test_the_app_with_a_form, test_the_descriptor_has_the_fields_that_are_shown",
    ("README.txt", "Use uploads in the app"): "test_an_app_uses_an_upload",
    ("README.txt", "The dedicated server"): "test_commands_are_accepted; unit/test_deploy.py",
    ("README.txt", "An object store"): "test_commands_are_accepted; system/test_distribution.py",
    ("README.txt", "Attachments"): "test_attachments_are_put_around_an_app",
    ("docs/architecture.txt", "The directory pool"): "no snippet: names of files",
    ("docs/architecture.txt", "The object pool"): "no snippet: names of objects",
    ("docs/attachments.txt", "Files of a session"): "test_session_attachments",
    ("docs/attachments.txt", "From kinto-attachment"): "test_commands_are_accepted; record_client/test_import.py",
    ("docs/attachments.txt", "Files of records"): "test_paste_sections_are_loaded; examples/test_kinto.py",
    ("docs/deployment.txt", "nginx in front"): "proxy/test_nginx.py",
    ("docs/deployment.txt", "Size of the descriptor"): "no snippet: a formula; unit/protocols/test_descriptor_size.py",
    ("docs/deployment.txt", "Workers and scripts"): "test_open_pool.py",
    ("docs/deployment.txt", "Commands and the environment"): "test_commands_are_accepted",
    ("docs/deployment.txt", "Log"): "no snippet: lines of a log; cli/test_serve_log.py",
    ("docs/deployment.txt", "Several processes"): "test_commands_are_accepted",
    ("docs/deployment.txt", "A dedicated server for several apps"): "test_a_dedicated_server_for_several_apps",
    ("docs/deployment.txt", "An object store"): "test_commands_are_accepted; system/test_distribution.py",
    ("docs/direct.txt", "At the upload path"): "test_a_direct_upload_with_curl, test_a_direct_upload_of_a_page",
    ("docs/direct.txt", "The app egg:fileupload#s3fileup"): "test_paste_sections_are_loaded",
    ("docs/direct.txt", "The webhook"): "test_the_webhook_verifies_signatures",
    ("docs/direct.txt", "Uppy"): "browser/test_uppy.py",
    ("docs/direct.txt", "CORS of the object store"): "test_commands_are_accepted",
    (
        "examples/django-attachments/README.txt",
        "Session attachments with Django",
    ): "examples/test_django_attachments.py",
    ("examples/django/README.txt", "fileupload with Django"): "examples/test_examples.py",
    ("examples/flask/README.txt", "fileupload with Flask"): "test_the_flask_example_with_curl",
    ("examples/flask/README.txt", "With a dedicated upload server"): "examples/test_examples.py",
    ("examples/kinto/README.txt", "fileupload with Kinto"): "examples/test_kinto.py",
    ("examples/pyramid/README.txt", "fileupload with Pyramid and Paste"): "examples/test_examples.py",
    ("examples/s3fileup/README.txt", "Uploads straight to the storage"): "examples/test_s3fileup.py",
    ("examples/s3fileup/README.txt", "With an object store"): "examples/test_s3fileup.py",
    ("examples/s3fileup/README.txt", "Finished uploads"): "examples/test_s3fileup.py",
}


def every_snippet() -> list[Snippet]:
    return [found for file in documents() for found in snippets_in(file)]


def test_every_snippet_is_run() -> None:
    """Each section with a snippet names the test that runs it, and no other section does."""
    assert {(found.file, found.section) for found in every_snippet()} == RUN_BY.keys()


def test_all_snippets_are_well_formed() -> None:
    """Python snippets compile, shell snippets are accepted by bash, and JSON is valid."""
    for found in every_snippet():
        if found.text.startswith(("from ", "import ", "def ", "app = ", "uploads = ", "bundle = ")):
            ast.parse(found.text)
        elif SHELL.match(found.text):
            done = subprocess.run(["/bin/bash", "-n", "-c", found.text], capture_output=True, text=True, check=False)
            assert done.stderr == "", found
        elif found.text.startswith("{"):
            json.loads(found.text)


def commands_of(text: str) -> Iterator[list[str]]:
    """Return the arguments of each call of ``fileupload`` in a shell snippet."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        words = words[next((n for n, word in enumerate(words) if "=" not in word), 0) :]
        if words[:1] == ["fileupload"]:
            yield words[1:]


def test_commands_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line knows each command in the documentation, with each of its options."""
    commands = [command for found in every_snippet() if SHELL.match(found.text) for command in commands_of(found.text)]
    assert len(commands) >= 10
    monkeypatch.setattr("fileupload.cli.main._command", lambda *names: lambda options: None)
    for command in commands:
        with contextlib.redirect_stderr(io.StringIO()) as told, contextlib.suppress(SystemExit):
            main(command)
        assert told.getvalue() == "", command


def test_make_knows_the_targets() -> None:
    """make has a recipe for each target that the documentation names."""
    text = "\n".join((ROOT / file).read_text(encoding="utf-8") for file in ["README.txt", "bench/README.txt"])
    for target in set(re.findall(r"\bmake ([a-z-]+)", text)):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder with the files that snippets send."""
    for name in ("README.txt", "CHANGES.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


@pytest.fixture
def shell(folder: Path, require_program: Callable[[str], str]) -> Callable[[str], str]:
    """Run a shell snippet in the folder; return its output."""
    require_program("curl")

    def run(text: str) -> str:
        environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "no_proxy": "*"}
        done = subprocess.run(
            ["/bin/bash", "-ec", text],
            cwd=folder, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def launch(folder: Path) -> Iterator[Callable[..., str]]:
    """Run ``python`` with arguments in the folder, until the end of the test; return the URL that it prints."""
    processes: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str) -> str:
        log = folder / f"server-{len(processes)}.log"
        processes.append(start_group([sys.executable, *arguments], log, cwd=folder))
        (url,) = wait_for_line(processes[-1], log, r"(http://127\.0\.0\.1:[1-9]\d*)")
        return url

    yield run
    for process in processes:
        stop_group(process)


@pytest.fixture
def serve(launch: Callable[..., str]) -> Callable[..., str]:
    """Start ``fileupload serve --anonymous``; return its URL."""
    return lambda *options: launch("-m", "fileupload", "serve", "--port", "0", "--directory", "uploads", *options)


@pytest.fixture
def start_app(folder: Path, launch: Callable[..., str]) -> Callable[[str], str]:
    """Start the Flask app of a snippet with ``flask run``; return its URL."""

    def run(text: str) -> str:
        (folder / "app.py").write_text(text, encoding="utf-8")
        return launch("-m", "flask", "run", "--port", "0")

    return run


def hello(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def curl_commands(url: str) -> str:
    """Return the first two snippets of README.txt with curl, for the server at *url*."""
    parts = [snippet("README.txt", "Upload with curl", word) for word in ("URL=", "Holidays")]
    return "\n".join(parts).replace("http://127.0.0.1:8080", url)


def upload_with_curl(shell: Callable[[str], str], url: str) -> list[Any]:
    """Run the first two snippets of README.txt with curl; return the JSON of the three answers."""
    told, decoder, answers = shell(curl_commands(url)).strip(), json.JSONDecoder(), []
    while told:
        answer, end = decoder.raw_decode(told)
        answers.append(answer)
        told = told[end:].strip()
    return answers


def test_curl_uploads_resets_and_uploads_again(shell: Callable[[str], str], serve: Callable[..., str]) -> None:
    """The commands send a form, read its status, reset the upload and send a plain body."""
    url = serve("--anonymous")
    alone, received, status = upload_with_curl(shell, url)
    assert alone["state"] == "done"
    assert received["fields"] == {"title": ["Holidays"]}
    assert status["state"] == "done"
    told = shell(curl_commands(url) + "\n" + snippet("README.txt", "Upload with curl", "DELETE"))
    assert '{"success": true}' in told
    assert told.count('"state": "done"') == 4


def test_the_first_app_receives_an_upload(shell: Callable[[str], str], start_app: Callable[[str], str]) -> None:
    """The app answers with the descriptor of an upload by curl, and refuses a request that is none."""
    url = start_app(snippet("README.txt", "fileupload", "Flask"))
    _, received, status = upload_with_curl(shell, url)
    assert received["sha256"] == status["sha256"]
    answer = requests.post(f"{url}/upload", json={"state": "done"}, timeout=PATIENCE)
    assert (answer.status_code, answer.text) == (400, "Send a file.")


# A name that is a script where a page shows it without escaping.
SCRIPT_NAME = "<img src=x onerror=\"document.title='attacked'\">.txt"


@pytest.mark.parametrize("scripted", [True, False])
def test_the_app_with_a_form(start_app: Callable[[str], str], chromium: Browser, folder: Path, scripted: bool) -> None:
    """The form works with and without its script; the file is kept, and its name is not run as HTML."""
    url = start_app(snippet("README.txt", "Wrap your app", "data-fileupload"))
    context = open_context(chromium, java_script_enabled=True)
    page = context.new_page()
    if not scripted:
        page.route("**/fileupload.js", lambda route: route.abort())
    page.goto(url)
    page.get_by_label("Title").fill("A title")
    file = {"name": SCRIPT_NAME, "mimeType": "text/plain", "buffer": b"content"}
    page.get_by_label("File").set_input_files(file)  # type: ignore[arg-type]
    page.get_by_role("button", name="Send").click()
    expect(page.locator("body")).to_contain_text("The upload is complete." if scripted else "onerror")
    assert page.title() != "attacked"
    assert page.locator("img").count() == 0
    context.close()
    assert [path.read_bytes() for path in (folder / "files").iterdir()] == [b"content"]


def test_the_flask_example_with_curl(folder: Path, launch: Callable[..., str], shell: Callable[[str], str]) -> None:
    """The commands in the example's README send a file to the address of its form, and the app lists it."""
    ignored = shutil.ignore_patterns("instance", ".venv", "__pycache__")
    shutil.copytree(ROOT / "examples/flask", folder, ignore=ignored, dirs_exist_ok=True)
    start, use = (found.text for found in snippets_in("examples/flask/README.txt")[:2])
    *_, gunicorn = shlex.split(start.splitlines()[-1])
    url = launch("-m", "gunicorn", "--threads", "8", "--bind", "127.0.0.1:0", gunicorn)
    assert "app.py" in shell(use.replace("http://127.0.0.1:8000", url))
    assert (folder / "app.py").stat().st_size == next((folder / "instance/files").iterdir()).stat().st_size


def test_the_descriptor_has_the_fields_that_are_shown(tmp_path: Path) -> None:
    """The descriptor in README.txt has the keys of a real one, in their order."""
    shown = json.loads(snippet("README.txt", "Wrap your app", '"identifier"'))
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(json.load(environ["wsgi.input"]))
        return hello(environ, start_response)

    with served(UploadMiddleware(app, directory=str(tmp_path / "pool"), anonymous=True)) as url:
        identifier = requests.post(f"{url}/upload/identifier", timeout=PATIENCE).json()["identifier"]
        query = {"X-Progress-ID": identifier}
        requests.post(f"{url}/upload", {"title": "x"}, params=query, files={"file": ("a.iso", b"x")}, timeout=PATIENCE)
    assert list(seen[0]) == list(shown)
    assert list(seen[0]["files"][0]) == list(shown["files"][0])


def test_an_app_uses_an_upload(tmp_path: Path) -> None:
    """Each line of the snippet runs in an app, for an upload that its client has sent in between."""
    create, use = snippet("README.txt", "Use uploads in the app").split("uploads.verify_identifier", 1)
    uploads = UploadMiddleware(hello, directory=str(tmp_path / "pool")).manager
    names: dict[str, Any] = {"environ": {"fileupload": uploads}, "path": str(tmp_path / "kept")}
    exec(create, names)
    app = webtest.TestApp(UploadMiddleware.from_manager(hello, uploads))
    app.put(f"/upload?X-Progress-ID={names['identifier']}&filename=a.png", b"picture", status=200)
    exec("uploads.verify_identifier" + use, names)
    assert Path(names["path"]).read_bytes() == b"picture"
    assert uploads.access_upload_bucket(names["identifier"]) is None


def test_attachments_are_put_around_an_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both lines of README.txt wrap an app, which still answers its own requests."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {
        "app": hello,
        "SessionAttachments": SessionAttachments,
        "RecordAttachments": RecordAttachments,
    }
    exec(snippet("README.txt", "Attachments"), names)
    assert webtest.TestApp(names["app"]).get("/").body == b"hello"


def test_a_dedicated_server_for_several_apps(tmp_path: Path) -> None:
    """The app creates identifiers, and passes uploads on to the address of the server."""
    text = snippet("docs/deployment.txt", "A dedicated server for several apps", "UploadMiddleware")
    names: dict[str, Any] = {"app": hello, "UploadMiddleware": UploadMiddleware}
    exec(text.replace("/srv/uploads", str(tmp_path)), names)
    manager: UploadManager = names["app"].manager
    assert manager.upload_url == "https://uploads.example.com/upload"


def test_session_attachments(tmp_path: Path, shell: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The app of the snippets has the attachments that curl has sent, and moves them into a message."""
    section = ("docs/attachments.txt", "Files of a session")
    sent: list[tuple[str, str, bytes]] = []

    class Message:
        @staticmethod
        def attach(name: str, mimetype: str, content: bytes) -> None:
            sent.append((name, mimetype, content))

    def letters(environ: Any, start_response: Any) -> list[bytes]:
        exec(snippet(*section, "message.attach"), {"environ": environ, "message": Message})
        return hello(environ, start_response)

    names: dict[str, Any] = {"app": letters}
    exec(snippet(*section, "import SessionAttachments").replace("/srv/uploads", str(tmp_path / "pool")), names)
    with served(names["app"]) as url:
        commands = snippet(*section, "curl").replace("http://127.0.0.1:8080", url)
        told = shell(commands)
        shell(f"curl -s -b jar -c jar {url}/send")
        assert shell(f"curl -s -b jar -c jar {url}/attachments/letter/").strip() == "[]"
    assert told.count('"name": "CHANGES.txt"') == 2
    assert [name for name, _, _ in sent] == ["README.txt", "CHANGES.txt"]
    assert sent[0][2] == (ROOT / "README.txt").read_bytes()

    class Session:
        id = "secret"

    names = {}
    exec(snippet(*section, "def key"), names)
    assert names["key"]({"beaker.session": Session}) == "secret"


def test_paste_sections_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PasteDeploy loads the filters and apps of the documentation, with folders of this machine."""
    (tmp_path / "mysite").mkdir()
    (tmp_path / "mysite/__init__.py").touch()
    (tmp_path / "mysite/accounts.py").write_text("def may_upload(environ):\n    return True\n")
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(re.sub(r"/srv/(\w+)", rf"{tmp_path}/\1", text))
        return f"config:{path}"

    for section, name in (("Files of a session", "attachments"), ("Files of records", "records")):
        text = snippet("docs/attachments.txt", section, f"[filter:{name}]")
        assert callable(loadfilter(write(f"{name}.ini", text), name=name)(hello))
    text = snippet("docs/direct.txt", "The app egg:fileupload#s3fileup", "[app:direct]")
    text = text.replace("pool = s3://my-bucket/uploads\n", f"directory = {tmp_path}/direct\n")
    text = re.sub(r"upload_key = .*", "upload_key = " + "k" * 43, text)
    assert callable(loadapp(write("direct.ini", text), name="direct"))


def test_the_settings_of_an_object_store_are_valid() -> None:
    """The settings for public files of records in an object store are known, and have valid values."""
    from fileupload.apps.record_attachments.settings import RecordSettings

    text = snippet("docs/attachments.txt", "Files of records", "base_acl")
    given = dict(line.split(" = ") for line in text.splitlines())
    assert RecordSettings.parse({"base_url": "", **given}).base_path == "s3://public-bucket/files"
    assert Settings.parse({"pool": given["pool"]}).pool == "s3://private-bucket/uploads"


def test_a_direct_upload_with_curl(shell: Callable[[str], str], serve: Callable[..., str]) -> None:
    """The commands request a URL, send the bytes to it, and complete the upload."""
    url = serve("--anonymous")
    text = snippet("docs/direct.txt", "At the upload path", "curl").replace("http://127.0.0.1:8080", url)
    told = json.loads(shell(text).strip().splitlines()[-1])
    assert (told["state"], told["filename"], told["size"]) == ("done", "hello.txt", 14)


def test_a_direct_upload_of_a_page(serve: Callable[..., str], chromium: Browser) -> None:
    """The script of the page sends a file in several parts, and gets the descriptor."""
    url = serve("--anonymous", "--set", "direct_part_size=5M")
    context = open_context(chromium, bypass_csp=True)
    page = context.new_page()
    page.goto(url)
    identifier = requests.post(f"{url}/upload/identifier", timeout=PATIENCE).json()["identifier"]
    told = page.evaluate(
        """async ([source, identifier]) => {
            const send = new Function(source + '; return send')();
            const file = new File([new Uint8Array(6 << 20)], 'zeros.bin', {type: 'application/x-zeros'});
            return (await send(file, identifier)).json();
        }""",
        [snippet("docs/direct.txt", "At the upload path", "async function"), identifier],
    )
    assert (told["state"], told["size"]) == ("done", 6 << 20)
    context.close()


def test_the_webhook_verifies_signatures() -> None:
    """The app takes a request with a genuine signature, and refuses any other."""
    noted: list[Any] = []
    names: dict[str, Any] = {"UPLOAD_KEY": "key", "take_note": noted.append}
    exec(snippet("docs/direct.txt", "The webhook"), names)
    body = b'{"state": "done"}'
    digest = names["hmac"].new(b"key", body, "sha256").hexdigest()
    app = webtest.TestApp(names["uploaded"])
    app.post("/", body, headers={"X-Fileupload-Signature": f"sha256={digest}"}, status=204)
    app.post("/", body, headers={"X-Fileupload-Signature": "sha256=0"}, status=403)
    assert noted == [{"state": "done"}]


def test_the_uppy_script_is_the_one_that_is_tested() -> None:
    """The script in docs/direct.txt differs from that of the browser test in the target and options only."""
    tested = (ROOT / "tests/integration/browser/test_uppy.py").read_text(encoding="utf-8")
    handler = snippet("docs/direct.txt", "Uppy").partition("uppy.on(")[2]
    for line in handler.splitlines():
        assert line.strip().removesuffix(", 'error');") in tested
