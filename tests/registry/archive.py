# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fixture archive of Debian packages, which publishes whenever it is told to, between two requests of a client as well.

Its signatures are worth nothing. Source: the Debian wiki, "DebianRepository/Format".
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import re
import typing as t
from email.utils import formatdate

from paths import APACHE, EPOCH, Found, Paths


@dataclasses.dataclass
class Suite:
    """A suite's generations. ``kept`` of them stay by their digests; without, there is nothing by digests.

    So many ``others`` are named in the Release that are not there: a real one names a thousand, of all architectures and languages.
    """

    name: str
    kept: int
    generation: int = 0
    others: int = 0

    def index(self, name: str, generation: int) -> bytes:
        """An index of a generation: ``Packages`` or ``Packages.gz``."""
        plain = f"Package: demo\nVersion: {generation}\nFilename: pool/main/d/demo/demo_{generation}_all.deb\n\n".encode() * 50
        return gzip.compress(plain, mtime=0) if name.endswith(".gz") else plain

    def release(self) -> bytes:
        said = f"Codename: {self.name}\nDate: {formatdate(EPOCH + self.generation, usegmt=True).replace('GMT', 'UTC')}\n"
        said += "Acquire-By-Hash: yes\nSHA256:\n" if self.kept else "SHA256:\n"
        for name in "Packages", "Packages.gz":
            body = self.index(name, self.generation)
            said += f" {hashlib.sha256(body).hexdigest()} {len(body):8} main/binary-all/{name}\n"
        for number in range(self.others):
            said += f" {hashlib.sha256(str(number).encode()).hexdigest()} {number:8} main/i18n/Translation-{number:08}.xz\n"
        return said.encode()

    def publish(self) -> None:
        self.generation += 1

    def find(self, rest: str) -> bytes | None:
        if rest == "InRelease":
            return b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n" + self.release() + b"-----BEGIN PGP SIGNATURE-----\n\nnone\n"
        if rest == "Release":
            return self.release()
        if rest in ("main/binary-all/Packages", "main/binary-all/Packages.gz"):
            return self.index(rest, self.generation)
        if asked := re.fullmatch(r"main/binary-all/by-hash/SHA256/([0-9a-f]{64})", rest):
            kept = range(max(self.generation - self.kept + 1, 0), self.generation + 1)
            bodies = (self.index(name, generation) for generation in kept for name in ("Packages", "Packages.gz"))
            return next((body for body in bodies if hashlib.sha256(body).hexdigest() == asked[1]), None)
        return None


class Archive(Paths):
    """``suites`` by name; a suite in ``turning`` publishes as soon as its InRelease has been sent."""

    CHANGING = APACHE | {"Cache-Control": "public, max-age=120", "Age": "119", "X-Clacks-Overhead": "GNU Terry Pratchett"}
    HEADERS: t.ClassVar = {r"/by-hash/|^pool/": CHANGING | {"Cache-Control": "public, max-age=2592000"}, "": CHANGING}
    ABSENT: t.ClassVar = {"Content-Type": "text/html; charset=iso-8859-1", "Cache-Control": "public, max-age=120", "Age": "3"}

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__(host)
        self.suites: dict[str, Suite] = {}
        self.turning: set[str] = set()
        self.size = 1000

    def found(self, name: str) -> bytes:
        """What a file of the pool has in it."""
        block = hashlib.sha256(name.encode()).digest()
        return block * (self.size // len(block) + 1)

    def find(self, path: str) -> Found:
        if asked := re.fullmatch(r"(?:dists/)?([^/]+)/(.+)", path):
            suite = self.suites.get(asked[1])
            body = suite.find(asked[2]) if suite else None
            if suite and asked[2] == "InRelease" and asked[1] in self.turning:
                suite.publish()
            if body is not None:
                kind = "application/gzip" if asked[2].endswith(".gz") else "text/plain"
                return body, kind
        if re.search(r"\.(?:deb|udeb|dsc|tar\.xz)$", path):
            return self.found(path), "application/vnd.debian.binary-package"
        return None
