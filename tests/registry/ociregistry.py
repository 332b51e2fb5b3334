# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fixture OCI registry as public ones are: pulls need a token that anybody gets, and blobs are at another origin.

Source: the OCI distribution specification; the token authentication of the registry "distribution".
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import threading
import time
import typing as t
from urllib.parse import unquote

from paths import COOKIE, S3, Found, Handler, Paths

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
# Of the configuration and of a layer, by that of the manifest.
TYPES = {
    MANIFEST: ("oci.image.config.v1+json", "oci.image.layer.v1.tar"),
    DOCKER_MANIFEST: ("docker.container.image.v1+json", "docker.image.rootfs.diff.tar"),
}
TOKEN = "a-token-of-the-mirror"
CREDENTIALS = f"Basic {base64.b64encode(b'reader:secret').decode()}"
READERS = "a-token-of-a-reader"  # what those credentials win
VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}


def digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


class OciRegistry(Paths):
    """``tags`` has digests by repository and tag, ``bodies`` all that has a digest, with its media type.

    ``anonymous`` is what it says to those that have no token: ``bearer``, ``basic``, or ``refused`` (tokens need credentials); ``private``
    are repositories of which only ``CREDENTIALS``, or the token that they win, get anything; ``told`` has the Authorization headers that
    came with requests, by path; those of the blob store have ``store/`` before their digest; ``sent`` are the paths whose bodies went out.
    ``pause`` is in seconds, between the halves of a blob.
    """

    NAMED = VERSION | {"Docker-Content-Digest": "sha256:{sha256}", "ETag": '"sha256:{sha256}"'}
    LIMITED = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "76;w=21600", "Docker-RateLimit-Source": "192.0.2.1"}
    HEADERS: t.ClassVar = {
        "^store/": S3 | {"Cache-Control": "public, max-age=14400", "Vary": "Accept-Encoding", "Age": "9"} | COOKIE,
        "/manifests/": NAMED | LIMITED | {"Strict-Transport-Security": "max-age=31536000"},
        "/blobs/": NAMED | {"Cache-Control": "max-age=31536000"},
        "": VERSION,
    }

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, dict[str, str]] = {}
        self.bodies: dict[str, tuple[bytes, str]] = {}
        self.told: list[tuple[str, str]] = []
        self.sent: list[str] = []
        self.anonymous = "bearer"
        self.private: set[str] = set()
        self.pause = 0.0
        self.server.RequestHandlerClass = type("Handler", (Guarded,), {"registry": self})
        self.store = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Store,), {"registry": self}))
        self.store.daemon_threads = True
        threading.Thread(target=self.store.serve_forever, daemon=True).start()

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self.store.shutdown()
        self.store.server_close()

    def add(self, body: bytes, media_type: str = "application/octet-stream") -> dict[str, t.Any]:
        """Its descriptor."""
        self.bodies[digest(body)] = body, media_type
        return {"mediaType": media_type, "digest": digest(body), "size": len(body)}

    def push(self, repository: str, tag: str, layer: bytes, kind: str = MANIFEST) -> dict[str, t.Any]:
        """An image of one layer, and as ``<tag>-all`` an index that has it for one platform; its manifest."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}})
        parts = [
            self.add(body) | {"mediaType": f"application/vnd.{name}"}
            for body, name in zip((config.encode(), layer), TYPES[kind], strict=True)
        ]
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": parts[0], "layers": parts[1:]}
        entry = self.add(json.dumps(manifest).encode(), kind)
        platform = {"platform": {"architecture": "amd64", "os": "linux"}}
        many = INDEX if kind == MANIFEST else DOCKER_LIST
        index = self.add(json.dumps({"schemaVersion": 2, "mediaType": many, "manifests": [entry | platform]}).encode(), many)
        self.tags.setdefault(repository, {})[tag] = entry["digest"]
        self.tags[repository][f"{tag}-all"] = index["digest"]
        return manifest

    def find(self, path: str) -> Found:
        """Body and media type."""
        asked = re.fullmatch(r"v2/(.+)/(manifests|tags|blobs)/([^/]+)", path)
        if path == "v2/":
            return b"{}", "application/json"
        if not asked or asked[1] not in self.tags:
            return None
        tags = self.tags[asked[1]]
        if asked[2] == "tags":
            return json.dumps({"name": asked[1], "tags": list(tags)}).encode(), "application/json"
        return self.bodies.get(tags.get(asked[3], asked[3]))

    def fetched(self, name: str) -> int:
        """How often the blob store has sent a blob."""
        return self.requests(f"store/{name}").count(200)


class Guarded(Handler):
    registry: OciRegistry

    def do_GET(self) -> None:
        path, _question, query = self.path.removeprefix("/").partition("?")
        said = self.headers.get("Authorization", "")
        self.registry.told.append((path, said))
        if self.registry.failing:
            super().do_GET()
        elif path == "token" and self.registry.anonymous != "refused":
            told = {"token": READERS if said == CREDENTIALS else TOKEN, "expires_in": 300, "q": query}
            self.answer(200, {"Content-Type": "application/json"}, json.dumps(told).encode())
        elif path == "token" or not self.may_read(path, said):
            basic = self.registry.anonymous == "basic"
            how = 'Basic realm="registry"' if basic else f'Bearer realm="http://{self.headers["Host"]}/token",service="registry.test"'
            if (asked := re.match("v2/(.+)/(?:manifests|tags|blobs)/", path)) and not basic:
                how += f',scope="repository:{asked[1]}:pull"'
            said = VERSION | {"WWW-Authenticate": how, "Content-Type": "application/json"}
            self.answer(401, said, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
        elif "/blobs/" in path and self.command == "GET" and self.registry.find(path):
            store = f"http://localhost:{self.registry.store.server_address[1]}/store/{path.rpartition('/')[2]}"
            self.answer(307, VERSION | {"Location": store, "Docker-Content-Digest": unquote(path).rpartition("/")[2]}, b"")
        elif not self.registry.find(path):
            kind = "BLOB" if "/blobs/" in path else "MANIFEST"
            self.answer(404, VERSION | {"Content-Type": "application/json"}, b'{"errors":[{"code":"%s_UNKNOWN"}]}' % kind.encode())
        else:
            super().do_GET()

    do_HEAD = do_GET

    def send_body(self, body: bytes) -> None:
        self.registry.sent += [self.path.removeprefix("/")] if body else []
        super().send_body(body)

    def may_read(self, path: str, said: str) -> bool:
        readers = {CREDENTIALS, f"Bearer {READERS}"}
        asked = re.fullmatch(r"v2/(.+)/(?:manifests|tags|blobs)/[^/]+", unquote(path))
        return said in readers or said == f"Bearer {TOKEN}" and not (asked and asked[1] in self.registry.private)


class Store(Handler):
    registry: OciRegistry

    def look(self, path: str) -> Found:
        self.registry.told.append((path, self.headers.get("Authorization", "")))
        found = self.registry.bodies.get(path.removeprefix("store/"))
        return found and (found[0], "application/octet-stream")

    def send_body(self, body: bytes) -> None:
        self.registry.sent.append(self.path.removeprefix("/"))
        half = len(body) // 2
        self.wfile.write(body[:half])
        time.sleep(self.registry.pause)
        self.wfile.write(body[half:])
