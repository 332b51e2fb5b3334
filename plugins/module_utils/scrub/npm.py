# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of npm's packuments, and of the files in which npm locks an installation.

Source: npm's "Package Metadata" (npm/registry, docs); Subresource Integrity (W3C) for `integrity`; npm's package-lock.json(5).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ..catalogue.npm import INSTALL
from ..http import Response
from .base import Allowed, Hashes, Registry, Site, spelled

HEADERS = {"Accept": f"{INSTALL}; q=1.0, application/json; q=0.8", "Accept-Encoding": "gzip"}
# Some have the scope before the file's name as well.
TARBALL = re.compile(r"(?:.*?/)?((?:@[^/]+/)?([^/@]+))/-/(?:@[^/]+/)?(?:\2-([^/]+)\.tgz|.+)")
INTEGRITY = re.compile(r"(sha512|sha384|sha256|sha1)-([A-Za-z0-9+/]+=*)")


class Npm(Registry):
    def projects(self, path: str) -> tuple[str, ...]:
        """By the folder that the tarball is in."""
        found = TARBALL.fullmatch(unquote(path.partition("?")[0]))
        return (found[1] if found else "",)

    def question(self, site: Site, project: str) -> tuple[str, dict[str, str]] | None:
        return (f"{site.upstream}/{quote(project, safe='@')}", HEADERS) if project else None

    def read(self, response: Response) -> dict[str, Hashes]:
        try:
            told = [version["dist"] for version in json.loads(response.decoded())["versions"].values()]
            return {spelled(dist["tarball"]): _hashes(dist) for dist in told}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{response.url} is no document of a package ({type(error).__name__})") from error

    def releases(self, path: str) -> tuple[tuple[str, str], ...]:
        found = TARBALL.fullmatch(unquote(path.partition("?")[0]))
        return ((found[1], found[3]),) if found and found[3] else ()

    def locked(self, text: str) -> dict[tuple[str, str], Allowed]:
        found: dict[tuple[str, str], Allowed] = {}
        for name, entry in _entries(text):
            allowed = frozenset(_integrity(entry.get("integrity")).items())
            release = name, str(entry.get("version"))
            # What was resolved to another place than a registry has is not what a registry has.
            if allowed and (not entry.get("resolved") or release in self.releases(urlsplit(str(entry["resolved"])).path)):
                found[release] = found.get(release, frozenset()) | allowed
        return found


def _hashes(dist: Mapping[str, Any]) -> Hashes:
    """Of `dist`: old versions have a SHA-1 only."""
    shasum = {"sha1": str(dist["shasum"]).lower()} if dist.get("shasum") else {}
    return shasum | _integrity(dist.get("integrity"))


def _integrity(text: Any) -> dict[str, str]:
    """Algorithms and digests of a list of hash expressions. Where it has several of an algorithm, the last one counts."""
    return {algorithm: base64.b64decode(digest + "==").hex() for algorithm, digest in INTEGRITY.findall(str(text or ""))}


def _entries(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Names and entries of a package-lock.json or an npm-shrinkwrap.json of any version; none, if it is neither."""
    try:
        lock = json.loads(text) if text.lstrip().startswith("{") else {}
    except (ValueError, RecursionError):
        return
    if not isinstance(lock, dict) or "lockfileVersion" not in lock:
        return
    nested: list[Mapping[str, Any]] = [lock]
    for folder, entry in _pairs(lock.get("packages")):
        yield str(entry.get("name") or folder.rpartition("node_modules/")[2]), entry
    while nested:
        for name, entry in _pairs(nested.pop().get("dependencies")):
            nested.append(entry)
            alias = re.fullmatch(r"npm:(.+)@([^@]+)", str(entry.get("version")))
            yield (alias[1], {**entry, "version": alias[2]}) if alias else (name, entry)


def _pairs(value: Any) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, entry) for name, entry in value.items() if isinstance(entry, dict)] if isinstance(value, dict) else []
