# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be true of Nginx's configuration. Each check yields a complaint for each place where it is not."""

from __future__ import annotations

import re
import typing as t

from configuration import Directive

# What may be sent on. What comes from a client is one of the mirror's own words by then, see nothing_raw_goes_on().
SENT_ON = {"Host", "Connection", "User-Agent", "Accept", "Accept-Encoding", "If-None-Match", "If-Modified-Since", "Range"}
POSTED = {"Content-Type", "Content-Encoding"}
SENT_BETWEEN_TIERS = {"X-Route", "X-Stored-Serial", "X-Later-Part", "X-Refresh"}
STEERING = {"X-Accel-Redirect", "X-Accel-Limit-Rate", "X-Accel-Buffering", "X-Accel-Charset"}
QUERY = "$is_args$args"
OWN_STATE = {"upstream_cache_status"}  # is no part of a key: no client has a say in it
PLAIN = r"$request_uri !~ ^[^/]|(?:/|%2[fF])[/.%]|%(?!2[fF])|[^\w!@+~:=./%-]"
VARIABLE = re.compile(r"\$\{?(\w+)\}?")


def proxied(root: Directive) -> t.Iterator[tuple[Directive, Directive]]:
    """Every location that hands requests on, and to where."""
    for directive in root.all("proxy_pass"):
        yield directive.above[-1], directive


def to_socket(directive: Directive) -> bool:
    """Whether a proxy_pass leads to another server of the same configuration."""
    http = directive.above[1]
    sockets = {
        upstream.value for upstream in http.own("upstream") if all(server.value.startswith("unix:") for server in upstream.own("server"))
    }

    def values(name: str) -> set[str]:
        """What a name stands for: itself, or all that its map says, which may be maps' names again."""
        chosen = [entry.arguments[-1] for each in http.own("map") if each.arguments[-1] == name for entry in each.inner]
        return set().union(*map(values, chosen)) if chosen else {name}

    name = re.sub(r"(?:\$request_uri|\$raw_path(?:\$is_args\$args)?)$", "", directive.value.removeprefix("http://"))
    return values(name) <= sockets


def faces_clients(directive: Directive) -> bool:
    """Whether the directive stands in a server that listens on the network."""
    servers = [block for block in directive.above if block.name == "server"]
    return any(not listen.value.startswith("unix:") for server in servers for listen in server.own("listen"))


def takes_posts(block: Directive) -> bool:
    """Whether a location or server is there for what is posted: it caches nothing, and hands on to such a server or is one."""
    to_them = any(found.value.startswith("http://pass$raw_path") for found in block.own("proxy_pass"))
    is_one = any(found.arguments[0].endswith("/pass.sock") for found in block.own("listen"))
    return (to_them or is_one) and not block.inherited("proxy_cache")


def everywhere(root: Directive, name: str, wanted: str) -> t.Iterator[str]:
    """The directive stands at http's own level, and says the same wherever else it stands."""
    (http,) = root.own("http")
    if not http.own(name):
        yield f"http has no {name} {wanted}"
    yield from (f"{found} is not {wanted}" for found in root.all(name) if found.value != wanted)


def upstreams_are_verified(root: Directive) -> t.Iterator[str]:
    """At http's own level: locations with and without would share TLS sessions."""
    yield from everywhere(root, "proxy_ssl_verify", "on")
    yield from everywhere(root, "proxy_ssl_server_name", "on")
    (http,) = root.own("http")
    if not http.own("proxy_ssl_trusted_certificate"):
        yield "http has no proxy_ssl_trusted_certificate"
    yield from (
        f"{found} trusts others than http does"
        for found in root.all("proxy_ssl_trusted_certificate", "proxy_ssl_crl")
        if found.above[-1] is not http
    )
    yield from (
        f"{found} is an old protocol" for found in root.all("proxy_ssl_protocols") if {"SSLv3", "TLSv1", "TLSv1.1"} & {*found.arguments}
    )


def clients_are_spoken_to_by_tls(root: Directive) -> t.Iterator[str]:
    """Where one port that clients reach does so, each does, by no old protocol; and none that they do not reach."""
    tls = any("ssl" in listen.arguments for listen in root.all("listen"))
    for listen in root.all("listen"):
        if ("ssl" in listen.arguments) != (tls and not listen.value.startswith("unix:")):
            yield f"{listen} differs from the others in ssl"
        if "ssl" in listen.arguments and [found.value for found in listen.above[-1].own("ssl_protocols")] != ["TLSv1.2 TLSv1.3"]:
            yield f"{listen} speaks other protocols than TLS 1.2 and 1.3"


def origins_are_fixed(root: Directive) -> t.Iterator[str]:
    """A request goes to a socket, or to a URL whose scheme and host are written down."""
    (http,) = root.own("http")
    fixed = {"$fetch_url", "$moved_url"}
    urls = {entry.arguments[-1]: entry for each in http.own("map") if each.arguments[-1] in fixed for entry in each.inner}
    for block in [listen.above[-1] for listen in root.all("listen") if faces_clients(listen)]:
        if not any(check.value == "$raw_path !~ ^/" and check.own("return")[0].value == "404" for check in block.own("if")):
            yield f"{block} does not see to it that a path begins with a slash"
    for _location, to in proxied(root):
        if not to_socket(to) and to.value.removesuffix(QUERY).removesuffix("$fetch_query") not in fixed:
            yield f"{to} may lead anywhere"
    for url, entry in urls.items():
        if url and not re.match(r"https?://[^/$@]+/", url):
            yield f"{entry} may lead anywhere"


def plain_paths_are_plain(root: Directive) -> t.Iterator[str]:
    """What is not looked at any closer has a path as one that was, and nobody but this says what the path is."""
    ported = [each for each in root.all("map") if each.arguments == ("$request_uri", "$asked_path")]
    path = "$asked_path" if ported else "$raw_path"
    said = {"$plain", "$raw_path", "$asked_path"}
    for server in {listen.above[-1] for listen in root.all("listen") if faces_clients(listen)}:
        sets = [found.arguments for found in server.own("set")]
        plain = [[found.arguments for found in block.inner] for block in server.own("if") if block.value == PLAIN]
        if (sets, plain) != ([("$plain", "")], [[("$plain", "1"), (path, "$request_uri")]]):
            yield f"{server} does not tell a plain path from an odd one"
        yield from (
            f"{found} says what the path is"
            for found in root.all("set")
            if found.arguments[0] in said and found.above[-1] is not server and found.above[-1].value != PLAIN
        )


def keys_tell_bodies_apart(root: Directive) -> t.Iterator[str]:
    """A key has the route, the path as it came, and all that a request carries on: by itself, or as what it was mapped from."""
    sources = {each.arguments[1][1:]: set(VARIABLE.findall(each.arguments[0])) for each in root.all("map")}
    fetched_with_query = {found.above[-1].arguments for found in root.all("proxy_pass", "set") if found.value.endswith(QUERY)}
    seen: dict[tuple[str, str], Directive] = {}
    for location, _to in proxied(root):
        if not (caches := location.inherited("proxy_cache")):
            continue
        if not (keys := location.inherited("proxy_cache_key")):
            yield f"{location} caches without a key"
            continue
        route, _bar, rest = keys[0].value.partition("|")
        variables = set(VARIABLE.findall(rest))
        if "flight" in variables:  # who asks for the very same within one second
            if route != "$request_uri":
                yield f"{keys[0]} does not begin with what is asked for"
        else:
            if not re.fullmatch(r"[0-9a-f]{8,}", route):
                yield f"{keys[0]} does not begin with a route"
            if (other := seen.setdefault((caches[0].value, route), location)) is not location:
                yield f"{keys[0]} begins with the route of {other}"
            if "raw_path" not in variables:
                yield f"{keys[0]} has not the path as it came in"
            if ({"is_args", "args"} <= variables) != (location.arguments in fetched_with_query):
                yield f"{keys[0]} and what is fetched do not agree on the query"
        for odd in variables:
            if (faces_clients(location) and odd.startswith("http_")) or odd in {"uri", "request_uri", "document_uri", "host"}:
                yield f"{keys[0]} has ${odd}, of which a client may send many"
        for header in location.inherited("proxy_set_header"):
            for variable in {*VARIABLE.findall(header.arguments[-1])} - OWN_STATE:
                if variable not in variables and not (variable in sources and sources[variable] <= variables):
                    yield f"{keys[0]} does not tell apart what {header.arguments[0]} {header.arguments[-1]} asks for"


def only_listed_headers_go_on(root: Directive) -> t.Iterator[str]:
    yield from everywhere(root, "proxy_pass_request_headers", "off")
    for location, to in proxied(root):
        allowed = SENT_ON | (SENT_BETWEEN_TIERS if to_socket(to) else set())
        allowed |= POSTED if any(takes_posts(block) for block in to.above) else set()
        headers = location.inherited("proxy_set_header")
        yield from (f"{header} is sent on" for header in headers if header.arguments[0] not in allowed)
        yield from (f"{location} sends no {name}" for name in ("Host", "Connection") if name not in {h.arguments[0] for h in headers})


def nothing_raw_goes_on(root: Directive) -> t.Iterator[str]:
    """The server that clients reach sends on the mirror's own words, and credentials are not so much as looked at."""
    for header in root.all("proxy_set_header"):
        if header.arguments[0] in {*POSTED, "Accept"} and takes_posts(header.above[-1]):
            continue
        if faces_clients(header) and re.search(r"\$(?:http_|host\b|cookie_|remote_user|proxy_add)", header.value):
            yield f"{header} is a client's own word"
    for directive in root.walk():
        if re.search(r"\$(?:http_(?:authorization|cookie|proxy_authorization)|cookie_\w+|remote_user)\b", directive.value):
            yield f"{directive} looks at credentials"


def upstreams_do_not_steer(root: Directive) -> t.Iterator[str]:
    yield from (f"{found} lets a header of the upstream's through" for found in root.all("proxy_pass_header"))
    for location, to in proxied(root):
        if to_socket(to):
            if to.value.startswith("http://transform") and "X-Accel-Expires" not in location.inherited("proxy_ignore_headers")[0].arguments:
                yield f"{location} takes X-Accel-Expires for all that Cache-Control says"
            continue
        ignored = {name for found in location.inherited("proxy_ignore_headers") for name in found.arguments}
        hidden = {found.value for found in location.inherited("proxy_hide_header")}
        yield from (f"{location} obeys {name}" for name in sorted(STEERING - ignored))
        yield from (f"{location} passes {name}" for name in sorted({"Set-Cookie", "WWW-Authenticate"} - hidden))
        if location.inherited("proxy_cache"):
            yield f"{location} caches what an upstream said in its own headers"


def bodies_do_not_go_on(root: Directive) -> t.Iterator[str]:
    (http,) = root.own("http")
    for name, wanted in ("proxy_pass_request_body", "off"), ("client_max_body_size", "1"):
        if [found.value for found in http.own(name)] != [wanted]:
            yield f"http has no {name} {wanted}"
        for found in root.all(name):
            refused = name == "client_max_body_size" and any(answer.value in ("404", "413") for answer in found.above[-1].own("return"))
            if found.value != wanted and not refused and not takes_posts(found.above[-1]):
                yield f"{found} is not {wanted}"
    (looked_at,) = [each for each in http.own("map") if each.arguments[-1] == "$refused"]
    passed = {entry.name for entry in looked_at.inner if not entry.value}
    (rest,) = [entry.value for entry in looked_at.inner if entry.name == "default"]
    for server in {listen.above[-1] for listen in root.all("listen") if faces_clients(listen)}:
        leaves = [found.value for block in server.own("if") if block.value == "$refused" for found in block.own("rewrite")]
        ends = [found.value for block in server.own("location") if block.value == "= /.refused" for found in block.own("return")]
        if (
            (leaves, ends, passed) != (["^ /.refused last"], ["413"], {"1 1 GET |", "1 1 HEAD |"})
            or looked_at.arguments[0] != "$plain $known_host $request_method $http_content_length|$http_transfer_encoding"
            or rest != "$refused_host$refused_method$refused_path$refused_body"
        ):
            yield f"{server} does not refuse a request with a body"


def nothing_else_is_shown(root: Directive) -> t.Iterator[str]:
    """No listings, no status pages, no way out of a folder."""
    for found in root.all("autoindex"):
        if found.value != "off":
            yield f"{found} lists folders"
    yield from (f"{found} shows the server's state" for found in root.all("stub_status"))
    for found in root.all("alias"):
        if found.above[-1].arguments[-1].endswith("/") != found.value.endswith("/") or found.above[-1].arguments[0].startswith("~"):
            yield f"{found} leaves its folder"


CHECKS = (
    upstreams_are_verified,
    clients_are_spoken_to_by_tls,
    origins_are_fixed,
    plain_paths_are_plain,
    keys_tell_bodies_apart,
    only_listed_headers_go_on,
    nothing_raw_goes_on,
    upstreams_do_not_steer,
    bodies_do_not_go_on,
    nothing_else_is_shown,
)
