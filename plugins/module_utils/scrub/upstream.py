# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The digests that a registry itself tells, asked without the mirror."""

from __future__ import annotations

from collections.abc import Mapping

from ..http import Client, HttpError
from .base import Hashes, Registry, Site
from .pace import Pace

TRIES = 3  # one edge of a CDN may be dead, and each connection may meet another one
KEPT = 8  # pages that are remembered: artifacts come by project
AWAY = (429, 500, 502, 503, 504)


class Away(Exception):
    """The registry gave no answer that can be used. The text is one sentence without a full stop."""


class Upstream:
    """Asks each page once. A project whose page cannot be had stays so for the run."""

    def __init__(self, client: Client, pace: Pace) -> None:
        self.client, self.pace = client, pace
        self.pages: dict[str, Mapping[str, Hashes]] = {}
        self.failed: dict[str, str] = {}
        self.answers = 0

    def hashes(self, registry: Registry, site: Site, path: str, url: str) -> Hashes:
        """Those of one artifact; none, if no page lists it. Raises Away and OutOfTime."""
        for project in registry.projects(path):
            question = registry.question(site, project)
            if question is None:
                break
            page = self._page(registry, *question)
            key = registry.key(path, url)
            if key in page:
                return page[key]
        return {}

    def _page(self, registry: Registry, url: str, headers: dict[str, str]) -> Mapping[str, Hashes]:
        if url in self.failed:
            raise Away(self.failed[url])
        if url not in self.pages:
            while len(self.pages) >= KEPT:
                del self.pages[next(iter(self.pages))]
            try:
                self.pages[url] = self._ask(registry, url, headers)
            except Away as reason:
                self.failed[url] = str(reason)
                raise
        return self.pages[url]

    def _ask(self, registry: Registry, url: str, headers: dict[str, str]) -> Mapping[str, Hashes]:
        reason = ""
        for _again in range(TRIES):
            self.pace.take(1)
            try:
                response = self.client.get(url, headers, redirects=3)
                if response.status not in AWAY:
                    page = registry.read(response) if response.status == 200 else {}
                    self.answers += 1
                    return page
                reason = f"GET {url} answered {response.status}"
            except (HttpError, ValueError) as error:
                reason = str(error)
        raise Away(reason)
