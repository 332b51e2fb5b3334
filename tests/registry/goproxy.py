# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fixture Go module proxy: the GOPROXY protocol with a public proxy's header semantics, and a log of all it was asked.

Lists and records have a short lifetime and an entity tag, files of versions a long one, and so has what is not there: 404 where
nothing is known, 410 where something was. A checksum database is proxied below ``sumdb/``; its signatures are worth nothing.
Source: the Go modules reference, "GOPROXY protocol" and "Checksum database".
"""

from __future__ import annotations

import hashlib
import http.server
import io
import re
import threading
import typing as t
import zipfile
from email.utils import formatdate
from urllib.parse import unquote

DATABASE = "sum.test"
EPOCH = 1_700_000_000


class GoProxy:
    """``modules`` has versions by module, with paths as URLs have them (``!x`` for ``X``); ``gone`` are paths that answer 410."""

    def __init__(self) -> None:
        self.modules: dict[str, dict[str, int]] = {}
        self.branches: dict[str, str] = {}
        self.gone: set[str] = set()
        self.size = 0
        self.asked: list[tuple[str, int]] = []
        self.failing = False
        handler = type("Handler", (Handler,), {"proxy": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> GoProxy:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def port(self) -> int:
        return self.server.server_address[1]

    def publish(self, module: str, version: str, size: int = 0) -> None:
        """A version; a size makes its archive hold as many bytes that cannot be packed."""
        self.modules.setdefault(module, {})[version] = size
        self.size += 1

    def requests(self, path: str) -> list[int]:
        """With which statuses it answered, each time that it was asked for this path."""
        return [status for asked, status in self.asked if asked == path]

    # what the behaviour table's fixtures ask of every registry

    def back(self) -> None:
        self.failing = False

    def forget(self) -> None:
        """The log is kept: every row has paths of its own."""

    # -- content

    def archive(self, module: str, version: str) -> bytes:
        out, real = io.BytesIO(), re.sub("!(.)", lambda match: match[1].upper(), module)
        payload = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(self.modules[module][version] // 32))
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            for name, body in {"go.mod": f"module {real}\n".encode(), "payload": payload}.items():
                archive.writestr(zipfile.ZipInfo(f"{real}@{version}/{name}", (2020, 1, 1, 0, 0, 0)), body)
        return out.getvalue()

    def find(self, path: str) -> tuple[bytes, str, int] | None:
        """Body, media type and lifetime."""
        if path == f"sumdb/{DATABASE}/supported":
            return b"", "text/plain", 3600
        if path == f"sumdb/{DATABASE}/latest":
            return f"go.sum database tree\n{self.size}\nhash\n\n— {DATABASE} signature\n".encode(), "text/plain; charset=UTF-8", 60
        if asked := re.fullmatch(rf"sumdb/{DATABASE}/lookup/(.+)@(.+)", path):
            if asked[2] not in self.modules.get(asked[1], {}):
                return None
            return f"7\n{asked[1]} {asked[2]} h1:sum\n\ngo.sum database tree\n{self.size}\n".encode(), "text/plain; charset=UTF-8", 60
        if re.fullmatch(rf"sumdb/{DATABASE}/tile/8/(?:data|\d+)/(?:x\d{{3}}/)*\d{{3}}(?:\.p/\d+)?", path):
            return hashlib.sha256(path.encode()).digest(), "application/octet-stream", 60
        module, _at, rest = path.rpartition("/@")
        versions = self.modules.get(module, {})
        if rest == "v/list" and versions:
            return ("\n".join(versions) + "\n").encode(), "text/plain; charset=UTF-8", 60
        if rest == "latest" and versions:
            return f'{{"Version":"{list(versions)[-1]}"}}'.encode(), "application/json", 60
        version, _dot, kind = rest.removeprefix("v/").rpartition(".")
        if kind == "info" and (resolved := self.branches.get(f"{module}@{version}", version if version in versions else "")):
            return f'{{"Version":"{resolved}","Time":"2026-01-02T03:04:05Z"}}'.encode(), "application/json", 10800
        if version in versions and kind == "mod":
            return f"module {module}\n".encode(), "text/plain; charset=UTF-8", 10800
        if version in versions and kind == "zip":
            return self.archive(module, version), "application/zip", 10800
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: GoProxy

    def do_GET(self) -> None:
        path = self.path.removeprefix("/")
        found = self.proxy.find(unquote(path))
        if self.proxy.failing:
            self.answer(503, {"Content-Type": "text/plain; charset=UTF-8"}, b"try again later\n")
        elif found is None or path in self.proxy.gone:
            status, why = (410, "gone") if path in self.proxy.gone else (404, "not found")
            headers = {"Content-Type": "text/plain; charset=UTF-8", "Cache-Control": "public, max-age=600"}
            self.answer(status, headers, f"{why}: {path}: no such version, though there might have been\n".encode())
        else:
            self.send_found(*found)

    do_HEAD = do_GET

    def send_found(self, body: bytes, media_type: str, lifetime: int) -> None:
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        headers = {"Content-Type": media_type, "ETag": etag, "Cache-Control": f"public, max-age={lifetime}", "Accept-Ranges": "bytes"}
        if lifetime > 3600:
            headers["Last-Modified"] = formatdate(EPOCH, usegmt=True)
        if etag in self.headers.get("If-None-Match", ""):
            self.answer(304, headers, b"")
            return
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(asked[1]), min(int(asked[2] or len(body)), len(body) - 1)
            if start > end:
                self.answer(416, {"Content-Range": f"bytes */{len(body)}"}, b"")
                return
            self.answer(206, headers | {"Content-Range": f"bytes {start}-{end}/{len(body)}"}, body[start : end + 1])
            return
        self.answer(200, headers, body)

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.proxy.asked.append((self.path.removeprefix("/"), status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_arguments: t.Any) -> None:
        """Nothing on stderr."""
