"""Uppy's AwsS3 plugin, unchanged, against the app: versions 5 and 6, in a real Chromium, with a folder and with Ceph.

Uppy comes from npm: ``npm ci`` in the folder ``uppy`` beside this file.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from fileupload.pool.object.pool import ObjectPool
from fileupload.pool.s3.bucket_rules import install_cors
from fileupload.pool.s3.store import S3Store
from tests.support.chromium import wait_on
from tests.support.s3fileup_site import MOUNT, Application, S3FileupSite
from tests.support.stores.fixtures import CEPH_KEYS, access
from tests.support.threaded_server import served

OpenPage = Callable[..., Page]

MEBIBYTE = 1 << 20
CONTENT = os.urandom(11 * MEBIBYTE)  # three parts of at most 5 MiB
NAME = "a ü.bin"
_DIST = Path(__file__).parent / "uppy/node_modules"
_OPTIONS = {5: "endpoint", 6: "companionEndpoint"}
_CANCEL = ".uppy-StatusBar [aria-label=Cancel]"
_PAGE = """<!doctype html><meta charset="utf-8"><title>Uppy</title><link rel="stylesheet" href="/uppy.min.css">
<main></main><script src="/uppy.min.js"></script><script src="/page.js"></script>"""
# The script of docs/direct.txt, with a Dashboard.
_SCRIPT = """
const address = %s;
const uppy = new Uppy.Uppy()
    .use(Uppy.Dashboard, {inline: true, target: 'main'})
    .use(Uppy.AwsS3, {%s: address, shouldUseMultipart: %s, getChunkSize: () => 5 << 20});
uppy.on('upload-success', async (file, response) => {
    const answer = await fetch(address + '/complete', {
        method: 'POST',
        headers: {'Content-Type': 'application/json'},
        body: JSON.stringify({key: response.body.key}),
    });
    const descriptor = await answer.json();
    if (!answer.ok) uppy.info(descriptor.error, 'error', 3600000);
    document.title = answer.ok ? 'kept' : 'refused';
});
"""


@dataclass
class UppySite:
    """A page with Uppy, the app, and the application that receives webhooks."""

    site: S3FileupSite
    application: Application
    page: Page
    folder: Path

    def send(self, content: bytes = CONTENT) -> None:
        """Add a file to Uppy, and start the upload."""
        path = self.folder / NAME
        path.write_bytes(content)
        self.page.locator("input.uppy-Dashboard-input").first.set_input_files(path)
        self.page.locator(".uppy-StatusBar-actionBtn--upload").click()

    @property
    def dashboard(self) -> Locator:
        return self.page.locator(".uppy-Dashboard")

    def expect_webhook(self, content: bytes = CONTENT) -> None:
        """Wait until the application was notified of the file, and check that the stored bytes are those sent."""
        expect(self.page).to_have_title("kept")
        expect(self.dashboard).to_contain_text("Complete")
        [(answered, descriptor)] = self.application.deliveries
        assert answered == 204
        assert (descriptor["state"], descriptor["filename"], descriptor["size"]) == ("done", NAME, len(content))
        assert self.site.stored(descriptor["identifier"]) == content
        assert len(self.site.leftovers()) == 1


OpenUppySite = Callable[..., UppySite]


def _page_app(version: int, script: Callable[[], str]) -> Any:
    """Return a WSGI app with the page of that version of Uppy."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        name = environ["PATH_INFO"].removeprefix("/")
        types = {"": "text/html", "page.js": "text/javascript", "uppy.min.js": "text/javascript"}
        if name in ("uppy.min.js", "uppy.min.css"):
            body = (_DIST / f"uppy{version}/dist/{name}").read_bytes()
        else:
            body = {"": _PAGE, "page.js": script()}.get(name, "").encode()
        start_response("200 OK", [("Content-Type", f"{types.get(name, 'text/css')}; charset=utf-8")])
        return [body]

    return app


@pytest.fixture(params=[pytest.param(5, marks=pytest.mark.full), 6], ids=["Uppy 5", "Uppy 6"])
def version(request: pytest.FixtureRequest) -> int:
    """Return each version of Uppy; the versions send different requests."""
    version: int = request.param
    if not (_DIST / f"uppy{version}/dist/uppy.min.js").exists():
        required = os.environ.get("FILEUPLOAD_REQUIRE_ALL") == "1"
        (pytest.fail if required else pytest.skip)("Uppy is not installed (npm ci in tests/integration/browser/uppy)")
    return version


@pytest.fixture(params=["directory", "ceph"])
def open_uppy_site(
    version: int, request: pytest.FixtureRequest, open_page: OpenPage, tmp_path: Path
) -> Iterator[OpenUppySite]:
    """Serve the page and the app from one origin, with a folder; or from two, with a store at a third."""
    with ExitStack() as stack:
        application = stack.enter_context(Application().served())

        def run(*, multipart: bool, **settings: Any) -> UppySite:
            address = MOUNT
            page_app = _page_app(
                version, lambda: _SCRIPT % (json.dumps(address), _OPTIONS[version], json.dumps(multipart))
            )
            common = {"anonymous": True, "callback_url": application.url, "min_free_space": 0, **settings}
            if request.param == "directory":
                site = S3FileupSite({"directory": str(tmp_path / "pool"), "durable": False, **common})
                page_url = stack.enter_context(served(site.mounted(page_app)))
            else:
                store: S3Store = request.getfixturevalue("ceph_store")
                page_url = stack.enter_context(served(page_app))
                prefix = f"uppy/{uuid.uuid4().hex}"
                install_cors(store, prefix, [page_url])
                where = {"pool": f"s3://{store.s3_bucket}/{prefix}", "cors_origins": page_url}
                keys = access(request.getfixturevalue("radosgw"), CEPH_KEYS)
                site = stack.enter_context(S3FileupSite({**where, **keys, **common}).served())
                stack.callback(site.pool.store.client.close)  # type: ignore[attr-defined]
                address = site.base
            return UppySite(site, application, open_page(page_url), tmp_path)

        yield run


@pytest.mark.parametrize("multipart", [False, True], ids=["single", "multipart"])
def test_a_file_is_stored_unchanged_and_a_webhook_is_sent_once(open_uppy_site: OpenUppySite, multipart: bool) -> None:
    """The pool has the bytes, the application is notified once, and the page shows the success."""
    uppy_site = open_uppy_site(multipart=multipart)
    uppy_site.send()
    uppy_site.expect_webhook()


@pytest.mark.full_with(open_uppy_site="ceph")
@pytest.mark.parametrize("content", [b"", b"few bytes"], ids=["empty", "small"])
@pytest.mark.parametrize("multipart", [False, True], ids=["single", "multipart"])
def test_a_small_or_empty_file_is_uploaded(open_uppy_site: OpenUppySite, multipart: bool, content: bytes) -> None:
    """A file of few bytes, or none, is stored too, also when multipart upload is requested."""
    uppy_site = open_uppy_site(multipart=multipart)
    uppy_site.send(content)
    uppy_site.expect_webhook(content)


@pytest.mark.full_with(open_uppy_site="ceph")
def test_a_cancelled_upload_leaves_nothing(open_uppy_site: OpenUppySite) -> None:
    """Cancelling an upload in the middle leaves nothing in the pool or in the store."""
    uppy_site = open_uppy_site(multipart=True)
    sent: list[Route] = []

    def hold_all_but_one(route: Route) -> None:
        if route.request.method == "PUT":
            sent.append(route)
        if route.request.method != "PUT" or len(sent) == 1:
            route.continue_()

    uppy_site.page.route(lambda url: "artNumber=" in url or "/part?" in url, hold_all_but_one)
    uppy_site.page.evaluate("uppy.on('s3-multipart:part-uploaded', () => { document.title = 'one part' })")
    uppy_site.send()
    expect(uppy_site.page).to_have_title("one part")
    assert uppy_site.site.leftovers()
    uppy_site.page.locator(_CANCEL).click()
    wait_on(uppy_site.page, lambda: not uppy_site.site.bucket_ids())
    assert uppy_site.site.leftovers() == []
    assert uppy_site.application.deliveries == []


@pytest.mark.parametrize("open_uppy_site", ["directory"], indirect=True)
@pytest.mark.parametrize("multipart", [False, True], ids=["single", "multipart"])
def test_an_upload_succeeds_despite_a_broken_connection(
    open_uppy_site: OpenUppySite, version: int, multipart: bool
) -> None:
    """A file is uploaded despite a connection that breaks once."""
    uppy_site = open_uppy_site(multipart=multipart)
    broken: list[str] = []

    def break_once(route: Route) -> None:
        if broken:
            route.continue_()
        else:
            broken.append(route.request.url)
            route.abort("connectionreset")

    uppy_site.page.route("**/part?*", break_once)
    uppy_site.send()
    if version == 5 and not multipart:  # it retries by itself only for parts
        uppy_site.page.locator(".uppy-StatusBar-actionBtn--retry").click()
    uppy_site.expect_webhook()
    assert broken


@pytest.mark.full_with(open_uppy_site="ceph")
@pytest.mark.parametrize("multipart", [False, True], ids=["single", "multipart"])
def test_a_file_above_the_limit_is_refused(open_uppy_site: OpenUppySite, version: int, multipart: bool) -> None:
    """A file above the limit is refused with a reason, and nothing is kept, except parts that may be retried."""
    uppy_site = open_uppy_site(multipart=multipart, max_size="6M")
    uppy_site.send()
    if version == 5 and not multipart and isinstance(uppy_site.site.pool, ObjectPool):
        # A presigned PUT does not bound the length at the store; the excess is found when the page completes.
        expect(uppy_site.dashboard).to_contain_text("at most 6291456 are allowed; nothing was kept")
    else:
        expect(uppy_site.dashboard).to_contain_text("Upload failed")
    if version == 6 and multipart:
        # After a refused part Uppy sends no further request, not even a cancellation: the parts are removed by age.
        list(uppy_site.site.pool.purge(-1))
    wait_on(uppy_site.page, lambda: not uppy_site.site.leftovers())
    assert uppy_site.application.deliveries == []
