# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Base of fixture registries whose bodies follow from the path alone: entity tags, lifetimes, ranges, a log of all they were asked."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
import time
import typing as t
from email.utils import formatdate
from urllib.parse import unquote

EPOCH = 1_700_000_000
HOUR = 3600


class Paths:
    """A registry; what it has, its ``find`` says.

    ``gone`` are paths that answer 410, ``moved`` tells where those lead that answer 302, ``failing`` has it answer 503 to all,
    ``delay`` is in seconds. What lives for more than an hour has a ``Last-Modified`` as well.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.gone: set[str] = set()
        self.moved: dict[str, str] = {}
        self.asked: list[tuple[str, int]] = []
        self.failing = False
        self.delay = 0.0
        handler = type("Handler", (Handler,), {"registry": self})
        self.server = http.server.ThreadingHTTPServer((host, 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def find(self, path: str) -> tuple[bytes, str, int] | None:
        """Body, media type and lifetime in seconds of a path without its first slash and escapes; None where there is nothing."""
        raise NotImplementedError

    def further(self, path: str, body: bytes) -> dict[str, str]:
        """Headers of what is there, beside those that all registries send."""
        return {}

    @property
    def port(self) -> int:
        return self.server.server_address[1]

    def requests(self, path: str) -> list[int]:
        """With which statuses it answered, each time that it was asked for this path."""
        return [status for asked, status in self.asked if asked == path]

    # what the behaviour table's fixtures ask of every registry

    def back(self) -> None:
        self.failing, self.delay = False, 0.0

    def forget(self) -> None:
        """The log is kept: every row has paths of its own."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Paths

    def do_GET(self) -> None:
        path = self.path.removeprefix("/")
        time.sleep(self.registry.delay)
        found = self.look(unquote(path))
        if self.registry.failing:
            self.answer(503, {"Content-Type": "text/plain; charset=UTF-8"}, b"try again later\n")
        elif path in self.registry.moved:
            self.answer(302, {"Location": self.registry.moved[path]}, b"")
        elif found is None or path in self.registry.gone:
            status, why = (410, "gone") if path in self.registry.gone else (404, "not found")
            headers = {"Content-Type": "text/plain; charset=UTF-8", "Cache-Control": "public, max-age=600"}
            self.answer(status, headers, f"{why}: {path}: no such version, though there might have been\n".encode())
        else:
            self.send_found(*found)

    do_HEAD = do_GET

    def look(self, path: str) -> tuple[bytes, str, int] | None:
        """What the registry has there for this request."""
        return self.registry.find(path)

    def send_found(self, body: bytes, media_type: str, lifetime: int) -> None:
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        headers = {"Content-Type": media_type, "ETag": etag, "Cache-Control": f"public, max-age={lifetime}", "Accept-Ranges": "bytes"}
        headers |= self.registry.further(unquote(self.path.removeprefix("/")), body)
        if lifetime > HOUR:
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
        self.registry.asked.append((self.path.removeprefix("/"), status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.send_body(body)

    def send_body(self, body: bytes) -> None:
        self.wfile.write(body)

    def log_message(self, *_arguments: t.Any) -> None:
        """Nothing on stderr."""
