# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fixture gem registry: the compact index with the header semantics of the public one, and a log of all it was asked.

Its files are appended to. The entity tag is the MD5 of the whole and the digests its SHA-256, in the form of RFC 9530 and in the one that
it replaces, in a part's answer as well; clients check what they have put together against them.
Source: the RubyGems guides, "Compact Index API".
"""

from __future__ import annotations

import gzip
import hashlib
import typing as t

from paths import EPOCH, S3, Found, Paths

TEXT, BINARY = "text/plain; charset=utf-8", "application/octet-stream"
SPECIFICATIONS = ("specs.4.8.gz", "latest_specs.4.8.gz", "prerelease_specs.4.8.gz")


class GemIndex(Paths):
    """``files`` are those that are there under their paths; ``info`` has the compact index's by gem, ``versions`` the one of them all."""

    SHARED = {"Vary": "Accept-Encoding", "Age": "21", "Surrogate-Control": "max-age=3600", "Surrogate-Key": "versions"}
    DIGESTS = {"ETag": '"{md5}"', "Digest": "sha-256={base64}", "Repr-Digest": "sha-256=:{base64}:"}
    HEADERS: t.ClassVar = {
        r"^(?:versions|names|info/.+)$": SHARED | DIGESTS | {"Cache-Control": "max-age=60, public"},
        "^$": {
            "ETag": 'W/"{md5}"',
            "Cache-Control": "max-age=0, private, must-revalidate",
            "Set-Cookie": "_session=of-one-client; path=/; secure; HttpOnly; SameSite=Lax",
        },
        r"specs\.4\.8\.gz$": SHARED | S3 | {"Cache-Control": "max-age=60"},
        "": SHARED | S3 | {"Cache-Control": "max-age=31536000"},
    }
    ABSENT: t.ClassVar = SHARED | {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "max-age=60, public"}
    WHY = "This gem could not be found: {path}"
    PACKED = ("text/plain", "text/html")

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.info: dict[str, bytes] = {}
        self.versions = b"created_at: 2026-01-02T03:04:05Z\n---\n"

    def publish(self, name: str, version: str, content: bytes, needs: str = "") -> None:
        """A version with the content of its gem; ``needs`` are its dependencies as they stand in the index: ``other:>= 1,more:= 2``."""
        self.files[f"gems/{name}-{version}.gem"] = content
        self.files[f"quick/Marshal.4.8/{name}-{version}.gemspec.rz"] = f"specification of {name} {version}".encode()
        self.info[name] = self.info.get(name, b"---\n") + f"{version} {needs}|checksum:{hashlib.sha256(content).hexdigest()}\n".encode()
        self.versions += f"{name} {version} {hashlib.md5(self.info[name]).hexdigest()}\n".encode()
        for path in SPECIFICATIONS:
            self.files[path] = gzip.compress(self.versions, mtime=EPOCH)

    def find(self, path: str) -> Found:
        """Body and media type."""
        if path == "":
            return b"<title>Gems</title>\n", "text/html; charset=utf-8"
        if path == "versions":
            return self.versions, TEXT
        if path == "names":
            return "\n".join(["---", *sorted(self.info), ""]).encode(), TEXT
        if path.startswith("info/") and path[5:] in self.info:
            return self.info[path[5:]], TEXT
        return (self.files[path], BINARY) if path in self.files else None
