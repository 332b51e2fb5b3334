# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a site of type deb: what apt relies on, played on the suites that the site says it has.

Source: the Debian wiki, "DebianRepository/Format". Signatures are apt's to verify, with the keys that each node has.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from ..apt import folder
from ..http import MEBIBYTE, HttpError, Response
from .base import REFUSED, Probe, Skip, Verdict, bad, expect, good, is_stale, judge_head, judge_hit, judge_range, stays_stale

MAX_INDEX, MAX_PACKAGES = MEBIBYTE, 64 * MEBIBYTE  # of an index as it comes and unpacked, for one package to try
FILES = re.compile(r"^ ([0-9a-f]{64})[ \t]+([0-9]+)[ \t]+(\S+)$", re.MULTILINE)
APT_READS = re.compile(r"(?!(?:.+/)?debian-installer/)(?:.+/)?Packages(?:\.[gx]z)?")
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "Packages": bytes,
    "Packages.gz": lambda body: zlib.decompressobj(wbits=31).decompress(body, MAX_PACKAGES),
    "Packages.xz": lambda body: lzma.LZMADecompressor().decompress(body, MAX_PACKAGES),
}
ATTEMPTS = 12  # a Release names indices that are not there, such as unpacked ones


@dataclass(frozen=True)
class Release:
    """What a suite's InRelease says, or the Release of one that has none; `files` are `(sha256, size, path)`, the smallest first."""

    suite: str
    path: str
    text: str

    def says(self, field: str) -> str:
        found = re.search(rf"(?mi)^{field}:[ \t]*(.*?)[ \t]*$", self.text)
        return found[1] if found else ""

    def moment(self, field: str) -> float | None:
        """Seconds since the epoch; None, where it says no such date. Raises ValueError."""
        said = self.says(field)
        return parsedate_to_datetime(said.replace(" UTC", " +0000")).timestamp() if said else None

    @property
    def files(self) -> list[tuple[str, int, str]]:
        return sorted(((digest, int(size), path) for digest, size, path in FILES.findall(self.text)), key=lambda file: file[1:])


def _release(probe: Probe, suite: str) -> Release:
    path = f"{probe.site.index}{folder(suite)}"
    response = probe.get(path + "InRelease")
    name = "Release" if response.status == 404 else "InRelease"
    response = expect(probe.get(path + name) if name == "Release" else response)
    return Release(suite, path + name, response.decoded().decode("utf-8", "replace"))


def _releases(probe: Probe) -> list[Release]:
    if not probe.site.suites:
        raise Skip("no suite to look at is known; set suites: for this site")
    return [_release(probe, suite) for suite in probe.site.suites]


def _index(probe: Probe, release: Release, wanted: Callable[[str, int], bool]) -> tuple[tuple[str, int, str], Response] | None:
    """The smallest of the wanted indices that is there. Raises ValueError where the mirror cannot get one."""
    tried = [file for file in release.files if wanted(file[2], file[1])][:ATTEMPTS]
    answers = ((file, probe.get(f"{probe.site.index}{folder(release.suite)}{file[2]}")) for file in tried)
    return next(((file, expect(response)) for file, response in answers if response.status in (200, REFUSED)), None)


def _package(probe: Probe) -> tuple[str, str]:
    """The smallest package's path and digest, of the smallest list of packages. Raises Skip."""
    for release in _releases(probe):
        found = _index(probe, release, lambda path, size: bool(APT_READS.fullmatch(path)) and 64 < size < MAX_INDEX)
        if found is None:
            continue
        (_digest, _size, path), response = found
        try:
            text = UNPACK[path.rpartition("/")[2]](response.body).decode("utf-8", "replace")
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise ValueError(f"{response.url} cannot be unpacked ({error})") from error
        entries = [dict(re.findall(r"(?m)^(Filename|Size|SHA256): *(\S+)$", entry)) for entry in text.split("\n\n")]
        whole = [entry for entry in entries if len(entry) == 3 and int(entry["Size"]) <= probe.options.max_artifact_size]
        for entry in sorted(whole, key=lambda entry: int(entry["Size"]))[:1]:
            return probe.site.index + re.sub(r"^(?:\./)+", "", entry["Filename"]), entry["SHA256"]
    raise Skip("no list of packages is small enough to look for one in")


def releases(probe: Probe) -> Verdict:
    """Each suite has a Release that is signed."""
    for release in _releases(probe):
        unsigned = f"{probe.url(release.path)} has no signature"
        if release.path.endswith("/InRelease"):
            if "-----BEGIN PGP SIGNED MESSAGE-----" not in release.text or "-----BEGIN PGP SIGNATURE-----" not in release.text:
                return bad(unsigned)
        elif b"-----BEGIN PGP SIGNATURE-----" not in expect(probe.get(release.path + ".gpg")).body:
            return bad(unsigned)
        if not release.files:
            return bad(f"{probe.url(release.path)} names no file with its SHA256")
    return good(", ".join(probe.site.suites))


def valid(probe: Probe) -> Verdict:
    """No Release is past the time until which it is valid."""
    moments = {release.path: release.moment("Valid-Until") for release in _releases(probe)}
    left = {path: (moment - probe.now()) / 86400 for path, moment in moments.items() if moment is not None}
    if not left:
        raise Skip("no suite says until when it is valid")
    path = min(left, key=lambda path: left[path])
    if left[path] < 0:
        return bad(f"{probe.url(path)} was valid until {-left[path]:.1f} days ago, so apt refuses it; does its upstream still publish?")
    return good(f"{left[path]:.1f} days left")


def lag(probe: Probe) -> Verdict:
    """No Release is older than upstream's for long."""
    if probe.upstream is None or not probe.site.upstream:
        raise Skip("upstream was not to be asked")
    for release in _releases(probe):
        url = f"{probe.site.upstream}/{release.path[len(probe.site.path) :]}"
        try:
            theirs = expect(probe.upstream.get(url, redirects=3)).decoded().decode("utf-8", "replace")
        except (HttpError, ValueError) as error:
            raise Skip(f"upstream could not be asked: {error}") from error
        newest, ours = Release(release.suite, "", theirs).moment("Date"), release.moment("Date")
        late = probe.now() - newest if newest and (ours or 0) < newest else 0
        if late > probe.options.max_lag:
            return bad(f"{probe.url(release.path)} is of {release.says('Date')}; upstream has had a newer one for {late:.0f} s")
    return good("as new as upstream's")


def indices(probe: Probe) -> Verdict:
    """An index of each suite has the digest that its Release says, by its path and by that digest."""
    seen = []
    for release in _releases(probe):
        found = _index(probe, release, lambda _path, size: 0 < size < MAX_INDEX)
        if found is None:
            continue
        (digest, _size, path), response = found
        same = [response]
        if release.says("Acquire-By-Hash").lower() == "yes":
            base = f"{probe.site.index}{folder(release.suite)}{path}".rpartition("/")[0]
            same.append(expect(probe.get(f"{base}/by-hash/SHA256/{digest}")))
        for answer in same:
            if hashlib.sha256(answer.body).hexdigest() != digest and _release(probe, release.suite).text == release.text:
                return bad(f"{answer.url} is not what {probe.url(release.path)} says it is")
        seen.append(f"{release.suite} {path}")
    if not seen:
        raise Skip("no index is there that is small enough")
    return good(", ".join(seen))


def package(probe: Probe) -> Verdict:
    """A package has the digest that the list of packages says."""
    path, digest = _package(probe)
    response = expect(probe.get(path))
    if hashlib.sha256(response.body).hexdigest() != digest:
        return bad(f"{response.url} is not what the list of packages says it is; purge it")
    return good(f"{path.rpartition('/')[2]}, {len(response.body)} bytes")


def release_hit(probe: Probe) -> Verdict:
    """A repeated request for a Release is answered from the cache."""
    return judge_hit(probe, _releases(probe)[0].path)


def package_hit(probe: Probe) -> Verdict:
    """A repeated request for a package is answered from the cache."""
    return judge_hit(probe, _package(probe)[0])


def package_head(probe: Probe) -> Verdict:
    """HEAD of a package tells what GET sends."""
    return judge_head(probe, _package(probe)[0])


def package_range(probe: Probe) -> Verdict:
    """A range of a package has the bytes of that slice."""
    return judge_range(probe, expect(probe.get(_package(probe)[0])))


def freshness(probe: Probe) -> Verdict:
    """No Release is served stale: one that had just expired is refreshed within moments."""
    for release in _releases(probe):
        response = expect(probe.until(lambda found: not is_stale(found), lambda path=release.path: probe.get(path)))  # type: ignore[misc]
        if is_stale(response):
            return stays_stale(probe, response)
    return good("not stale")


CHECKS = (
    releases, valid, lag, indices, package, release_hit, package_hit, package_head, package_range, freshness,
)  # fmt: skip
