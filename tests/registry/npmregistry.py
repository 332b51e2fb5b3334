# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fixture npm registry: documents of packages in two representations, manifests, tarballs, and the audit that a client posts.

Source: npm's "Registry API" and "Package Metadata" (npm/registry, docs).
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import io
import json
import re
import tarfile
import typing as t
from urllib.parse import unquote

from paths import COOKIE, Found, Handler, Paths

INSTALL = "application/vnd.npm.install-v1+json"
FULL = "application/json"


@functools.cache
def tarball(name: str, version: str, size: int) -> bytes:
    out = io.BytesIO()
    payload = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(size // 32))
    manifest = json.dumps({"name": name, "version": version, "main": "index.js"}).encode()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, body in {"package.json": manifest, "index.js": b"module.exports = 42\n", "payload": payload}.items():
            entry = tarfile.TarInfo(f"package/{path}")
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return gzip.compress(out.getvalue(), 1, mtime=0)


class NpmRegistry(Paths):
    """``packages`` has versions by name (``@scope/name`` for scoped ones), each with the bytes that its tarball carries.

    ``needs`` says how many others each version of one depends on. Those that are ``forgetful`` it sends again to who says that he has
    them, as the public one does at times. ``layout`` says where their tarballs are, by name, its ``last`` part, and version.
    """

    CHANGING = {"ETag": '"{md5}"', "Last-Modified": "{modified}", "Cache-Control": "public, max-age=300", "Age": "75", **COOKIE}
    HEADERS: t.ClassVar = {
        r"\.tgz$": CHANGING | {"Cache-Control": "public, immutable, max-age=31557600", "Vary": "Accept-Encoding"},
        r"^-/": CHANGING | {"Vary": "Accept-Encoding"},
        "": CHANGING | {"Vary": "accept-encoding, accept"},
    }
    ABSENT: t.ClassVar = {"Content-Type": FULL, "Cache-Control": "public, max-age=300", "Vary": "Accept-Encoding"} | COOKIE
    WHY = '{{"error":"Not found"}}'
    PACKED = (FULL, INSTALL)

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__(host)
        self.server.RequestHandlerClass = type("NpmHandler", (NpmHandler,), {"registry": self})
        self.packages: dict[str, dict[str, int]] = {}
        self.url = f"http://registry.test:{self.port}"
        self.files_url = self.url
        self.audits: list[dict[str, t.Any]] = []
        self.forgetful: set[str] = set()
        self.needs: dict[str, int] = {}
        self.documents: dict[tuple[t.Any, ...], bytes] = {}
        self.layout = "{name}/-/{last}-{version}.tgz"

    def publish(self, name: str, version: str, size: int = 0) -> None:
        self.packages.setdefault(name, {})[version] = size

    def tarball_path(self, name: str, version: str) -> str:
        return self.layout.format(name=name, last=name.rpartition("/")[2], version=version)

    def tarball(self, name: str, version: str) -> bytes:
        return tarball(name, version, self.packages[name][version])

    def manifest(self, name: str, version: str) -> dict[str, t.Any]:
        body = self.tarball(name, version)
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(body).digest()).decode()
        link = f"{self.files_url}/{self.tarball_path(name, version)}"
        dist = {"tarball": link, "integrity": integrity, "shasum": hashlib.sha1(body).hexdigest()}
        needs = {f"dependency-{number}": f"^{number}.0.0" for number in range(self.needs.get(name, 0))}
        return {"name": name, "version": version, "dist": dist} | ({"dependencies": needs} if needs else {})

    def document(self, name: str, media_type: str) -> bytes:
        """It is made anew where something has changed that it tells."""
        tells = (name, media_type, self.url, self.files_url, self.layout, self.needs.get(name), *self.packages[name].items())
        if tells not in self.documents:
            self.documents[tells] = self.make_document(name, media_type)
        return self.documents[tells]

    def make_document(self, name: str, media_type: str) -> bytes:
        versions = {version: self.manifest(name, version) for version in self.packages[name]}
        document: dict[str, t.Any] = {"name": name, "dist-tags": {"latest": list(versions)[-1]}, "versions": versions}
        if media_type == FULL:
            document |= {"_id": name, "readme": f"see {self.url}/{name} and https://example.org/{name}", "time": {}}
        return json.dumps(document).encode()

    def attestations(self, name: str, version: str) -> Found:
        """What a version was built from; its links lead to where that was."""
        if version not in self.packages.get(name, {}):
            return None
        digest = hashlib.sha512(self.tarball(name, version)).hexdigest()
        subject = [{"name": f"pkg:npm/{name}@{version}", "digest": {"sha512": digest}}]
        bundle = {"dsseEnvelope": {"payload": base64.b64encode(json.dumps(subject).encode()).decode()}}
        told = {"attestations": [{"predicateType": f"{self.url}/attestation/tree/main/specs", "bundle": bundle}]}
        return json.dumps(told).encode(), FULL

    def find(self, path: str, accept: str = "") -> Found:
        if path == "-/npm/v1/keys":
            return json.dumps({"keys": [{"keyid": "SHA256:of-a-key", "keytype": "ecdsa-sha2-nistp256", "key": "MFkw"}]}).encode(), FULL
        if attested := re.fullmatch(r"-/npm/v1/attestations/(.+)@([^@]+)", path):
            return self.attestations(*attested.groups())
        if path == "-/ping":
            return b"{}", FULL
        if (tagged := re.fullmatch(r"-/package/(.+)/dist-tags", path)) and tagged[1] in self.packages:
            return json.dumps({"latest": list(self.packages[tagged[1]])[-1]}).encode(), FULL
        asked = re.fullmatch(r"((?:@[^/]+/)?[^/]+)(?:/([^/]+))?", path)
        name, version = asked.groups() if asked else ("", None)
        if name in self.packages:
            if version:
                return (json.dumps(self.manifest(name, version)).encode(), FULL) if version in self.packages[name] else None
            media_type = INSTALL if INSTALL in accept else FULL
            return self.document(name, media_type), media_type
        for name, versions in self.packages.items():
            for version in versions:
                if path == self.tarball_path(name, version):
                    return self.tarball(name, version), "application/octet-stream"
        return None


class NpmHandler(Handler):
    registry: NpmRegistry

    def look(self, path: str) -> Found:
        return self.registry.find(path, self.headers.get("Accept", ""))

    def unchanged(self, headers: dict[str, str]) -> bool:
        return unquote(self.path.removeprefix("/")) not in self.registry.forgetful and super().unchanged(headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.registry.failing:
            self.answer(503, {"Content-Type": "text/plain"}, b"try again later\n")
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.registry.audits.append({"path": self.path, "body": body, "headers": dict(self.headers.items())})
        self.answer(200, {"Content-Type": FULL}, b"{}")
