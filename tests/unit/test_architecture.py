"""The layers of the design, the sizes of its rooms, and the table of them."""

import ast
import re
from pathlib import Path

import pytest

import fileupload

SOURCE = Path(fileupload.__file__).parent

# Each module may import from the layers above its own line, and from its own folder.
LAYERS = (
    ("errors",),
    ("signing",),
    ("settings", "identifiers", "status", "dotted"),
    ("progress_bar",),
    ("wsgi",),
    ("pool",),
    ("manager",),
    ("protocols",),
    ("responses",),
    ("downloads",),
    ("endpoints", "direct_endpoints"),
    ("middleware", "attachments"),
    ("standalone", "s3fileup"),
    ("deploy",),
    ("request_watch",),
    ("connection_reaper",),
    ("server",),
    ("commands",),
    ("record_commands", "pool_commands"),
    ("cli",),
    ("__init__", "__main__"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The folder of a module, or the module itself."""
    return path.parts[0] if len(path.parts) > 1 else path.stem


def imports_of(path: Path) -> set[str]:
    """The rooms of this package that a module imports at run time."""
    tree = ast.parse((SOURCE / path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "fileupload":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_run_downward_only(path: Path) -> None:
    """A module imports only from lower layers, and from the room it is in."""
    room = room_of(path)
    assert room in RANK, f"{path} is in no layer; give it one here and in docs/architecture.txt"
    wrong = {other for other in imports_of(path) if other != room and RANK[other] >= RANK[room]}
    assert not wrong, f"{path} imports upward: {sorted(wrong)}"


def test_protocols_know_no_concrete_pool() -> None:
    """Protocols import the pool's contract, and nothing else of the pool."""
    for path in (SOURCE / "protocols").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fileupload.pool"):
                assert node.module in {"fileupload.pool.base", "fileupload.pool.direct"}, path


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_rooms_are_not_crowded(path: Path) -> None:
    """No module has more than 400 lines, no function more than 50."""
    text = (SOURCE / path).read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or node.lineno) - node.lineno < 50, f"{path}: {node.name}"


def test_each_room_is_in_the_table() -> None:
    """docs/architecture.txt names every module in its tables of rooms, and none that is gone."""
    text = (Path(__file__).parents[2] / "docs/architecture.txt").read_text(encoding="utf-8")
    tables = text.partition("\nThe rooms\n")[2].partition("\nThe way of an upload\n")[0]
    named = set()
    parts = re.split(r"\nIn ``(\w+/)``:\n", tables)
    for folder, table in zip(("", *parts[1::2]), parts[::2], strict=True):
        for names in re.findall(r"^((?:``\w[\w/]*``(?:, )?)+)  ", table, re.MULTILINE):
            named |= {folder + name for name in re.findall(r"``(.+?)``", names) if not name.endswith("/")}
    rooms = {str(path.with_suffix("")) for path in MODULES if not path.stem.startswith("__")}
    assert sorted(named - rooms) == [], "these are gone"
    assert sorted(rooms - named) == [], "give each a row, in the order of the layers"


@pytest.mark.parametrize("extra", ["granian", "kinto_http", "boto3", "redis", "magic"])
def test_extras_are_imported_only_where_they_are_used(extra: str) -> None:
    """What only an extra brings is imported inside functions, so that the package runs without it."""
    for path in MODULES:
        for node in ast.parse((SOURCE / path).read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert extra not in {name.split(".")[0] for name in names}, path
