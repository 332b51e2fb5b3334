# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of Debian packages: those of indices are in their paths, and indices have those of packages.

Source: the Debian wiki, "DebianRepository/Format". Lists of all packages of an archive are large, and a client of the mirror has
asked for those that matter: so those that are stored under their digest are read, and no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

from .base import Hashes, Registry
from .lists import entries

ALGORITHMS = {"MD5Sum": "md5", "SHA1": "sha1", "SHA256": "sha256", "SHA512": "sha512"}
BY_HASH = re.compile(rf".*/by-hash/({'|'.join(ALGORITHMS)})/([0-9a-f]+)")
# Beside lists of packages there are Release files by their digests, which name no packages.
LIST = re.compile(rf"(.*/)dists/.+/binary-[^/]+{BY_HASH.pattern[2:]}")
FIELD = re.compile(rb"^(Filename|SHA256): *(\S+) *$", re.MULTILINE)


class Deb(Registry):
    def named(self, path: str) -> Hashes:
        found = BY_HASH.fullmatch(path)
        return {ALGORITHMS[found[1]]: found[2]} if found else {}

    def lists(self, path: str) -> bool:
        return bool(LIST.fullmatch(path))

    def listed(self, path: str, pieces: Iterable[bytes]) -> Iterator[tuple[str, Hashes]]:
        archive = unquote(path[: path.rindex("dists/")])
        for entry in entries(pieces, b"\n\n"):
            fields = dict(FIELD.findall(entry))
            if len(fields) == 2:
                file = fields[b"Filename"].decode("utf-8", "replace").removeprefix("./")
                yield archive + file, {"sha256": fields[b"SHA256"].decode("ascii", "replace").lower()}
