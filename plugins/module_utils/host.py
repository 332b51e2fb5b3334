# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host has: listening sockets and who holds them, free disk. Reads Linux's /proc and statvfs only."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket. ``pid`` is 0 and ``program`` empty where the holder is not visible from here."""

    address: str
    port: int
    pid: int
    program: str


def _address(text: str, family: int) -> str:
    """An address as /proc/net/tcp writes it (proc(5)): 32-bit words in host byte order, in hexadecimal."""
    raw = bytes.fromhex(text)
    words = (raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    return socket.inet_ntop(family, b"".join(words))


def _socket_holders(proc: str) -> dict[str, int]:
    """Socket inode to the lowest process id that has it open: of a server, the master."""
    holders: dict[str, int] = {}
    for pid in sorted((int(name) for name in os.listdir(proc) if name.isdigit()), reverse=True):
        try:
            for descriptor in os.listdir(f"{proc}/{pid}/fd"):
                target = os.readlink(f"{proc}/{pid}/fd/{descriptor}")
                if target.startswith("socket:["):
                    holders[target[8:-1]] = pid
        except OSError:  # the process ended, or is not ours to look at
            continue
    return holders


def listeners(port: int, proc: str = "/proc") -> Iterator[Listener]:
    """Who listens on a TCP port of this host."""
    holders: dict[str, int] | None = None
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        try:
            with open(f"{proc}/net/{name}", encoding="ascii") as table:
                rows = [line.split() for line in table][1:]
        except OSError:
            continue
        for row in rows:
            address, _, hex_port = row[1].rpartition(":")
            if row[3] != "0A" or int(hex_port, 16) != port:
                continue
            holders = _socket_holders(proc) if holders is None else holders
            pid = holders.get(row[9], 0)
            program = ""
            if pid:
                try:
                    with open(f"{proc}/{pid}/comm", encoding="utf-8", errors="replace") as comm:
                        program = comm.read().strip()
                except OSError:
                    pid = 0
            yield Listener(_address(address, family), port, pid, program)


def overlaps(one: str, other: str) -> bool:
    """Whether two listening addresses exclude each other; a wildcard excludes all of its family."""
    return (":" in one) == (":" in other) and (one == other or one in ("0.0.0.0", "::") or other in ("0.0.0.0", "::"))


def running_pid(pid_path: str, proc: str = "/proc") -> int:
    """The process id in a pid file where that process lives, else 0."""
    try:
        with open(pid_path, encoding="ascii") as file:
            pid = int(file.read().strip())
    except (OSError, ValueError):
        return 0
    return pid if os.path.exists(f"{proc}/{pid}") else 0


def free_bytes(path: str) -> int:
    """Bytes free for others than root on the filesystem that holds, or would hold, a path."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
