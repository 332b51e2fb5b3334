# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be told of a configuration without running it. Every check is also seen to complain, of a configuration that is broken."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import apache_checks
import configuration
import nginx_checks
import pytest

CHECKS = {"nginx": nginx_checks.CHECKS, "apache": apache_checks.CHECKS}
PROGRAMS = {"nginx": ["/usr/sbin/nginx", "-q", "-t", "-c"], "apache": ["/usr/sbin/apache2", "-t", "-f"]}

# What gixy says of the configuration as it is, of medium severity or above, and why it stands.
GIXY_EXCEPTIONS = {"ssrf"}  # it takes a variable in proxy_pass for a client's; origins_are_fixed() holds it to URLs with a written host

SERVE = r"(?s)(listen 127[^\n]*)"
BREAKAGES: dict[str, list[tuple[t.Callable[..., t.Iterator[str]], str, str]]] = {
    "nginx": [
        (nginx_checks.upstreams_are_verified, r"proxy_ssl_verify on;", ""),
        (nginx_checks.upstreams_are_verified, r"proxy_ssl_verify on;", "proxy_ssl_verify off;"),
        (nginx_checks.upstreams_are_verified, r"(set \$wire_encoding gzip;)", r"\1 proxy_ssl_verify off;"),
        (nginx_checks.upstreams_are_verified, r"proxy_ssl_trusted_certificate[^;]*;", ""),
        (nginx_checks.upstreams_are_verified, r"proxy_ssl_server_name on;", ""),
        (nginx_checks.upstreams_are_verified, r"TLSv1.2 TLSv1.3", "TLSv1.1 TLSv1.2"),
        (nginx_checks.clients_are_spoken_to_by_tls, r"(listen [\d.]+:4873)", r"\1 ssl"),
        (nginx_checks.clients_are_spoken_to_by_tls, r"(listen unix:\S+)", r"\1 ssl"),
        (nginx_checks.origins_are_fixed, r"proxy_pass \$fetch_url;", "proxy_pass https://$http_host$raw_path;"),
        (nginx_checks.origins_are_fixed, r"proxy_pass http://transform\$raw_path;", "proxy_pass http://$arg_to;"),
        (nginx_checks.origins_are_fixed, r'"https://files.example.org/\$rest"', '"https://files.example.org$rest"'),
        (nginx_checks.origins_are_fixed, r'"https://files.example.org/\$there"', '"https://files.example.org$there"'),
        (nginx_checks.origins_are_fixed, r"proxy_pass \$moved_url;", "proxy_pass $upstream_http_location;"),
        (nginx_checks.origins_are_fixed, r"if \(\$raw_path !~ \^/\)[^}]*}", ""),
        (nginx_checks.origins_are_fixed, r"server unix:[^;]*/artifact.sock[^;]*;", "server 192.0.2.1;"),
        (nginx_checks.keys_tell_bodies_apart, r"\|\$encoding", "|"),
        (nginx_checks.keys_tell_bodies_apart, r"\|\$representation_1", "|"),
        (nginx_checks.keys_tell_bodies_apart, r"\|\$slice_range", "|"),
        (nginx_checks.keys_tell_bodies_apart, r"\|\$raw_path", "|$uri"),
        (nginx_checks.keys_tell_bodies_apart, r'proxy_cache_key "[0-9a-f]+\|', 'proxy_cache_key "|'),
        (nginx_checks.keys_tell_bodies_apart, r'proxy_cache_key "[0-9a-f]+\|', 'proxy_cache_key "0123abcd|'),
        (nginx_checks.keys_tell_bodies_apart, r"proxy_cache_key [^;]*\$encoding[^;]*;", ""),
        (nginx_checks.keys_tell_bodies_apart, r"\|\$raw_path\|", "|$raw_path$is_args$args|"),
        (nginx_checks.keys_tell_bodies_apart, r"\|\$raw_path\$is_args\$args\|", "|$raw_path|"),
        (nginx_checks.keys_tell_bodies_apart, r"(proxy_set_header Accept-Encoding \$encoding;)", r"\1 proxy_set_header X-Any $http_x_any;"),
        (nginx_checks.only_listed_headers_go_on, r"proxy_pass_request_headers off;", ""),
        (nginx_checks.only_listed_headers_go_on, r"proxy_pass http://artifact\$raw_path;", r"\g<0> proxy_pass_request_headers on;"),
        (
            nginx_checks.only_listed_headers_go_on,
            r"proxy_set_header User-Agent",
            r"proxy_set_header Via x; \g<0>",
        ),
        (nginx_checks.only_listed_headers_go_on, r"set \$wire_encoding", r"proxy_set_header Accept x; \g<0>"),
        (nginx_checks.nothing_raw_goes_on, r"proxy_set_header Accept \$accept_1", "proxy_set_header Accept $http_accept"),
        (nginx_checks.nothing_raw_goes_on, r"proxy_set_header Host mirror;", "proxy_set_header Host $host;"),
        (nginx_checks.nothing_raw_goes_on, r'"\$http_user_agent"', '"$http_authorization"'),
        (nginx_checks.upstreams_do_not_steer, r"X-Accel-Redirect X-Accel-Limit-Rate", "X-Accel-Limit-Rate"),
        (nginx_checks.upstreams_do_not_steer, r"proxy_hide_header Set-Cookie;", ""),
        (nginx_checks.upstreams_do_not_steer, r"(set \$wire_encoding gzip;)", r"\1 proxy_hide_header Age;"),
        (nginx_checks.upstreams_do_not_steer, r"proxy_http_version 1.1;", r"\g<0> proxy_pass_header Set-Cookie;"),
        (nginx_checks.bodies_do_not_go_on, r"proxy_pass_request_body off;", ""),
        (nginx_checks.bodies_do_not_go_on, r"proxy_pass http://artifact\$raw_path;", r"\g<0> proxy_pass_request_body on;"),
        (nginx_checks.bodies_do_not_go_on, r"client_max_body_size 1;", "client_max_body_size 1m;"),
        (nginx_checks.bodies_do_not_go_on, r"if \(\$refused\)[^}]*}", ""),
        (nginx_checks.bodies_do_not_go_on, r"\$refused_path\$refused_body", "$refused_path"),
        (nginx_checks.bodies_do_not_go_on, r"return 413;", ""),
        (nginx_checks.bodies_do_not_go_on, r"rewrite \^ /.refused last;", "rewrite ^ /.refused;"),
        (nginx_checks.plain_paths_are_plain, r'set \$plain "";', "set $plain 1;"),
        (nginx_checks.plain_paths_are_plain, r'set \$plain "";', ""),
        (nginx_checks.plain_paths_are_plain, r"\(\?:/\|%2\[fF\]\)\[/\.%\]\|", ""),
        (nginx_checks.plain_paths_are_plain, r"set \$asked_path \$request_uri", "set $asked_path $uri"),
        (nginx_checks.plain_paths_are_plain, r'set \$fetched "";', r"\g<0> set $raw_path $arg_x;"),
        (nginx_checks.upstreams_do_not_steer, r"proxy_ignore_headers Vary X-Accel-Expires", "proxy_ignore_headers Vary"),
        (nginx_checks.bodies_do_not_go_on, r'"\$refused_host\$refused_method', '"$refused_host'),
        (nginx_checks.bodies_do_not_go_on, r'"1 1 GET \|"', '"1 1 GET 1|"'),
        (nginx_checks.bodies_do_not_go_on, r"\$request_method \$http_content_length\|", "$request_method |"),
        (nginx_checks.bodies_do_not_go_on, r"proxy_pass http://pass\$raw_path;", "proxy_pass http://artifact$raw_path;"),
        (
            nginx_checks.only_listed_headers_go_on,
            r"proxy_set_header Content-Type \$http_content_type;",
            "proxy_set_header X-Marker $http_x_marker;",
        ),
        (nginx_checks.nothing_else_is_shown, SERVE, r"\1 autoindex on;"),
        (nginx_checks.nothing_else_is_shown, SERVE, r"\1 location = /status { stub_status; }"),
        (nginx_checks.nothing_else_is_shown, SERVE, r"\1 location /wheel { alias /srv/wheel/; }"),
    ],
    "apache": [
        (apache_checks.upstreams_are_verified, r"SSLProxyEngine On", ""),
        (apache_checks.upstreams_are_verified, r"SSLProxyVerify require", ""),
        (apache_checks.upstreams_are_verified, r"SSLProxyVerify require", "SSLProxyVerify optional"),
        (apache_checks.upstreams_are_verified, r"SSLProxyCheckPeerName On", ""),
        (apache_checks.upstreams_are_verified, r"SSLProxyCheckPeerName On", "SSLProxyCheckPeerName Off"),
        (apache_checks.upstreams_are_verified, r"SSLProxyCheckPeerExpire On", ""),
        (apache_checks.upstreams_are_verified, r"SSLProxyCACertificateFile .*", ""),
        (apache_checks.upstreams_are_verified, r'(<Proxy "https://[^\n]*)', r"\1\nSSLProxyVerify none"),
        (apache_checks.upstreams_are_verified, r"SSLProxyProtocol .*", "SSLProxyProtocol all"),
        (apache_checks.clients_are_spoken_to_by_tls, r"(<VirtualHost [\d.]+:4873 >)", r"\1\nSSLEngine On"),
        (apache_checks.clients_are_spoken_to_by_tls, r"(<VirtualHost 127.86[^\n]*)", r"\1\nSSLEngine On"),
        (apache_checks.it_is_no_open_proxy, r"ProxyRequests Off", "ProxyRequests On"),
        (apache_checks.it_is_no_open_proxy, r"ProxyRequests Off", ""),
        (apache_checks.it_is_no_open_proxy, r"LoadModule lua_module", r"LoadModule proxy_connect_module x\n\g<0>"),
        (apache_checks.origins_are_fixed, r"https://files.example.org/%", "https://files.example.org%"),
        (apache_checks.origins_are_fixed, r"https://files.example.org/%", "%{HTTP_HOST}/%"),
        (apache_checks.origins_are_fixed, r"(THE_REQUEST} \"\^\[A-Z\]\+) \(/", r"\1 ("),
        (apache_checks.origins_are_fixed, r"RewriteCond %{ENV:raw} !\^/\n", ""),
        (apache_checks.origins_are_fixed, r"SSLProxyEngine On", r"\g<0>\nProxyPass / https://example.org/"),
        (apache_checks.origins_are_fixed, r'ProxyPassMatch "\^\(\?!\)"', 'ProxyPassMatch "^/"'),
        (apache_checks.workers_have_their_limits, r" disablereuse=On", ""),
        (apache_checks.workers_have_their_limits, r"timeout=\d+", ""),
        (apache_checks.workers_have_their_limits, r'<Proxy "https://files[^>]*>[^<]*</Proxy>', ""),
        (apache_checks.keys_tell_bodies_apart, r";%{ENV:representation}", ";"),
        (apache_checks.keys_tell_bodies_apart, r";%{ENV:encoding}", ";"),
        (apache_checks.keys_tell_bodies_apart, r";json;gzip;%3", ";;gzip;%3"),
        (apache_checks.keys_tell_bodies_apart, r";html;gzip;%3", ";json;gzip;%3"),
        (apache_checks.keys_tell_bodies_apart, r"\\\|gzip\(\?:,\[\^\|\]\*\)\?\$", r"\|"),
        (apache_checks.keys_tell_bodies_apart, r'RewriteCond %{HTTP:Accept} "\^[^\n]*\n(?=[^\n]*\n[^\n]*gzip;%3)', ""),
        (apache_checks.keys_tell_bodies_apart, r"%{ENV:raw}\?index;", "?index;"),
        (apache_checks.keys_tell_bodies_apart, r"\?(index|artifact);[0-9a-f]{8}", r"?\1;0123abcd"),
        (apache_checks.keys_tell_bodies_apart, r"CacheKeyBaseURL .*", ""),
        (apache_checks.keys_tell_bodies_apart, r"CacheKeyBaseURL", r"CacheIgnoreQueryString On\n\g<0>"),
        (apache_checks.only_listed_headers_go_on, r"ProxyAddHeaders Off", ""),
        (apache_checks.only_listed_headers_go_on, r"ProxyPreserveHost Off", "ProxyPreserveHost On"),
        (apache_checks.only_listed_headers_go_on, r"LuaHookFixups \S+ headers", ""),
        (apache_checks.only_listed_headers_go_on, r'RequestHeader set User-Agent "nearby', r"RequestHeader set X-Forwarded-For x\n\g<0>"),
        (
            apache_checks.only_listed_headers_go_on,
            r"RequestHeader set Accept-Encoding identity",
            "RequestHeader set Accept %{HTTP:Accept}e",
        ),
        (apache_checks.only_listed_headers_go_on, r'local SENT = set\("', r"\g<0>cookie "),
        (apache_checks.upstreams_do_not_steer, r"LuaOutputFilter CLEAN .*", ""),
        (apache_checks.upstreams_do_not_steer, r"SetOutputFilter CLEAN\n", ""),
        (apache_checks.upstreams_do_not_steer, r"SetOutputFilter CLEAN\n", "SetOutputFilter DEFLATE;CLEAN\n"),
        (apache_checks.upstreams_do_not_steer, r"set-cookie ", ""),
        (apache_checks.bodies_do_not_go_on, r"R=413", "R=200"),
        (apache_checks.bodies_do_not_go_on, r"\|%{HTTP:Transfer-Encoding}", ""),
        (apache_checks.only_listed_headers_go_on, '(local POSTED = set\\(")', r"\1cookie "),
        (apache_checks.nothing_else_is_shown, r"TraceEnable Off", ""),
        (apache_checks.nothing_else_is_shown, r"Require all denied", "Require all granted"),
        (apache_checks.nothing_else_is_shown, r"Options None", "Options Indexes"),
        (apache_checks.nothing_else_is_shown, r"(?m)^( *)DocumentRoot", r"\1Alias /wheel /srv/wheel/\n\g<0>"),
        (apache_checks.nothing_else_is_shown, r"(?m)^( *)DocumentRoot", r"\1SetHandler server-status\n\g<0>"),
        (apache_checks.inner_hosts_are_on_loopback, r"(?s)(.*<VirtualHost )[\d.]+:", r"\g<1>0.0.0.0:"),
    ],
}


@pytest.fixture
def broken(rendered: t.Callable[[str], Path], tmp_path: Path) -> t.Callable[[str, str, str], Path]:
    """The configuration of an engine with every match of a pattern replaced, in any of its files."""

    def change(engine: str, pattern: str, text: str) -> Path:
        folder, total = rendered(engine).parent, 0
        for path in folder.iterdir():
            if path.is_file():
                moved = path.read_text().replace(str(folder), str(tmp_path))
                changed, count = re.subn(pattern, text, moved)
                (tmp_path / path.name).write_text(changed)
                total += count
        assert total, f"nothing is {pattern}"
        return tmp_path / "mirror.conf"

    return change


def accepted(engine: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAMS[engine], path], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("engine", CHECKS)
def test_the_server_accepts_it(engine: str, rendered: t.Callable[[str], Path]) -> None:
    told = accepted(engine, rendered(engine))
    assert told.returncode == 0 and "[warn]" not in told.stderr, told.stderr


@pytest.mark.parametrize("engine", CHECKS)
def test_the_server_accepts_a_mirror_without_a_kind_of_route(engine: str, render: t.Callable[..., Path], tmp_path: Path) -> None:
    """Its one site has nothing that never changes, nor links, nor representations."""
    told = accepted(engine, render(tmp_path, engine, [{"type": "generic", "upstream": "https://files.example.org"}]))
    assert told.returncode == 0, told.stderr


def test_on_trial_a_mirror_says_the_same_of_itself_but_for_the_ports_of_its_sites(rendered: t.Callable[[str], Path]) -> None:
    folder = rendered("nginx").parent
    said = json.loads((folder / "www/mirror.json").read_text())
    on_trial = json.loads(re.sub(r"@PORT(\d)@", r"6000\1", (folder / "trial.json").read_text()))
    assert [(site["name"], site["port"]) for site in said["sites"] if "port" in site] == [("open", 4873), ("images", 5000)]
    for site in said["sites"]:
        site |= {"port": {"open": 60001, "images": 60002}[site["name"]]} if "port" in site else {}
    assert on_trial == said


@pytest.fixture(scope="module")
def landing(render: t.Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The landing page of a mirror that is named by an address and has two sites of each of some types."""
    folder, types = tmp_path_factory.mktemp("landing"), ("npm", "pypi", "deb", "rpm", "oci")
    sites = [
        {"type": kind, "name": f"{kind}-{which}", "upstream": f"https://{which}.example.org", **({"origins": []} if kind != "deb" else {})}
        for kind in types
        for which in ("one", "two")
    ]
    return (render(folder, "nginx", sites, mirror_fqdn="[fd00::1]").parent / "www/index.html").read_text()


def test_the_landing_page_has_lines_for_all_sites_of_a_type_that_clients_use_together(landing: str) -> None:
    assert set(re.findall(r"<h3>(\w+)-two</h3>", landing)) == {"deb", "rpm", "oci"}
    assert set(re.findall(r"<summary>(\w+)-two ", landing)) == {"npm", "pypi"}


def test_the_landing_page_names_a_host_by_its_whole_address(landing: str) -> None:
    assert 'unsafeHttpWhitelist: ["[fd00::1]"]' in landing


@pytest.mark.parametrize("engine", CHECKS)
def test_the_server_refuses_what_it_does_not_know(engine: str, rendered: t.Callable[[str], Path], tmp_path: Path) -> None:
    (path := tmp_path / "mirror.conf").write_text(rendered(engine).read_text() + "\nunheard_of on;\n")
    assert accepted(engine, path).returncode


@pytest.mark.parametrize(("engine", "check"), [pytest.param(e, c, id=f"{e}-{c.__name__}") for e, checks in CHECKS.items() for c in checks])
def test_nothing_to_complain_of(
    engine: str, check: t.Callable[..., t.Iterator[str]], parsed: t.Callable[[str], configuration.Directive]
) -> None:
    assert list(check(parsed(engine))) == []


@pytest.mark.parametrize(
    ("engine", "check", "pattern", "text"),
    [pytest.param(engine, *row, id=f"{engine}-{row[0].__name__}-{n}") for engine, rows in BREAKAGES.items() for n, row in enumerate(rows)],
)
def test_complains(
    engine: str, check: t.Callable[..., t.Iterator[str]], pattern: str, text: str, broken: t.Callable[[str, str, str], Path]
) -> None:
    assert list(check(configuration.PARSERS[engine](broken(engine, pattern, text))))


OLD_PROTOCOLS = {"nginx": ("TLSv1.2 TLSv1.3", "TLSv1.1 TLSv1.2"), "apache": ("-all +TLSv1.2", "-all +TLSv1.1")}


@pytest.mark.parametrize("engine", CHECKS)
def test_with_a_certificate(engine: str, rendered_with_a_certificate: t.Callable[[str], Path]) -> None:
    path = rendered_with_a_certificate(engine)
    told = accepted(engine, path)
    assert told.returncode == 0 and "[warn]" not in told.stderr, told.stderr
    assert [complaint for check in CHECKS[engine] for complaint in check(configuration.PARSERS[engine](path))] == []
    path.write_text(path.read_text().replace(*OLD_PROTOCOLS[engine]))
    (check,) = [check for check in CHECKS[engine] if check.__name__ == "clients_are_spoken_to_by_tls"]
    assert len(list(check(configuration.PARSERS[engine](path)))) == 3


def test_every_check_is_seen_to_complain() -> None:
    assert {engine: set(checks) for engine, checks in CHECKS.items()} == {e: {row[0] for row in rows} for e, rows in BREAKAGES.items()}


def gixy(path: Path) -> set[str]:
    """The names of gixy's checks that find something of medium severity or above.

    It reads expressions as Python does, which knows no reference to an open group: those of $older are left out.
    """
    text, count = re.subn(r"(?m)(^ *map [^\n]* \$older \{\n)(?:.*\n)*?( *default)", r"\1\2", path.read_text())
    assert count == 1
    (readable := path.with_name("gixy.conf")).write_text(text)
    command = [str(Path(sys.executable).with_name("gixy")), "-ll", "--format", "json", str(readable)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return {issue["plugin"] for issue in json.loads(told.stdout)}


def test_gixy_finds_nothing(rendered: t.Callable[[str], Path]) -> None:
    assert gixy(rendered("nginx")) == GIXY_EXCEPTIONS


@pytest.mark.parametrize(
    ("plugin", "pattern", "text"),
    [
        ("alias_traversal", SERVE, r"\1 location /wheel { alias /srv/wheel/; }"),
        ("http_splitting", SERVE, r"\1 location /old { return 302 https://example.org$uri; }"),
        ("host_spoofing", "proxy_set_header Host mirror", "proxy_set_header Host $http_host"),
    ],
)
def test_gixy_finds(plugin: str, pattern: str, text: str, broken: t.Callable[[str, str, str], Path]) -> None:
    assert plugin in gixy(broken("nginx", pattern, text))
