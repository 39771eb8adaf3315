"""Runs a real OpenStack Swift with its S3 interface: four servers on one disk, without replicas. ``swift.py FOLDER``.

It prints the address of the S3 interface once it answers, and ends when its standard input does; the line ``kill``
there kills all its servers at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.support.stores.store_process import SWIFT_KEYS, Servers, free_ports, write_configuration

_ROOT = Path(__file__).parents[3]
_KINDS = ("account", "container", "object")
_PROXY = "catch_errors swift_cache s3api tempauth copy slo dlo symlink versioned_writes proxy-server"
_FILTERS: dict[str, dict[str, str]] = {
    "catch_errors": {},
    "s3api": {"location": "us-east-1", "min_segment_size": str(5 << 20), "dns_compliant_bucket_names": "true"},
    "tempauth": {f"user_{SWIFT_KEYS[0].replace(':', '_')}": f"{SWIFT_KEYS[1]} .admin"},
    "copy": {},
    # Otherwise the parts of removed objects stay until a daemon removes them, which does not run here.
    "slo": {"allow_async_delete": "no"},
    "dlo": {},
    "symlink": {},
    "versioned_writes": {"allow_object_versioning": "true"},
}


def main(folder: Path) -> None:
    """Run the store in *folder* until standard input ends."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = free_ports(4)
    _configure(folder, dict(zip((*_KINDS, "proxy"), ports, strict=True)))
    _make_rings(folder, dict(zip(_KINDS, ports, strict=False)))
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))
    )  # the name of its filter
    with Servers(folder / "log", signal.SIGTERM) as servers:
        for kind in (*_KINDS, "proxy"):
            servers.start(_program(f"swift-{kind}-server"), str(folder / f"{kind}.conf"))
        servers.serve(f"http://127.0.0.1:{ports[3]}")


def _configure(folder: Path, ports: dict[str, int]) -> None:
    (folder / "disks" / "disk").mkdir(parents=True, exist_ok=True)
    write_configuration(
        folder / "swift.conf",
        {
            "swift-hash": {"swift_hash_path_suffix": "test"},
            "storage-policy:0": {"name": "only", "default": "yes"},
            "swift-constraints": {"max_header_size": "16384"},
        },
    )
    for kind, port in ports.items():
        app = "proxy-server" if kind == "proxy" else f"{kind}-server"
        default = {
            "bind_ip": "127.0.0.1",
            "bind_port": str(port),
            "swift_dir": str(folder),
            "devices": str(folder / "disks"),
            "mount_check": "false",
            "disable_fallocate": "true",
            "user": "root" if os.getuid() == 0 else os.environ.get("USER", "nobody"),
            "log_address": str(folder / "no-syslog"),
            "log_level": "WARNING",
            "workers": "1",
        }
        pipeline = _PROXY if kind == "proxy" else app
        sections = {"DEFAULT": default, "pipeline:main": {"pipeline": pipeline}}
        sections[f"app:{app}"] = {"use": f"egg:swift#{kind}", "account_autocreate": "true"}
        if kind == "proxy":
            sections |= {f"filter:{name}": {"use": f"egg:swift#{name}", **more} for name, more in _FILTERS.items()}
            sections["filter:swift_cache"] = {"paste.filter_factory": "tests.support.stores.swift_cache:filter_factory"}
        write_configuration(folder / f"{kind}.conf", sections)


def _make_rings(folder: Path, ports: dict[str, int]) -> None:
    for kind, port in ports.items():
        builder = str(folder / f"{kind}.builder")
        for command in (("create", "4", "1", "1"), ("add", f"r1z1-127.0.0.1:{port}/disk", "1"), ("rebalance",)):
            subprocess.run([_program("swift-ring-builder"), builder, *command], check=True, stdout=subprocess.DEVNULL)


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
