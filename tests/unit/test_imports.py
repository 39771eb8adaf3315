"""Imports: `import fileupload` loads nothing else, and each application only the modules it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fileupload

EXTRAS = {"boto3", "botocore", "granian", "redis", "kinto_http", "requests", "tqdm"}


def loaded_by(code: str) -> set[str]:
    """Return the modules that a new interpreter has loaded after *code*."""
    program = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


def test_the_package_loads_nothing_else() -> None:
    """`import fileupload` loads no submodule and no dependency."""
    own = {
        name for name in loaded_by("import fileupload") if name.partition(".")[0] in {"fileupload", "webob", *EXTRAS}
    }
    assert own == {"fileupload"}


def test_the_public_names_are_there() -> None:
    """Each public name can be imported and is listed by dir(); an unknown name is an AttributeError."""
    for name in fileupload.__all__:
        assert getattr(fileupload, name).__name__ == name
    assert set(fileupload.__all__) <= set(dir(fileupload))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        fileupload.Nothing  # noqa: B018


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("UploadMiddleware", ("apps", "record_client", "server", "cli", "pool.object", "pool.s3")),
        (
            "SessionAttachments",
            ("apps.record_attachments", "apps.s3fileup", "record_client", "server", "cli", "pool.s3"),
        ),
        ("open_pool", ("apps", "middleware", "protocols", "record_client", "server", "cli", "pool.object", "pool.s3")),
        ("S3Fileup", ("apps.record_attachments", "apps.session_attachments", "record_client", "server", "cli")),
    ],
)
def test_an_application_loads_only_what_it_needs(name: str, left_out: tuple[str, ...]) -> None:
    """An application loads no other application, no unused store, and no extra."""
    loaded = loaded_by(f"from fileupload import {name}")
    wrong = {each for each in loaded if each.startswith(tuple(f"fileupload.{part}" for part in left_out))}
    assert wrong == set()
    assert not loaded & EXTRAS


def test_help_loads_only_the_settings() -> None:
    """`fileupload --help` loads only the settings: no server, application, pool or dependency."""
    code = "from fileupload.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    loaded = loaded_by(code)
    own = {name for name in loaded if name.startswith("fileupload.")}
    parts = {"cli", "cli.main", "cli.answer", "errors", "settings"}
    assert own == {f"fileupload.{part}" for part in parts}
    assert not loaded & {"webob", "itsdangerous", *EXTRAS}
