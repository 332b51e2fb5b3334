# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store as Nginx writes it, an upstream that lists what was published, and a clock that only moves when something waits."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client, Headers, HttpError, Response
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub import Clock, Locks, Pace, Scrub, State, Upstream
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub.base import Route, Site
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub.stores import NginxStore
from ansible_collections.nearby.mirrors.plugins.module_utils.simple_api import MEDIA_TYPES

INDEX, FILES, IDENTITY, PAGES = "https://index.test", "https://files.test", "0a1b2c3d", "4e5f6071"


class Time:
    def __init__(self) -> None:
        self.now, self.slept = 1000.0, 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now, self.slept = self.now + seconds, self.slept + seconds


class Index(Client):
    """Answers for the pages of what was published; `faults` maps a part of a URL to a status or an exception."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: dict[str, list[dict[str, Any]]] = {}
        self.faults: dict[str, int | Exception] = {}
        self.asked: list[str] = []

    def request(self, method, url, headers=None, max_body=None, redirects=0, origins=()):
        self.asked.append(url)
        fault = next((fault for part, fault in self.faults.items() if part in url), 0)
        if isinstance(fault, Exception):
            raise fault
        name = url.removeprefix(f"{INDEX}/simple/").rstrip("/")
        if fault or name not in self.listed:
            return Response(fault or 404, url=url)
        body = json.dumps({"files": self.listed[name]}).encode()
        return Response(200, Headers({"Content-Type": MEDIA_TYPES["json"][0]}), body, url)


class Stage:
    def __init__(self, folder: Path) -> None:
        self.folder, self.time, self.index, self.unit = folder, Time(), Index(), 100
        self.site = Site("pypi", "pypi", "/pypi/", INDEX, "/pypi/simple/", (Route("/pypi/files/", FILES + "/", IDENTITY),), {PAGES})
        self.store = NginxStore(str(folder))

    def path(self, name: str) -> str:
        return f"/pypi/files/packages/{name}"

    def put(self, name: str, body: bytes, **changes: Any) -> list[Path]:
        """Store an artifact in slices, as Nginx does; the files."""
        return [self.put_part(name, body, start, **changes) for start in range(0, max(len(body), 1), self.unit)]

    def put_part(
        self, name: str, body: bytes, start: int = 0, identity: str = IDENTITY, version: int = 5, answer: str = "", length: int = 0
    ) -> Path:
        key = f"{identity}|{self.path(name)}|" + f"bytes={start}-{start + self.unit - 1}" * bool(self.unit)
        part = body[start : start + self.unit] if self.unit else body
        answer = answer or f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{start + len(part) - 1}/{length or len(body)}"
        return self._store("artifact", key.encode(), answer, part, version)

    def put_page(
        self, project: str, body: bytes, form: str = "json|gzip", told: str = "", status: str = "200 OK", identity: str = PAGES
    ) -> Path:
        """Store a page, as Nginx does."""
        kind, _bar, encoding = form.partition("|")
        answer = f"HTTP/1.1 {status}\r\nContent-Type: {MEDIA_TYPES[kind][0]}" + "\r\nContent-Encoding: gzip" * bool(encoding) + told
        return self._store("index", f"{identity}|/pypi/simple/{project}/|{form}".encode(), answer, body)

    def _store(self, zone: str, key: bytes, answer: str, body: bytes, version: int = 5) -> Path:
        head = b"\nKEY: " + key + b"\n"
        size = NginxStore.HEADER.size
        stored = answer.encode() + b"\r\n\r\n"
        numbers = (version, 0, 0, 0, 0, 0, 0, 0, size + len(head), size + len(head) + len(stored), 0, b"", 0, b"", b"")
        md5 = hashlib.md5(key).hexdigest()
        file = self.folder / zone / md5[-1] / md5[-3:-1] / md5
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(NginxStore.HEADER.pack(*numbers) + head + stored + body)
        return file

    def publish(self, project: str, name: str, body: bytes, metadata: bytes | None = None) -> None:
        entry = {"filename": name, "url": f"{FILES}/packages/{name}", "hashes": {"sha256": hashlib.sha256(body).hexdigest()}}
        if metadata is not None:
            entry["core-metadata"] = {"sha256": hashlib.sha256(metadata).hexdigest()}
        self.index.listed.setdefault(project, []).append(entry)

    def scrub(
        self, limit: float = 0, bytes_rate: float = 0, request_rate: float = 0, upstream: bool = True, locks: Locks | None = None,
        purge: bool = True, state: str = "scrub.json", sites: list[Site] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """One run from beginning to report."""
        clock = Clock(limit, self.time, self.time.sleep)
        kept = State(str(self.folder / state) if state else "", self.time)
        kept.load()
        ask = Upstream(self.index, Pace(request_rate, clock)) if upstream else None
        run = Scrub(self.store, sites or [self.site], kept, clock, Pace(bytes_rate, clock), ask, locks or Locks(), purge, today=self.time)
        try:
            run.run()
            report = run.report()
            kept.told()
        finally:
            if kept.lock:
                kept.lock.close()
        return report


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "artifact").mkdir()
    return Stage(tmp_path)


@pytest.fixture
def refused() -> Exception:
    return HttpError("GET https://index.test/ failed: the connection was refused")
