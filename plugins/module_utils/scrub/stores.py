# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in a web server's cache: which artifacts and pages, in which files, and how to take one out under a running server."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote

READ = 4096  # holds the head of a stored file, unless its URL is very long


class Foreign(Exception):
    """A file that is not one of the cache's, or not of a version that is known here. The text says what it is instead."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One artifact of a store. `identity` is its route's, where the server keys it; `unit` is the size of its parts, 0 if it
    is stored as a whole; `file` is one of its files.
    """

    path: str
    identity: str
    unit: int
    file: str = field(compare=False)


@dataclass(frozen=True, slots=True, order=True)
class Page:
    """One page of an index, as a client may get it: `form` has its representation and its encoding, in the order of the key."""

    path: str
    form: str
    identity: str
    file: str = field(compare=False)

    @property
    def place(self) -> list[str]:
        """Where it comes among all pages."""
        return [self.path, self.form, self.identity]


@dataclass(frozen=True)
class Part:
    """A stored file: `length` bytes of body at `offset` of it, which are those of the artifact from `start` on."""

    file: str
    offset: int
    length: int
    start: int
    inode: int


@dataclass(frozen=True)
class Stored:
    """What is stored of an artifact or a page. `size` is that of the whole, in bytes; `flaw` says how the files contradict
    themselves; `told` are the header fields of a page.
    """

    parts: tuple[Part, ...]
    size: int
    complete: bool = True
    flaw: str = ""
    told: Mapping[str, str] = field(default_factory=dict)


class Store(Protocol):
    name: str
    root: str
    unreadable: Counter[str]  # what files are that are not the cache's -> how many

    def walk(self) -> Iterator[Artifact | Page]:
        """All artifacts and pages, each as often as it has stored files, in no order."""

    def look(self, item: Artifact | Page) -> Stored:
        """What is stored of it now. Raises OSError or Foreign, where it has gone meanwhile."""

    def purge(self, stored: Stored) -> None:
        """Take it out, so that the server does not serve it again."""


def files_below(root: str) -> Iterator[str]:
    """Paths of all files, whatever else happens below the folder meanwhile."""
    folders = [root]
    while folders:
        with contextlib.suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.path


def nofollow(path: str, flags: int) -> int:
    """An opener: the server's user owns the cache, and shall not lead root to a file elsewhere, nor have it wait at a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def head(file: str, size: int = READ) -> tuple[bytes, os.stat_result]:
    with open(file, "rb", opener=nofollow) as stored:
        return stored.read(size), os.fstat(stored.fileno())


@contextlib.contextmanager
def read(unreadable: Counter[str]) -> Iterator[None]:
    """A file that is not the cache's is counted, one that has gone is none. Raises PermissionError."""
    try:
        yield
    except PermissionError:
        raise
    except FileNotFoundError:
        pass
    except (Foreign, OSError) as reason:
        unreadable[str(getattr(reason, "strerror", reason))] += 1


def fields(lines: bytes) -> dict[str, str]:
    """Header fields by their names in lower case."""
    pairs = (line.decode("latin-1").partition(":") for line in lines.split(b"\r\n"))
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}


class NginxStore:
    """Nginx's `proxy_cache`, with the key `<route's identity>|<path>|<slice_range>` of an artifact, whose last part is empty where
    the whole is stored as one, and `<route's identity>|<path>|<representation>|<encoding>` of a page.

    A file is a structure, `KEY: <key>`, the response's head and its body; its name is the MD5 of the key. The structure is
    ngx_http_file_cache_header_t of src/http/ngx_http_cache.h, version 5: seen in 1.22 and 1.26.
    """

    name = "nginx"
    VERSION = 5
    HEADER = struct.Struct("@NqqqqqIHHHB128sB128s16s0N")  # version first; header_start and body_start are the two before etag_len
    VERSION_FIELD = struct.Struct("@N")

    def __init__(self, cache_path: str) -> None:
        self.root, self.index = os.path.join(cache_path, "artifact"), os.path.join(cache_path, "index")
        self.unreadable: Counter[str] = Counter()

    def walk(self) -> Iterator[Artifact | Page]:
        for root, item in (self.index, self._page), (self.root, self._artifact):
            for file in files_below(root):
                if re.fullmatch(r"[0-9a-f]{32}", os.path.basename(file)):
                    with read(self.unreadable):
                        yield item(file)

    def look(self, item: Artifact | Page) -> Stored:
        return self._look_at_page(item) if isinstance(item, Page) else self._look_at_artifact(item)

    def _look_at_artifact(self, artifact: Artifact) -> Stored:
        parts: list[Part] = []
        start, size, flaw = 0, 1, ""
        while start < size:
            try:
                part, told, wrong = self._part(artifact, self._file(artifact, start))
            except FileNotFoundError:
                return Stored(tuple(parts), size, False, flaw)
            if parts and told != size:
                wrong = wrong or f"its parts tell sizes of {size} and {told} bytes"
            parts.append(part)
            size, flaw = told, flaw or wrong
            start += max(artifact.unit, part.length) if artifact.unit else size
        return Stored(tuple(parts), size, True, flaw)

    def purge(self, stored: Stored) -> None:
        for part in stored.parts:
            with contextlib.suppress(FileNotFoundError), open(part.file, "r+b", buffering=0, opener=nofollow) as file:
                if os.fstat(file.fileno()).st_ino == part.inode:
                    # A worker keeps files open (open_file_cache) and would go on serving this one for a while; it reads the
                    # structure at each request, though, and fetches anew what another version of Nginx has stored.
                    file.write(self.VERSION_FIELD.pack(0))
                    os.unlink(part.file)

    def _look_at_page(self, page: Page) -> Stored:
        content, found = head(page.file)
        self._key(page.file, content)
        status, told, begin = self._answer(page.file, content)
        if status.split()[1:2] != [b"200"]:
            raise Foreign(f"an answer with the status line {status.decode('latin-1')!r}")
        length = found.st_size - begin
        size = int(told["content-length"]) if told.get("content-length", "").isdigit() else max(length, 0)
        flaw = "" if size == length else f"{length} of {size} bytes are stored"
        return Stored((Part(page.file, begin, length, 0, found.st_ino),), size, True, flaw, told)

    def _artifact(self, file: str) -> Artifact:
        """Raises Foreign."""
        identity, path, start, end = self._slice(self._key(file, head(file)[0]))
        return Artifact(path, identity, end - start + 1, file)

    def _page(self, file: str) -> Page:
        """Raises Foreign."""
        identity, _bar, rest = self._key(file, head(file)[0]).partition("|")
        path, representation, encoding = (["", ""] + rest.rsplit("|", 2))[-3:]
        return Page(path, f"{representation} {encoding}".strip(), identity, file)

    def _key(self, file: str, start_of_file: bytes) -> str:
        """Raises Foreign."""
        if len(start_of_file) < self.HEADER.size:
            raise Foreign("too short for a file of Nginx's cache")
        version, *_times, _crc32, _valid, header_start, _body, _l1, _etag, _l2, _vary, _variant = self.HEADER.unpack_from(start_of_file)
        if version != self.VERSION:
            raise Foreign(f"of version {version} of Nginx's cache, where {self.VERSION} is known")
        if header_start > len(start_of_file):
            start_of_file = head(file, header_start)[0]
        label, _colon, key = start_of_file[self.HEADER.size : header_start].strip(b"\n").partition(b": ")
        if label != b"KEY" or hashlib.md5(key, usedforsecurity=False).hexdigest() != os.path.basename(file):
            raise Foreign("without a key that fits its name")
        return key.decode("latin-1")

    def _slice(self, key: str) -> tuple[str, str, int, int]:
        """Identity, path, first and last byte of a slice's key, -1 where it is that of a whole. Raises Foreign."""
        identity, _bar, rest = key.partition("|")
        path, _bar, part = rest.rpartition("|")
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", part)
        if part and not wanted:
            raise Foreign("not a part of an artifact")
        return (identity, path, int(wanted[1]), int(wanted[2])) if wanted else (identity, path, 0, -1)

    def _file(self, artifact: Artifact, start: int) -> str:
        """Where the part that begins there is stored; how deep the folders are, the known file tells."""
        part = f"bytes={start}-{start + artifact.unit - 1}" if artifact.unit else ""
        key = f"{artifact.identity}|{artifact.path}|{part}"
        name = hashlib.md5(key.encode("latin-1"), usedforsecurity=False).hexdigest()
        folders, end = [], len(name)
        for folder in os.path.relpath(os.path.dirname(artifact.file), self.root).split(os.sep):
            folders.append(name[end - len(folder) : end])
            end -= len(folder)
        return os.path.join(self.root, *folders, name)

    def _part(self, artifact: Artifact, file: str) -> tuple[Part, int, str]:
        """A part, the size of the whole that it tells, and what is wrong with it."""
        content, found = head(file)
        _identity, _path, start, _end = self._slice(self._key(file, content))
        status, told, body_start = self._answer(file, content)
        length = found.st_size - body_start
        part = Part(file, body_start, length, start, found.st_ino)
        code = status.split()[1:2]
        if code == [b"206"]:
            sent = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", told.get("content-range", ""))
            first, last, size = map(int, sent.groups()) if sent else (-1, -1, 0)
            fits = first == start and last - first + 1 == length and last + 1 == min(start + artifact.unit, size)
            return part, size, "" if fits else f"{length} bytes from {start} on are stored as '{told.get('content-range', '')}'"
        if code == [b"200"] and start == 0:
            size = int(told["content-length"]) if told.get("content-length", "").isdigit() else length
            return part, size, "" if size == length else f"{length} of {size} bytes are stored"
        raise Foreign(f"an answer with the status line {status.decode('latin-1')!r}")

    def _answer(self, file: str, content: bytes) -> tuple[bytes, dict[str, str], int]:
        """Status line and header fields of what is stored, and where in the file its body begins."""
        *_rest, header_start, body_start, _l1, _etag, _l2, _vary, _variant = self.HEADER.unpack_from(content)
        if body_start > len(content):
            content = head(file, body_start)[0]
        status, _line, lines = content[header_start:body_start].partition(b"\r\n")
        return status, fields(lines), body_start


class ApacheStore:
    """Apache's mod_cache_disk, with keys that end in `?<kind>;<route's identity>;<representation>;<encoding>;<rest of the path>`,
    where the kind is `artifact` or `index`.

    Each is two files: `.data` is its body; `.header` is a structure, the key, the response's and the request's header
    fields. The structure is disk_cache_info_t of modules/cache/cache_disk_common.h, format 6: seen in 2.4.71.
    """

    name = "apache"
    FORMAT, VARY_FORMAT = 6, 5  # the other one leads to headers in a folder below, which are found by themselves
    HEADER = struct.Struct("@IiNNqqqqQQI4xI4xqqqq")
    DATA = ".data"

    def __init__(self, cache_path: str) -> None:
        self.root = cache_path
        self.unreadable: Counter[str] = Counter()

    def walk(self) -> Iterator[Artifact | Page]:
        for file in files_below(self.root):
            if file.endswith(".header"):
                with read(self.unreadable):
                    item = self._item(file)
                    if item:
                        yield item

    def look(self, item: Artifact | Page) -> Stored:
        _format, status, _key, told, inode = self._read(item.file)
        if status != 200:
            raise Foreign(f"an answer with the status {status}")
        data = item.file.removesuffix(".header") + self.DATA
        try:
            found = os.lstat(data)
        except FileNotFoundError:
            return Stored((), 0, False)
        # Apache itself serves no body that is not the one of this header.
        if found.st_ino != inode:
            return Stored((), 0, False)
        size = int(told["content-length"]) if told.get("content-length", "").isdigit() else found.st_size
        flaw = "" if size == found.st_size else f"{found.st_size} of {size} bytes are stored"
        return Stored((Part(data, 0, found.st_size, 0, found.st_ino),), size, True, flaw, told)

    def purge(self, stored: Stored) -> None:
        for part in stored.parts:
            with contextlib.suppress(FileNotFoundError):
                if os.lstat(part.file).st_ino == part.inode:
                    os.unlink(part.file.removesuffix(self.DATA) + ".header")
                    os.unlink(part.file)

    def _item(self, file: str) -> Artifact | Page | None:
        """None for a stored answer of another kind. Raises Foreign."""
        format_, _status, key, _told, _inode = self._read(file)
        uri, _mark, query = key.partition("://")[2].partition("?")
        kind, identity, representation, encoding, rest = (query.split(";", 4) + [""] * 4)[:5]
        if format_ == self.VARY_FORMAT or kind not in ("artifact", "index"):
            return None
        # The key has the path decoded; its end is there as it came in, too.
        path = "/" + uri.partition("/")[2].removesuffix(unquote(rest.partition("?")[0])) + rest
        if kind == "artifact":
            return Artifact(path, identity, 0, file)
        return Page(path, f"{representation} {encoding}".strip(), identity, file)

    def _read(self, file: str) -> tuple[int, int, str, dict[str, str], int]:
        """Format, status, key, the response's header fields, and the inode of its body. Raises Foreign."""
        content = head(file, 16 * READ)[0]
        if len(content) >= 4 and struct.unpack_from("@I", content)[0] == self.VARY_FORMAT:
            return self.VARY_FORMAT, 0, "", {}, 0
        if len(content) < self.HEADER.size:
            raise Foreign("too short for a header of Apache's cache")
        format_, status, length, _version, _date, _expire, _asked, _answered, inode, *_rest = self.HEADER.unpack_from(content)
        if format_ != self.FORMAT:
            raise Foreign(f"of format {format_} of Apache's cache, where {self.FORMAT} is known")
        end = self.HEADER.size + length
        return format_, status, content[self.HEADER.size : end].decode("latin-1"), fields(content[end:].partition(b"\r\n\r\n")[0]), inode
