# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Are the artifacts that a mirror stores still those of the registry, and its pages whole? Look at each, and take out what is not.

Adding an ecosystem is one file with its `Registry`, and its line in `REGISTRIES`; adding an engine is a `Store`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from ..http import MEBIBYTE, Client, HttpError
from ..mirror_document import VERSION
from ..simple_api import strongest
from .base import Allowed, BadInput, Hashes, Registry, Site
from .cargo import Cargo
from .deb import Deb
from .gem import Gem
from .golang import Golang
from .lists import DAMAGED
from .locks import NONE, Locks, read_locks
from .maven import Maven
from .npm import Npm
from .oci import Oci
from .pace import Clock, OutOfTime, Pace
from .pages import flaw
from .pypi import PyPI
from .rpm import Rpm
from .state import State
from .stores import ApacheStore, Artifact, Foreign, NginxStore, Page, Store, Stored, nofollow
from .upstream import Away, Upstream

__all__ = [
    "BadInput",
    "Clock",
    "LISTING",
    "Locks",
    "Pace",
    "Scrub",
    "State",
    "Upstream",
    "read_document",
    "read_locks",
    "read_sites",
    "REGISTRIES",
    "STORES",
]

# Types that are not here tell no digests: their artifacts are checked against lock files only.
REGISTRIES: dict[str, Registry] = {
    "pypi": PyPI(),
    "npm": Npm(),
    "cargo": Cargo(),
    "gem": Gem(),
    "maven": Maven(),
    "golang": Golang(),
    "oci": Oci(),
    "deb": Deb(),
    "rpm": Rpm(),
}
STORES: dict[str, Callable[[str], Store]] = {"nginx": NginxStore, "apache": ApacheStore}
CHUNK = MEBIBYTE
# So many projects in a row without an answer, and the registry counts as away.
PATIENCE = 3
# Of a run's time, what pages may take before artifacts have their turn.
PAGES = 0.1
# And what the lists of packages may take that are stored of a site, before its artifacts are looked at.
LISTS = 0.2
TOO_LONG = "it takes longer than one run may take; raise time_limit or read_rate"
LISTING = "the time limit ended while the store was listed"
GOOD, BAD, UNKNOWN, INCOMPLETE = "good", "bad", "unknown", "incomplete"


def read_document(where: str, client: Client) -> tuple[str, list[Site]]:
    """The engine and the sites of a mirror document, from a path or a URL. Raises BadInput."""
    try:
        if "://" in where:
            response = client.get(where, max_body=4 * MEBIBYTE)
            if response.status != 200:
                raise BadInput(f"{where} answered {response.status}, not a mirror document")
            text = response.body
        else:
            with open(where, "rb") as file:
                text = file.read()
        document = json.loads(text)
        if document["version"] != VERSION:
            raise BadInput(f"{where} has version {document['version']!r}, where {VERSION} is known; update nearby.mirrors here")
        return document["engine"], read_sites(document["sites"], f"{where} sites")
    except OSError as error:
        raise BadInput(f"the mirror document {where} cannot be read ({error.strerror}); set document, or sites and engine") from error
    except HttpError as error:
        raise BadInput(f"the mirror document cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{where} is no mirror document ({type(error).__name__}: {error})") from error


def read_sites(entries: Iterable[Any], where: str) -> list[Site]:
    """Raises BadInput."""
    return [Site.from_dict(entry, f"{where}[{number}]") for number, entry in enumerate(entries)]


@dataclass
class Tally:
    """What a run found at one site. `after` is the path of the last artifact of the round so far, empty where it is over."""

    site: str
    stored: int = 0
    looked_at: int = 0
    good: int = 0
    bad: int = 0
    unknown: int = 0
    incomplete: int = 0
    remaining: int = 0
    pages: int = 0
    bad_pages: int = 0
    after: str = ""
    message: str = ""

    @property
    def text(self) -> str:
        counts = [(kind, getattr(self, kind)) for kind in (GOOD, BAD, UNKNOWN, INCOMPLETE)]
        said = ", ".join(f"{number} {kind}" for kind, number in counts)
        pages = f", {self.bad_pages} of {self.pages} pages bad" if self.pages else ""
        message = f"; {self.message}" if self.message else ""
        return f"{self.site}: {self.looked_at} looked at, {said}, {self.remaining} to go{pages}{message}"


@dataclass(frozen=True)
class Verdict:
    kind: str
    reason: str = ""
    expected: str = ""
    found: str = ""
    stored: Stored | None = None


@dataclass
class Scrub:
    """One run. Without `upstream` only the lock files are asked; `purge` is false where it shall only tell."""

    store: Store
    sites: list[Site]
    state: State
    clock: Clock
    reading: Pace
    upstream: Upstream | None
    locks: Locks = field(default_factory=Locks)
    purge: bool = True
    today: Callable[[], float] = time.time
    tallies: list[Tally] = field(default_factory=list)
    unknown_because: Counter[str] = field(default_factory=Counter)
    stopped: str = ""
    # By site, once it is known what is stored of it: with what else that tells, and the lists of packages among it.
    registries: dict[str, Registry] = field(default_factory=dict)
    lists: dict[str, list[Artifact]] = field(default_factory=dict)

    def run(self) -> None:
        """Go through the pages, and then the sites, the one whose last round is the longest ago first, until all is done or the
        time is over.
        """
        self.stopped = "the time limit ended"
        try:
            shelves, pages = self._sort()
            sites = sorted(self.sites, key=lambda site: self.state.finished.get(site.name, 0))
            self.tallies = [Tally(site.name) for site in sites]
            for site in sites:
                stored = shelves.setdefault(site.name, [])
                registry = self.registries[site.name] = _registry(site).knowing(site, [artifact.path for artifact in stored])
                self.lists[site.name] = [artifact for artifact in stored if registry.lists(artifact.path)]
            ahead = [self._ahead(site, shelves.pop(site.name), tally) for site, tally in zip(sites, self.tallies, strict=True)]
            self._check_pages(pages)
            for site, artifacts, tally in zip(sites, ahead, self.tallies, strict=True):
                self._scrub(site, artifacts, tally)
            self.stopped = ""
        except OutOfTime:
            if not any(tally.looked_at for tally in self.tallies):
                self.stopped = LISTING
        finally:
            self.state.save()

    def report(self) -> dict[str, Any]:
        """What the module returns."""
        complete = not self.stopped and not any(tally.after or tally.remaining for tally in self.tallies)
        parts = [tally.text for tally in self.tallies] + [self.stopped] * bool(self.stopped)
        return {
            "sites": [asdict(tally) for tally in self.tallies],
            "bad": self.state.bad,
            "unknown_because": dict(self.unknown_because),
            "complete": complete,
            "stopped": self.stopped,
            "bytes_read": self.reading.taken,
            "requests": self.upstream.pace.taken if self.upstream else 0,
            "seconds": round(self.clock.seconds, 1),
            "summary": "; ".join(parts),
        }

    @staticmethod
    def nothing() -> dict[str, Any]:
        """What the module returns where nothing could be done."""
        empty: dict[str, Any] = {"sites": [], "bad": [], "unknown_because": {}, "complete": False, "stopped": "it did not begin"}
        return {**empty, "bytes_read": 0, "requests": 0, "seconds": 0.0, "summary": "nothing looked at"}

    def _sort(self) -> tuple[dict[str, list[Artifact]], dict[Page, str]]:
        """All stored artifacts by their sites, and the site of each page. Raises OutOfTime, and BadInput where there is neither
        among the files.
        """
        shelves: dict[str, list[Artifact]] = {}
        artifacts: set[Artifact] = set()
        pages: dict[Page, str] = {}
        owners = {identity: site.name for site in self.sites for identity in site.pages}
        strays = 0
        for item in self.store.walk():
            self.clock.check()
            if isinstance(item, Artifact):
                artifacts.add(item)
            elif item.identity in owners:
                pages[item] = owners[item.identity]
            else:
                strays += 1
        if self.store.unreadable and not (artifacts or pages or strays):
            ((what, _number),) = self.store.unreadable.most_common(1)
            raise BadInput(f"no file of the store is one that {self.store.name} writes, they are {what}; correct cache_path or engine")
        for artifact in artifacts:
            site = next((site for site in self.sites if site.url(artifact.identity, artifact.path)), None)
            if site:
                shelves.setdefault(site.name, []).append(artifact)
            else:
                strays += 1
        if strays:
            self.unknown_because["no site of the mirror has it any more, so it is not served"] = strays
        self.unknown_because.update({f"a file is {what}": number for what, number in self.store.unreadable.items()})
        return shelves, pages

    def _check_pages(self, pages: Mapping[Page, str]) -> None:
        """From where the last run stopped, and again from the first in the run after the last. They are few and small, so they
        have a share of the time, and no round of their own.
        """
        tallies = {tally.site: tally for tally in self.tallies}
        first = True
        with self._share(PAGES) as pace:
            for page in sorted(page for page in pages if page.place > self.state.page):
                pace.clock.check()
                try:
                    verdict = self._judge_page(page, pace)
                except OutOfTime:
                    if not first:
                        raise
                    verdict = Verdict(UNKNOWN, TOO_LONG)
                first = False
                tally = tallies[pages[page]]
                tally.pages += 1
                tally.bad_pages += verdict.kind == BAD
                self._settle(page, verdict, tally)
                self.state.page = page.place
                self.state.save(at_once=False)
            self.state.page = []

    @contextlib.contextmanager
    def _share(self, part: float) -> Iterator[Pace]:
        """A pace of reading for as long as this part of the time that is left; where that ends, so does what is done with it."""
        pace = Pace(self.reading.rate, self.clock.share(part))
        pace.free = self.reading.free
        try:
            yield pace
        except OutOfTime:
            pass
        finally:
            self.reading.taken += pace.taken
            self.reading.free = pace.free

    def _contradiction(self, page: Page, stored: Stored, pace: Pace) -> str | None:
        """Raises OutOfTime."""
        negotiated = page.form.partition(" ")[0] not in ("", "gzip")
        return flaw(stored, _pieces(stored, pace), negotiated=negotiated) if stored.complete else ""

    def _judge_page(self, page: Page, pace: Pace) -> Verdict:
        """Raises OutOfTime."""
        stored = None
        for _again in range(2):
            try:
                stored = self.store.look(page)
                wrong = stored.flaw or self._contradiction(page, stored, pace)
                if wrong is None:
                    return Verdict(UNKNOWN, "a page has neither a checksum nor a length")
                if not wrong:
                    return Verdict(GOOD)
                if self.store.look(page) == stored:
                    return Verdict(BAD, f"of the page as {page.form or 'it is'}, {wrong}", stored=stored)
            except FileNotFoundError:
                continue
            except Foreign as reason:
                return Verdict(UNKNOWN, f"a page is {reason}")
            except OSError as error:
                return _unreadable(error, stored)
        return Verdict(GOOD)  # it was replaced, twice

    def _ahead(self, site: Site, artifacts: list[Artifact], tally: Tally) -> list[Artifact]:
        """What is left of a site's round."""
        cursor = self.state.after.get(site.name, [])
        ahead = [artifact for artifact in artifacts if self._place(site, artifact) > cursor]
        ahead.sort(key=lambda artifact: self._place(site, artifact))
        tally.stored, tally.remaining, tally.after = len(artifacts), len(ahead), cursor[1] if cursor else ""
        return ahead

    def _scrub(self, site: Site, ahead: list[Artifact], tally: Tally) -> None:
        """One site, from where its round stopped. Raises OutOfTime."""
        registry = self.registries[site.name]
        listed = self._read_lists(site, ahead)
        cursor = self.state.after.get(site.name, [])
        failed: dict[str, int] = {}  # the projects in a row that upstream did not answer for, and how many artifacts came before
        answered = False
        for number, artifact in enumerate(ahead):
            self.clock.check()
            answers = self.upstream.answers if self.upstream else 0
            try:
                verdict = self._judge(registry, site, artifact, listed)
            except Away as reason:
                failed.setdefault(self._place(site, artifact)[0], number)
                verdict = Verdict(UNKNOWN, "upstream could not be asked")
                tally.message = str(reason)
            except OutOfTime:
                if any(tally.looked_at for tally in self.tallies):
                    raise
                # The next run would get no further, so it is passed over.
                self._note(artifact, Verdict(UNKNOWN, TOO_LONG), tally)
                self._advance(site, self._place(site, artifact), len(ahead) - number - 1, tally)
                raise
            if self.upstream and self.upstream.answers > answers:
                failed.clear()
                answered = True
            self._note(artifact, verdict, tally)
            self._advance(site, self._place(site, artifact), len(ahead) - number - 1, tally)
            if len(failed) == PATIENCE:
                # Back to the first of them; but if that is all that a run got at, past it, so that no project is in the way forever.
                back = list(failed.values())[0 if answered else 1]
                self._advance(site, self._place(site, ahead[back - 1]) if back else cursor, len(ahead) - back, tally)
                tally.message = f"upstream is away, so this site was left: {tally.message}"
                return
        tally.after = ""
        self.state.after.pop(site.name, None)
        self.state.finished[site.name] = self.today()

    def _place(self, site: Site, artifact: Artifact) -> list[str]:
        """Where an artifact comes in its site's round: with those of its project, so that each page is asked for once."""
        return [self.registries[site.name].projects(artifact.path)[0], artifact.path, artifact.identity, str(artifact.unit)]

    def _read_lists(self, site: Site, ahead: list[Artifact]) -> dict[str, Allowed]:
        """What the stored lists of packages say of what is ahead, by its path without escapes: the newest of each folder first, until
        all is found or their share of the time is over. Raises OutOfTime.
        """
        registry = self.registries[site.name]
        found: dict[str, Allowed] = {}
        wanted = {unquote(artifact.path) for artifact in ahead if not registry.named(artifact.path)}
        if not wanted or not self.lists[site.name]:
            return found
        with self._share(LISTS) as pace:
            for artifact in _newest(self.lists[site.name]):
                pace.clock.check()
                for path, hashes in self._read_list(registry, artifact, wanted, pace).items():
                    found[path] = found.get(path, NONE) | hashes
                if len(found) == len(wanted):
                    break
        return found

    def _read_list(self, registry: Registry, artifact: Artifact, wanted: set[str], pace: Pace) -> dict[str, Allowed]:
        """Nothing of one that is not whole, or has not the digest of its name. Raises OutOfTime."""
        algorithm, digest = next(iter(registry.named(artifact.path).items()))
        summed = hashlib.new(algorithm, usedforsecurity=False)
        found: dict[str, Allowed] = {}
        try:
            pieces = _pieces(self.store.look(artifact), pace)
            for path, hashes in registry.listed(artifact.path, _summed(pieces, summed)):
                if path in wanted and strongest(hashes):
                    found[path] = frozenset(hashes.items())
        except (*DAMAGED, Foreign):
            return {}
        return found if summed.hexdigest() == digest else {}

    def _advance(self, site: Site, cursor: list[str], remaining: int, tally: Tally) -> None:
        tally.after, tally.remaining = cursor[1] if cursor else "", remaining
        self.state.after[site.name] = cursor
        self.state.save(at_once=False)

    def _note(self, artifact: Artifact, verdict: Verdict, tally: Tally) -> None:
        tally.looked_at += 1
        setattr(tally, verdict.kind, getattr(tally, verdict.kind) + 1)
        self._settle(artifact, verdict, tally)

    def _settle(self, item: Artifact | Page, verdict: Verdict, tally: Tally) -> None:
        """Tell why it is unknown, or that it is bad; and then take it out."""
        if verdict.kind == UNKNOWN:
            self.unknown_because[verdict.reason] += 1
        if verdict.kind == BAD:
            entry: dict[str, Any] = {"site": tally.site, "path": item.path, "reason": verdict.reason, "expected": verdict.expected}
            entry |= {"found": verdict.found, "purged": self.purge and verdict.stored is not None}
            # Written down first, so that what a run purged is told even if it is killed in the middle.
            told = [other for other in self.state.bad if (other["path"], other["reason"]) != (item.path, verdict.reason)]
            self.state.bad = [*told, entry]
            self.state.save()
            if self.purge and verdict.stored:
                try:
                    self.store.purge(verdict.stored)
                except OSError:
                    entry["purged"] = False

    def _judge(self, registry: Registry, site: Site, artifact: Artifact, listed: Mapping[str, Allowed]) -> Verdict:
        """Raises Away and OutOfTime."""
        stored = None
        for _again in range(2):
            try:
                stored = self.store.look(artifact)
                if stored.flaw:
                    return Verdict(BAD, stored.flaw, stored=stored)
                if not stored.complete:
                    return Verdict(INCOMPLETE)
                verdict = self._compare(registry, site, artifact, stored, listed.get(unquote(artifact.path), NONE))
                if verdict.kind != BAD or self.store.look(artifact) == stored:
                    return replace(verdict, stored=stored)
            except FileNotFoundError:
                continue
            except Foreign as reason:
                return Verdict(UNKNOWN, f"it is {reason}")
            except OSError as error:
                return _unreadable(error, stored)
        return Verdict(INCOMPLETE)  # it comes and goes

    def _compare(self, registry: Registry, site: Site, artifact: Artifact, stored: Stored, listed: Allowed) -> Verdict:
        """Raises Away, OutOfTime and OSError."""
        own = registry.named(artifact.path)
        if strongest(own):
            return self._compare_with(own, "its name has another digest", registry, artifact, stored)
        named = self.locks.of_file(artifact.path)
        allowed = named or self.locks.of_release(site.type, registry.releases(artifact.path))
        if allowed:
            found = self._digests(registry, artifact, stored, {algorithm for algorithm, _digest in allowed})
            if allowed & found:
                return Verdict(GOOD)
            # A pinned release may have files that the lock file leaves out, which the registry knows.
            if named or not self.upstream:
                return Verdict(BAD, "the lock files have another digest", _text(allowed), _text(found))
        if listed:
            found = self._digests(registry, artifact, stored, {algorithm for algorithm, _digest in listed})
            return (
                Verdict(GOOD)
                if listed & found
                else Verdict(BAD, "a stored list of packages has another digest", _text(listed), _text(found))
            )
        if not self.upstream:
            return Verdict(UNKNOWN, "no lock file has it")
        hashes = self.upstream.hashes(registry, site, artifact.path, site.url(artifact.identity, artifact.path))
        return self._compare_with(hashes, "upstream has another digest", registry, artifact, stored)

    def _compare_with(self, hashes: Hashes, reason: str, registry: Registry, artifact: Artifact, stored: Stored) -> Verdict:
        """Raises OutOfTime and OSError."""
        algorithm = registry.algorithm if registry.algorithm in hashes else strongest(hashes)
        if not algorithm:
            return Verdict(UNKNOWN, "upstream tells no digest of it")
        wanted, found = frozenset({(algorithm, hashes[algorithm])}), self._digests(registry, artifact, stored, {algorithm})
        return Verdict(GOOD) if wanted == found else Verdict(BAD, reason, _text(wanted), _text(found))

    def _digests(self, registry: Registry, artifact: Artifact, stored: Stored, algorithms: set[str]) -> Allowed:
        """Raises OutOfTime and OSError."""
        found = {}
        if registry.algorithm in algorithms:
            with io.BufferedReader(Body(stored, self.reading), CHUNK) as body:
                found[registry.algorithm] = registry.digest(artifact.path, body)
        digests = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms - {registry.algorithm}}
        for piece in _pieces(stored, self.reading) if digests else ():
            for digest in digests.values():
                digest.update(piece)
        return frozenset((found | {algorithm: digest.hexdigest() for algorithm, digest in digests.items()}).items())


class Body(io.RawIOBase):
    """What is stored of an artifact, to be read at any place. Its reads raise OutOfTime and OSError."""

    def __init__(self, stored: Stored, pace: Pace) -> None:
        super().__init__()
        self.stored, self.pace, self.position = stored, pace, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.stored.size}[whence]
        if position < 0:
            raise ValueError("a place before the first byte")
        self.position = position
        return position

    def readinto(self, buffer: Any) -> int:
        for part in self.stored.parts:
            begin = self.position - part.start
            if 0 <= begin < part.length:
                amount = min(len(buffer), part.length - begin)
                self.pace.take(amount)
                with open(part.file, "rb", opener=nofollow) as file:
                    file.seek(part.offset + begin)
                    read = file.readinto(memoryview(buffer)[:amount])
                self.position += read
                return read
        return 0


def _pieces(stored: Stored, pace: Pace) -> Iterator[bytes]:
    """Its body. Raises OutOfTime and OSError."""
    for part in stored.parts:
        with open(part.file, "rb", opener=nofollow) as file:
            file.seek(part.offset)
            for begin in range(0, part.length, CHUNK):
                amount = min(CHUNK, part.length - begin)
                pace.take(amount)
                yield file.read(amount)


def _summed(pieces: Iterable[bytes], digest: Any) -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece


def _newest(lists: Iterable[Artifact]) -> list[Artifact]:
    """The newest of each folder, then the second newest of each, and so on."""
    ages: dict[str, list[tuple[float, Artifact]]] = {}
    for artifact in lists:
        with contextlib.suppress(FileNotFoundError):
            ages.setdefault(artifact.path.rpartition("/")[0], []).append((-os.stat(artifact.file).st_mtime, artifact))
    ranked = [(rank, age, artifact) for folder in ages.values() for rank, (age, artifact) in enumerate(sorted(folder, key=lambda e: e[0]))]
    return [artifact for _rank, _age, artifact in sorted(ranked, key=lambda entry: entry[:2])]


def _unreadable(error: OSError, stored: Stored | None) -> Verdict:
    """Only a medium that fails makes a file bad; that this run may not open it, or has too many open, does not."""
    return Verdict(BAD if error.errno == errno.EIO else UNKNOWN, f"it cannot be read: {error.strerror}", stored=stored)


def _registry(site: Site) -> Registry:
    return REGISTRIES.get(site.type, Registry())


def _text(digests: Allowed) -> str:
    return " or ".join(sorted(f"{algorithm}:{digest}" for algorithm, digest in digests))
