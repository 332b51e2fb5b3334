# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a site of type pypi: what pip, uv and their kin rely on, played on the page of one project."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from ..http import REDIRECTS, HttpError, Response, origin
from ..simple_api import MEDIA_TYPES, SERIAL_HEADER, File, Page, parse, representation, strongest
from .base import Probe, Skip, Verdict, bad, expect, good, is_stale, judge_head, judge_hit, judge_range, moment, some, stays_stale, why

HEADS = 4  # how many files are measured with HEAD where the index tells no sizes
ANYTHING = "*/*"
# What each client sends as Accept, and the representations that it must get, in order of preference.
CLIENTS = (
    (
        "pip",
        "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01",
        ("json", "v1html", "html"),
    ),
    ("uv", "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01", ("json", "v1html", "html")),
    ("a browser", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", ("html",)),
    ("curl", ANYTHING, ("html",)),
)


@dataclass
class PypiProbe(Probe):
    """A probe that fetches each thing once; what went wrong then goes wrong for every check that needs it."""

    memo: dict[Any, Any] = field(default_factory=dict, init=False)  # of this mirror alone: replace() begins another one

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self.memo:
            try:
                self.memo[key] = make()
            except (HttpError, ValueError, Skip) as error:
                self.memo[key] = error
        if isinstance(self.memo[key], Exception):
            raise self.memo[key]
        return self.memo[key]

    @property
    def project(self) -> str:
        """Path of the project's page."""
        if not self.site.probe:
            raise Skip("no project to look at is known; set probe: for this site")
        return f"{self.site.index}{self.site.probe}/"

    @property
    def legacy(self) -> str:
        """Path of the project's legacy JSON."""
        if not self.site.probe:
            raise Skip("no project to look at is known; set probe: for this site")
        return f"{self.site.path}pypi/{self.site.probe}/json"

    def answer(self, kind: str) -> tuple[Response, Page]:
        """The project's page, asked for in one representation, whatever came back. Raises HttpError, ValueError."""
        return self.once(kind, lambda: _read(expect(self.get(self.project, Accept=MEDIA_TYPES[kind][0]))))

    def pages(self) -> dict[str, tuple[Response, Page]]:
        """The usable answers by what was asked for, JSON first."""
        usable = {}
        for kind in MEDIA_TYPES:
            try:
                usable[kind] = self.answer(kind)
            except (HttpError, ValueError):
                continue
        if not usable:
            raise Skip("there is no usable index, see index_html")
        return usable

    def best(self) -> tuple[str, Response, Page]:
        kind, (response, page) = next(iter(self.pages().items()))
        return kind, response, page

    def ask_upstream(self, path: str, accept: str) -> Response:
        """What upstream has under a path of the mirror. Raises Skip."""
        client, url = self.upstream, self.site.upstream + "/" + path[len(self.site.path) :]
        if client is None or not self.site.upstream:
            raise Skip("upstream was not to be asked")
        headers = {"Accept": accept, "Accept-Encoding": "gzip"}
        try:
            return self.once(("upstream", path, accept), lambda: client.get(url, headers, redirects=3))
        except HttpError as error:
            raise Skip(f"upstream could not be asked: {error}") from error

    def upstream_page(self, kind: str) -> tuple[Response, Page]:
        """Upstream's answer to what the mirror was asked. Raises Skip."""
        response = self.ask_upstream(self.project, MEDIA_TYPES[kind][0])
        try:
            return _read(expect(response))
        except (HttpError, ValueError) as error:
            raise Skip(f"upstream's answer is of no use: {error}") from error

    def artifact(self) -> tuple[File, Response]:
        """The smallest file of the project that the index vouches for, and its answer. Raises Skip, HttpError, ValueError."""
        return self.once("artifact", self._artifact)

    def _artifact(self) -> tuple[File, Response]:
        limit = self.options.max_artifact_size
        files = [file for file in self.best()[2].files if strongest(file.hashes) and self.inside(file.url)]
        if not files:
            raise Skip("the index lists no file with a digest on the mirror, see links")
        sizes = [(file.size, file) for file in files if file.size]
        if not sizes:
            wheels = [file for file in files if file.name.endswith(".whl")]
            for file in (wheels or files)[-HEADS:]:
                length = expect(self.head(file.url)).headers.get("Content-Length")
                sizes += [(int(length), file)] if length.isdigit() else []
        if not sizes:
            raise ValueError(f"HEAD tells no Content-Length, for example of {files[-1].url}")
        size, file = min(sizes, key=lambda item: item[0])
        if size > limit:
            raise Skip(f"the smallest file, {file.name}, has {size} bytes, above the limit of {limit}")
        return file, expect(self.get(file.url))


def _read(response: Response) -> tuple[Response, Page]:
    return response, parse(response.decoded(), response.media_type, response.url)


def _serial(response: Response, page: Page) -> int | None:
    given = response.headers.get(SERIAL_HEADER).strip()
    return int(given) if given.isdigit() else page.serial


def _index(probe: PypiProbe, kinds: tuple[str, ...]) -> Verdict:
    offered = [kind for kind in kinds if kind in probe.site.representations]
    if not offered:
        raise Skip("upstream offers {} only".format(", ".join(probe.site.representations) or "one representation"))
    for kind in offered:
        page = probe.answer(kind)[1]
        for media_type in MEDIA_TYPES[kind]:
            answered = expect(probe.get(probe.project, Accept=media_type)).media_type
            if representation(answered) != kind:
                return bad(f"{probe.url(probe.project)} answers {answered} to a client that asks for {media_type}")
        if not page.files:
            return bad(f"{probe.url(probe.project)} as {kind} lists no files")
    return good("{} files as {}".format(len(page.files), " and ".join(offered)))


def index_json(probe: PypiProbe) -> Verdict:
    """Whoever asks for JSON (PEP 691) gets JSON."""
    return _index(probe, ("json",))


def index_html(probe: PypiProbe) -> Verdict:
    """Whoever asks for HTML (PEP 503, 691) gets HTML."""
    return _index(probe, ("v1html", "html"))


def negotiation(probe: PypiProbe) -> Verdict:
    """Each client's own Accept gets it the best representation that upstream offers."""
    for client, accept, wanted in CLIENTS:
        best = next((kind for kind in wanted if kind in probe.site.representations), "")
        answered = expect(probe.get(probe.project, Accept=accept)).media_type
        if best and representation(answered) != best:
            return bad(f"{probe.url(probe.project)} answers {answered} to {client}, not {MEDIA_TYPES[best][0]}")
    return good("right for {}".format(", ".join(client for client, _accept, _wanted in CLIENTS)))


def same_files(probe: PypiProbe) -> Verdict:
    """JSON and HTML list the same files with the same digests."""
    pages = probe.pages()
    if "json" not in probe.site.representations:
        raise Skip("upstream offers no JSON to compare")
    if "json" not in pages or "html" not in pages:
        raise Skip("only one of them is usable, see index_json and index_html")
    serials = [_serial(*pages[kind]) for kind in ("json", "html")]
    ours = [{file.name: file.hashes.get("sha256", "") for file in pages[kind][1].files} for kind in ("json", "html")]
    if ours[0] == ours[1]:
        return good(f"{len(ours[0])} files in both")
    if serials[0] != serials[1]:
        raise Skip("JSON is of serial {}, HTML of serial {}; try again when both have been refreshed".format(*serials))
    different = {name for name, _digest in set(ours[0].items()) ^ set(ours[1].items())}
    return bad(f"JSON and HTML of {probe.url(probe.project)} differ in {some(different)}")


def legacy_json(probe: PypiProbe) -> Verdict:
    """The JSON from before PEP 691 is there, where upstream has it."""
    response = probe.once("legacy", lambda: probe.get(probe.legacy, Accept="application/json"))
    if response.status == 200 and response.media_type == "application/json":
        return good(f"{len(_legacy_links(response))} files")
    if why(response):
        return bad(f"{response.url} answered {response.status}{why(response)}")
    theirs = probe.ask_upstream(probe.legacy, "application/json")
    if theirs.status == 200 and theirs.media_type == "application/json":
        return bad(f"{response.url} answered {response.status} {response.media_type}, upstream has it")
    raise Skip("upstream has none")


def _legacy_links(response: Response) -> list[str]:
    try:
        document = json.loads(response.decoded())
        entries = list(document["urls"])
        for release in (document.get("releases") or {}).values():
            entries += release
        return [entry["url"] for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{response.url} is no project document ({type(error).__name__})") from error


def links(probe: PypiProbe) -> Verdict:
    """No link in any representation leaves this site of this mirror."""
    found = {kind: [urljoin(page.base, link) for link in page.links] for kind, (_response, page) in probe.pages().items()}
    legacy = probe.once("legacy", lambda: probe.get(probe.legacy, Accept="application/json"))
    if legacy.status == 200 and legacy.media_type == "application/json":
        found["legacy JSON"] = [urljoin(legacy.url, link) for link in _legacy_links(legacy)]
    strays = []
    for kind, urls in found.items():
        foreign = Counter(origin(url) for url in urls if origin(url) != origin(probe.base))
        strays += ["{} to {} in {}".format(number, where or "no host", kind) for where, number in foreign.most_common(5)]
        lost = [url for url in urls if origin(url) == origin(probe.base) and not probe.inside(url)]
        strays += [f"{len(lost)} to {lost[0]} and the like in {kind}"] if lost else []
    if strays:
        return bad("links leave {}: {}; deploy the mirror again, or set origins: for this site".format(probe.site.path, ", ".join(strays)))
    return good(", ".join(f"{len(urls)} in {kind}" for kind, urls in found.items()))


def redirect(probe: PypiProbe) -> Verdict:
    """A name that is not normalised leads to the page, on the mirror."""
    name = probe.project and probe.site.probe.upper()
    if name == probe.site.probe:
        raise Skip(f"the name {name} has no other spelling")
    path = f"{probe.site.index}{name}/"
    response = probe.get(path, Accept=ANYTHING)
    if response.status == 200:
        return good("answered at once")
    if response.status in REDIRECTS:
        target = urljoin(response.url, response.headers.get("Location"))
        return good(f"to {urlsplit(target).path}") if probe.inside(target) else bad(f"{response.url} redirects to {target}")
    if why(response):
        return bad(f"{response.url} answered {response.status}{why(response)}")
    theirs = probe.ask_upstream(path, ANYTHING)
    if theirs.status == 200:
        return bad(f"{response.url} answered {response.status}, upstream leads to the page")
    raise Skip(f"upstream does not know {name}")


def index_hit(probe: PypiProbe) -> Verdict:
    """A repeated request for the index is answered from the cache."""
    return judge_hit(probe, probe.project, Accept=MEDIA_TYPES[probe.best()[0]][0], Accept_Encoding="gzip")


def index_head(probe: PypiProbe) -> Verdict:
    """HEAD of the index tells what GET sends."""
    return judge_head(probe, probe.project, Accept=MEDIA_TYPES[probe.best()[0]][0], Accept_Encoding="gzip")


def encoding(probe: PypiProbe) -> Verdict:
    """gzip and identity are the same page, and identity is plain."""
    details = []
    for kind in probe.pages():
        accept = MEDIA_TYPES[kind][0]
        for again in (True, False):
            packed = expect(probe.get(probe.project, Accept=accept, Accept_Encoding="gzip"))
            plain = expect(probe.get(probe.project, Accept=accept, Accept_Encoding="identity"))
            same = packed.decoded() == plain.decoded()
            if same or not again:
                break
        if "Content-Encoding" in plain.headers:
            return bad(f"{plain.url} as {kind} is compressed for a client that wants it plain")
        if not same:
            return bad(f"{plain.url} as {kind} differs between gzip and identity")
        details.append(f"{len(packed.body)} as {kind} of {len(plain.body)} bytes")
    return good("gzip sends " + ", ".join(details))


def artifact_digest(probe: PypiProbe) -> Verdict:
    """One small file has the digest that the index tells, and that upstream's own index tells."""
    file, response = probe.artifact()
    algorithm = strongest(file.hashes)
    found = hashlib.new(algorithm, response.decoded(probe.options.max_artifact_size)).hexdigest()
    if found != file.hashes[algorithm].lower():
        return bad(f"{file.url} has {algorithm} {found}, the index says {file.hashes[algorithm]}; purge it")
    try:
        theirs = {other.name: other.hashes for other in probe.upstream_page(probe.best()[0])[1].files}
    except Skip:
        theirs = {}
    if theirs.get(file.name, {}).get(algorithm, found).lower() != found:
        return bad(f"{file.url} has {algorithm} {found}, upstream's index says {theirs[file.name][algorithm]}")
    return good(f"{algorithm} of {file.name}, {len(response.body)} bytes")


def artifact_hit(probe: PypiProbe) -> Verdict:
    """A repeated request for a file is answered from the cache."""
    return judge_hit(probe, probe.artifact()[0].url)


def artifact_head(probe: PypiProbe) -> Verdict:
    """HEAD of a file tells what GET sends."""
    return judge_head(probe, probe.artifact()[0].url)


def artifact_range(probe: PypiProbe) -> Verdict:
    """A range of a file has the bytes of that slice."""
    return judge_range(probe, probe.artifact()[1])


def metadata(probe: PypiProbe) -> Verdict:
    """A wheel's metadata is there without the wheel, where the index announces it (PEP 658, 714)."""
    kind, _response, page = probe.best()
    wheels = [file for file in page.files if file.name.endswith(".whl") and probe.inside(file.url)]
    announced = [file for file in wheels if file.core_metadata is not None]
    if announced:
        file = min(announced, key=lambda item: item.size or 0)
        response = expect(probe.get(file.url + ".metadata"))
        digests = file.core_metadata or {}
        algorithm = strongest(digests)
        body = response.decoded()
        if algorithm and hashlib.new(algorithm, body).hexdigest() != digests[algorithm].lower():
            return bad(f"{response.url} has another {algorithm} than the index says")
        return good("{}.metadata, {} bytes{}".format(file.name, len(body), "" if algorithm else ", no digest told"))
    if not wheels:
        raise Skip("the index lists no wheel on the mirror")
    try:
        theirs = [file for file in probe.upstream_page(kind)[1].files if file.core_metadata is not None]
    except Skip as reason:
        why = str(reason)
    else:
        if theirs:
            return bad(f"upstream announces metadata of {len(theirs)} files, the mirror's index of none")
        why = "upstream announces none"
    tried = probe.get(wheels[-1].url + ".metadata")
    raise Skip(f"{why}; {wheels[-1].name}.metadata answered {tried.status} all the same")


def upload_time(probe: PypiProbe) -> Verdict:
    """Upload times (PEP 700) arrive where upstream has them, for `uv --exclude-newer` and its kin."""
    details, reasons = [], []
    for kind, (_response, page) in probe.pages().items():
        timed = {file.name for file in page.files if file.upload_time}
        try:
            theirs = {file.name for file in probe.upstream_page(kind)[1].files if file.upload_time}
        except Skip as reason:
            theirs, reasons = set(), [str(reason)]
        missing = (theirs - timed) & {file.name for file in page.files}
        if missing:
            return bad(f"upstream tells upload times as {kind}, the mirror has none for {some(missing)}")
        details += [f"{len(timed)} as {kind}"] if timed else []
    if not details:
        raise Skip(reasons[0] if reasons else "upstream tells none")
    return good(", ".join(details))


def provenance(probe: PypiProbe) -> Verdict:
    """A provenance document (PEP 740) that the index names is there."""
    named = [file for file in probe.best()[2].files if file.provenance and probe.inside(file.provenance)]
    if not named:
        raise Skip("the index names none on the mirror")
    response = expect(probe.get(named[-1].provenance, Accept="application/vnd.pypi.integrity.v1+json"))
    try:
        json.loads(response.decoded())
    except ValueError:
        return bad(f"{response.url} is no JSON")
    return good(f"of {named[-1].name}")


def _refreshed(probe: PypiProbe) -> Response:
    """The page once the mirror has had the time to refresh it, if it can."""
    accept = MEDIA_TYPES[probe.best()[0]][0]
    ask = lambda: expect(probe.get(probe.project, Accept=accept, Accept_Encoding="gzip"))  # noqa: E731
    return probe.once("refreshed", lambda: probe.until(lambda response: not is_stale(response), ask))


def freshness(probe: PypiProbe) -> Verdict:
    """The index is not served stale: a page that had just expired is refreshed within moments."""
    response = _refreshed(probe)
    if is_stale(response):
        return stays_stale(probe, response)
    return good("not stale")


def serial_lag(probe: PypiProbe) -> Verdict:
    """How far the mirror is behind. Some lag is what a cache is for, so it is bad only if a file has been missing for long."""
    kind = probe.best()[0]
    theirs, their_page = probe.upstream_page(kind)
    ours, our_page = _read(_refreshed(probe))
    our_serial, their_serial = _serial(ours, our_page), _serial(theirs, their_page)
    missing = {file.name: moment(file.upload_time) for file in their_page.files}
    for file in our_page.files:
        missing.pop(file.name, None)
    ages = {name: probe.now() - since for name, since in missing.items() if since is not None}
    overdue = {name for name, age in ages.items() if age > probe.options.max_lag}
    serials = f"serial {our_serial}, upstream {their_serial}"
    if overdue:
        return bad(f"missing for {max(ages.values()):.0f} s: {some(overdue)} ({serials})")
    if their_serial is None:
        raise Skip(f"upstream gives no serial; {len(missing)} of its files are missing here")
    if our_serial is None:
        return bad(f"upstream gives serial {their_serial}, and the mirror does not pass it on")
    lag = their_serial - our_serial
    return good("{}: {}".format(serials, f"behind by {lag}" if lag > 0 else "up to date"))


CHECKS = (
    index_json, index_html, negotiation, same_files, legacy_json, links, redirect, index_hit, index_head, encoding,
    artifact_digest, artifact_hit, artifact_head, artifact_range, metadata, upload_time, provenance, freshness, serial_lag,
)  # fmt: skip
