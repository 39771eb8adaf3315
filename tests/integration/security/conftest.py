"""Most tests send requests to the same site as the tests of the protocols."""

from tests.unit.protocols.conftest import lasting_site, site

__all__ = ["lasting_site", "site"]
