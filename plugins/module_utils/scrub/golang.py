# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sums of Go modules, which are of what an archive holds, from the checksum database behind the module proxy and from go.sum.

Source: the Go modules reference, "Authenticating modules" and "Checksum database"; the package dirhash of x/mod/sumdb for `h1`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO
from urllib.parse import quote, unquote

from ..http import MEBIBYTE, Response
from .base import Allowed, Hashes, Registry, Site, spelled

LOOKUP = re.compile(r"sumdb/([^/]+)/lookup/.+")
FILE = re.compile(r"(.+)/@v/(v[^/]+)\.(mod|zip)")
SUM = re.compile(r"^(\S+) (v\S+?)(/go\.mod)? h1:([A-Za-z0-9+/]{43}=)\r?$", re.MULTILINE)
DESCRIPTOR, UTF_8 = 0x8, 0x800  # flags of a file: its checksum is behind it, and in what its name is
# Of an archive: what is before a file, its entry in the directory, and the end, of which only these fields are looked at here: marks,
# the lengths of name, extra field and comment, and the number of entries and their size.
HEADER, ENTRY, END = struct.Struct("<4s22xHH"), struct.Struct("<28xHHH12x"), struct.Struct("<4s4HLLH")
PIECE = MEBIBYTE // 4
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError)


class Golang(Registry):
    """`databases` are those that clients asked for through the mirror: which one it is, their own settings say. `base` is the site's
    path.
    """

    algorithm = "h1"

    def __init__(self, base: str = "/", databases: Iterable[str] = ()) -> None:
        self.base, self.databases = base, tuple(databases)

    def digest(self, path: str, body: BinaryIO) -> str:
        if path.endswith(".mod"):
            return h1({b"go.mod": _sha256(body)})
        try:
            return h1(_files(body))
        except DAMAGED:
            return ""

    def knowing(self, site: Site, paths: Iterable[str]) -> Golang:
        found = (LOOKUP.fullmatch(path[len(site.path) :]) for path in paths)
        return Golang(site.path, sorted({lookup[1] for lookup in found if lookup}))

    def projects(self, path: str) -> tuple[str, ...]:
        """Of each file, the records of its module and version."""
        file = self._file(path)
        return tuple(f"{database}/lookup/{file[1]}@{file[2]}" for database in self.databases) if file and self.databases else ("",)

    def question(self, site: Site, project: str) -> tuple[str, dict[str, str]] | None:
        return (f"{site.upstream}/sumdb/{quote(project, safe='/@!')}", {}) if project else None

    def read(self, response: Response) -> dict[str, Hashes]:
        upstream = response.url.partition("/sumdb/")[0]
        record = response.decoded().decode("utf-8", "replace").partition("\n\n")[0]
        return {
            spelled(f"{upstream}/{_escaped(module)}/@v/{_escaped(version)}{'.mod' if mod else '.zip'}"): {"h1": digest}
            for module, version, mod, digest in SUM.findall(record)
        }

    def releases(self, path: str) -> tuple[tuple[str, str], ...]:
        """A version, and apart from it its go.mod, as go.sum has them."""
        file = self._file(path)
        return ((_unescaped(file[1]), _unescaped(file[2]) + ("/go.mod" if file[3] == "mod" else "")),) if file else ()

    def locked(self, text: str) -> dict[tuple[str, str], Allowed]:
        return {(module, version + mod): frozenset({("h1", digest)}) for module, version, mod, digest in SUM.findall(text)}

    def _file(self, path: str) -> re.Match[str] | None:
        return FILE.fullmatch(unquote(path[len(self.base) :]))


def h1(files: Mapping[bytes, str]) -> str:
    """The sum of files by their names and SHA-256, as it stands in go.sum after `h1:`."""
    lines = b"".join(b"%s  %s\n" % (files[name].encode(), name) for name in sorted(files))
    return base64.b64encode(hashlib.sha256(lines).digest()).decode()


def _files(body: BinaryIO) -> dict[bytes, str]:
    """The SHA-256 of each file of an archive, one piece after the other. Raises what is in DAMAGED for what Go's archive/zip refuses,
    of which zipfile, and so only the directory is read with it, takes a lot.
    """
    with zipfile.ZipFile(body) as archive:
        _check_directory(body, archive)
        # Go takes names for bytes; zipfile decodes them by one of two tables.
        return {
            entry.orig_filename.encode("utf-8" if entry.flag_bits & UTF_8 else "cp437"): _content(body, entry)
            for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset)
        }


def _check_directory(body: BinaryIO, archive: zipfile.ZipFile) -> None:
    end = body.seek(-END.size - len(archive.comment), os.SEEK_END)
    mark, *_disks, records, size, _offset, comment = END.unpack(body.read(END.size))
    place = body.seek(archive.start_dir)
    for _entry in archive.infolist():
        name, extra, remark = ENTRY.unpack(body.read(ENTRY.size))
        place = body.seek(name + extra + remark, os.SEEK_CUR)
    whole = place == end or size == 0xFFFFFFFF  # with ZIP64 there are further records between them
    if not whole or (mark, records, comment) != (b"PK\5\6", len(archive.infolist()) & 0xFFFF, len(archive.comment)):
        raise zipfile.BadZipFile("a directory that does not fit")


def _content(body: BinaryIO, entry: zipfile.ZipInfo) -> str:
    """The SHA-256 of one file, if it has the size and the checksum that are told of it."""
    body.seek(entry.header_offset)
    mark, name, extra = HEADER.unpack(body.read(HEADER.size))
    body.seek(name + extra, os.SEEK_CUR)
    digest, size, crc = hashlib.sha256(), 0, 0
    for piece in _unpacked(body, entry):
        digest.update(piece)
        size, crc = size + len(piece), zlib.crc32(piece, crc)
        if size > entry.file_size:
            break
    sums = [crc]
    if entry.flag_bits & DESCRIPTOR:
        first, second = struct.unpack("<4sL", body.read(8))
        sums.append(second if first == b"PK\7\x08" else struct.unpack("<L", first)[0])  # which has no mark
    if mark != b"PK\3\4" or size != entry.file_size or set(sums) != {entry.CRC}:
        raise zipfile.BadZipFile("a file that is another one than in the directory")
    return digest.hexdigest()


def _unpacked(body: BinaryIO, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """Reads all that is packed."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile("compressed as no module is")
    inflate = zlib.decompressobj(-zlib.MAX_WBITS) if entry.compress_type == zipfile.ZIP_DEFLATED else None
    left = entry.compress_size
    while left:
        piece = body.read(min(left, PIECE))
        if not piece:
            raise EOFError
        left -= len(piece)
        while piece and not (inflate and inflate.eof):
            yield inflate.decompress(piece, PIECE) if inflate else piece
            piece = inflate.unconsumed_tail if inflate else b""
    if inflate and not inflate.eof:
        raise EOFError


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _escaped(text: str) -> str:
    return re.sub("[A-Z]", lambda capital: "!" + capital[0].lower(), text)


def _unescaped(text: str) -> str:
    return re.sub("!([a-z])", lambda letter: letter[1].upper(), text)
