"""Fixtures of the protocol tests, to whose site most hostile requests are sent."""

from tests.unit.protocols.conftest import lasting_site, site

__all__ = ["lasting_site", "site"]
