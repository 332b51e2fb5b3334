# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of RPM packages: those of most metadata are in their names, and the primary has those of packages.

Source: createrepo_c(8), `--unique-md-filenames`. Primaries are large: those that are stored under their digest are read, and no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import unescape
from urllib.parse import unquote

from .base import Hashes, Registry
from .lists import entries

LENGTHS = {32: "md5", 40: "sha1", 56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}
NAMES = {"sha": "sha1"}  # as createrepo used to call it
METADATA = re.compile(r"(.*/)?repodata/([0-9a-f]{32,128})-([^/]+)")
CHECKSUM = re.compile(rb"""<checksum\b[^>]*\btype=["'](\w+)["'][^>]*>\s*([0-9a-fA-F]+)\s*</checksum>""")
LOCATION = re.compile(rb"""<location\b([^>]*)\bhref=["']([^"'>]*)["']([^>]*)>""")


class Rpm(Registry):
    def named(self, path: str) -> Hashes:
        found = METADATA.fullmatch(path)
        return {LENGTHS[len(found[2])]: found[2]} if found and len(found[2]) in LENGTHS else {}

    def lists(self, path: str) -> bool:
        found = METADATA.fullmatch(path)
        return bool(found and found[3].startswith("primary.xml") and self.named(path))

    def listed(self, path: str, pieces: Iterable[bytes]) -> Iterator[tuple[str, Hashes]]:
        repository = unquote(path[: path.rindex("repodata/")])
        for entry in entries(pieces, b"</package>"):
            checksum, location = CHECKSUM.search(entry), LOCATION.search(entry)
            # A package may be at another place than its repository.
            if checksum and location and b"xml:base" not in location[1] + location[3]:
                algorithm = checksum[1].decode().lower()
                file = unquote(unescape(location[2].decode("utf-8", "replace")))
                yield repository + file, {NAMES.get(algorithm, algorithm): checksum[2].decode().lower()}
