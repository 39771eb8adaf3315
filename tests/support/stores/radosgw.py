"""Runs a real Ceph with its S3 interface: a monitor, a disk in a file, radosgw. ``radosgw.py FOLDER [--day SECONDS]``.

It prints the address of the S3 interface once it answers, and ends when its standard input does; the line ``kill``
there kills all its servers at once.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.support.stores.store_process import CEPH_KEYS, Servers, free_ports, write_configuration

_ADMIN, _DISK = "client.admin", "osd.0"
_DISK_SIZE = 16 << 30  # bytes; the file is sparse


def main(folder: Path, day: int) -> None:
    """Run the store in *folder* until standard input ends.

    :param day: seconds of a day in the lifecycle rules; 0: a real day.
    """
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cluster = str(uuid.uuid4())
    monitor, gateway = free_ports(2)
    _configure(folder, cluster, f"[v2:127.0.0.1:{monitor}]", gateway, day)
    _make_monitor(folder, cluster, f"[v2:127.0.0.1:{monitor}]")
    # Its data is removed with it, so an orderly shutdown is not needed; radosgw would take long for it.
    with Servers(folder / "log", signal.SIGKILL) as servers:
        servers.start(*_program(folder, "ceph-mon", "-f", "-i", "a"))
        _make_disk(folder)
        servers.start(*_program(folder, "ceph-osd", "-f", "-i", "0"))
        name, secret = CEPH_KEYS
        user = (f"--uid={name}", f"--display-name={name}", f"--access-key={name}", f"--secret-key={secret}")
        _run(folder, "radosgw-admin", "user", "create", *user)
        servers.start(*_program(folder, "radosgw", "-f", "-n", _ADMIN))
        servers.serve(f"http://127.0.0.1:{gateway}")


def _configure(folder: Path, cluster: str, monitor: str, gateway: int, day: int) -> None:
    values = {
        "fsid": cluster,
        "mon host": monitor,
        "mon initial members": "a",
        "mon data": str(folder / "mon"),
        "mon allow pool size one": "true",
        "mon max pg per osd": "1000",
        "paxos propose interval": "0.02",  # seconds for which the monitor collects changes
        "paxos min wait": "0.01",
        "osd data": str(folder / "osd"),
        "osd objectstore": "bluestore",
        "osd crush chooseleaf type": "0",
        "osd pool default size": "1",
        "osd pool default min size": "1",
        "osd pool default pg num": "1",
        "osd pool default pg autoscale mode": "off",
        "bluestore block size": str(_DISK_SIZE),
        "rgw data": str(folder / "rgw"),
        # Without nodelay, each answer of more than one packet waits for an acknowledgement that the client delays.
        "rgw frontends": f"beast endpoint=127.0.0.1:{gateway} tcp_nodelay=1",
        "rgw rados pool pg num min": "1",
        "rgw lc debug interval": str(day or -1),
        "rgw gc obj min wait": "5",  # seconds; removed data frees space soon
        "rgw gc processor period": "5",
        "rgw gc processor max time": "5",
        "public addr": "127.0.0.1",
        "cluster addr": "127.0.0.1",
        "ms bind ipv6": "false",
        "keyring": str(folder / "keyring"),
        "run dir": str(folder),
        "log file": str(folder / "$name.log"),
        "mon cluster log to file": "false",
        "crash dir": str(folder),
        "admin socket": "",  # the path in the folder would be too long for a socket
    }
    write_configuration(folder / "ceph.conf", {"global": values})


def _make_monitor(folder: Path, cluster: str, address: str) -> None:
    keyring, names = str(folder / "keyring"), str(folder / "monmap")
    all_rights = [word for part in ("mon", "osd", "mgr") for word in ("--cap", part, "allow *")]
    _run(folder, "ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    for name in (_ADMIN, _DISK):
        _run(folder, "ceph-authtool", keyring, "--gen-key", "-n", name, *all_rights)
    _run(folder, "monmaptool", "--create", "--fsid", cluster, "--addv", "a", address, names)
    _run(folder, "ceph-mon", "-i", "a", "--mkfs", "--monmap", names, "--keyring", keyring)


def _make_disk(folder: Path) -> None:
    name = str(uuid.uuid4())
    _run(folder, "ceph", "osd", "new", name)
    _run(folder, "ceph", "osd", "crush", "add", _DISK, "1", "root=default")
    _run(folder, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", name)


def _run(folder: Path, name: str, *arguments: str) -> None:
    done = subprocess.run(
        _program(folder, name, *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{name} {' '.join(arguments)}:\n{done.stdout[-3000:]}")


def _program(folder: Path, name: str, *arguments: str) -> list[str]:
    return [name, "-c", str(folder / "ceph.conf"), *arguments]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Runs a real Ceph with its S3 interface.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--day", type=int, default=0, metavar="SECONDS", help="length of a day in rules of lifecycle")
    options = parser.parse_args()
    main(options.folder.resolve(), options.day)
