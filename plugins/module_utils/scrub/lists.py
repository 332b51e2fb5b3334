# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of packages, which are large: they are read as they come, and only what is looked for is kept."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..http import MEBIBYTE

LARGEST, LONGEST = 2048 * MEBIBYTE, 16 * MEBIBYTE  # of a list, and of an entry
# What reading a list raises where it is none, or is damaged.
DAMAGED = (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError)


def entries(pieces: Iterable[bytes], end: bytes) -> Iterator[bytes]:
    """Those of a packed list, up to what ends each of them. Raises what is in DAMAGED."""
    rest = b""
    for piece in _unpacked(pieces):
        *whole, rest = (rest + piece).split(end)
        yield from whole
        if len(rest) > LONGEST:
            raise ValueError(f"an entry has more than {LONGEST} bytes")
    yield rest


def _unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    unpack: Callable[[bytes], Iterator[bytes]] | None = None
    size = 0
    for piece in pieces:
        unpack = unpack or _unpacker(piece)
        for plain in unpack(piece):
            size += len(plain)
            if size > LARGEST:
                raise ValueError(f"it has more than {LARGEST} bytes")
            yield plain


def _unpacker(start: bytes) -> Callable[[bytes], Iterator[bytes]]:
    """By how a list begins."""
    if start.startswith(b"\x1f\x8b"):
        return _gzip(zlib.decompressobj(16 + zlib.MAX_WBITS))
    if start.startswith(b"\xfd7zXZ"):
        return _other(lzma.LZMADecompressor())
    if start.startswith(b"BZh"):
        return _other(bz2.BZ2Decompressor())
    if b"A" <= start[:1] <= b"Z" or start[:1] == b"<":
        return lambda piece: iter((piece,))
    raise ValueError("it is packed in a way that is not read here, such as zstd")


def _gzip(unpacker: Any) -> Callable[[bytes], Iterator[bytes]]:
    def unpack(piece: bytes) -> Iterator[bytes]:
        while piece and not unpacker.eof:
            yield unpacker.decompress(piece, MEBIBYTE)
            piece = unpacker.unconsumed_tail

    return unpack


def _other(unpacker: Any) -> Callable[[bytes], Iterator[bytes]]:
    def unpack(piece: bytes) -> Iterator[bytes]:
        while not unpacker.eof and (piece or not unpacker.needs_input):
            yield unpacker.decompress(piece, MEBIBYTE)
            piece = b""

    return unpack
