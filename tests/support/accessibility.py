"""Checks pages with axe-core, which comes with the package axe-playwright-python."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from playwright.sync_api import Page

# Rules of WCAG 2 at level AA, and what axe-core calls best practice.
_RUN = (
    "async () => (await axe.run()).violations.map(({id, nodes}) => [id, ...nodes.map((node) => node.html)].join(' | '))"
)


@cache
def _axe() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def violations(page: Page) -> list[str]:
    """Return the rules that *page* violates, each with the elements that do."""
    page.evaluate(_axe())
    found: list[str] = page.evaluate(_RUN)
    return found


def overflow(page: Page) -> int:
    """Return by how many pixels the content is wider than the window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return width
