# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a stored page what it says of itself? Nobody tells its digest, but gzip carries a CRC-32 and a length (RFC 1952), JSON an end."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterable

from ..http import MEBIBYTE
from .stores import Stored

GZIP_BEGINS = b"\x1f\x8b"
GZIP = 31  # what zlib calls a window of 32 KiB with gzip's head and trailer
LARGEST = 64 * MEBIBYTE  # of what is parsed, and so held in memory


def flaw(stored: Stored, pieces: Iterable[bytes], *, negotiated: bool = False) -> str | None:
    """How a page contradicts itself, empty if it does not; None, if there is nothing to tell it by. What is ``negotiated`` has a media
    type, and is text: Apache reads a stored head that was cut as it is, and stores it anew without the lines that are lost."""
    encoding, media_type = (stored.told.get(name, "").partition(";")[0].strip().lower() for name in ("content-encoding", "content-type"))
    if negotiated and not media_type:
        return "its head names no media type"
    if encoding == "gzip":
        return _gzip_flaw(pieces)
    if negotiated:
        rest = iter(pieces)
        first = next(rest, b"")
        if first.startswith(GZIP_BEGINS):
            return "it is gzip, and its head does not say so"
        pieces = itertools.chain([first], rest)
    if "content-length" in stored.told:  # which the store compares
        return ""
    if not encoding and (media_type == "application/json" or media_type.endswith("+json")) and stored.size <= LARGEST:
        return _json_flaw(pieces)
    return None


def _gzip_flaw(pieces: Iterable[bytes]) -> str:
    inflate = zlib.decompressobj(GZIP)
    try:
        for piece in pieces:
            left = piece
            while left:
                if inflate.eof:
                    left = left.lstrip(b"\0")  # padding
                    inflate = zlib.decompressobj(GZIP) if left else inflate
                inflate.decompress(left, MEBIBYTE)
                left = inflate.unconsumed_tail or inflate.unused_data
    except zlib.error as error:
        return f"its gzip stream is damaged ({error})"
    return "" if inflate.eof else "its gzip stream has no end"


def _json_flaw(pieces: Iterable[bytes]) -> str:
    try:
        json.loads(b"".join(pieces), object_pairs_hook=lambda _pairs: None)
    except (ValueError, RecursionError) as error:
        return f"it is no JSON ({error})"
    return ""
