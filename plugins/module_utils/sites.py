# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inventory sites to resolved sites with routes.

Everything later in the flow works on what this returns. The engines' templates know nothing else of an ecosystem; what plays or
configures its clients, or scrubs, reads the catalogue, too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import urlsplit

from .catalogue import ECOSYSTEMS, Ecosystem, Route
from .http import DEFAULT_PORTS
from .http import origin as origin_of

OPTIONS = {
    *("name", "type", "path", "upstream", "origins", "probe", "lifetime"),
    *("immutable", "query", "representations", "posts", "suites", "repositories", "registry", "port", "index"),
}
RESERVED_PATHS = {"/", "/health/", "/mirror.json/"}
_WORD = r"(?!\.\.?(?:/|$))[A-Za-z0-9@!._~:%+,=-]+"
# A project's name or path, of what needs no quoting in a URL or a shell.
PROBE = re.compile(f"(?:{_WORD}(?:/{_WORD})*)?")

# What dnf calls a repository, and its path, in which dnf's variables may stand.
REPOSITORY = re.compile(r"[A-Za-z0-9_.:-]+ (?:(?!\.\.?(?:/|$))[A-Za-z0-9._~$+{}:-]+(?:/(?!$)|$))+")


class SiteError(ValueError):
    """A site cannot be offered. The message is one sentence: what is wrong, where, what to set."""


def identity(route: Mapping[str, Any], lifetime: int) -> str:
    """What a stored body of a route depends on besides its path, in a few letters: it is part of the cache's key.

    Routes that differ in nothing but how long theirs is fresh, or who fetches it, have one of their own, too; ``lifetime`` is the site's.
    """
    made = [route["target"], route["rewrite"], route["redirects"], *([route["lifetime"]] if route["lifetime"] < lifetime else [])]
    made += ["passing"] if route["passing"] else []
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:8]


def check_url(site: str, option: str, url: object) -> str:
    """The URL without a default port and a trailing slash; raises :class:`SiteError` where it cannot serve as an upstream."""
    where = f"Site '{site}': {option} "
    if not isinstance(url, str) or not re.match(r"https?://[^/]", url):
        raise SiteError(f"{where}'{url}' has no scheme or host; write it as https://host or http://host.")
    if re.match("https?://[^/?#]*@", url):
        raise SiteError(f"{where}has credentials in it; a mirror is open to all its clients, so take them out.")
    try:
        parts = urlsplit(url)
        _port, _address = parts.port, parts.netloc.startswith("[") and IPv6Address(parts.hostname or "")
    except ValueError as error:
        raise SiteError(f"{where}'{url}' has a host or a port that is none; correct it.") from error
    if not re.fullmatch(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~+-]+)*/?", url):
        raise SiteError(f"{where}'{url}' is more than scheme, host, port and a plain path; take the rest out.")
    return origin_of(url) + parts.path.rstrip("/")


def as_dict(entry: object, position: int) -> dict[str, Any]:
    """One entry of ``mirror_sites`` with its name and type filled in."""
    where = f"mirror_sites[{position}]"
    if isinstance(entry, str):
        entry = {"type": entry}
    if not isinstance(entry, Mapping):
        raise SiteError(f"{where} is neither a name nor a dictionary; write a type such as 'pypi', or a dictionary with type.")
    unknown = sorted(map(str, set(entry) - OPTIONS))
    if unknown:
        raise SiteError(f"{where} has the unknown option '{unknown[0]}'; use {', '.join(sorted(OPTIONS))}.")
    site = dict(entry)
    site.setdefault("type", site.get("name"))
    site.setdefault("name", site["type"])
    if not isinstance(site["type"], str) or site["type"] not in ECOSYSTEMS:
        raise SiteError(f"{where}: type '{site['type']}' is unknown; set one of {', '.join(sorted(ECOSYSTEMS))}.")
    if not isinstance(site["name"], str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", site["name"]):
        raise SiteError(f"{where}: name '{site['name']}' is no text of lower-case letters, digits and hyphens; set another name.")
    return site


def immutable_routes(site: Mapping[str, Any]) -> tuple[Route, ...]:
    """Artifact routes from a site's ``immutable``: expressions over the path below the site."""
    patterns = site.get("immutable", [])
    if not isinstance(patterns, list):
        raise SiteError(f"Site '{site['name']}': immutable is not a list; write a list of regular expressions.")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise SiteError(f"Site '{site['name']}': immutable '{pattern}' is no valid expression ({error}); correct it.") from error
        if re.search(r'["\x00-\x1f]|\\[\\trn]', pattern):
            raise SiteError(f"Site '{site['name']}': immutable '{pattern}' holds a quote, a control character or its escape; take it out.")
    return tuple(Route(f"immutable-{number}", "artifact", "", match=f"(?:{pattern})") for number, pattern in enumerate(patterns, 1))


def file_paths(path: str, origins: Iterable[str]) -> dict[str, str]:
    """Linked origin to its path on the mirror: the first one has a plain name, so that paths are equal in every region."""
    paths: dict[str, str] = {}
    for origin in origins:
        host = re.sub(r"[^a-z0-9.-]", "-", urlsplit(origin).netloc.lower())
        paths[origin] = f"{path}files-{host}/" if paths else f"{path}files/"
    return paths


def own_archive(site: Mapping[str, Any], archives: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Which of the mirror host's own apt sources a site is about, by its suites and its name; empty where none is."""
    wanted = set(check_suites(site))
    fitting = [archive for archive in archives if wanted <= set(archive["suites"])]
    named = [archive for archive in fitting if archive["url"].endswith(f"/{site['name']}")]
    return (named or (fitting if wanted else []) or [{}])[0]


def check_suites(site: Mapping[str, Any]) -> list[str]:
    """A site's ``suites``. Raises :class:`SiteError`."""
    suites = site.get("suites", [])
    if not isinstance(suites, list):
        raise SiteError(f"Site '{site['name']}': suites is not a list; write a list, such as [stable, stable-updates].")
    word = "[A-Za-z0-9_~-][A-Za-z0-9._~-]*"
    for suite in suites:
        if not isinstance(suite, str) or not re.fullmatch(rf"/|{word}(?:/{word})*/?", suite):
            raise SiteError(f"Site '{site['name']}': suite '{suite}' is none that apt could ask a mirror for; correct it.")
    return suites


def are_repositories(told: object) -> bool:
    """Whether it has paths of repositories by what dnf calls them."""
    return isinstance(told, Mapping) and all(REPOSITORY.fullmatch(f"{name} {path}") for name, path in told.items())


def spellings(url: str) -> list[str]:
    """A URL, and the same with its scheme's own port in it, which some registries write."""
    origin = origin_of(url)
    ported = "" if re.search(r":[0-9]+$", origin) else f"{origin}:{DEFAULT_PORTS[urlsplit(url).scheme]}{url[len(origin) :]}"
    return [url, ported] if ported and url.startswith(origin) else [url]


def links(ecosystem: Ecosystem, path: str, upstream: str, origins: Mapping[str, str], kind: str, own_url: str) -> list[dict[str, str]]:
    """What replaces what in a body, the longest first, since the first match at a place counts.

    What is not offered comes before all, since an engine may also look for one after the other.
    """
    here = own_url if ecosystem.whole_links else ""
    pairs = {f"{origin}/": f"{here}{target}" for origin, target in origins.items()}
    if kind == "all":
        for route in ecosystem.routes:
            if route.path:
                pairs[f"{upstream}/{route.path}"] = f"{here}{path}{route.path}"
        pairs.setdefault(f"{upstream}/", f"{here}{path}")
    if ecosystem.whole_links:
        pairs = {spelling: target for url, target in pairs.items() for spelling in spellings(url)}
        pairs |= {f'{spelling}"': f'{here}{target[:-1]}"' for origin, target in origins.items() for spelling in spellings(origin)}
    if kind == "all":
        base = urlsplit(upstream).path
        for prefix in ecosystem.link_prefixes:
            pairs[f"{prefix}{base}/"] = f"{prefix}{here}{path}"
    nowhere = {f"{prefix}{scheme}://": f"{prefix}{here}{path}not-offered/" for prefix in ecosystem.not_offered for scheme in DEFAULT_PORTS}
    ordered = nowhere | {key: pairs[key] for key in sorted(pairs, key=lambda key: (-len(key), key))}
    return [{"from": key, "to": target} for key, target in ordered.items()] if kind != "none" else []


def check_port(site: Mapping[str, Any]) -> int:
    """The port that a site has of its own, 0 where it has none. Raises :class:`SiteError`."""
    port = site.get("port", 0)
    if isinstance(port, bool) or not isinstance(port, int) or "port" in site and not 0 < port < 65536:
        raise SiteError(f"Site '{site['name']}': port '{port}' is not a number from 1 to 65535; correct it, or take it out.")
    return port


def check_ports_differ(sites: Iterable[Mapping[str, Any]], own_port: int) -> None:
    """Each port is for one thing. Raises :class:`SiteError`."""
    users = {own_port: "the mirror's own, mirror_port"}
    users |= {each["port"]: "that of the programs that fetch, mirror_fetcher_port" for site in sites for each in site["fetchers"]}
    for site in sites:
        if site["port"] in users:
            raise SiteError(f"Site '{site['name']}': port {site['port']} is {users[site['port']]}; set another port.")
        if site["port"]:
            users[site["port"]] = f"that of site '{site['name']}'"


def at_index(site: Mapping[str, Any]) -> Ecosystem:
    """A site's ecosystem, with the index where the site says that it is, upstream as on the mirror. Raises :class:`SiteError`.

    An index at the site's root has the names of all its projects to itself: what a type has beside it gives way, but for the artifacts.
    """
    ecosystem, index = ECOSYSTEMS[site["type"]], site.get("index")
    if index is None:
        return ecosystem
    if not ecosystem.index:
        raise SiteError(f"Site '{site['name']}': type '{ecosystem.type}' has its index at one place only; take index out.")
    if not isinstance(index, str) or not re.fullmatch(r"(?:[A-Za-z0-9_~+-][A-Za-z0-9._~+-]*/)*", index):
        raise SiteError(f"Site '{site['name']}': index '{index}' is not of the form words/, or empty; correct it.")
    moved = {route: replace(route, path=index) for route in ecosystem.routes if route.path == ecosystem.index}
    routes = (moved.get(route, route) for route in ecosystem.routes if index or route in moved or route.kind == "artifact")
    return replace(ecosystem, index=index, routes=tuple(routes))


def default_index(ecosystem: Ecosystem, repository: str | None) -> str:
    """Where the index of a type's default repository is; empty where the type has none."""
    return re.sub("^https?://", rf"\g<0>{ecosystem.subdomain}", repository or "")


def fetchers_of(name: str, ecosystem: Ecosystem, upstream: str, port: int, settings: str) -> list[dict[str, Any]]:
    """The instances of its type's program that fetch for a site: one that keeps what it fetches, and one for routes of which it is to keep
    no copy.

    Name and address follow from all that an instance is made of, ``settings`` too, so that one with anything else runs beside it.
    """
    if not ecosystem.fetcher:
        return []
    fetchers = []
    for passing in sorted({route.passing for route in ecosystem.routes}):
        digest = hashlib.sha256(json.dumps([name, upstream, passing, port, settings]).encode())
        first, second, third, *_rest = digest.digest()
        fetchers.append(
            {
                "name": f"{name}{'.passing' if passing else ''}.{digest.hexdigest()[:8]}",
                "program": ecosystem.fetcher,
                "upstream": upstream,
                "address": f"127.{first % 254 + 1}.{second}.{third}",
                "port": port,
                # From one that has the same address all the same, this path gets nothing.
                "prefix": digest.hexdigest()[:8],
                "passing": passing,
            }
        )
    return fetchers


def resolve_site(
    site: Mapping[str, Any], upstream: str, discovered: Mapping[str, Any], own_url: str, fetcher_port: int, fetcher_settings: str
) -> dict[str, Any]:
    """One resolved site. Its shape is the collection's inner contract; ``docs/reference/site.md`` shows one."""
    ecosystem = at_index(site)
    name = site["name"]
    path = site.get("path", f"{ecosystem.base}{name}/")
    if not isinstance(path, str) or not re.fullmatch(r"(?:/[A-Za-z0-9._~-]+)+/", path) or path in RESERVED_PATHS or "/." in path:
        raise SiteError(f"Site '{name}': path '{path}' is not of the form /words/ or is the mirror's own; set another path.")
    lifetime = site.get("lifetime", ecosystem.lifetime)
    if isinstance(lifetime, bool) or not isinstance(lifetime, int) or lifetime < 1:
        raise SiteError(f"Site '{name}': lifetime '{lifetime}' is not a number of seconds from 1 up; correct it.")
    if site.get("immutable") and ecosystem.type != "generic":
        raise SiteError(f"Site '{name}': type '{ecosystem.type}' knows itself which paths never change; take immutable out.")
    if "suites" in site and ecosystem.type != "deb":
        raise SiteError(f"Site '{name}': type '{ecosystem.type}' has no suites; take suites out.")
    if not str(path).startswith(ecosystem.base):
        raise SiteError(f"Site '{name}': clients of type '{ecosystem.type}' ask below {ecosystem.base}, not at '{path}'; set another path.")
    registry = site.get("registry", urlsplit(upstream).netloc if ecosystem.fetcher else "")
    if "registry" in site and not ecosystem.fetcher:
        raise SiteError(f"Site '{name}': only names of images begin with that of a registry; take registry out.")
    if registry and not (isinstance(registry, str) and re.fullmatch(r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?", registry)):
        raise SiteError(f"Site '{name}': registry '{registry}' is no host name, with a port or without; correct it.")
    if "repositories" in site and ecosystem.type != "rpm":
        raise SiteError(f"Site '{name}': type '{ecosystem.type}' has no repositories that dnf could name; take repositories out.")
    if not are_repositories(site.get("repositories", {})):
        raise SiteError(f"Site '{name}': repositories are no names with a path below the site each, as baseos: 9/BaseOS; correct them.")
    suites = check_suites(site)
    probe = site.get("probe")
    if probe is None:
        probe = next((suite for suite in suites if not suite.endswith("/")), ecosystem.probe)
    if not isinstance(probe, str) or not PROBE.fullmatch(probe.lstrip("/")):
        raise SiteError(f"Site '{name}': probe '{probe}' is no name, or path without a slash at its end; correct it, or take it out.")
    if ecosystem.fetcher and not re.fullmatch(r"(?:[^@:]+(?::[^@:/]+)?)?", probe):
        raise SiteError(f"Site '{name}': probe '{probe}' is no image as repository:tag, without its registry; correct it, or take it out.")
    port = check_port(site)
    if not isinstance(site.get("query", False), bool):
        raise SiteError(f"Site '{name}': query is neither true nor false; set one of them.")
    if not isinstance(site.get("posts", False), bool):
        raise SiteError(f"Site '{name}': posts is neither true nor false; set one of them.")
    if site.get("posts") and not any(route.kind == "pass" for route in ecosystem.routes):
        raise SiteError(f"Site '{name}': nothing is posted to a registry of type '{ecosystem.type}' that could pass; take posts out.")
    for option in ("origins", "representations"):
        if not isinstance(site.get(option, []), list):
            raise SiteError(f"Site '{name}': {option} is not a list; write a list, or take it out.")
    origins = list(dict.fromkeys(check_url(name, "origins", origin) for origin in site.get("origins", discovered.get("origins", []))))
    files = file_paths(path, origins)
    if len(set(files.values())) < len(files):
        raise SiteError(f"Site '{name}': two origins have one host and port; leave one of them.")
    known = [representation.name for representation in ecosystem.representations]
    for representation in site.get("representations", []):
        if representation not in known:
            raise SiteError(f"Site '{name}': representation '{representation}' is unknown; set some of {', '.join(known)}, or none.")
    upstream_origin = origin_of(upstream)
    base = upstream[len(upstream_origin) :] if upstream.startswith(upstream_origin) else urlsplit(upstream).path
    fetchers = fetchers_of(name, ecosystem, upstream, fetcher_port, fetcher_settings)
    sources = {fetcher["passing"]: "http://{address}:{port}/{prefix}".format(**fetcher) for fetcher in fetchers}

    def resolved(route: Route) -> dict[str, Any]:
        return {
            "name": route.name,
            "kind": "absent" if route.kind == "pass" and not site.get("posts") else route.kind,
            "path": f"{path}{route.path}",
            "target": f"{upstream}{ecosystem.base}{route.path}",
            "fetch": f"{sources.get(route.passing, upstream)}{ecosystem.base}{route.path}",
            "accept": route.accept,
            "passing": route.passing,
            "pattern": f"^{re.escape(path + route.path)}(?<rest>{route.match or '.*'})$",
            "at_root": f"^{re.escape(ecosystem.base)}(?<below>{re.escape(route.path)}(?:{route.match or '.*'}))$" if port else "",
            "prefix": not route.match,
            "lifetime": min(route.lifetime or lifetime, lifetime),
            "negotiated": route.negotiated,
            "query": site.get("query", False),
            "rewrite": links(ecosystem, path, upstream, files, route.links, own_url),
            "redirects": [{"from": f"{upstream}/", "to": path}, {"from": f"{base}/", "to": path}]
            + [{"from": f"{origin}/", "to": target} for origin, target in files.items()]
            + ([{"from": "/", "to": files[upstream_origin]}] if base and upstream_origin in files else []),  # beside the upstream's path
        }

    routes = [resolved(route) for route in (*immutable_routes(site), *ecosystem.routes)]
    for number, (origin, target) in enumerate(files.items()):
        route = resolved(Route("files" if not number else f"files-{number + 1}", "artifact", ""))
        own = [{"from": f"{origin}/", "to": target}] if origin == upstream_origin else []  # a file leads to another one
        routes.append(
            {
                **route,
                "path": target,
                "target": f"{origin}/",
                "fetch": f"{origin}/",
                "pattern": f"^{re.escape(target)}(?<rest>.*)$",
                "at_root": f"^{re.escape(ecosystem.base)}(?<below>{re.escape(target[len(path) :])}.*)$" if port else "",
                "redirects": [{"from": "/", "to": target}, *own, *route["redirects"]],
            }
        )
    matched = {route["path"] for route in routes if not route["prefix"]}
    for route in routes:
        route["prefix"] = route["prefix"] and route["path"] not in matched
        route["id"] = identity(route, lifetime)
        route["redirects"] = [  # and where it leads, as a whole URL
            {**redirect, "from": spelling, "place": place + redirect["from"]}
            for redirect in route["redirects"]
            for place in [origin_of(route["target"]) if redirect["from"].startswith("/") else ""]
            for spelling in ([redirect["from"]] if place else spellings(redirect["from"]))
        ]
    offered = site.get("representations", discovered.get("representations", known))
    return {
        "name": name,
        "type": ecosystem.type,
        "path": path,
        "port": port,
        "root": ecosystem.base,
        "together": ecosystem.together,
        "linked_by_path": not ecosystem.whole_links and any(route.links != "none" for route in ecosystem.routes),
        "upstream": upstream,
        "origins": origins,
        "suites": suites,
        "repositories": site.get("repositories", {}),
        "components": discovered.get("components", []),
        "registry": registry,
        "fetchers": fetchers,
        "discover": bool(ecosystem.linked or ecosystem.fetcher) and "origins" not in site or bool(suites),
        "index": "" if ecosystem.index is None else f"{path}{ecosystem.index}",
        "index_url": f"{upstream}{ecosystem.base}{ecosystem.index or ''}",
        "probe": probe.lstrip("/"),
        "here": own_url if ecosystem.whole_links else "",
        "serial_header": ecosystem.serial_header,
        "mirror_info": next((key for key in ecosystem.mirror_info if key in (ecosystem.type, discovered.get("vendor") or name)), ""),
        "representations": [{"name": r.name, "media_types": list(r.media_types), "accept": r.accept} for r in ecosystem.representations],
        "offered": [r.name for r in ecosystem.representations if r.name in offered],
        # The first route that matches a path serves it, and one for all of them is the last of its length; one that is a mere prefix
        # can be matched without an expression.
        "routes": sorted(routes, key=lambda route: (-len(route["path"]), route["pattern"].endswith("(?<rest>.*)$"))),
    }


def resolve_sites(
    entries: Iterable[object],
    default_upstream: Callable[[str], str | None],
    discovered: Mapping[str, Mapping[str, Any]],
    own_addresses: Iterable[str],
    own_port: int,
    own_url: str = "",
    archives: Iterable[Mapping[str, Any]] = (),
    fetcher_port: int = 5801,
    fetcher_settings: str = "",
) -> list[dict[str, Any]]:
    """All sites of a mirror, resolved.

    ``default_upstream`` gives the default repository URL of a type, or None.
    ``discovered`` maps a site's name to what :mod:`linked_origins` returned for it.
    ``own_addresses`` are the names and addresses of this mirror, which no site may have as its upstream.
    ``archives`` are those that the mirror host's apt sources name, `{url, suites}`, for sites of the type deb.
    ``own_url`` is scheme://host[:port] of this mirror, for links that have to be whole.
    ``fetcher_port`` is the port of what fetches for sites, each at an address of its own in 127.0.0.0/8.
    ``fetcher_settings`` is what its configuration has besides what differs from site to site.
    Raises :class:`SiteError`.
    """
    if not isinstance(entries, list) or not entries:
        raise SiteError("mirror_sites is not a list with at least one site; write for example mirror_sites: [pypi].")
    own = {address.lower().strip("[]") for address in own_addresses if address}
    given_sites = [as_dict(entry, position) for position, entry in enumerate(entries)]
    own_ports = {own_port, *map(check_port, given_sites)}
    sites: list[dict[str, Any]] = []
    for site in given_sites:
        archive = own_archive(site, archives) if site["type"] == "deb" and not site.get("upstream") else {}
        site = {"suites": archive["suites"], **site} if archive else site
        default = default_index(ECOSYSTEMS[site["type"]], default_upstream(site["type"]))
        given = site.get("upstream") or archive.get("url") or default
        if not given and site["type"] == "deb":
            raise SiteError(
                f"Site '{site['name']}': no apt source of the mirror host has its suites, or ends in /{site['name']};"
                " set upstream: for it in mirror_sites."
            )
        if not given:
            raise SiteError(f"Site '{site['name']}': type '{site['type']}' has no default upstream; set upstream: for it in mirror_sites.")
        upstream = check_url(site["name"], "upstream", given)
        parts = urlsplit(upstream)
        if parts.hostname in own and (parts.port or DEFAULT_PORTS[parts.scheme]) in own_ports:
            raise SiteError(f"Site '{site['name']}': upstream '{upstream}' is this mirror itself; set the registry's own address.")
        resolved = resolve_site(site, upstream, discovered.get(site["name"], {}), own_url, fetcher_port, fetcher_settings)
        for other in sites:
            both = f"Sites '{other['name']}' and '{resolved['name']}'"
            if other["name"] == resolved["name"] or other["path"] == resolved["path"]:
                raise SiteError(f"{both} share the path {resolved['path']} or a name; give one another name and path.")
            if other["path"].startswith(resolved["path"]) or resolved["path"].startswith(other["path"]):
                raise SiteError(f"{both}: their paths {other['path']} and {resolved['path']} lie within each other; set another path.")
        sites.append(resolved)
    check_ports_differ(sites, own_port)
    return sites
