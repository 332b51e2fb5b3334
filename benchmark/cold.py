# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file that nobody asked for before, asked for by many clients at once, over a narrow line to upstream."""

from __future__ import annotations

import contextlib
import selectors
import statistics
import time
import typing as t

import hits
from stage import Download, Registry, Server

CLIENTS = 64
RATE = 10_000_000  # bytes a second from upstream, over all connections
JOINS_AFTER = 1.0  # seconds
HASHED = 4  # so many of the clients, and the one that joins, check the digest; the others count bytes
GIVE_UP = 90.0  # seconds


def herd(address: tuple[str, int], path: str, clients: int, joins_after: float | None = None, give_up: float = GIVE_UP) -> list[Download]:
    """Downloads that begin together, and one that joins; read to their end, to an error, or until there is no more time."""
    selector = selectors.DefaultSelector()
    downloads: list[Download] = []

    def begin(digest: bool) -> None:
        downloads.append(new := Download(address, path, digest))
        selector.register(new.socket, selectors.EVENT_READ, new)

    began = time.monotonic()
    for number in range(clients):
        begin(number < HASHED)
    joined = joins_after is None
    while (not joined or selector.get_map()) and (elapsed := time.monotonic() - began) < give_up:
        if not joined and elapsed >= t.cast(float, joins_after):
            begin(True)
            joined = True
        for key, _events in selector.select(0.02):
            download: Download = key.data
            handle = download.socket
            try:
                download.read()
            except (OSError, RuntimeError) as error:
                download.error = str(error)
            if download.done or download.error:
                selector.unregister(key.fd)
                handle.close()
    for download in downloads:
        if not download.done:
            download.seconds = time.monotonic() - began
            download.first_byte = download.first_byte or download.seconds
            with contextlib.suppress(OSError):
                download.socket.close()
    return downloads


def good(download: Download, file: dict[str, t.Any]) -> bool:
    """Whether the file arrived."""
    return (
        download.done and download.got == file["size"] and (not download.sha256 or download.sha256.hexdigest() == file["hashes"]["sha256"])
    )


def run(mirror: Server, registry: Registry) -> dict[str, float]:
    """One client alone and then the herd, both in front of an empty mirror. Times are seconds."""
    case = hits.HUGE
    file = next(file for file in registry.files(case.project) if file["filename"] == case.filename)
    seconds: dict[str, float] = {}
    shares: dict[str, float] = {}
    for who, clients, joins in (("alone", 1, None), ("herd", CLIENTS, JOINS_AFTER)):
        mirror.empty()
        path = hits.path_of(mirror, case.project, case.filename)
        registry.call("forget")
        registry.call("limit", total=RATE)
        try:
            downloads = herd(mirror.address, path, clients, joins)
        finally:
            registry.call("limit", total=None)
        seconds[who] = max(download.seconds for download in downloads[:clients])
        shares[who] = registry.sent(case.upstream) / file["size"]
    joiner = downloads.pop()
    return {
        "alone_seconds": seconds["alone"],
        "last_client_seconds": seconds["herd"],
        "last_client_ratio": seconds["herd"] / seconds["alone"],
        "upstream_bytes_ratio": shares["herd"],
        "median_first_byte_seconds": statistics.median(download.first_byte for download in downloads),
        "joiner_first_byte_seconds": joiner.first_byte,
        "failed": sum(not good(download, file) for download in [*downloads, joiner]),
    }


def summary(runs: list[dict[str, float]]) -> dict[str, t.Any]:
    """Medians over the repetitions, but all failures."""
    medians = {name: round(statistics.median(run[name] for run in runs), 4) for name in runs[0]}
    failed = sum(run["failed"] for run in runs)
    return {"clients": CLIENTS, "upstream_bytes_per_second": RATE, "repetitions": len(runs), **medians, "failed": failed}
