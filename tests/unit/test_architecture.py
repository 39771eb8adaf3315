"""Rules for the source code as a whole."""

import ast
from pathlib import Path

import pytest

import fileupload

SOURCE = Path(fileupload.__file__).parent
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))


@pytest.mark.parametrize("extra", ["granian", "kinto_http", "boto3", "redis"])
def test_extras_are_imported_only_where_they_are_used(extra: str) -> None:
    """Dependencies of extras are imported inside functions, so that the package can be imported without them."""
    for path in MODULES:
        for node in ast.parse((SOURCE / path).read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert extra not in {name.split(".")[0] for name in names}, path
