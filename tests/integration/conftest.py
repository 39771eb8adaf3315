"""Fixtures of the browser tests: one Chromium for a whole run."""

from tests.support.chromium import chromium

__all__ = ["chromium"]
