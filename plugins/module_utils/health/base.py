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
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from ..catalogue import ECOSYSTEMS, Ecosystem
from ..http import MEBIBYTE, REDIRECTS, BodyTooLarge, Client, HttpError, Response, origin

GOOD, BAD, SKIPPED = "good", "bad", "skipped"
# A mirror may need a moment to store what it has just sent, or to refresh what had expired.
TRIES, PAUSE_SECONDS = 4, 0.5
# What a mirror answers to what upstream redirects to a place that the site does not declare, and the most that is read of the redirect.
REFUSED, REDIRECT_BYTES = 502, 65536


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
    """A site of the mirror document; `representations` are the names of those that upstream offers, `suites` are of type deb alone.

    `routes` are `(path on the mirror, URL that it is fetched from)`, the longest path first; none, where they are not known.
    """

    name: str
    type: str
    path: str
    upstream: str = ""
    index: str = ""
    probe: str = ""
    representations: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    port: int = 0  # of its own, if any
    origins: tuple[str, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()

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
        lists = {key: given.get(key) or [] for key in ("suites", "origins", "routes")}
        for key, value in lists.items():
            if not isinstance(value, (list, tuple)):
                raise ValueError(f"{where} has {key} that are no list")
        try:
            routes = sorted(((str(route["path"]), str(route["target"])) for route in lists["routes"]), key=lambda route: -len(route[0]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{where} has a route without a path or a target") from error
        port = given.get("port") or 0
        if type(port) is not int or not 0 <= port < 65536:
            raise ValueError(f"{where} has a port that is none")
        names = tuple(item["name"] if isinstance(item, Mapping) else str(item) for item in offered)
        texts["upstream"] = texts["upstream"].rstrip("/")
        return cls(
            name=given["name"],
            type=given["type"],
            representations=names,
            suites=tuple(map(str, lists["suites"])),
            port=port,
            origins=tuple(map(str, lists["origins"])),
            routes=tuple(routes),
            **texts,
        )

    @property
    def at_its_port(self) -> Site:
        """The same site as it is on a port of its own: at the root there, or where clients of its type look below it."""
        root = ECOSYSTEMS.get(self.type, Ecosystem(self.type)).base
        index = root + self.index[len(self.path) :] if self.index else ""
        routes = tuple((root + path[len(self.path) :], target) for path, target in self.routes)
        return replace(self, path=root, index=index, port=0, routes=routes)

    def source(self, path: str) -> str:
        """The URL that a path of the mirror is fetched from; empty where that is not known, or where a fetcher stands between."""
        if not self.upstream or ECOSYSTEMS.get(self.type, Ecosystem(self.type)).fetcher:
            return ""
        return next((target + path[len(start) :] for start, target in self.routes if path.startswith(start)), "")

    def declares(self, url: str) -> bool:
        """Whether a file that upstream redirects to an absolute URL is fetched from there, and not refused."""
        place = origin(url) + (urlsplit(url).path or "/")
        return place.startswith(f"{origin(self.upstream)}{urlsplit(self.upstream).path}/") or origin(url) in map(origin, self.origins)


@dataclass(frozen=True)
class Elsewhere(Response):
    """What a mirror refuses, since upstream redirects it to `place`, an origin that the site does not declare."""

    place: str = ""


@dataclass
class Probe:
    """Asks one mirror about one site. `base` has no trailing slash; `upstream` is None where upstream is not to be asked;
    `sleep` and `now` (seconds since the epoch) are the clock. `places` are what `moved_to` found, by the URLs that were asked for;
    `silent` are the origins that gave it no answer, and are not waited for again.
    """

    client: Client
    base: str
    site: Site
    upstream: Client | None = None
    options: Options = field(default_factory=Options)
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.time
    places: dict[str, str] = field(default_factory=dict, init=False)
    silent: set[str] = field(default_factory=set, init=False)

    def url(self, path: str) -> str:
        return self.base + path

    def get(self, path: str, **headers: str) -> Response:
        """GET a path of the mirror, or a URL; `Accept_Encoding="gzip"` sends that header."""
        return self._ask("GET", path, headers)

    def head(self, path: str, **headers: str) -> Response:
        return self._ask("HEAD", path, headers)

    def follow(self, path: str) -> Response:
        """HEAD of a path of the mirror, or of where it leads on the mirror in at most 3 redirects."""
        return self._ask("HEAD", path, {}, redirects=3)

    def _ask(self, method: str, path: str, headers: Mapping[str, str], redirects: int = 0) -> Response:
        url = path if origin(path) else self.url(path)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.client.request(method, url, sent, redirects=redirects)
        place = self.moved_to(response.url, sent.get("Accept", "")) if response.status == REFUSED else ""
        return Elsewhere(**vars(response), place=place) if place else response

    def moved_to(self, url: str, accept: str = "") -> str:
        """The undeclared origin to which upstream redirects what is at a URL of this site; empty if it does not, or cannot be asked.

        It is asked once, without following what it says, whatever the number of checks that need the answer.
        """
        source = self.site.source(urlsplit(url).path[len(urlsplit(self.base).path) :]) if self.inside(url) else ""
        if self.upstream is None or not source or origin(source) in self.silent:
            return ""
        if source not in self.places:
            self.places[source] = ""
            try:
                said = self.upstream.get(source, {"Accept": accept} if accept else None, max_body=REDIRECT_BYTES)
                target = urljoin(source, said.headers.get("Location")) if said.status in REDIRECTS else source
                self.places[source] = "" if self.site.declares(target) else origin(target)
            except (BodyTooLarge, ValueError):
                pass  # it is there, or leads to what is no URL
            except HttpError:
                self.silent.add(origin(source))
        return self.places[source]

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


def modified(response: Response) -> float | None:
    """Seconds since the epoch at which what is answered was changed last, as its headers tell; None where they do not."""
    try:
        return parsedate_to_datetime(response.headers.get("Last-Modified")).timestamp()
    except (TypeError, ValueError):
        return None


def some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def sends_to(place: str) -> str:
    return f": its upstream sends it to {place}, which is not among the site's origins"


def why(response: Response) -> str:
    """The end of a sentence on an answer that is refused: where upstream sends those who ask, if that is what is wrong."""
    return sends_to(response.place) if isinstance(response, Elsewhere) else ""


def expect(response: Response, status: int = 200) -> Response:
    """The response, if it has that status; else ValueError."""
    if response.status != status:
        raise ValueError(f"{response.url} answered {response.status}, not {status}{why(response)}")
    return response


def ask_upstream(probe: Probe, path: str, method: str = "GET", **headers: str) -> Response:
    """What upstream has under a path of the mirror, where the two differ in the site's path alone. Raises Skip."""
    if probe.upstream is None or not probe.site.upstream:
        raise Skip("upstream was not to be asked")
    url = probe.site.upstream + probe.site.at_its_port.path + path[len(probe.site.path) :]
    try:
        return probe.upstream.request(method, url, headers, redirects=3)
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


def stays_stale(probe: Probe, response: Response) -> Verdict:
    """The verdict on a page that is served stale again and again."""
    place = probe.moved_to(response.url)
    reason = sends_to(place) if place else ", see its error log"
    return bad(f"{response.url} stays stale; the mirror cannot refresh it from {probe.site.upstream}{reason}")


def judge_lag(
    probe: Probe,
    theirs: Response,
    ours: Response,
    told: Callable[[Response], set[str]],
    since: Callable[[Response], float | None] = modified,
) -> Verdict:
    """Whether the mirror's page tells the same as upstream's. Some lag is what a cache is for: it is bad if upstream's changed long ago."""
    try:
        names, changed = told(expect(theirs)), since(theirs)
    except (HttpError, ValueError) as error:
        raise Skip(f"upstream's answer is of no use: {error}") from error
    different = names ^ told(expect(ours))
    if not different:
        return good("as upstream's")
    detail = f"{ours.url} and upstream's differ in {some(different)}"
    if changed is None:
        raise Skip(f"{detail}; upstream does not tell since when")
    age = probe.now() - changed
    return (bad if age > probe.options.max_lag else good)(f"{detail}; upstream's was changed {age:.0f} s ago")


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
