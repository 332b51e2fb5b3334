# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be true of Apache's configuration, and of the Lua beside it. Each check yields a complaint for each place where it is not."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

from configuration import Directive

MODULES = {
    *("mpm_event", "authz_core", "mime", "dir", "alias", "env", "setenvif", "headers", "rewrite", "filter", "deflate", "substitute"),
    *("reqtimeout", "socache_shmcb", "ssl", "proxy", "proxy_http", "cache", "cache_disk", "lua"),
}
SENT_ON = {"user-agent", "accept", "accept-encoding", "if-none-match", "if-modified-since"}
POSTED = {"content-type", "content-encoding", "content-length", "transfer-encoding"}
STEERING = {
    "set-cookie",
    "www-authenticate",
    "x-accel-redirect",
    "x-accel-expires",
    "x-accel-limit-rate",
    "x-accel-buffering",
    "x-accel-charset",
}
PATH = "%{ENV:raw}"


def everywhere(root: Directive, name: str, wanted: str) -> t.Iterator[str]:
    """The directive stands at the server's own level, and says the same wherever else it stands."""
    if not root.own(name):
        yield f"the server has no {name} {wanted}"
    yield from (f"{found} is not {wanted}" for found in root.all(name) if found.value.lower() != wanted.lower())


def proxied(root: Directive) -> t.Iterator[tuple[Directive, Directive]]:
    """Every virtual host that hands requests on, and the rule that does so."""
    for host in root.all("VirtualHost"):
        yield from ((host, rule) for rule in host.all("RewriteRule") if "P" in flags(rule))


def flags(rule: Directive) -> list[str]:
    return rule.arguments[2].strip("[]").split(",") if len(rule.arguments) > 2 else []


def conditions(rule: Directive) -> list[Directive]:
    """The conditions right before a rule."""
    found: list[Directive] = []
    for directive in reversed(rule.above[-1].inner[: rule.above[-1].inner.index(rule)]):
        if directive.name != "RewriteCond":
            break
        found.insert(0, directive)
    return found


def hosts_of_its_own(root: Directive) -> set[str]:
    """The virtual hosts' addresses on loopback, by which one hands on to the next."""
    return {address for host in root.all("VirtualHost") for address in host.arguments if re.match(r"127\.(?!0\.0\.1:)", address)}


def leaves(root: Directive, rule: Directive) -> bool:
    """Whether a rule leads out of this server."""
    return not any(rule.arguments[1].startswith(f"http://{address}") for address in hosts_of_its_own(root))


def faces_clients(root: Directive, host: Directive) -> bool:
    return not {*host.arguments} <= hosts_of_its_own(root)


def lua(root: Directive) -> dict[str, set[str]]:
    """The sets of words in the Lua that the configuration names."""
    (path,) = {Path(found.arguments[0 if len(found.arguments) < 3 else 1]) for found in root.all("LuaHookFixups", "LuaOutputFilter")}
    sets = re.findall(r"local (\w+) = set\(((?:\s*(?:\.\.)?\s*\"[^\"]*\")+)\)", path.read_text())
    return {name: set(" ".join(re.findall(r'"([^"]*)"', words)).split()) for name, words in sets}


def upstreams_are_verified(root: Directive) -> t.Iterator[str]:
    """In each virtual host that speaks TLS to upstreams, and in no narrower place otherwise."""
    wanted = {"SSLProxyVerify": "require", "SSLProxyCheckPeerName": "on", "SSLProxyCheckPeerExpire": "on"}
    for host in {host for host, rule in proxied(root) if leaves(root, rule)}:
        if [engine.value.lower() for engine in host.own("SSLProxyEngine")] != ["on"]:
            yield f"{host} leads out, and has no SSLProxyEngine On"
        for name, value in wanted.items():
            if not host.own(name):
                yield f"{host} has no {name} {value}"
        if not (host.own("SSLProxyCACertificateFile") or root.own("SSLProxyCACertificateFile")):
            yield f"{host} has no SSLProxyCACertificateFile"
    for name, value in wanted.items():
        yield from (f"{found} is not {value}" for found in root.all(name) if found.value.lower() != value)
    for found in root.all("SSLProxyProtocol"):
        yield from (f"{found} has {old}" for old in found.arguments if old.lstrip("+").lower() in {"all", "sslv3", "tlsv1", "tlsv1.1"})


def clients_are_spoken_to_by_tls(root: Directive) -> t.Iterator[str]:
    """Where one host that clients reach does so, each does, by no old protocol; and none that they do not reach."""
    for host in root.all("VirtualHost"):
        engine = [found.value.lower() for found in host.own("SSLEngine")]
        if engine != (["on"] if root.all("SSLEngine") and faces_clients(root, host) else []):
            yield f"{host} has SSLEngine {engine}"
        if engine and [found.arguments for found in host.own("SSLProtocol")] != [("-all", "+TLSv1.2", "+TLSv1.3")]:
            yield f"{host} speaks other protocols than TLS 1.2 and 1.3"


def it_is_no_open_proxy(root: Directive) -> t.Iterator[str]:
    yield from everywhere(root, "ProxyRequests", "Off")
    for module in root.all("LoadModule"):
        if module.arguments[0].removesuffix("_module") not in MODULES:
            yield f"{module} is not on the list"


def origins_are_fixed(root: Directive) -> t.Iterator[str]:
    """A rule leads to a host that is written down, and what follows it begins with a slash."""
    never = [found for found in root.all("ProxyPassMatch") if found.arguments[0] == "^(?!)"]
    elsewhere = root.all("ProxyPass", "ProxyPassMatch", "ProxyRemote", "BalancerMember")
    yield from (f"{found} is not looked at here" for found in elsewhere if found not in never)
    for host, rule in proxied(root):
        found = re.match(r"https?://[^/%$@]+(/|%\{ENV:raw\}|%1)", rule.arguments[1])
        if not found:
            yield f"{rule} may lead anywhere"
        elif found[1] == PATH and not any(condition.arguments[:2] == (PATH, "!^/") for condition in host.own("RewriteCond")):
            yield f"{host} does not see to it that a path begins with a slash, before {rule}"
        elif found[1] == "%1" and "(/" not in conditions(rule)[-1].arguments[1]:
            yield f"{rule} may lead anywhere, since what it takes over need not begin with a slash"


def workers_have_their_limits(root: Directive) -> t.Iterator[str]:
    """Each virtual host says of each target that its rules lead to how long it waits, and that no connection is used twice."""
    for host, rule in proxied(root):
        workers = {found.arguments[1]: found.value for found in host.own("ProxyPassMatch")}
        workers |= {found.arguments[0]: " ".join(each.value for each in found.own("ProxySet")) for found in host.own("Proxy")}
        said = next((words for target, words in workers.items() if (rule.arguments[1] + "/").startswith(target.rstrip("/"))), "")
        for word in "retry=0", "disablereuse=On", "timeout=":
            if word not in said:
                yield f"{host} does not say {word} of where {rule} leads"


def keys_tell_bodies_apart(root: Directive) -> t.Iterator[str]:
    """What the first host asks of the next is the key: kind, route, representation, encoding and path."""
    yield from (f"{found} makes keys of other things" for found in root.all("CacheIgnoreQueryString") if found.value.lower() != "off")
    if not root.own("CacheKeyBaseURL"):
        yield "the server has no CacheKeyBaseURL, so a client's Host is in the key"
    seen: dict[tuple[Directive, str, str, str], Directive] = {}
    for host, rule in proxied(root):
        if not faces_clients(root, host):
            continue
        key = re.fullmatch(
            r"http://[\d.:]+(%\{ENV:raw\}|%1)\?(index|artifact);([0-9a-f]{8,});(%\{ENV:representation\}|\w+);(%\{ENV:encoding\}|gzip)?;%[13]",
            rule.arguments[1],
        )
        if re.fullmatch(r"http://[\d.:]+%\{ENV:raw\}\?pass;[0-9a-f]{8,};;;%1", rule.arguments[1]):
            continue  # to where nothing is cached
        if not key:
            yield f"{rule} has not the route, the path as it came, and the representation"
            continue
        path, kind, route, representation, encoding = key.groups()
        if kind == "index" and not encoding:
            yield f"{rule} has not the encoding"
        if seen.setdefault((host, kind, route, representation), rule) is not rule:
            yield f"{rule} has the route of {seen[host, kind, route, representation]}"
        looked_at, pattern = conditions(rule)[-1].arguments[:2]
        if path == PATH and not looked_at.startswith(PATH) or path == "%1" and "%{THE_REQUEST}|%{HTTP:Accept-Encoding}" not in looked_at:
            yield f"{rule} has not the path as it came"
        if encoding == "gzip" and not pattern.endswith(r"\|gzip(?:,[^|]*)?$"):
            yield f"{rule} has an encoding that was not asked for"
        if path == "%1" and conditions(rule)[0].arguments[0] != "%{HTTP:Accept}":
            yield f"{rule} has a representation that was not asked for"


def only_listed_headers_go_on(root: Directive) -> t.Iterator[str]:
    yield from everywhere(root, "ProxyAddHeaders", "Off")
    yield from everywhere(root, "ProxyPreserveHost", "Off")
    yield from everywhere(root, "ProxyVia", "Off")
    for host in {host for host, rule in proxied(root) if leaves(root, rule)}:
        if not [hook for hook in host.own("LuaHookFixups") if hook.arguments[1] == "headers"]:
            yield f"{host} does not take clients' headers off"
        for header in host.all("RequestHeader"):
            if header.arguments[0] != "unset" and header.arguments[1].lower() not in SENT_ON:
                yield f"{header} is sent on"
            if any("%{" in value for value in header.arguments[2:3]):
                yield f"{header} is a client's own word"
    words = lua(root)
    yield from (f"{name} of a client's is sent on" for name in sorted((words["SENT"] - SENT_ON) | (words["POSTED"] - POSTED)))


def upstreams_do_not_steer(root: Directive) -> t.Iterator[str]:
    for host in {host for host, rule in proxied(root) if leaves(root, rule)}:
        if not [found for found in host.own("LuaOutputFilter") if (found.arguments[0], found.arguments[2]) == ("CLEAN", "clean")]:
            yield f"{host} does not take upstreams' headers off"
        if not host.own("SetOutputFilter"):
            yield f"{host} has no SetOutputFilter CLEAN"
        yield from (f"{found} does not begin with CLEAN" for found in host.all("SetOutputFilter") if found.value.split(";")[0] != "CLEAN")
        yield from (f"{found} caches what an upstream said in its own headers" for found in host.all("CacheEnable"))
    yield from (f"{name} of an upstream's goes on" for name in sorted(STEERING - lua(root)["HIDDEN"]))


def bodies_do_not_go_on(root: Directive) -> t.Iterator[str]:
    for host in {host for host, _rule in proxied(root) if faces_clients(root, host)}:
        refused = {condition.arguments[0] for rule in host.own("RewriteRule") if "R=413" in flags(rule) for condition in conditions(rule)}
        for name in "%{HTTP:Content-Length}", "%{HTTP:Transfer-Encoding}":
            if not any(name in condition for condition in refused):
                yield f"{host} does not refuse {name}"


def nothing_else_is_shown(root: Directive) -> t.Iterator[str]:
    """No listings, no status pages, no way out of a folder, no echo."""
    yield from everywhere(root, "TraceEnable", "Off")
    slash = [folder for folder in root.own("Directory") if folder.value == "/"]
    if not slash or [found.value.lower() for found in slash[0].own("Require")] != ["all denied"]:
        yield "the file system's root is not denied"
    yield from (f"{found} is more than None" for found in root.all("Options", "AllowOverride") if found.value.lower() != "none")
    yield from (
        f"{found} is not looked at here" for found in root.all("SetHandler", "AddHandler", "ScriptAlias", "Include", "IncludeOptional")
    )
    for found in root.all("Alias"):
        if found.arguments[0].endswith("/") != found.arguments[1].endswith("/"):
            yield f"{found} leaves its folder"


def inner_hosts_are_on_loopback(root: Directive) -> t.Iterator[str]:
    """What no client is to reach listens where none can."""
    for host, rule in proxied(root):
        if leaves(root, rule) and faces_clients(root, host):
            yield f"{rule} leads out of a host that clients reach"


CHECKS = (
    upstreams_are_verified,
    clients_are_spoken_to_by_tls,
    it_is_no_open_proxy,
    origins_are_fixed,
    workers_have_their_limits,
    keys_tell_bodies_apart,
    only_listed_headers_go_on,
    upstreams_do_not_steer,
    bodies_do_not_go_on,
    nothing_else_is_shown,
    inner_hosts_are_on_loopback,
)
