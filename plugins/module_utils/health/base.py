# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every health check is made of: a site, a verdict, and a probe that asks the mirror.

A check is a function that takes a probe and returns a verdict. It may raise `Skip` where it cannot judge; any other
exception counts as bad, with its text as the detail.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from ..catalogue import ECOSYSTEMS, Ecosystem
from ..http import MEBIBYTE, Client, HttpError, Response, origin

GOOD, BAD, SKIPPED = "good", "bad", "skipped"
# A mirror may need a moment to store what it has just sent, or to refresh what had expired.
TRIES, PAUSE_SECONDS = 4, 0.5


class Skip(Exception):
    """The check cannot judge; the text says why."""


@dataclass(frozen=True)
class Verdict:
    verdict: str
    detail: str


def good(detail: str) -> Verdict:
    return Verdict(GOOD, detail)


def bad(detail: str) -> Verdict:
    return Verdict(BAD, detail)


@dataclass(frozen=True)
class Options:
    """`max_artifact_size` in bytes, `min_certificate_days` in days, `max_lag` in seconds."""

    max_artifact_size: int = 32 * MEBIBYTE
    min_certificate_days: int = 14
    max_lag: int = 3600


@dataclass(frozen=True)
class Site:
    """A site of the mirror document; `representations` are the names of those that upstream offers, `suites` are of type deb alone."""

    name: str
    type: str
    path: str
    upstream: str = ""
    index: str = ""
    probe: str = ""
    representations: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    port: int = 0  # of its own, if any

    @classmethod
    def from_dict(cls, given: Any, where: str) -> Site:
        """From an entry of the mirror document, or one of the lookup's resolved sites. Raises ValueError."""
        if not isinstance(given, Mapping):
            raise ValueError(f"{where} is not a dictionary")
        for key in ("name", "type"):
            if not given.get(key) or not isinstance(given[key], str):
                raise ValueError(f"{where} has no {key}")
        path = given.get("path") or "/{}/".format(given["name"])
        known = ECOSYSTEMS.get(given["type"], Ecosystem(given["type"]))
        index, probe = "" if known.index is None else f"{path}{known.index}", known.probe
        offered = given.get("offered", given.get("representations", ["json", "html"]))
        texts = {"path": path, "index": given.get("index") or index, "probe": given.get("probe", probe)}
        texts["upstream"] = given.get("upstream") or ""
        for key, value in texts.items():
            if not isinstance(value, str):
                raise ValueError(f"{where} has a {key} that is no text")
        if not re.match(r"/(?:.*/)?$", path) or not (texts["index"] or path).startswith(path):
            raise ValueError(f"{where} has a path that does not begin and end with /, or an index outside it")
        if not isinstance(offered, (list, tuple)):
            raise ValueError(f"{where} has representations that are no list")
        if given["type"] == "pypi":
            offered = offered or ["html"]
        suites = given.get("suites", [])
        if not isinstance(suites, (list, tuple)):
            raise ValueError(f"{where} has suites that are no list")
        port = given.get("port") or 0
        if type(port) is not int or not 0 <= port < 65536:
            raise ValueError(f"{where} has a port that is none")
        names = tuple(item["name"] if isinstance(item, Mapping) else str(item) for item in offered)
        texts["upstream"] = texts["upstream"].rstrip("/")
        return cls(name=given["name"], type=given["type"], representations=names, suites=tuple(map(str, suites)), port=port, **texts)

    @property
    def at_its_port(self) -> Site:
        """The same site as it is on a port of its own: at the root there, or where clients of its type look below it."""
        root = ECOSYSTEMS.get(self.type, Ecosystem(self.type)).base
        index = root + self.index[len(self.path) :] if self.index else ""
        return replace(self, path=root, index=index, port=0)


@dataclass
class Probe:
    """Asks one mirror about one site. `base` has no trailing slash; `upstream` is None where upstream is not to be asked;
    `sleep` and `now` (seconds since the epoch) are the clock.
    """

    client: Client
    base: str
    site: Site
    upstream: Client | None = None
    options: Options = field(default_factory=Options)
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.time

    def url(self, path: str) -> str:
        return self.base + path

    def get(self, path: str, **headers: str) -> Response:
        """GET a path of the mirror, or a URL; `Accept_Encoding="gzip"` sends that header."""
        return self._ask("GET", path, headers)

    def head(self, path: str, **headers: str) -> Response:
        return self._ask("HEAD", path, headers)

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> Response:
        url = path if origin(path) else self.url(path)
        return self.client.request(method, url, {name.replace("_", "-"): value for name, value in headers.items()})

    def inside(self, url: str) -> bool:
        """True where an absolute URL stays within this site of this mirror."""
        return origin(url) == origin(self.base) and urlsplit(url).path.startswith(urlsplit(self.url(self.site.path)).path)

    def until(self, settled: Callable[[Response], bool], ask: Callable[[], Response]) -> Response:
        """Ask until the answer is settled, a few times at most; the last answer."""
        response = ask()
        for _again in range(TRIES - 1):
            if settled(response):
                break
            self.sleep(PAUSE_SECONDS)
            response = ask()
        return response


def moment(text: str) -> float | None:
    """Seconds since the epoch of a date and time (ISO 8601), which is in UTC where it tells no zone; None where it is none."""
    try:
        told = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (told if told.tzinfo else told.replace(tzinfo=timezone.utc)).timestamp()


def expect(response: Response, status: int = 200) -> Response:
    """The response, if it has that status; else ValueError."""
    if response.status != status:
        raise ValueError(f"{response.url} answered {response.status}, not {status}")
    return response


def ask_upstream(probe: Probe, path: str) -> Response:
    """What upstream has under a path of the mirror, where the two differ in the site's path alone. Raises Skip."""
    if probe.upstream is None or not probe.site.upstream:
        raise Skip("upstream was not to be asked")
    try:
        return probe.upstream.get(probe.site.upstream + "/" + path[len(probe.site.path) :], redirects=3)
    except HttpError as error:
        raise Skip(f"upstream could not be asked: {error}") from error


def get_small(probe: Probe, path: str) -> Response:
    """The file, if it is not above the limit. Raises Skip."""
    limit = probe.options.max_artifact_size
    size = expect(probe.head(path)).headers.get("Content-Length")
    if size.isdigit() and int(size) > limit:
        raise Skip(f"{path} has {size} bytes, above the limit of {limit}")
    return expect(probe.get(path))


def cache_status(response: Response, cache: str = "nearby") -> dict[str, str] | None:
    """What this cache says in Cache-Status (RFC 9211): its parameters, those without a value as an empty text; None if nothing."""
    for member in re.findall(r'(?:"[^"]*"|[^,"])+', response.headers.get("Cache-Status")):
        name, *parameters = (part.strip() for part in re.findall(r'(?:"[^"]*"|[^;"])+', member))
        if name.strip('"') == cache:
            pairs = (parameter.partition("=") for parameter in parameters)
            return {key.strip(): value.strip().strip('"') for key, _equals, value in pairs}
    return None


def is_hit(response: Response) -> bool:
    return "hit" in (cache_status(response) or {})


def is_stale(response: Response) -> bool:
    return (cache_status(response) or {}).get("detail") == "STALE"


def judge_hit(probe: Probe, path: str, **headers: str) -> Verdict:
    """Whether the mirror answers a repeated request from its cache."""
    first = expect(probe.get(path, **headers))
    if cache_status(first) is None:
        return bad(f"{first.url} carries no Cache-Status of 'nearby', so it does not come from such a mirror")
    again = expect(probe.until(is_hit, lambda: probe.get(path, **headers)))
    said = again.headers.get("Cache-Status")
    if is_hit(again):
        return good(f"'{said}' in {again.milliseconds} ms")
    return bad(f"asked again and again, {again.url} says '{said}' and never a hit; see the mirror's error log")


def judge_head(probe: Probe, path: str, **headers: str) -> Verdict:
    """Whether HEAD tells what GET sends, without sending it."""
    full, head = expect(probe.get(path, **headers)), expect(probe.head(path, **headers))
    if head.body:
        return bad(f"HEAD {head.url} sends a body")
    for name in ("Content-Type", "Content-Length"):
        if name in full.headers and full.headers.get(name) != head.headers.get(name):
            told, sent = head.headers.get(name) or "nothing", full.headers.get(name)
            return bad(f"HEAD {head.url} says {name} {told}, GET says {sent}")
    length = full.headers.get("Content-Length")
    return good(f"{length} bytes announced" if length else "GET announces no length")


def judge_range(probe: Probe, full: Response) -> Verdict:
    """Whether a range of bytes (RFC 9110, section 14) is the same slice of the whole."""
    whole = full.body
    if len(whole) < 3:
        raise Skip(f"{full.url} is too small to have ranges")
    middle = len(whole) // 2
    for asked, start, end in ((f"1-{middle}", 1, middle), ("-2", len(whole) - 2, len(whole) - 1)):
        part = expect(probe.get(full.url, Range="bytes=" + asked), 206)
        told, right = part.headers.get("Content-Range"), f"bytes {start}-{end}/{len(whole)}"
        if told != right:
            return bad(f"Range bytes={asked} of {part.url} is announced as '{told}', not '{right}'")
        if part.body != whole[start : end + 1]:
            return bad(f"Range bytes={asked} of {part.url} has other bytes than the whole")
    return good(f"2 ranges of {len(whole)} bytes")
