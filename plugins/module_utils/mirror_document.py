# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mirror document (`/mirror.json`): how it is made, and what it, or Zuul's `mirror_info`, offers to a node.

Two kinds of fault are kept apart: `BadInput` is a wrong variable and always an error, `Unusable` is what the network
says of a mirror, and leaves the node as it is. The text of both is one sentence without a full stop.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.nearby.mirrors.plugins.module_utils.catalogue import ECOSYSTEMS, Ecosystem
from ansible_collections.nearby.mirrors.plugins.module_utils.http import HttpError, Response
from ansible_collections.nearby.mirrors.plugins.module_utils.sites import PROBE, are_repositories

VERSION = 1
MAX_DOCUMENT = 1024 * 1024
PROBE_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5, */*;q=0.1"

# URLs end up in shell and INI files, so only what needs no quoting in any of them gets through.
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~:@%+,=-]*)*")


class BadInput(ValueError):
    """A variable that was given is wrong."""


class Unusable(Exception):
    """The mirror cannot be used now."""


def checked_url(url: Any, where: str) -> str:
    """`url` without trailing slashes: http or https, no credentials, no query. Raises BadInput, which names `where`."""
    text = str(url).strip()
    if not text.lower().startswith(("http://", "https://")):
        raise BadInput(f"{where} is {text!r}, which has no scheme: write http:// or https:// in front")
    scheme, rest = text.split("://", 1)
    netloc, slash, path = rest.partition("/")
    if "@" in netloc:
        raise BadInput(f"{where} has credentials in it, which would end up in files that everyone can read")
    if not _is_host(netloc) or not _PATH.fullmatch(slash + path):
        raise BadInput(f"{where} is {text!r}, which is not a plain URL (scheme, host, port and path only)")
    return scheme.lower() + "://" + netloc + (slash + path).rstrip("/")


def _is_host(netloc: str) -> bool:
    found = _HOST.fullmatch(netloc)
    try:
        return bool(found and (not found[1] or IPv6Address(found[1])) and (not found[2] or 0 < int(found[2]) < 65536))
    except ValueError:
        return False


def build(
    sites: Iterable[Mapping[str, Any]], name: str, region: str, url: str, engine: str, ports: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a mirror says of itself at /mirror.json: the one contract between it and all that use it.

    `ports` are those of sites by name, where they are not the sites' own.
    """
    sites = [{**site, "port": (ports or {}).get(site["name"], site["port"])} for site in sites]
    return {
        "version": VERSION,
        "name": name,
        "region": region,
        "url": url,
        "engine": engine,
        "sites": [
            {key: site[key] for key in ("name", "type", "path", "upstream", "origins", "index", "probe", "suites")}
            | {key: site[key] for key in ("registry", "port", "repositories") if site[key]}
            | {
                "representations": site["offered"],
                "routes": [{key: route[key] for key in ("name", "kind", "path", "target", "id")} for route in site["routes"]],
            }
            for site in sites
        ],
        "mirror_info": zuul_info(sites, url),
    }


def at_port(base: str, port: Any, where: str) -> str:
    """The URL of another port of the same host. Raises BadInput."""
    if type(port) is not int or not 0 < port < 65536:
        raise BadInput(f"{where} has a site with the port {port!r}, which is none")
    parts = urlsplit(base)
    return f"{parts.scheme}://{re.sub(':[0-9]+$', '', parts.netloc)}:{port}"


def zuul_info(sites: Iterable[Mapping[str, Any]], url: str) -> dict[str, Any]:
    """What of the sites has a key in ``zuul_site_mirror_info``, where archives of Debian packages are lists, one entry for each.

    Source: zuul-jobs, "Mirror Configuration".
    """
    info: dict[str, Any] = {}
    for site in sites:
        key, entry = site["mirror_info"], {"url": url + (site["index"] or site["path"]).rstrip("/")}
        if key and site["suites"]:
            archive = {"type": site["type"], "options": {}, **entry, "suites": site["suites"], "components": site["components"]}
            info.setdefault(key, []).append(archive)
        elif key and site["type"] != "deb":
            info.setdefault(key, entry)
    return info


def _known(kind: str) -> Ecosystem:
    return ECOSYSTEMS.get(kind, Ecosystem(kind))


def offer(index: str) -> dict[str, Any]:
    """What a client has to know of one index: `{url, host, plain}`; `plain` is true where there is no TLS."""
    return {"url": index, "host": urlsplit(index).netloc, "plain": index.startswith("http://")}


def from_document(document: Any, base: str, types: Iterable[str], where: str) -> dict[str, Any]:
    """`{url, name, indexes: {type: {url, host, plain, probe, upstream}}}` of a mirror document; the first site of a type counts.

    Where clients use all sites of a type, its entry has them in `sites`, `{name, url, upstream}` each, the `registry` by which names
    of images call it, the `own_url` that it has on a port of its own, and the paths of `repositories` by what dnf calls them.
    `base` is the URL that the document was fetched from; without one the document's own `url` counts. Raises BadInput.
    """
    if not isinstance(document, Mapping):
        raise BadInput(f"{where} is not a mirror document: it is not a JSON object")
    if document.get("version") != VERSION:
        raise BadInput(
            "{} has version {!r}, and this release of nearby.mirrors reads version {}".format(where, document.get("version"), VERSION)
        )
    sites = document.get("sites")
    if not isinstance(sites, list) or not all(isinstance(site, Mapping) for site in sites):
        raise BadInput(f"{where} is not a mirror document: sites is not a list of objects")
    base = checked_url(base or document.get("url", ""), "the base URL" if base else f"url in {where}")
    indexes: dict[str, Any] = {}
    for site in sites:
        kind, index = site.get("type"), site.get("index")
        if kind not in types or not index or kind in indexes and not _known(kind).together:
            continue
        if not isinstance(index, str) or not index.startswith("/") or not _PATH.fullmatch(index):
            raise BadInput(f"{where} has a site with the index {index!r}, which is not a plain path")
        probe = str(site.get("probe") or "")
        if not PROBE.fullmatch(probe):
            raise BadInput(f"{where} has a site with the probe {probe!r}, which is not a project's name")
        upstream = checked_url(site["upstream"], f"an upstream in {where}") if site.get("upstream") else ""
        known = indexes.setdefault(kind, dict(offer(base + index), probe=probe, upstream=upstream))
        if _known(kind).together:
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", str(site.get("name"))) or not upstream:
                raise BadInput(f"{where} has a site with the name {site.get('name')!r} and the upstream {upstream!r}, and needs both")
            registry = str(site.get("registry") or "")
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?", registry) and (registry or _known(kind).fetcher):
                raise BadInput(f"{where} has a site with the registry {registry!r}, which is no host name")
            entry = {"name": site["name"], "url": base + index, "upstream": upstream}
            entry |= {"registry": registry} if registry else {}
            entry |= {"own_url": at_port(base, site["port"], where)} if "port" in site else {}
            if "repositories" in site:
                if not are_repositories(site["repositories"]):
                    raise BadInput(f"{where} has a site with the repositories {site['repositories']!r}, which are no paths by name")
                entry["repositories"] = site["repositories"]
            known.setdefault("sites", []).append(entry)
    if not indexes:
        raise BadInput("{} has no site that a client on this node can use (supported: {})".format(where, ", ".join(types)))
    return {"url": base, "name": str(document.get("name") or urlsplit(base).netloc), "indexes": indexes}


def from_mirror_info(info: Any, types: Iterable[str], where: str) -> dict[str, Any]:
    """The same from Zuul's `mirror_info`, `{type: {url: ...}}`, which tells no upstreams. Raises BadInput.

    Source: zuul-jobs, "Mirror Configuration".
    """
    if not isinstance(info, Mapping):
        raise BadInput(f"{where} is not a dictionary of the form {{pypi: {{url: ...}}}}")
    indexes = {}
    for kind in types:
        entry = info.get(kind)
        if entry is None:
            continue
        if not isinstance(entry, Mapping) or not entry.get("url"):
            raise BadInput(f"{where} has no url for {kind}: write {kind}: {{url: ...}}")
        index = checked_url(entry["url"], f"the url for {kind} in {where}")
        indexes[kind] = dict(offer(index + "/"), probe=_known(kind).probe, upstream="")
    if not indexes:
        raise BadInput("{} has no entry that a client on this node can use (supported: {})".format(where, ", ".join(types)))
    first = urlsplit(next(iter(indexes.values()))["url"])
    return {"url": f"{first.scheme}://{first.netloc}", "name": first.netloc, "indexes": indexes}


def fetch(base: str, get: Callable[..., Response], types: Iterable[str]) -> dict[str, Any]:
    """The same from `<base>/mirror.json`. Raises Unusable: what a server says is never the fault of a variable."""
    url = base + "/mirror.json"
    try:
        response = get(url, max_body=MAX_DOCUMENT)
        if response.status != 200:
            raise Unusable(f"{url} answered {response.status}, not a mirror document")
        document = json.loads(response.decoded(MAX_DOCUMENT).decode("utf-8"))
    except HttpError as error:
        raise Unusable(str(error)) from error
    except ValueError as error:
        raise Unusable(f"{url} is not JSON ({error})") from error
    try:
        return from_document(document, base, types, url)
    except BadInput as error:
        raise Unusable(str(error)) from error


def probe(mirror: Mapping[str, Any], get: Callable[..., Response]) -> dict[str, str]:
    """Ask every index for its probe project as a client would; by type, what is wrong with those that fail."""
    failing = {}
    for kind, index in mirror["indexes"].items():
        page = _known(kind).page
        if not index["probe"] or not page:
            continue
        url = index["url"].rstrip("/") + "/" + page.format(index["probe"])
        try:
            response = get(url, {"Accept": PROBE_ACCEPT}, redirects=3)
            if response.status != 200:
                failing[kind] = f"GET {url} answered {response.status}"
        except HttpError as error:
            failing[kind] = str(error)
    return failing


def find(
    get: Callable[..., Response],
    types: Iterable[str],
    url: str = "",
    document: Mapping[str, Any] | None = None,
    mirror_info: Mapping[str, Any] | None = None,
    check: bool = True,
    left_alone: Iterable[str] = (),
) -> dict[str, Any]:
    """The mirror that the given sources name, in this order: document, URL, `mirror_info`; without indexes of the types `left_alone`.

    An index that does not answer is left out, and is in `left_out` with what is wrong with it. A document that is given needs no
    network: nothing is fetched, nothing probed. Raises BadInput, and Unusable where none of the indexes answers.
    """
    types = list(types)
    base = checked_url(url, "configure_mirrors_url") if url else ""
    if document:
        mirror, check = from_document(document, base, types, "configure_mirrors_document"), False
    elif base:
        mirror = fetch(base, get, types)
    elif mirror_info:
        mirror = from_mirror_info(mirror_info, types, "mirror_info")
    else:
        raise BadInput(
            "no mirror is known for this node: set configure_mirrors_url, or configure_mirrors_document, or one of"
            " Zuul's mirror_fqdn, zuul_site_mirror_fqdn, mirror_info and zuul_site_mirror_info"
        )
    mirror["indexes"] = {kind: index for kind, index in mirror["indexes"].items() if kind not in left_alone}
    mirror["left_out"] = probe(mirror, get) if check else {}
    if mirror["left_out"] and mirror["left_out"].keys() == mirror["indexes"].keys():
        raise Unusable("; ".join(mirror["left_out"].values()))
    mirror["indexes"] = {kind: index for kind, index in mirror["indexes"].items() if kind not in mirror["left_out"]}
    return mirror
