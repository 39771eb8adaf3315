"""Finds the snippets in the documentation: the literal and code blocks of its reStructuredText."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from docutils.core import publish_doctree

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Snippet:
    """A block that readers copy.

    :ivar file: the path of its file in the repository.
    :ivar section: the innermost heading above it.
    """

    file: str
    section: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}, {self.section!r}: {self.text.splitlines()[0]}"


def documents() -> list[str]:
    """Return the paths of all reStructuredText files of the repository."""
    found = [path for pattern in ("*.txt", "docs/*.txt", "examples/**/README.txt") for path in ROOT.glob(pattern)]
    names = [str(path.relative_to(ROOT)) for path in found if path.name != "LICENSE.txt"]
    return sorted(name for name in names if not {"var", "instance", ".venv"} & set(Path(name).parts))


def snippets_in(file: str) -> list[Snippet]:
    """Return the snippets of *file*, in order."""
    text = (ROOT / file).read_text(encoding="utf-8")
    tree = publish_doctree(text, settings_overrides={"halt_level": 2, "report_level": 2})
    return [Snippet(file, _section_of(block), block.astext()) for block in tree.findall(nodes.literal_block)]


def _section_of(block: nodes.Node) -> str:
    parent = block.parent
    while not isinstance(parent, (nodes.section, nodes.document)):
        parent = parent.parent
    title = parent.next_node(nodes.title)
    assert title is not None
    return title.astext()


def snippet(file: str, section: str, contained: str = "") -> str:
    """Return the text of the one snippet of a section that contains a text."""
    [found] = [each for each in snippets_in(file) if each.section == section and contained in each.text]
    return found.text
