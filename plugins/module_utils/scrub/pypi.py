# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of PyPI's simple API, and of the requirements files that pip checks in its hash-checking mode.

File names: https://packaging.python.org/en/latest/specifications/ (binary distribution format, source distribution format).
Lock files: https://pip.pypa.io/en/stable/topics/secure-installs/
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from ..http import Response
from ..simple_api import MEDIA_TYPES, SUFFIXES, parse
from .base import Allowed, Hashes, Registry, Site, spelled

ACCEPT = "{}, {};q=0.2, text/html;q=0.1".format(MEDIA_TYPES["json"][0], MEDIA_TYPES["v1html"][0])
PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^]]*\])?\s*===?\s*([A-Za-z0-9.!+_-]+)")
HASH = re.compile(r"--hash[= ](sha256|sha384|sha512):([0-9a-fA-F]+)")
# PEP 440, with what a wheel's name has instead of `-` and `+`.
VERSION = re.compile(
    r"v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)"
    r"(?:[-_.]?(?P<pre>a|b|c|rc|alpha|beta|pre|preview)[-_.]?(?P<pre_n>\d*))?"
    r"(?:[-_](?P<implicit>\d+)|(?P<post>[-_.]?(?:post|rev|r)[-_.]?)(?P<post_n>\d*))?"
    r"(?P<dev>[-_.]?dev[-_.]?(?P<dev_n>\d*))?"
    r"(?:[+_](?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?"
)
PRE = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}
TRIES = 3  # as many readings of one old file name


class PyPI(Registry):
    def projects(self, path: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(project for project, _version in _readings(_name(path).removesuffix(".metadata"))))

    def question(self, site: Site, project: str) -> tuple[str, dict[str, str]]:
        index = site.index[len(site.path) :]
        return f"{site.upstream}/{index}{project}/", {"Accept": ACCEPT, "Accept-Encoding": "gzip"}

    def read(self, response: Response) -> dict[str, Hashes]:
        found: dict[str, Hashes] = {}
        for file in parse(response.decoded(), response.media_type, response.url).files:
            url = spelled(file.url)
            found[url] = _lower(file.hashes)
            if file.core_metadata:
                found[url + ".metadata"] = _lower(file.core_metadata)
        return found

    def releases(self, path: str) -> tuple[tuple[str, str], ...]:
        """None of a distribution's metadata: a pin tells the digests of distributions only."""
        return () if _name(path).endswith((".metadata", ".asc")) else _readings(_name(path))

    def locked(self, text: str) -> dict[tuple[str, str], Allowed]:
        found: dict[tuple[str, str], Allowed] = {}
        for line in re.sub(r"\\\r?\n", " ", text).splitlines():
            pin, hashes = PIN.match(line.strip()), HASH.findall(line)
            if pin and hashes:
                release = _project(pin[1]), _version(pin[2])
                found[release] = found.get(release, frozenset()) | {(algorithm, digest.lower()) for algorithm, digest in hashes}
        return found


def _lower(hashes: Hashes) -> Hashes:
    return {algorithm: str(digest).lower() for algorithm, digest in hashes.items()}


def _name(path: str) -> str:
    return unquote(path.partition("?")[0].rpartition("/")[2])


def _readings(name: str) -> tuple[tuple[str, str], ...]:
    """Project and version of a file. Old source distributions have hyphens in both, so they can be read in several ways."""
    stem = next((name[: -len(suffix)] for suffix in SUFFIXES if name.endswith(suffix)), name)
    parts = stem.split("-")
    if name.endswith(".whl"):
        return ((_project(parts[0]), _version("".join(parts[1:2]))),)
    cuts = [cut for cut in range(len(parts) - 1, 0, -1) if re.match(r"v?\d", parts[cut])] or [max(len(parts) - 1, 1)]
    return tuple((_project("-".join(parts[:cut])), _version("-".join(parts[cut:]))) for cut in cuts[:TRIES])


def _project(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(text: str) -> str:
    """PEP 440's normal form without zeros at the end, so that a file name and a pin agree; where they do not, the lock says nothing."""
    found = VERSION.fullmatch(text.lower())
    if not found:
        return re.sub(r"(?:\.0)+$", "", re.sub(r"[-_.+]+", ".", text.lower().removeprefix("v")))
    version = re.sub(r"(?:\.0)+$", "", ".".join(str(int(number)) for number in found["release"].split(".")))
    if int(found["epoch"] or 0):
        version = f"{int(found['epoch'])}!{version}"
    if found["pre"]:
        version += PRE.get(found["pre"], found["pre"]) + str(int(found["pre_n"] or 0))
    if found["implicit"] or found["post"]:
        version += f".post{int(found['implicit'] or found['post_n'] or 0)}"
    if found["dev"]:
        version += f".dev{int(found['dev_n'] or 0)}"
    return version + (f"+{re.sub('[-_.]', '.', found['local'])}" if found["local"] else "")
