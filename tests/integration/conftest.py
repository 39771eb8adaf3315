"""What tests of browsers share: one Chromium for a whole run."""

from tests.support.chromium import chromium

__all__ = ["chromium"]
