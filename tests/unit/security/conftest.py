"""Most hostile requests are sent to the site that the tests of the protocols use."""

from tests.unit.protocols.conftest import lasting_site, site

__all__ = ["lasting_site", "site"]
