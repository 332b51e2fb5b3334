# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""apt's sources: which archives they name, and how they are led through a mirror with the archive itself behind it.

Both styles are read and edited line by line, so that whatever else stands in a file stays as it is.
Source: sources.list(5), apt-transport-mirror(1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

SOURCES = ("sources.list", "sources.list.d/*.list", "sources.list.d/*.sources")  # below /etc/apt, in the order in which apt reads them
LISTS = "mirrors/*.list"  # where images keep lists of mirrors, and where ours are
FIELD = re.compile(r"([A-Za-z0-9-]+):")
ONE_LINE = re.compile(r"(\s*deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?)(\S+)(?:\s+(\S+))?")
URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/\S*")
MIRRORED = "mirror+file:"
OURS = "nearby-"
SETTINGS = "apt.conf.d/90nearby-mirrors"
# While one mirror of a list is away, retries keep apt 3.0 from the next one for long, and apt 2.6 for ever.
FAIL_OVER = """// What cannot be had from a mirror is asked of the next one in its list, and not of the same one again.
Acquire::Retries "0";
"""


def folder(suite: str) -> str:
    """Where a suite's Release is, below the archive: a suite that ends with a slash is a folder of a flat archive."""
    return suite.lstrip("/") if suite.endswith("/") else f"dists/{suite}/"


def key(uri: str) -> str:
    """What two spellings of one archive have in common; that it can be had with TLS as well makes it no other one."""
    scheme, separator, rest = uri.partition("://")
    if scheme.lower() not in ("http", "https"):
        return ""
    host, slash, path = rest.partition("/")
    return separator + re.sub(r":(?:80|443)$", "", host.lower()) + (slash + path).rstrip("/")


def fields(text: str) -> Iterator[tuple[str, str]]:
    """The lines, each with the field that it belongs to, in small letters: ``deb`` is a source in one line, ``#`` a comment."""
    field = ""
    for line in text.splitlines(keepends=True):
        name = FIELD.match(line)
        if line.lstrip().startswith("#"):
            yield "#", line
            continue
        if name:
            field = name[1].lower()
        elif not field and ONE_LINE.match(line):
            yield "deb", line
            continue
        elif not line.strip() or not line[0].isspace():
            field = ""
        yield field, line


def sources(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """URIs and suites of each source that is not switched off."""
    stanza: dict[str, str] = {}
    for field, line in (*fields(text), ("", "")):
        single = ONE_LINE.match(line) if field == "deb" else None
        if single and single[3]:
            yield [single[2]], [single[3]]
        elif field and field != "#":
            stanza[field] = f"{stanza.get(field, '')} {FIELD.sub('', line, count=1) if FIELD.match(line) else line}"
        elif not field:
            if stanza.get("enabled", "").strip().lower() not in ("no", "false", "without", "off", "disable"):
                yield stanza.get("uris", "").split(), stanza.get("suites", "").split()
            stanza = {}


def listed(text: str) -> list[str]:
    """The URIs of a list of mirrors."""
    return [line.split()[0] for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def archives(texts: Iterable[str], read: Callable[[str], str]) -> list[dict[str, object]]:
    """The archives that sources name, `{url, suites}`, in their order; `read` gives the text of a list of mirrors.

    Of such a list the last one counts: where the first is a mirror in front, that is what it mirrors.
    """
    found: dict[str, list[str]] = {}
    for uris, suites in (source for text in texts for source in sources(text)):
        for uri in uris[:1]:
            named = listed(read(re.sub("^/+", "/", uri[len(MIRRORED) :]))) if uri.startswith(MIRRORED) else [uri]
            if named and key(named[-1]):
                known = found.setdefault(named[-1].rstrip("/"), [])
                known += [suite for suite in suites if suite not in known]
    return [{"url": url, "suites": suites} for url, suites in found.items()]


def uris(text: str) -> list[str]:
    """Every URI that sources name, those that are switched off as well."""
    return [uri for field, line in fields(text) if field in ("uris", "deb") for uri in URI.findall(_named(field, line))]


def _named(field: str, line: str) -> str:
    """The part of a line in which URIs are."""
    return line if field == "uris" else line[: ONE_LINE.match(line).end(2)]  # type: ignore[union-attr]


def mirrored(text: str) -> list[tuple[str, str, str]]:
    """Upstream, mirror's URL and path of the list of both, from lines that give the list's name last."""
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(upstream, url, f"/etc/apt/mirrors/{OURS}{name}.list") for upstream, url, name in lines]


def list_of(url: str, behind: Iterable[str]) -> str:
    """A list of mirrors, tried in this order."""
    return "".join(f"{uri}\tpriority:{number}\n" for number, uri in enumerate((url, *behind), 1))


def merge_apt(base: str, ours: str, old: str = "") -> str:
    """`base` with each source of an archive that is mirrored led to the list of its mirrors, which a list that is there gets in front.

    `ours` is what `mirrored` reads; what an earlier run had made of it (`old`) is undone.
    """
    lists = {key(upstream): MIRRORED + path for upstream, _url, path in mirrored(ours)}
    fronts = {key(upstream): list_of(url, ()) for upstream, url, _path in mirrored(ours)}
    before = {MIRRORED + path: upstream for upstream, _url, path in mirrored(old)}
    gone = [list_of(url, ()) for _upstream, url, _path in mirrored(old)]

    def led(match: re.Match[str]) -> str:
        uri = before.get(match[0], match[0])
        return lists.get(key(uri), uri)

    result = []
    for field, line in fields(base):
        if field in ("uris", "deb"):
            named = _named(field, line)
            line = URI.sub(led, named) + line[len(named) :]
        elif line in gone:
            continue
        elif line.strip() and field != "#":
            result.append(fronts.pop(key(line.split()[0]), ""))
        result.append(line)
    return "".join(result)
