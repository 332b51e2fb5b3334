# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fixture npm registry: documents of packages in two representations, manifests, tarballs, and the audit that a client posts.

Source: npm's "Registry API" and "Package Metadata" (npm/registry, docs).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
import typing as t

from paths import HOUR, Handler, Paths

INSTALL = "application/vnd.npm.install-v1+json"
FULL = "application/json"


class NpmRegistry(Paths):
    """``packages`` has versions by name (``@scope/name`` for scoped ones), each with the bytes that its tarball carries."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__(host)
        self.server.RequestHandlerClass = type("NpmHandler", (NpmHandler,), {"registry": self})
        self.packages: dict[str, dict[str, int]] = {}
        self.url = f"http://registry.test:{self.port}"
        self.files_url = self.url
        self.audits: list[dict[str, t.Any]] = []

    def publish(self, name: str, version: str, size: int = 0) -> None:
        self.packages.setdefault(name, {})[version] = size

    def tarball_path(self, name: str, version: str) -> str:
        return f"{name}/-/{name.rpartition('/')[2]}-{version}.tgz"

    def tarball(self, name: str, version: str) -> bytes:
        out = io.BytesIO()
        payload = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(self.packages[name][version] // 32))
        manifest = json.dumps({"name": name, "version": version, "main": "index.js"}).encode()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for path, body in {"package.json": manifest, "index.js": b"module.exports = 42\n", "payload": payload}.items():
                entry = tarfile.TarInfo(f"package/{path}")
                entry.size = len(body)
                archive.addfile(entry, io.BytesIO(body))
        return gzip.compress(out.getvalue(), 1, mtime=0)

    def manifest(self, name: str, version: str) -> dict[str, t.Any]:
        body = self.tarball(name, version)
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(body).digest()).decode()
        link = f"{self.files_url}/{self.tarball_path(name, version)}"
        dist = {"tarball": link, "integrity": integrity, "shasum": hashlib.sha1(body).hexdigest()}
        return {"name": name, "version": version, "dist": dist}

    def document(self, name: str, media_type: str) -> bytes:
        versions = {version: self.manifest(name, version) for version in self.packages[name]}
        document: dict[str, t.Any] = {"name": name, "dist-tags": {"latest": list(versions)[-1]}, "versions": versions}
        if media_type == FULL:
            document |= {"_id": name, "readme": f"see {self.url}/{name} and https://example.org/{name}", "time": {}}
        return json.dumps(document).encode()

    def find(self, path: str, accept: str = "") -> tuple[bytes, str, int] | None:
        if path == "-/npm/v1/keys":
            return b'{"keys":[]}', FULL, 300
        if path == "-/ping":
            return b"{}", FULL, 0
        if (tagged := re.fullmatch(r"-/package/(.+)/dist-tags", path)) and tagged[1] in self.packages:
            return json.dumps({"latest": list(self.packages[tagged[1]])[-1]}).encode(), FULL, 300
        asked = re.fullmatch(r"((?:@[^/]+/)?[^/]+)(?:/([^/]+))?", path)
        name, version = asked.groups() if asked else ("", None)
        if name in self.packages:
            if version:
                return (json.dumps(self.manifest(name, version)).encode(), FULL, 300) if version in self.packages[name] else None
            media_type = INSTALL if INSTALL in accept else FULL
            return self.document(name, media_type), media_type, 300
        for name, versions in self.packages.items():
            for version in versions:
                if path == self.tarball_path(name, version):
                    return self.tarball(name, version), "application/octet-stream", HOUR + 1
        return None


class NpmHandler(Handler):
    registry: NpmRegistry

    def look(self, path: str) -> tuple[bytes, str, int] | None:
        return self.registry.find(path, self.headers.get("Accept", ""))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.registry.failing:
            self.answer(503, {"Content-Type": "text/plain"}, b"try again later\n")
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.registry.audits.append({"path": self.path, "body": body, "headers": dict(self.headers.items())})
        self.answer(200, {"Content-Type": FULL}, b"{}")
