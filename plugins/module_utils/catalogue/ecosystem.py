# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The types in which an ecosystem is described. An ecosystem file is one literal of :class:`Ecosystem`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Representation:
    """One of the bodies that one URL can have (RFC 9110, section 3.2).

    ``media_types`` are the Accept values that ask for it; ``accept`` is what the mirror then sends upstream.
    """

    name: str
    media_types: tuple[str, ...]
    accept: str


@dataclass(frozen=True)
class Route:
    """One path of a site, mapped to the site's upstream.

    ``path``     relative to the site on the mirror, and to the upstream: paths map 1:1.
    ``kind``     ``index`` (changes, is revalidated), ``artifact`` (never changes), or ``pass`` (a question that is posted: it goes
                 upstream where the site says so, and is answered 404 where not).
    ``links``    which links in its bodies are rewritten: ``all``, ``files`` (only those to linked origins) or ``none``.
    ``match``    an expression that the rest of the path must match; empty for all. Its own groups are numbered from 2.
    ``lifetime`` seconds for which what it serves counts as fresh, where that is less than the site's; 0 for the site's own.
    ``accept``   what the mirror accepts from upstream (RFC 9110, section 12.5.1), whatever its client does.
    ``passing``  True where what fetches for the type is to keep no copy of it: an instance that has no store is then asked.
    """

    name: str
    kind: str
    path: str
    links: str = "none"
    negotiated: bool = False
    match: str = ""
    lifetime: int = 0
    accept: str = ""
    passing: bool = False


@dataclass(frozen=True)
class Ecosystem:
    """A registry's protocol as the mirror sees it.

    ``type``           package-url type (ECMA-427).
    ``index``          path that clients are given, relative to the site; None where they are given none.
    ``base``           where clients look for all sites of the type; what stands before their paths, and upstream's.
    ``fetcher``        the program that stands between the mirror and what only a client of the protocol gets; no two sites share one.
    ``probe``          a project that every registry of this type has; health and discovery look at it.
    ``page``           where a project's page is, relative to the index; what clients ask first where no pattern tells that;
                       empty where a node does not ask for it.
    ``subdomain``      what stands before the host of the type's default repository where its index has a host of its own.
    ``lifetime``       seconds for which an index page counts as fresh.
    ``linked``         True where index pages link to files on other origins.
    ``link_prefixes``  what stands before a link in a body, where links may be path-absolute.
    ``not_offered``    what stands before a link in a body to what no mirror offers: it then leads to where the mirror has nothing.
    ``whole_links``    True where clients need whole URLs for links and redirects: they then name the mirror, else only a path on it.
    ``serial_header``  response header that counts the registry's generations.
    ``together``       True where clients use all sites of the type, and not the first alone.
    ``mirror_info``    keys of Zuul's ``zuul_site_mirror_info`` that its sites may have: the type itself is the key of all of them, another
                       one of those whose vendor, or where none is known whose name, it is.
    """

    type: str
    index: str | None = None
    base: str = "/"
    fetcher: str = ""
    probe: str = ""
    page: str = "{}/"
    subdomain: str = ""
    lifetime: int = 300
    linked: bool = False
    link_prefixes: tuple[str, ...] = ()
    whole_links: bool = False
    not_offered: tuple[str, ...] = ()
    serial_header: str = ""
    together: bool = False
    mirror_info: tuple[str, ...] = ()
    representations: tuple[Representation, ...] = field(default_factory=tuple)
    routes: tuple[Route, ...] = field(default_factory=tuple)
