# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host has: listening sockets and who holds them, free disk. Reads Linux's /proc and statvfs only."""

from __future__ import annotations

import errno
import os
import pwd
import socket
import tempfile
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


def can_listen(address: str, port: int) -> bool:
    """Whether a server could listen there now. An address that this host does not have counts as free: that is another fault."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
            probe.listen(1)
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


def overlap(one: str, other: str, dual: bool) -> bool:
    """Whether there cannot be a socket at each of two addresses on one port. `dual`: one at :: is for IPv4, too (ipv6(7))."""

    def covers(wild: str, address: str) -> bool:
        return wild == "0.0.0.0" and ":" not in address or wild == "::" and (dual or ":" in address)

    return one == other or covers(one, other) or covers(other, one)


def has_address(address: str) -> bool:
    """Whether a server could be bound to an address: it is one of this host's, or stands for all of them."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def running_pid(pid_path: str, program: str, proc: str = "/proc") -> int:
    """The process id in a pid file where that process lives and is the program, else 0: after a crash it may be a stranger's."""
    try:
        with open(pid_path, encoding="ascii") as file:
            pid = int(file.read().strip())
    except (OSError, ValueError):
        return 0
    return pid if _program(proc, pid) == program and lives(pid, proc) else 0


def lives(pid: int, proc: str = "/proc") -> bool:
    """Whether there is such a process, and it has not ended without anybody asking for its exit status."""
    try:
        with open(f"{proc}/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def existing(path: str) -> str:
    """The path itself, or the nearest folder above it that is there."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def cannot_hold(path: str, user: str) -> str:
    """Why a folder at that path could not keep a cache that belongs to a user, empty if it could. Leaves nothing behind.

    A web server writes a body beside its place and renames it, as its own user.
    """
    owner = pwd.getpwnam(user)
    try:
        folder = tempfile.mkdtemp(prefix=".nearby-mirror-", dir=existing(path))
        try:
            # The folder around it may be that user's, who could put a link in its place: so it is held open.
            inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                _write_and_rename(inside, owner)
            finally:
                os.close(inside)
        finally:
            os.rmdir(folder)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _write_and_rename(inside: int, owner: pwd.struct_passwd) -> None:
    if os.fstat(inside).st_uid != os.geteuid():
        raise OSError("somebody else changes it at this moment")
    present = ""
    try:
        body = os.open("body", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, dir_fd=inside)
        present = "body"
        try:
            os.write(body, b"body")
            os.fchown(body, owner.pw_uid, owner.pw_gid)
        finally:
            os.close(body)
        os.rename("body", "place", src_dir_fd=inside, dst_dir_fd=inside)
        present = "place"
    finally:
        if present:
            os.unlink(present, dir_fd=inside)


def used_bytes(path: str) -> int:
    """Bytes that the files below a path take on disk."""
    total = 0
    for folder, _folders, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:  # evicted meanwhile
                continue
    return total


def free_bytes(path: str) -> int:
    """Bytes free for others than root on the filesystem that holds, or would hold, a path."""
    status = os.statvfs(existing(path))
    return status.f_bavail * status.f_frsize
