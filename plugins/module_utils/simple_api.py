# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A project's page of PyPI's simple API, read from JSON or HTML into one shape.

https://packaging.python.org/en/latest/specifications/simple-repository-api/ (PEP 503, 658, 691, 700, 714, 740).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import parse_qsl, unquote, urldefrag, urljoin, urlsplit

# Representation -> the media types that ask for it; the first one is what an answer carries.
MEDIA_TYPES: dict[str, tuple[str, ...]] = {
    "json": ("application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.latest+json"),
    "v1html": ("application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.latest+html"),
    "html": ("text/html",),
}
# An anchor is a distribution if it has a digest or one of these ends; a page may hold other anchors.
SUFFIXES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz", ".egg", ".exe", ".msi")
SERIAL_HEADER = "X-PyPI-Last-Serial"


@dataclass(frozen=True)
class File:
    """One distribution; `url` is absolute and without its fragment, `hashes` maps algorithm to hex digest, `size` is in
    bytes. `core_metadata` is None where none is announced, {} where it is announced without a digest.
    """

    name: str
    url: str
    hashes: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    upload_time: str = ""
    core_metadata: Mapping[str, str] | None = None
    provenance: str = ""


@dataclass(frozen=True)
class Page:
    """`links` are all references that a client may follow, as written; relative ones start from `base`."""

    base: str
    files: tuple[File, ...]
    links: tuple[str, ...]
    serial: int | None = None


def representation(media_type: str) -> str:
    """The representation that an answered media type stands for, or an empty string."""
    for name, media_types in MEDIA_TYPES.items():
        if media_type in media_types:
            return name
    return ""


def strongest(hashes: Mapping[str, str]) -> str:
    """The algorithm of the digest to compare, or an empty text: SHA-256, which is the one to have, or else the longest."""
    usable = sorted(name for name in hashes if name in hashlib.algorithms_guaranteed and not name.startswith("shake"))
    return "sha256" if "sha256" in usable else max(usable, key=lambda name: len(str(hashes[name])), default="")


def parse(body: bytes, media_type: str, url: str) -> Page:
    """Read a page fetched from `url`. Raises ValueError where it is no index page."""
    kind = representation(media_type)
    if not kind:
        raise ValueError(f"{url} has the type {media_type!r}, which is no index page")
    text = body.decode("utf-8", "replace")
    return _json_page(text, url) if kind == "json" else _html_page(text, url)


def _json_page(text: str, url: str) -> Page:
    try:
        document = json.loads(text)
        entries = document["files"]
        links = [entry["url"] for entry in entries] + [e["provenance"] for e in entries if e.get("provenance")]
        files = [
            File(
                name=entry["filename"],
                url=urljoin(url, urldefrag(entry["url"])[0]),
                hashes=entry.get("hashes") or {},
                size=entry.get("size"),
                upload_time=entry.get("upload-time") or "",
                core_metadata=_metadata(entry.get("core-metadata", entry.get("dist-info-metadata"))),
                provenance=urljoin(url, entry["provenance"]) if entry.get("provenance") else "",
            )
            for entry in entries
        ]
        serial = str(document.get("meta", {}).get("_last-serial"))  # a number, or one in quotes
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{url} is no PEP 691 document ({type(error).__name__}: {error})") from error
    return Page(url, tuple(files), tuple(links), int(serial) if serial.isdigit() else None)


def _html_page(text: str, url: str) -> Page:
    parser = _Anchors(url)
    parser.feed(text)
    parser.close()
    files, links = [], []
    for attributes in parser.anchors:
        link, fragment = urldefrag(attributes["href"])
        hashes = dict(parse_qsl(fragment))
        name = unquote(urlsplit(link).path.rsplit("/", 1)[-1])
        if not link or not (hashes or name.endswith(SUFFIXES)):
            continue
        provenance = attributes.get("data-provenance", "")
        links += [link] + ([provenance] if provenance else [])
        metadata = attributes.get("data-core-metadata", attributes.get("data-dist-info-metadata"))
        files.append(
            File(
                name=name,
                url=urljoin(parser.base, link),
                hashes=hashes,
                upload_time=attributes.get("data-upload-time", ""),
                core_metadata=_metadata(dict(parse_qsl(metadata)) or metadata if metadata else None),
                provenance=urljoin(parser.base, provenance) if provenance else "",
            )
        )
    return Page(parser.base, tuple(files), tuple(links))


def _metadata(value: object) -> Mapping[str, str] | None:
    if isinstance(value, Mapping):
        return value
    return {} if value is True or str(value).lower() == "true" else None


class _Anchors(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.base = url
        self.anchors: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "base" and attributes.get("href"):
            self.base = urljoin(self.base, attributes["href"])
        elif tag == "a" and attributes.get("href"):
            self.anchors.append(attributes)
