# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Base of fixture registries whose bodies follow from the path alone: their headers, conditions, ranges, a log of all they were asked."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import re
import threading
import time
import typing as t
from email.utils import formatdate, parsedate_to_datetime
from urllib.parse import unquote

EPOCH = 1_700_000_000
Found = tuple[bytes, str] | None
# Of two kinds of servers that many registries have behind them.
APACHE = {"ETag": '"{size:x}-{microseconds:x}"', "Last-Modified": "{modified}"}
S3 = {"ETag": '"{md5}"', "Last-Modified": "{modified}", "X-Amz-Version-Id": "null", "X-Amz-Server-Side-Encryption": "AES256"}
# What a content delivery network tells each client, to know it again, and nobody else is to be told.
COOKIE = {"Set-Cookie": "_cfuvid=of-one-client; path=/; HttpOnly; Secure; SameSite=None"}


class Said(dict[str, t.Any]):
    """What may stand between braces in a header: a body's size, sums, and when it was changed."""

    def __init__(self, body: bytes, changed: int) -> None:
        super().__init__(size=len(body), modified=formatdate(changed, usegmt=True), microseconds=changed * 10**6)
        self.body = body

    def __missing__(self, name: str) -> str:
        if name == "base64":
            return base64.b64encode(hashlib.sha256(self.body).digest()).decode()
        return hashlib.new(name, self.body).hexdigest()


class Paths:
    """A registry; what it has, its ``find`` says.

    ``gone`` are paths that answer 410, ``moved`` tells where those lead that answer 302, ``failing`` has it answer 503 to all, or the
    status that it is, ``delay`` is in seconds. ``HEADERS`` are those of what is there, by a pattern of its path, of which the first one
    that is found counts; ``ABSENT`` those of a 404 or 410, and ``WHY`` its body. Media types that are among ``PACKED`` are compressed on
    the way for who takes that, which makes their entity tags weak. Where ``changed`` is set, all that is there was changed then.
    """

    HEADERS: t.ClassVar[dict[str, dict[str, str]]] = {"": {"ETag": '"{md5}"'}}
    ABSENT: t.ClassVar[dict[str, str]] = {"Content-Type": "text/plain; charset=UTF-8"}
    WHY: t.ClassVar[str] = "{why}: {path}: no such version, though there might have been\n"
    PACKED: t.ClassVar[tuple[str, ...]] = ()

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.gone: set[str] = set()
        self.moved: dict[str, str] = {}
        self.asked: list[tuple[str, int]] = []
        self.failing: bool | int = False
        self.delay = 0.0
        self.generations: dict[tuple[str, str], list[bytes]] = {}
        self.lock = threading.Lock()
        self.changed = 0.0
        handler = type("Handler", (Handler,), {"registry": self})
        self.server = http.server.ThreadingHTTPServer((host, 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def find(self, path: str) -> Found:
        """Body and media type of a path without its first slash and escapes; None where there is nothing."""
        raise NotImplementedError

    def headers(self, path: str, body: bytes, media_type: str) -> dict[str, str]:
        """Of what is there, but for those that say how it is sent. What is not as it was has been changed a second later."""
        with self.lock:
            seen, digest = self.generations.setdefault((path, media_type), []), hashlib.md5(body).digest()
            if digest not in seen[-1:]:
                seen.append(digest)
            said = Said(body, EPOCH + len(seen))
        found = next(headers for pattern, headers in self.HEADERS.items() if re.search(pattern, path))
        told = {name: value.format_map(said) for name, value in found.items()}
        if self.changed:
            told["Last-Modified"] = formatdate(self.changed, usegmt=True)
        return {"Content-Type": media_type, "Accept-Ranges": "bytes"} | told

    def why(self, path: str, status: int = 404) -> bytes:
        """The body of what is not there."""
        return self.WHY.format(why="gone" if status == 410 else "not found", path=path).encode()

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
            status = 503 if self.registry.failing is True else self.registry.failing
            self.answer(status, {"Content-Type": "text/plain; charset=UTF-8"}, b"try again later\n")
        elif path in self.registry.moved:
            there = self.registry.moved[path]
            self.answer(302, {"Location": there, "Content-Type": "text/html"}, f'<a href="{there}">Found</a>\n'.encode())
        elif found is None or path in self.registry.gone:
            status = 410 if path in self.registry.gone else 404
            self.answer(status, self.registry.ABSENT, self.registry.why(path, status))
        else:
            self.send_found(*found)

    do_HEAD = do_GET

    def look(self, path: str) -> Found:
        """What the registry has there for this request."""
        return self.registry.find(path)

    def send_found(self, body: bytes, media_type: str) -> None:
        headers = self.registry.headers(unquote(self.path.removeprefix("/")), body, media_type)
        packed = media_type.partition(";")[0] in self.registry.PACKED and "gzip" in self.headers.get("Accept-Encoding", "")
        if packed:
            headers |= {"ETag": f"W/{headers['ETag']}", "Content-Encoding": "gzip", "Transfer-Encoding": "chunked"}
            del headers["Accept-Ranges"]
        if self.unchanged(headers):
            kept = ("ETag", "Last-Modified", "Cache-Control", "Vary", "Set-Cookie")
            self.answer(304, {name: headers[name] for name in kept if name in headers}, b"")
        elif packed:
            self.answer(200, headers, gzip.compress(body, 1, mtime=0))
        elif asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(asked[1]), min(int(asked[2] or len(body)), len(body) - 1)
            if start > end:
                self.answer(416, {"Content-Range": f"bytes */{len(body)}"}, b"")
            else:
                self.answer(206, headers | {"Content-Range": f"bytes {start}-{end}/{len(body)}"}, body[start : end + 1])
        else:
            self.answer(200, headers, body)

    def unchanged(self, headers: dict[str, str]) -> bool:
        """Whether the client has it as it is (RFC 9110, 13.2.2)."""
        if known := self.headers.get("If-None-Match"):
            return headers.get("ETag", "").removeprefix("W/") in [tag.strip().removeprefix("W/") for tag in known.split(",")]
        changed, since = headers.get("Last-Modified"), self.headers.get("If-Modified-Since")
        return bool(changed and since) and parsedate_to_datetime(changed) <= parsedate_to_datetime(since)

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.registry.asked.append((self.path.removeprefix("/"), status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        chunked = "Transfer-Encoding" in headers
        if status != 304 and not chunked:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.send_body(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body)

    def send_body(self, body: bytes) -> None:
        self.wfile.write(body)

    def log_message(self, *_arguments: t.Any) -> None:
        """Nothing on stderr."""
