# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry and a mirror of it behind a fake HTTP client: healthy until a test breaks it."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client, Headers, HttpError, Response
from ansible_collections.nearby.mirrors.plugins.module_utils.simple_api import MEDIA_TYPES

NOW = 1_800_000_000  # 2027-01-15T08:00:00Z
UPSTREAM, FILES, MIRROR = "https://index.test", "https://files.test", "http://mirror.test:8080"
PATHS = {UPSTREAM: (UPSTREAM + "/integrity/", FILES + "/"), MIRROR: ("/pypi/integrity/", "/pypi/files/")}
BODIES = {"demo-1.0.tar.gz": b"source " * 90, "demo-1.0-py3-none-any.whl": b"wheel" * 20}
METADATA = b"Metadata-Version: 2.1\nName: demo\n"


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def entries() -> list[dict[str, Any]]:
    """The files of the project as PEP 691 has them, with URLs to be filled in."""
    found = [
        {"filename": name, "hashes": {"sha256": digest(body)}, "size": len(body), "upload-time": "2026-01-02T03:04:05.678Z"}
        for name, body in BODIES.items()
    ]
    found[1].update({"core-metadata": {"sha256": digest(METADATA)}, "provenance": "demo.json"})
    return found


class World(Client):
    """Every answer passes through `faults`: functions of method, URL, headers and the healthy response."""

    def __init__(self) -> None:
        super().__init__(now=lambda: NOW)
        self.faults: list[Callable[[str, str, dict[str, str], Response], Response]] = []
        self.files: dict[str, list[dict[str, Any]]] = {UPSTREAM: entries(), MIRROR: entries()}
        self.serial = {UPSTREAM: "77", MIRROR: "77"}
        self.offered = ("json", "v1html", "html")
        self.document: Any = {"version": 1, "sites": [self.site()]}
        self.seen: set[tuple[str, ...]] = set()
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.slept = 0.0

    def site(self, **given: Any) -> dict[str, Any]:
        site = {"name": "pypi", "type": "pypi", "path": "/pypi/", "upstream": UPSTREAM, "index": "/pypi/simple/", "probe": "demo"}
        return {**site, "representations": list(MEDIA_TYPES), **given}

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def request(self, method, url, headers=None, max_body=None, redirects=0, origins=()):
        headers = dict(headers or {})
        self.asked.append((method, url, headers))
        parts = urlsplit(url)
        base = f"{parts.scheme}://{parts.netloc}"
        path = parts.path[len("/pypi") :] if base == MIRROR and parts.path.startswith("/pypi/") else parts.path
        response = self.answer(base, path, headers)
        if headers.get("Accept-Encoding") == "gzip" and "simple" in path:
            response = with_body(with_header(response, "Content-Encoding", "gzip"), gzip.compress(response.body, mtime=0))
        if "Range" in headers and response.status == 200:
            first, last = headers["Range"][len("bytes=") :].split("-")
            size = len(response.body)
            start, end = (int(first), int(last)) if first else (size - int(last), size - 1)
            response = replace(with_body(response, response.body[start : end + 1]), status=206)
            response = with_header(response, "Content-Range", f"bytes {start}-{end}/{size}")
        if base == MIRROR:
            key = (url, response.media_type, headers.get("Accept-Encoding", ""))
            said = "nearby; hit" if key in self.seen else "nearby; fwd=uri-miss"
            self.seen.add(key)
            response = with_header(response, "Cache-Status", said)
        if method == "HEAD":
            response = replace(response, body=b"")
        response = replace(response, url=url)
        for fault in self.faults:
            response = fault(method, url, headers, response)
        return response

    def answer(self, base: str, path: str, headers: dict[str, str]) -> Response:
        name = path.rsplit("/", 1)[-1]
        if path == "/health":
            return made(b"ok\n", "text/plain")
        if path == "/mirror.json":
            return made(json.dumps(self.document).encode(), "application/json")
        if path == "/simple/demo/":
            return self.index(base, headers.get("Accept", "*/*"))
        if path == "/simple/DEMO/":
            return Response(301, Headers({"Location": "/pypi/simple/demo/"}))
        if path == "/pypi/demo/json":
            urls = [{"url": PATHS[base][1] + entry["filename"]} for entry in self.files[base]]
            return made(json.dumps({"urls": urls, "releases": {"1.0": urls}}).encode(), "application/json")
        if path == "/integrity/demo.json":
            return made(b"{}", "application/vnd.pypi.integrity.v1+json")
        if path.startswith("/files/") and name in BODIES:
            return made(BODIES[name], "application/octet-stream")
        if path == "/files/demo-1.0-py3-none-any.whl.metadata":
            return made(METADATA, "application/octet-stream")
        return replace(made(b"no such page", "text/plain"), status=404)

    def index(self, base: str, accept: str) -> Response:
        wanted = [kind for kind in ("json", "v1html") if kind in self.offered and any(m in accept for m in MEDIA_TYPES[kind])]
        kind = wanted[0] if wanted else "html"
        integrity, files = PATHS[base]
        filled = [{**entry, "url": entry.get("url", files + entry["filename"])} for entry in self.files[base]]
        filled = [{**e, "provenance": integrity + e["provenance"]} if e.get("provenance") else e for e in filled]
        text = json.dumps({"meta": {"api-version": "1.1"}, "name": "demo", "files": filled}) if kind == "json" else page(filled)
        response = made(text.encode(), MEDIA_TYPES[kind][0])
        return with_header(response, "X-PyPI-Last-Serial", self.serial[base]) if self.serial[base] else response


def page(files: list[dict[str, Any]]) -> str:
    rows = []
    for entry in files:
        extra = ' data-upload-time="{}"'.format(entry["upload-time"]) if "upload-time" in entry else ""
        if "core-metadata" in entry:
            extra += ' data-core-metadata="sha256={}"'.format(entry["core-metadata"]["sha256"])
        if "provenance" in entry:
            extra += ' data-provenance="{}"'.format(entry["provenance"])
        target = "{}#sha256={}".format(entry["url"], entry["hashes"].get("sha256", ""))
        rows.append('<a href="{}"{}>{}</a><br>'.format(target, extra, entry["filename"]))
    return "<!DOCTYPE html><html><body>{}</body></html>".format("\n".join(rows))


def made(body: bytes, media_type: str) -> Response:
    return Response(200, Headers({"Content-Type": media_type, "Content-Length": str(len(body))}), body)


def with_header(response: Response, name: str, value: str | None) -> Response:
    """The response with another value of a header, or without it."""
    kept = [pair for pair in response.headers.fields if pair[0].lower() != name.lower()]
    return replace(response, headers=Headers(kept + ([(name, value)] if value is not None else [])))


def with_body(response: Response, body: bytes) -> Response:
    return replace(with_header(response, "Content-Length", str(len(body))), body=body)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def unreachable() -> Callable[..., Response]:
    def refuse(method, url, headers, response):
        raise HttpError(f"{method} {url} failed: the connection was refused")

    return refuse
