# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of the compact index of gems, and of the checksums in Gemfile.lock, which Bundler keeps from 2.6 on.

Source: the RubyGems guides, "Compact Index API"; Bundler's lockfile parser for `CHECKSUMS`.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from ..http import Response
from .base import Allowed, Hashes, Registry, Site, spelled

LINE = re.compile(r"^(\S+) [^|\n]*\|(?:[^\n]*,)?checksum:([0-9a-fA-F]{64})(?:,[^\n]*)?$", re.MULTILINE)
LOCKED = re.compile(r"^  (\S+) \(([^)]+)\) (\S+)\r?$", re.MULTILINE)
CHECKSUM = re.compile(r"(sha256|sha384|sha512)=([0-9a-fA-F]+)")
TRIES = 3  # as many readings of one file name, in which platforms and even names have digits after hyphens


class Gem(Registry):
    def projects(self, path: str) -> tuple[str, ...]:
        return tuple(name for name, _version in self.releases(path)) or ("",)

    def question(self, site: Site, project: str) -> tuple[str, dict[str, str]] | None:
        return (f"{site.upstream}/info/{quote(project)}", {"Accept-Encoding": "gzip"}) if project else None

    def read(self, response: Response) -> dict[str, Hashes]:
        base, _info, gem = response.url.rpartition("/info/")
        lines = LINE.findall(response.decoded().decode("utf-8", "replace"))
        return {spelled(f"{base}/gems/{gem}-{version}.gem"): {"sha256": digest.lower()} for version, digest in lines}

    def releases(self, path: str) -> tuple[tuple[str, str], ...]:
        """A version with its platform, as both the index and lock files have it. None of a specification, whose digest nobody tells."""
        found = re.fullmatch(r".*/gems/([^/]+)\.gem", unquote(path.partition("?")[0]))
        name = found[1] if found else ""
        return tuple((name[: cut.start()], name[cut.end() :]) for cut in re.finditer(r"(?<=.)-(?=\d)", name))[:TRIES]

    def locked(self, text: str) -> dict[tuple[str, str], Allowed]:
        section = re.search(r"(?ms)^CHECKSUMS\r?\n(.*?)(?=^\S|\Z)", text)
        lines = LOCKED.findall(section[1]) if section else []
        told = {
            (name, version): frozenset((kind, digest.lower()) for kind, digest in CHECKSUM.findall(sums)) for name, version, sums in lines
        }
        return {release: allowed for release, allowed in told.items() if allowed}
