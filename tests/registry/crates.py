# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fixture crate registry: a sparse index, and the crates at an origin of their own, with a public registry's header semantics.

Source: the Cargo book, "Registry Index".
"""

from __future__ import annotations

import hashlib
import json
import typing as t

from paths import S3, Found, Paths

WEB = "https://web.test"  # the web API, which nobody mirrors


def prefix(name: str) -> str:
    """The folder of a crate's file in the index; it is the marker ``{prefix}``."""
    return {1: "1", 2: "2", 3: f"3/{name[:1]}"}.get(len(name), f"{name[:2]}/{name[2:4]}")


SIGNATURE = "of=a/b="  # what a place elsewhere may be asked for with, and nothing else
# Both are buckets behind a content delivery network.
ABSENT = {"Content-Type": "application/xml", "X-Cache": "Error from cdn", "Age": "7", "Cache-Control": "public,max-age=600"}
WHY = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code><Message>{why}</Message><Key>{path}</Key></Error>'


class Crates(Paths):
    """The crates: ``bodies`` by name and version; ``template`` is what stands in ``dl`` after the origin, whose host is ``name``."""

    HEADERS: t.ClassVar = {"": S3 | {"Cache-Control": "public,max-age=31536000,immutable", "X-Cache": "Hit from cdn", "Age": "86400"}}
    ABSENT, WHY = ABSENT, WHY

    def __init__(self, name: str = "files.test") -> None:
        super().__init__()
        self.name = name
        self.bodies: dict[tuple[str, str], bytes] = {}
        self.template = "/crates"

    @property
    def url(self) -> str:
        return f"http://{self.name}:{self.port}"

    def path(self, name: str, version: str) -> str:
        """Where cargo looks for a crate, without the first slash."""
        markers = {
            "{crate}": name,
            "{version}": version,
            "{prefix}": prefix(name),
            "{lowerprefix}": prefix(name.lower()),
            "{sha256-checksum}": hashlib.sha256(self.bodies[name, version]).hexdigest(),
        }
        path = self.template if any(marker in self.template for marker in markers) else self.template + "/{crate}/{version}/download"
        for marker, value in markers.items():
            path = path.replace(marker, value)
        return path.removeprefix("/")

    def back(self) -> None:
        super().back()
        self.template = "/crates"

    def find(self, path: str) -> Found:
        place = path.removesuffix(f"?{SIGNATURE}").removeprefix("elsewhere/")
        body = next((body for key, body in self.bodies.items() if place == self.path(*key)), None)
        return None if body is None else (body, "application/gzip")


class CrateIndex(Paths):
    """The index of what is among ``crates``."""

    HEADERS: t.ClassVar = {
        "": S3 | {"Cache-Control": "public,max-age=600", "Vary": "Accept-Encoding", "X-Cache": "RefreshHit from cdn", "Age": "599"}
    }
    ABSENT, WHY = ABSENT, WHY
    PACKED = ("text/plain", "application/json")

    def __init__(self, crates: Crates) -> None:
        super().__init__()
        self.crates = crates

    def publish(self, name: str, version: str, size: int = 100) -> None:
        """A version whose crate has so many bytes, or a few more."""
        seed = f"{name} {version} ".encode()
        self.crates.bodies[name, version] = b"".join(hashlib.sha256(seed + b"%d" % number).digest() for number in range(size // 32 + 1))

    def find(self, path: str) -> Found:
        if path == "config.json":
            config = {"dl": self.crates.url + self.crates.template, "api": WEB}
            return json.dumps(config, indent=2).encode(), "application/json"
        lines = [
            json.dumps({"name": name, "vers": version, "deps": [], "cksum": hashlib.sha256(body).hexdigest(), "yanked": False})
            for (name, version), body in self.crates.bodies.items()
            if path == f"{prefix(name)}/{name}".lower()
        ]
        return ("".join(line + "\n" for line in lines).encode(), "text/plain") if lines else None
