# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of a sparse index of crates, and of Cargo.lock.

Source: the Cargo book, "Registry Index". Where crates are, a registry says as it likes (`dl` of config.json): those are found that
have name and version in the path, as `<name>/<version>/...` or as `<name>-<version>.crate`.
"""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

from ..http import Response
from .base import Allowed, Hashes, Registry, Site

VERSION = r"\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]*)?"
CRATE = re.compile(rf".*/(?:([\w-]+)/({VERSION})(?:\.crate)?(?:/[^/]+)?|([\w-]+?)-({VERSION})\.crate)")
PACKAGE = re.compile(r'^(name|version|checksum) = "([^"]*)"\r?$', re.MULTILINE)
OLD = re.compile(r'^"checksum (\S+) (\S+) \([^)]*\)" = "([0-9a-f]{64})"\r?$', re.MULTILINE)


class Cargo(Registry):
    def key(self, path: str, url: str) -> str:
        return "".join(f"{name} {version}" for name, version in self.releases(path))

    def projects(self, path: str) -> tuple[str, ...]:
        return tuple(name for name, _version in self.releases(path)) or ("",)

    def question(self, site: Site, project: str) -> tuple[str, dict[str, str]] | None:
        name = project.lower()
        folder = {1: "1", 2: "2", 3: f"3/{name[:1]}"}.get(len(name), f"{name[:2]}/{name[2:4]}")
        return (f"{site.upstream}/{folder}/{name}", {"Accept-Encoding": "gzip"}) if project else None

    def read(self, response: Response) -> dict[str, Hashes]:
        lines = response.decoded().decode("utf-8", "replace").splitlines()
        try:
            entries = [json.loads(line) for line in lines if line.strip()]
            return {f"{entry['name']} {entry['vers']}": {"sha256": str(entry["cksum"]).lower()} for entry in entries}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{response.url} is no file of an index ({type(error).__name__})") from error

    def releases(self, path: str) -> tuple[tuple[str, str], ...]:
        found = CRATE.fullmatch(unquote(path.partition("?")[0]))
        return ((found[1] or found[3], found[2] or found[4]),) if found else ()

    def locked(self, text: str) -> dict[tuple[str, str], Allowed]:
        found: dict[tuple[str, str], Allowed] = {}
        packages = [dict(PACKAGE.findall(table)) for table in re.split(r"(?m)^\[", text)]
        told = [(entry["name"], entry["version"], entry["checksum"]) for entry in packages if len(entry) == 3]
        for name, version, digest in told + OLD.findall(text):
            found[name, version] = found.get((name, version), frozenset()) | {("sha256", digest.lower())}
        return found
