"""The webhook for complete uploads: it is signed, and repeated until it succeeds, and then no more."""

from __future__ import annotations

import pytest

from fileupload.apps.s3fileup import webhook as callback
from tests.integration.s3fileup.conftest import Open
from tests.support.s3fileup_site import Application, S3FileupSite
from tests.support.waiting import wait_until

CONTENT = b"some bytes"


def test_webhook_delivery_is_retried_after_a_failure(site: S3FileupSite, application: Application) -> None:
    """A webhook that fails at first is sent again at once, and the client sees a success."""
    application.answers = [500]
    key = site.sent(CONTENT)
    assert site.complete(key).status_code == 200
    assert [(status, descriptor["identifier"]) for status, descriptor in application.deliveries] == [
        (500, key),
        (204, key),
    ]


@pytest.mark.parametrize("answer", [500, 404, 302], ids=["an error", "unknown", "a redirect"])
def test_a_webhook_that_keeps_failing_is_an_error_for_the_client(
    site: S3FileupSite, application: Application, answer: int
) -> None:
    """If the webhook keeps failing, the client gets an error, the file stays, and completing again sends it once."""
    application.answers = [answer] * 3
    key = site.sent(CONTENT)
    refused = site.complete(key)
    assert (refused.status_code, refused.json()["code"]) == (502, "callback-failed")
    assert len(application.deliveries) == 3
    assert site.stored(key) == CONTENT
    assert site.complete(key).status_code == 200
    assert site.complete(key).status_code == 200
    assert application.delivered_keys == [key]
    assert len(application.deliveries) == 4
    assert application.strays == []


@pytest.mark.parametrize("kind", ["directory"])
def test_a_webhook_without_an_answer_times_out(
    site: S3FileupSite, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook that gets no answer ends after a timeout."""
    monkeypatch.setattr(callback, "_TIMEOUT", 0.2)
    application.silence.clear()
    key = site.sent(CONTENT)
    assert site.complete(key).json()["code"] == "callback-failed"
    application.silence.set()
    assert site.complete(key).status_code == 200


@pytest.mark.parametrize("kind", ["directory"])
def test_no_webhook_is_sent_without_an_address(open_site: Open, application: Application) -> None:
    """Without an address no webhook is sent; with an address that does not answer, the client gets an error."""
    site = open_site(anonymous=True, callback_url="")
    assert site.complete(site.sent(CONTENT)).status_code == 200
    assert application.deliveries == []
    site = open_site(anonymous=True, callback_url="http://127.0.0.1:1/")
    assert site.complete(site.sent(CONTENT)).json()["code"] == "callback-failed"


@pytest.mark.parametrize("kind", ["directory"])
def test_a_delivered_webhook_is_not_sent_by_another_node(open_site: Open, application: Application) -> None:
    """A webhook that one node has sent is not sent again by another on the same pool."""
    one, other = open_site(anonymous=True), open_site(anonymous=True)
    key = one.sent(CONTENT)
    assert other.complete(key).json() == one.complete(key).json()
    assert application.delivered_keys == [key]


def test_a_failed_webhook_is_sent_again_during_a_later_request(
    site: S3FileupSite, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook that failed is sent again during a later request of any kind, and then no more."""
    application.answers = [500] * 3
    key = site.sent(CONTENT)
    assert site.complete(key).status_code == 502
    monkeypatch.setattr(callback, "_RETRY_INTERVAL", 1.0)
    wait_until(lambda: site.put_address(CONTENT) and application.delivered_keys)
    wait_until(lambda: site.put_address(CONTENT) and not site.pool.index.names(callback._PENDING))
    assert site.complete(key).status_code == 200
    assert set(application.delivered_keys) == {key}
