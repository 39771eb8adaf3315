"""A real nginx with TLS and HTTP/2, configured by the block of docs/deployment.txt as it is written there."""

from __future__ import annotations

import re
import socket
import ssl
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.support.processes import kill_group, reserved_port, start_group
from tests.support.waiting import wait_until

DOCUMENT = Path(__file__).parents[2] / "docs/deployment.txt"

_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl http2 reuseport;
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/key.pem;
{block}
    }}
}}
"""


@dataclass(frozen=True)
class Proxy:
    """A running nginx.

    :ivar origin: the origin of its site.
    :ivar authority: the file with the certificate authority.
    """

    origin: str
    authority: Path


def documented_block(upstream: int, *, prefixed: bool = False) -> str:
    """Return the block of the document for a server on the port *upstream*; *prefixed*, with the lines for a prefix."""
    section = DOCUMENT.read_text().partition("\nnginx in front\n")[2].partition("\nBehind any proxy\n")[0]
    block, for_prefix = (textwrap.dedent(text) for text in re.findall(r"::\n\n((?:    .*\n|\n)+)", section))
    if prefixed:
        for line in for_prefix.strip().splitlines():
            start = re.match(r" *(?:proxy_set_header )?\S+ ", line)
            assert start is not None
            block, count = re.subn(rf"(?m)^{re.escape(start[0])}.*$", line, block)
            assert count == 1, line
    block, count = re.subn(r"127\.0\.0\.1:8080\b", f"127.0.0.1:{upstream}", block)
    assert count == 1
    return block


@contextmanager
def nginx(program: str, folder: Path, block: str) -> Iterator[Proxy]:
    """Run nginx with *block* in its server on a free port; its certificate is for ``localhost`` and 127.0.0.1."""
    folder.mkdir()
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(str(folder / "certificate.pem"), append=True)
    with reserved_port() as port:
        file, log = folder / "nginx.conf", folder / "log"
        file.write_text(_CONFIGURATION.format(folder=folder, port=port, block=block))
        process = start_group([program, "-p", str(folder), "-c", str(file), "-e", "stderr"], log)
        try:
            wait_until(lambda: process.poll() is not None or _answers(port, folder / "authority.pem"), log.read_text)
            assert process.poll() is None, log.read_text()
            yield Proxy(f"https://localhost:{port}", folder / "authority.pem")
        finally:
            kill_group(process)


def _answers(port: int, authority: Path) -> bool:
    context = ssl.create_default_context(cafile=str(authority))
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=1) as connection,
        context.wrap_socket(connection, server_hostname="localhost"),
    ):
        return True
    return False
