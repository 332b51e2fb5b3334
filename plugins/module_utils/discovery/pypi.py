# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The origin of the files, from the page of one project in each representation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from ..http import Client, HttpError, Response, origin
from ..simple_api import MEDIA_TYPES, Page, parse, representation
from .base import DiscoveryError, Found, unreached


def discover(client: Client, site: Mapping[str, Any]) -> Found:
    """The origin with the most links comes first; the upstream's own comes last, if links lead to it beside its path."""
    upstream = site["upstream"].rstrip("/")
    project = site.get("probe") or "pip"
    url = f"{site.get('index_url') or f'{upstream}/simple/'}{project}/"
    offered: list[str] = []
    counts: Counter[str] = Counter()
    for kind, media_types in MEDIA_TYPES.items():
        answer = _page(client, site["name"], url, media_types[0])
        if answer is None:
            continue
        response, page = answer
        if representation(response.media_type) == kind:
            offered.append(kind)
        linked = (urljoin(url, link) for link in page.links if urlsplit(link).netloc)
        counts |= Counter(origin(link) for link in linked if not link.startswith(upstream + "/") and origin(link))
    if not offered:
        raise DiscoveryError("Site '{}': {} is to be had neither as JSON nor as HTML; set another upstream:.".format(site["name"], url))
    own = origin(upstream)
    return Found(sorted(counts, key=lambda where: (where == own, -counts[where], where)), offered)


def _page(client: Client, name: str, url: str, accept: str) -> tuple[Response, Page] | None:
    """The page and its answer; None where upstream does not have it in that representation."""
    probe = f"set probe: to a project that it has, or origins:, in mirror_sites for site '{name}'"
    try:
        response = client.get(url, {"Accept": accept, "Accept-Encoding": "gzip"}, redirects=3)
        body = response.decoded()
    except HttpError as error:
        raise unreached(name, error) from error
    if response.status == 406:
        return None
    if response.status == 404 and "/simple/simple/" in url:
        probe = f"upstream: is the part above simple/, so take that off in mirror_sites for site '{name}'"
    if response.status != 200:
        raise DiscoveryError(f"Site '{name}': {url} answered {response.status}; {probe}.")
    try:
        page = parse(body, response.media_type, response.url)
    except ValueError as error:
        raise DiscoveryError(f"Site '{name}': {error}; {probe}.") from error
    if not page.files:
        raise DiscoveryError(f"Site '{name}': {url} lists no files; {probe}.")
    return response, page
