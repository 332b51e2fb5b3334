# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file that nobody asked for before, asked for by many clients at once, over a narrow line to upstream."""

from __future__ import annotations

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
GIVE_UP = 180.0  # seconds


def herd(address: tuple[str, int], path: str, clients: int, joins_after: float | None = None) -> list[Download]:
    """Downloads that begin together, and one that joins; all read to their end. Raises RuntimeError where one is cut or late."""
    selector = selectors.DefaultSelector()
    downloads: list[Download] = []

    def begin(digest: bool) -> None:
        downloads.append(new := Download(address, path, digest))
        selector.register(new.socket, selectors.EVENT_READ, new)

    began = time.monotonic()
    for number in range(clients):
        begin(number < HASHED)
    joined = joins_after is None
    while not joined or selector.get_map():
        elapsed = time.monotonic() - began
        if elapsed > GIVE_UP:
            raise RuntimeError(f"{sum(not each.done for each in downloads)} of {len(downloads)} clients are not done after {GIVE_UP} s")
        if not joined and elapsed >= t.cast(float, joins_after):
            begin(True)
            joined = True
        for key, _events in selector.select(0.02):
            download: Download = key.data
            handle = download.socket
            download.read()
            if download.done:
                selector.unregister(key.fd)
                handle.close()
    return downloads


def run(mirror: Server, registry: Registry) -> dict[str, float]:
    """One client alone and then the herd, both in front of an empty mirror. Times are seconds."""
    *_others, file = hits.files(mirror)
    seconds: dict[str, float] = {}
    shares: dict[str, float] = {}
    for who, clients, joins in (("alone", 1, None), ("herd", CLIENTS, JOINS_AFTER)):
        mirror.empty()
        registry.call("forget")
        registry.call("limit", total=RATE)
        try:
            downloads = herd(mirror.address, file["url"], clients, joins)
        finally:
            registry.call("limit", total=None)
        for download in downloads:
            if download.got != file["size"] or (download.sha256 and download.sha256.hexdigest() != file["hashes"]["sha256"]):
                raise RuntimeError(f"A client of {who} got {download.got} bytes, or wrong ones.")
        seconds[who] = max(download.seconds for download in downloads[:clients])
        shares[who] = sum(request["sent"] for request in registry.call("requests", origin="files")) / file["size"]
    joiner = downloads.pop()
    return {
        "alone_seconds": seconds["alone"],
        "last_client_seconds": seconds["herd"],
        "last_client_ratio": seconds["herd"] / seconds["alone"],
        "upstream_bytes_ratio": shares["herd"],
        "median_first_byte_seconds": statistics.median(download.first_byte for download in downloads),
        "joiner_first_byte_seconds": joiner.first_byte,
    }


def summary(runs: list[dict[str, float]]) -> dict[str, t.Any]:
    """Medians over the repetitions."""
    medians = {name: round(statistics.median(run[name] for run in runs), 4) for name in runs[0]}
    return {"clients": CLIENTS, "upstream_bytes_per_second": RATE, "repetitions": len(runs), **medians}
