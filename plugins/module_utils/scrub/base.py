# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scrub knows of sites and of registries: what tells an artifact's digests, and how they are read from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import unquote

from ..http import Response, origin

Hashes = Mapping[str, str]  # algorithm, as hashlib names it -> hexadecimal digest in small letters; or a registry's own of both
Allowed = frozenset[tuple[str, str]]  # pairs of these, of which one has to fit


class BadInput(ValueError):
    """What was given is wrong. The text is one sentence without a full stop: what, where, what to do."""


@dataclass(frozen=True)
class Route:
    """An artifact route: what is stored below `path` of the mirror came from `target`. An empty `id` fits any."""

    path: str
    target: str
    id: str = ""


@dataclass(frozen=True)
class Site:
    name: str
    type: str
    path: str
    upstream: str
    index: str
    routes: tuple[Route, ...]
    pages: frozenset[str] = frozenset()  # the identities of its index routes

    @classmethod
    def from_dict(cls, given: Any, where: str) -> Site:
        """From an entry of the mirror document, or one of the lookup's resolved sites. Raises BadInput."""
        try:
            routes = [
                Route(route["path"], route["target"], route.get("id", "")) for route in given["routes"] if route["kind"] == "artifact"
            ]
            pages = frozenset(str(route["id"]) for route in given["routes"] if route["kind"] == "index" and route.get("id"))
            texts = {key: str(given[key]) for key in ("name", "type", "path", "upstream", "index")}
        except (KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{where} is no site of a mirror document ({type(error).__name__}: {error})") from error
        return cls(**texts, routes=tuple(sorted(routes, key=lambda route: -len(route.path))), pages=pages)

    def url(self, identity: str, path: str) -> str:
        """Where the artifact that is stored under a route's identity and a path came from; empty, if no route is that one."""
        for route in self.routes:
            if path.startswith(route.path) and (not identity or not route.id or identity == route.id):
                return route.target + path[len(route.path) :]
        return ""


class Registry:
    """A protocol that tells no digests; an ecosystem whose protocol does overrides what it can.

    `algorithm` is one of the ecosystem's own, which hashlib does not have; `digest` computes it.
    """

    algorithm = ""

    def digest(self, path: str, body: BinaryIO) -> str:
        """That of an artifact, which can be read at any place; empty, if it has none because it is damaged. Raises OSError."""
        raise NotImplementedError

    def knowing(self, site: Site, paths: Iterable[str]) -> Registry:
        """The same with what it learns from the paths of all that is stored of a site."""
        return self

    def named(self, path: str) -> Hashes:
        """The digests that an artifact's path itself holds: nobody has to be asked for them."""
        return {}

    def lists(self, path: str) -> bool:
        """Whether an artifact with a digest in its path tells the digests of others: what is stored of it is then read with `listed`."""
        return False

    def listed(self, path: str, pieces: Iterable[bytes]) -> Iterator[tuple[str, Hashes]]:
        """The path on the mirror, without escapes, of each artifact that such a one lists, and its digests. Raises what is in
        lists.DAMAGED.
        """
        return iter(())

    def projects(self, path: str) -> tuple[str, ...]:
        """The projects that a file may be of, by its path, the likeliest first: their pages are asked for until one lists it."""
        return ("",)

    def question(self, site: Site, project: str) -> tuple[str, dict[str, str]] | None:
        """URL and request headers of the page that lists a project's digests, at the upstream; None, if there is none."""
        return None

    def read(self, response: Response) -> dict[str, Hashes]:
        """What a page says: the `key` of each artifact, and its digests. Raises ValueError, HttpError."""
        return {}

    def key(self, path: str, url: str) -> str:
        """By which an artifact is to be found in what `read` returns."""
        return spelled(url)

    def releases(self, path: str) -> tuple[tuple[str, str], ...]:
        """The pairs of project and version that a file may be of, by its path, as `locked` spells them."""
        return ()

    def locked(self, text: str) -> dict[tuple[str, str], Allowed]:
        """What a lock file of this ecosystem allows, by project and version; empty, if it is none."""
        return {}


def spelled(url: str) -> str:
    """One spelling for all that mean one file, however a page or a client escaped them."""
    return origin(url) + "/" + unquote(url.partition("://")[2].partition("/")[2])
