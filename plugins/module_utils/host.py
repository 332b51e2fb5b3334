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
    """A listening TCP socket and the processes that have it open: none where they are not visible from here.

    ``program`` is the name of the first of them to have been started.
    """

    address: str
    port: int
    pids: tuple[int, ...]
    program: str


def _address(text: str, family: int) -> str:
    """An address as /proc/net/tcp writes it (proc(5)): 32-bit words in host byte order, in hexadecimal."""
    raw = bytes.fromhex(text)
    words = (raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    return socket.inet_ntop(family, b"".join(words))


def _started(proc: str, pid: int) -> int:
    """When a process was started, in clock ticks since boot (proc_pid_stat(5), field 22). Ids wrap around; times do not."""
    with open(f"{proc}/{pid}/stat", encoding="utf-8", errors="replace") as stat:
        return int(stat.read().rpartition(")")[2].split()[19])


def _socket_holders(proc: str) -> dict[str, list[tuple[int, int]]]:
    """Socket inode to (start time, process id) of all that have it open."""
    holders: dict[str, list[tuple[int, int]]] = {}
    for pid in (int(name) for name in os.listdir(proc) if name.isdigit()):
        try:
            for descriptor in os.listdir(f"{proc}/{pid}/fd"):
                target = os.readlink(f"{proc}/{pid}/fd/{descriptor}")
                if target.startswith("socket:["):
                    holders.setdefault(target[8:-1], []).append((_started(proc, pid), pid))
        except OSError:  # the process ended, or is not ours to look at
            continue
    return holders


def _program(proc: str, pid: int) -> str:
    try:
        with open(f"{proc}/{pid}/comm", encoding="utf-8", errors="replace") as comm:
            return comm.read().strip()
    except OSError:
        return ""


def listeners(port: int, proc: str = "/proc") -> Iterator[Listener]:
    """Who listens on a TCP port of this host."""
    holders: dict[str, list[tuple[int, int]]] | None = None
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
            pids = tuple(pid for _time, pid in sorted(set(holders.get(row[9], []))))
            yield Listener(_address(address, family), port, pids, _program(proc, pids[0]) if pids else "")


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
