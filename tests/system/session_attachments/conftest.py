"""The sites of the unit tests of session attachments."""

from tests.unit.apps.session_attachments.conftest import client, make_site, site

__all__ = ["client", "make_site", "site"]
