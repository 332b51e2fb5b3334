# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a site of type rpm: what dnf relies on, played on one repository of the tree, and on one of its packages.

Source: createrepo_c(8) for the files and their names; librepo for which of them a client verifies.
"""

from __future__ import annotations

import bz2
import functools
import hashlib
import importlib
import lzma
import re
import shutil
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from ..http import MEBIBYTE, HttpError, Response, origin
from .base import Probe, Skip, Verdict, bad, expect, good, is_stale, judge_head, judge_hit, judge_range, stays_stale

REPOMD = "repodata/repomd.xml"
ALGORITHMS = {"sha": "sha1"}  # as createrepo used to call it
# So much of the list of packages is read: enough to find a small one, whatever the size of the repository.
READ = MEBIBYTE
UNPACK_SECONDS = 10


@dataclass(frozen=True)
class File:
    """What a repository says of one of its files; `base` is where it is, if not in the repository itself."""

    href: str
    algorithm: str
    digest: str
    size: int
    base: str = ""

    @classmethod
    def of(cls, element: ElementTree.Element, size: str) -> File:
        """From an element with the children `location` and `checksum`; `size` is the number of bytes, if it is known."""
        location, checksum = _child(element, "location"), _child(element, "checksum")
        algorithm = checksum.get("type", "").lower()
        base = location.get("{http://www.w3.org/XML/1998/namespace}base", "")
        digest = (checksum.text or "").strip().lower()
        return cls(location.get("href", ""), ALGORITHMS.get(algorithm, algorithm), digest, int(size) if size.isdigit() else 0, base)

    @property
    def outside(self) -> str:
        """Where the file is instead, if it is not below its repository."""
        where = self.base or self.href
        return where if self.base or origin(self.href) or self.href.startswith("/") or ".." in self.href.split("/") else ""

    def mismatch(self, response: Response) -> str:
        """What is wrong with the bytes that came; nothing where they fit. Raises Skip."""
        if self.algorithm not in hashlib.algorithms_available:
            raise Skip(f"{self.href} has a digest of the unknown kind {self.algorithm!r}")
        found = hashlib.new(self.algorithm, response.body).hexdigest()
        return "" if found == self.digest else f"{response.url} has the {self.algorithm} {found}, its repository says {self.digest}"


@dataclass
class RpmProbe(Probe):
    @functools.cached_property
    def sample(self) -> tuple[File, Response]:
        """The smallest of the first packages, which is looked for once: the list of packages may be large. Raises Skip."""
        packages = _packages(_primary(self)[1])
        if not packages:
            raise Skip("the repository has no package")
        file = min(packages, key=lambda file: file.size)
        return file, _fetched(self, file)

    @property
    def sample_path(self) -> str:
        return _repository(self) + self.sample[0].href


def _child(element: ElementTree.Element, name: str) -> ElementTree.Element:
    found = element.find(f"{{*}}{name}")
    return ElementTree.Element(name) if found is None else found


def _plain(text: bytes) -> bytes:
    """XML without a document type, whose entities could grow to any size. Raises ParseError."""
    if re.search(rb"<!(?!--|\[CDATA\[)", text):
        raise ElementTree.ParseError("it declares a document type")
    return text


def _repository(probe: Probe) -> str:
    """The path of the repository to look at."""
    return f"{probe.site.index}{probe.site.probe}/" if probe.site.probe else probe.site.index


def _repomd(probe: Probe) -> Response:
    response = probe.get(_repository(probe) + REPOMD)
    if response.status == 404 and not probe.site.probe:
        raise Skip("no repository is right below this site; set probe: to the path of one, such as 9/x86_64/os")
    return expect(response)


def _parsed(response: Response) -> ElementTree.Element:
    """Raises ValueError."""
    try:
        root = ElementTree.fromstring(_plain(response.decoded(READ)))
    except ElementTree.ParseError as error:
        raise ValueError(f"{response.url} is no list of metadata ({error})") from error
    if not re.fullmatch(r"(?:\{[^}]*\})?repomd", root.tag):
        raise ValueError(f"{response.url} is no list of metadata, but {root.tag}")
    return root


def _named(response: Response) -> Mapping[str, File]:
    """The files that a repomd.xml names, by their types. Raises ValueError."""
    files = {data.get("type", ""): File.of(data, _child(data, "size").text or "") for data in _parsed(response).findall("{*}data")}
    if "primary" not in files:
        raise ValueError(f"{response.url} names no primary, which lists the packages")
    return files


def _primary(probe: Probe) -> tuple[File, Response]:
    file = _named(_repomd(probe))["primary"]
    return file, _fetched(probe, file)


def _fetched(probe: Probe, file: File) -> Response:
    """A file of the repository. Raises Skip."""
    if file.outside:
        raise Skip(f"it is not below its repository, but at {file.outside}")
    if file.size > probe.options.max_artifact_size:
        raise Skip(f"{file.href} has {file.size} bytes, above the limit of {probe.options.max_artifact_size}")
    return expect(probe.get(_repository(probe) + file.href))


def _packages(response: Response) -> list[File]:
    """The packages at the beginning of a primary. Raises Skip and ValueError."""
    body = response.body
    parser: Any = ElementTree.XMLPullParser(["end"])
    try:
        if body.startswith(b"\x1f\x8b"):
            text = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(body, READ)
        elif body.startswith(b"\xfd7zXZ"):
            text = lzma.LZMADecompressor().decompress(body, READ)
        elif body.startswith(b"BZh"):
            text = bz2.BZ2Decompressor().decompress(body, READ)
        elif body.startswith(b"\x28\xb5\x2f\xfd"):
            text = _unzstd(body)
        elif body.lstrip().startswith(b"<"):
            text = body[:READ]
        else:
            raise Skip("the list of packages is packed in a way that is not read here")
        parser.feed(_plain(text))
        found = [element for _event, element in parser.read_events() if element.tag.endswith("}package")]
    except (zlib.error, lzma.LZMAError, OSError, ElementTree.ParseError) as error:
        raise ValueError(f"{response.url} is no list of packages ({error})") from error
    return [File.of(element, _child(element, "size").get("package", "")) for element in found]


def _unzstd(body: bytes) -> bytes:
    """The beginning of what zstd packed, as Python has it from 3.14 on, or else the program. Raises Skip, and OSError if it is damaged."""
    try:
        zstd = importlib.import_module("compression.zstd")
    except ImportError:
        return _run_zstd(body)
    try:
        return zstd.ZstdDecompressor().decompress(body, READ)
    except zstd.ZstdError as error:
        raise OSError(str(error)) from error


def _run_zstd(body: bytes) -> bytes:
    program = shutil.which("zstd")
    if not program:
        raise Skip("the list of packages is packed with zstd; install the program zstd where this is asked from, or Python 3.14")
    with tempfile.TemporaryFile() as packed:
        packed.write(body)
        packed.seek(0)
        with subprocess.Popen([program, "-dcq"], stdin=packed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as unpacking:
            late = threading.Timer(UNPACK_SECONDS, unpacking.kill)
            late.start()
            try:
                text = unpacking.stdout.read(READ) if unpacking.stdout else b""
                # There may be more of it than is read, for which nobody waits.
                damaged = len(text) < READ and unpacking.wait() != 0
            finally:
                late.cancel()
                unpacking.kill()
    if damaged:
        raise OSError("zstd cannot unpack it")
    return text


def repomd(probe: Probe) -> Verdict:
    """repomd.xml is one, and tells where the list of packages is."""
    response = _repomd(probe)
    return good(f"revision {_revision(response)}, {len(_named(response))} files")


def primary(probe: Probe) -> Verdict:
    """The list of packages has the digest that repomd.xml tells."""
    file, response = _primary(probe)
    wrong = file.mismatch(response)
    return bad(f"{wrong}; purge it") if wrong else good(f"{file.algorithm} {file.digest}")


def links(probe: Probe) -> Verdict:
    """Nothing that the repository names is elsewhere, where clients would go past the mirror."""
    files = [*_named(_repomd(probe)).values()]
    if not any(file.outside for file in files):
        files += _packages(_primary(probe)[1])
    outside = sorted({file.outside for file in files} - {""})
    return bad(f"{len(outside)} files are elsewhere, such as {outside[0]}") if outside else good(f"{len(files)} files")


def package(probe: RpmProbe) -> Verdict:
    """A package has the digest that the list of packages tells."""
    file, response = probe.sample
    wrong = file.mismatch(response)
    return bad(f"{wrong}; purge it, unless upstream has built it anew under its old name") if wrong else good(file.href)


def repomd_hit(probe: Probe) -> Verdict:
    """A repeated request for repomd.xml is answered from the cache."""
    _repomd(probe)
    return judge_hit(probe, _repository(probe) + REPOMD)


def package_hit(probe: RpmProbe) -> Verdict:
    """A repeated request for a package is answered from the cache."""
    return judge_hit(probe, probe.sample_path)


def package_head(probe: RpmProbe) -> Verdict:
    """HEAD of a package tells what GET sends."""
    return judge_head(probe, probe.sample_path)


def package_range(probe: RpmProbe) -> Verdict:
    """A range of a package has the bytes of that slice."""
    return judge_range(probe, probe.sample[1])


def _revision(response: Response) -> str:
    return (_child(_parsed(response), "revision").text or "").strip() or "untold"


def _made(response: Response) -> float:
    """When the newest of its files was made, in seconds since the epoch; 0 where it does not tell."""
    times = [(_child(data, "timestamp").text or "").strip() for data in _parsed(response).findall("{*}data")]
    return max((float(time) for time in times if re.fullmatch(r"\d{1,12}(?:\.\d+)?", time)), default=0.0)


def freshness(probe: Probe) -> Verdict:
    """repomd.xml is not served stale, and not an older one than upstream has had for a while."""
    response = probe.until(lambda found: not is_stale(found), lambda: _repomd(probe))
    if is_stale(response):
        return stays_stale(probe, response)
    if probe.upstream is None or not probe.site.upstream:
        return good("not stale")
    path = (_repository(probe) + REPOMD)[len(probe.site.path) :]
    try:
        theirs = probe.upstream.get(f"{probe.site.upstream}/{path}", redirects=3)
    except HttpError as error:
        raise Skip(f"upstream could not be asked: {error}") from error
    if theirs.status != 200:
        raise Skip(f"upstream answered {theirs.status}")
    revisions = f"revision {_revision(response)}, upstream {_revision(theirs)}"
    since = probe.now() - _made(theirs)
    if _made(response) < _made(theirs) and since > probe.options.max_lag:
        return bad(f"{revisions}, which was made {since:.0f} s ago")
    return good(revisions)


CHECKS = (repomd, primary, links, package, repomd_hit, package_hit, package_head, package_range, freshness)
