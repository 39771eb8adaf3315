"""Grouping of tests that one worker of pytest-xdist runs one after another."""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

_SERVER = re.compile(r"tests/integration/servers/.*\[(fileupload-serve|[a-z]+)\b")
# Tests of these folders share servers or a browser; otherwise each worker would start separate ones.
_FOLDERS = {
    "tests/integration/browser/": "browser",
    "tests/integration/examples/": "browser",
    "tests/integration/record_attachments/": "records",
}


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a worker all tests of a group: of a WSGI server, of a folder whose tests share servers, or of a file.

    The mode ``loadgroup`` of pytest-xdist 3.8 does not work here: pytest 9.2 ignores its changes of the test names.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """Return the group of a test, by its name."""
    if server := _SERVER.match(nodeid):
        return server[1]
    file = nodeid.partition("::")[0]
    return next((group for folder, group in _FOLDERS.items() if file.startswith(folder)), file)
