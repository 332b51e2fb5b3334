# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.mirror_document import BadInput, build, from_document
from ansible_collections.nearby.mirrors.plugins.module_utils.sites import SiteError, resolve_sites

DEFAULTS = {"pypi": "https://index.example.org"}
DISCOVERED = {"pypi": {"origins": ["https://files.example.org"], "representations": ["json", "v1html", "html"]}}


def resolve(sites, discovered=DISCOVERED, own=("mirror.test", "192.0.2.1"), port=80):
    return resolve_sites(sites, DEFAULTS.get, discovered, own, port)


def routed(sites, path):
    """The upstream URL for a path of the mirror, as an engine finds it: the first route that matches."""
    for site in sites:
        for route in site["routes"]:
            match = re.match(route["pattern"].replace("(?<rest>", "(?P<rest>"), path)
            if match:
                return route["kind"], route["target"] + match["rest"]
    return None


def rewritten(site, body, route="simple"):
    """A body as an engine rewrites it: at each place the first pair that fits, and no second look at what was put in."""
    pairs = {link["from"]: link["to"] for found in site["routes"] if found["name"] == route for link in found["rewrite"]}
    return re.sub("|".join(map(re.escape, pairs)), lambda match: pairs[match[0]], body)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/pypi/simple/six/", ("index", "https://index.example.org/simple/six/")),
        ("/pypi/simple/", ("index", "https://index.example.org/simple/")),
        ("/pypi/pypi/six/json", ("index", "https://index.example.org/pypi/six/json")),
        ("/pypi/pypi/six/1.0/json", ("index", "https://index.example.org/pypi/six/1.0/json")),
        ("/pypi/integrity/six/1.0/six.whl/provenance", ("index", "https://index.example.org/integrity/six/1.0/six.whl/provenance")),
        ("/pypi/files/packages/a/six-1.0.tar.gz", ("artifact", "https://files.example.org/packages/a/six-1.0.tar.gz")),
        ("/pypi/files/packages/a/x-1+l.whl.metadata", ("artifact", "https://files.example.org/packages/a/x-1+l.whl.metadata")),
        ("/pypi/packages/a/six-1.0.tar.gz", ("artifact", "https://index.example.org/packages/a/six-1.0.tar.gz")),
        ("/pypi/account/login/", None),
        ("/pypi/pypi/six/rss", None),
        ("/other/simple/six/", None),
    ],
)
def test_paths_map_one_to_one_to_upstream(path, expected):
    assert routed(resolve(["pypi"]), path) == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"url":"https://files.example.org/packages/a.whl"', '"url":"/pypi/files/packages/a.whl"'),
        ('<a href="https://files.example.org/packages/a.whl#sha256=1">', '<a href="/pypi/files/packages/a.whl#sha256=1">'),
        ('"provenance":"https://index.example.org/integrity/a/1/a.whl/provenance"', '"provenance":"/pypi/integrity/a/1/a.whl/provenance"'),
        ('<a href="https://index.example.org/packages/a.whl">', '<a href="/pypi/packages/a.whl">'),
        ('<a href="/packages/a.whl">', '<a href="/pypi/packages/a.whl">'),
        ('"url": "/packages/a.whl"', '"url": "/pypi/packages/a.whl"'),
        ('<a href="../../packages/a.whl">', '<a href="../../packages/a.whl">'),
        ("https://files.example.org.evil.test/", "https://files.example.org.evil.test/"),
    ],
)
def test_links_stay_on_the_mirror(before, after):
    assert rewritten(resolve(["pypi"])[0], before) == after


def test_legacy_json_keeps_links_that_are_no_files():
    body = '"project_url":"https://index.example.org/project/a/","url":"https://files.example.org/a.whl"'
    assert (
        rewritten(resolve(["pypi"])[0], body, "project") == '"project_url":"https://index.example.org/project/a/","url":"/pypi/files/a.whl"'
    )


def test_an_origin_that_is_the_index_itself_is_served_as_files():
    site = resolve(["pypi"], {"pypi": {"origins": ["https://index.example.org"]}})[0]
    assert rewritten(site, "https://index.example.org/packages/a.whl") == "/pypi/files/packages/a.whl"
    assert rewritten(site, "https://index.example.org/integrity/a") == "/pypi/integrity/a"


def test_further_origins_are_named_by_their_host():
    origins = ["https://files.example.org", "http://cdn.test:8000"]
    sites = resolve([{"type": "pypi", "origins": origins}])
    assert routed(sites, "/pypi/files/a.whl") == ("artifact", "https://files.example.org/a.whl")
    assert routed(sites, "/pypi/files-cdn.test-8000/a.whl") == ("artifact", "http://cdn.test:8000/a.whl")


@pytest.mark.parametrize(("site", "expected"), [("pypi", True), ({"type": "pypi", "origins": []}, False)])
def test_origins_are_discovered_unless_they_are_given(site, expected):
    assert resolve([site])[0]["discover"] is expected


def test_upstream_with_a_base_path():
    sites = resolve(
        [{"name": "internal", "type": "pypi", "upstream": "https://host.test/repository/py/", "origins": ["https://host.test"]}]
    )
    assert routed(sites, "/internal/simple/a/") == ("index", "https://host.test/repository/py/simple/a/")
    assert rewritten(sites[0], 'href="/repository/py/packages/a.whl"') == 'href="/internal/packages/a.whl"'
    assert {"from": "/repository/py/", "to": "/internal/", "place": "https://host.test/repository/py/"} in sites[0]["routes"][0][
        "redirects"
    ]


@pytest.mark.parametrize(
    ("origins", "expected"),
    [
        (["https://host.test"], "/internal/files/file/a.whl"),
        (["https://other.test", "https://host.test"], "/internal/files-host.test/file/a.whl"),
        (["https://other.test"], None),
    ],
)
def test_a_redirect_beside_the_upstreams_path_leads_to_its_own_origin_where_that_is_declared(origins, expected):
    (site,) = resolve([{"name": "internal", "type": "pypi", "upstream": "https://host.test/repository/py", "origins": origins}])
    for route in [route for route in site["routes"] if not route["name"].startswith("files")]:
        pairs = [(pair["from"], pair["to"]) for pair in route["redirects"]]
        below, beside = (
            next((to + location[len(start) :] for start, to in pairs if location.startswith(start)), None)
            for location in ("/repository/py/a.whl", "/file/a.whl")
        )
        assert (below, beside) == ("/internal/a.whl", expected)


def test_what_is_stored_for_another_upstream_is_not_found_again():
    first, second = (resolve([{"type": "pypi", "upstream": upstream}])[0] for upstream in ("http://a.test", "http://b.test"))
    moved = resolve([{"type": "pypi", "upstream": "http://a.test", "origins": ["https://moved.test"]}])[0]
    keys = [{route["name"]: route["id"] for route in site["routes"]} for site in (first, second, moved)]
    assert keys[0]["simple"] != keys[1]["simple"] and keys[0]["simple"] != keys[2]["simple"]
    assert keys[0]["files"] != keys[2]["files"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("example.org/!a/@v/list", "index"),
        ("example.org/!a/@latest", "index"),
        ("example.org/!a/@v/v1.2.3.info", "artifact"),
        ("example.org/!a/@v/v1.2.3.mod", "artifact"),
        ("example.org/!a/@v/v1.2.3.zip", "artifact"),
        ("example.org/!a/@v/v2.0.0+incompatible.zip", "artifact"),
        ("example.org/!a/@v/v0.0.0-20200102030405-0123456789ab.info", "artifact"),
        ("example.org/!a/@v/v1.0.0-!r!c.1.mod", "artifact"),
        ("golang.org/toolchain/@v/v0.0.1-go1.26.9.linux-amd64.zip", "artifact"),
        ("sumdb/sum.test/lookup/golang.org/toolchain@v0.0.1-go1.26.9.linux-amd64", "artifact"),
        ("example.org/!a/@v/main.info", "index"),  # a branch
        ("example.org/!a/@v/v1.info", "index"),
        ("example.org/!a/@v/0123456789ab.mod", "index"),
        ("sumdb/sum.test/supported", "index"),
        ("sumdb/sum.test/latest", "index"),
        ("sumdb/sum.test/lookup/example.org/!a@v1.2.3", "artifact"),
        ("sumdb/sum.test/tile/8/0/x001/234.p/5", "artifact"),
        ("sumdb/sum.test/tile/8/data/x001/234", "artifact"),
    ],
)
def test_golang_knows_what_never_changes(path, kind):
    site = {"type": "golang", "upstream": "https://proxy.example.org/go"}
    assert routed(resolve([site]), f"/golang/{path}") == (kind, f"https://proxy.example.org/go/{path}")


def test_golang_gives_clients_its_root_and_rewrites_nothing():
    (site,) = resolve([{"type": "golang", "upstream": "https://proxy.example.org"}])
    assert (site["index"], site["discover"]) == ("/golang/", False)
    assert not any(route["rewrite"] for route in site["routes"])


NPM = {"type": "npm", "upstream": "https://registry.example.org", "origins": ["https://tarballs.example.org"]}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("isarray", "index"),
        ("@scope%2fname", "index"),
        ("@scope/name", "index"),
        ("isarray/1.0.0", "index"),
        ("isarray/-/isarray-1.0.0.tgz", "artifact"),
        ("@scope/name/-/name-1.0.0.tgz", "artifact"),
        ("@scope%2fname/-/name-1.0.0.tgz", "artifact"),
        ("~/11/@scope/name/1.0.0.tgz", "artifact"),
        ("~/11/name/1.0.0.tgz", "artifact"),
        ("download/@scope/name/1.0.0/0123abcd", "artifact"),
        ("name/download/name-1.0.0.tgz", "artifact"),
        ("@scope/name/1.0.0", "index"),
        ("@scope%2fname/1.0.0", "index"),
        ("name.tgz", "index"),  # a package may be called so
        ("@scope/name.tgz", "index"),
        ("@scope/name/1.0.0-x.tgz", "index"),
        ("-/npm/v1/keys", "index"),
        ("-/npm/v1/attestations/isarray@1.0.0", "index"),
        ("-/package/@scope%2fname/dist-tags", "index"),
        ("-/npm/v1/security/advisories/bulk", "absent"),
    ],
)
def test_npm_knows_what_never_changes(path, kind):
    assert routed(resolve([NPM]), f"/npm/{path}") == (kind, f"https://registry.example.org/{path}")


@pytest.mark.parametrize("path", ["", "-/v1/search", "-/user/org.couchdb.user:x", "-/all", "name/-/all"])
def test_npm_offers_nothing_else_of_a_registry(path):
    assert routed(resolve([NPM]), f"/npm/{path}") is None


def test_npm_passes_on_what_is_posted_where_the_site_says_so():
    found = routed(resolve([NPM | {"posts": True}]), "/npm/-/npm/v1/security/audits/quick")
    assert found == ("pass", "https://registry.example.org/-/npm/v1/security/audits/quick")


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("https://registry.example.org/a/-/a-1.tgz", "http://m.test:8080/npm/a/-/a-1.tgz"),
        ("https://registry.example.org:443/a/-/a-1.tgz", "http://m.test:8080/npm/a/-/a-1.tgz"),
        ("https://tarballs.example.org/a-1.tgz", "http://m.test:8080/npm/files/a-1.tgz"),
        ("https://tarballs.example.org:443/a-1.tgz", "http://m.test:8080/npm/files/a-1.tgz"),
        ("https://other.example.org/a-1.tgz", "https://other.example.org/a-1.tgz"),
        ("https://registry.example.org.evil.test/a", "https://registry.example.org.evil.test/a"),
    ],
)
def test_npm_is_given_whole_links(link, expected):
    (site,) = resolve_sites([NPM], DEFAULTS.get, {}, [], 8080, "http://m.test:8080")
    assert rewritten(site, f'{{"tarball": "{link}"}}', "package") == f'{{"tarball": "{expected}"}}'


@pytest.mark.parametrize(
    ("path", "kind", "lifetime"),
    [
        ("9/x86_64/os/repodata/repomd.xml", "index", 1),
        ("9/x86_64/os/repodata/repomd.xml.asc", "index", 1),
        ("repodata/repomd.xml.key", "index", 1),
        ("os/repodata/primary.xml.gz", "index", 1),
        (f"os/repodata/{64 * 'a'}-primary.xml.zst", "artifact", 300),
        (f"repodata/{128 * '0'}-filelists.xml.gz", "artifact", 300),
        (f"os/repodata/{40 * 'f'}-comps-Everything.x86_64.xml", "artifact", 300),
        ("os/repodata/abc-primary.xml.gz", "index", 1),
        (f"os/{64 * 'a'}-notes.xml", "index", 300),
        ("os/Packages/l/libstdc++-13.2.1~rc1^git-4.fc39.x86_64.rpm", "artifact", 300),
        ("demo-1.0-1.src.rpm", "artifact", 300),
        ("os/drpms/demo-1.0-1_1.1-1.noarch.drpm", "artifact", 300),
        ("demo-release-latest-9.noarch.rpm", "index", 300),  # another one tomorrow
        ("demo-release-9.rpm", "index", 300),
        ("os/.treeinfo", "index", 300),
        ("os/media.1/media", "index", 300),
        ("RPM-GPG-KEY-demo-1.0-1.noarch", "index", 300),
    ],
)
def test_rpm_knows_what_never_changes(path, kind, lifetime):
    (site,) = resolve([{"type": "rpm", "upstream": "https://rpm.example.org/pub"}])
    assert routed([site], f"/rpm/{path}") == (kind, f"https://rpm.example.org/pub/{path}")
    route = next(route for route in site["routes"] if re.fullmatch(route["pattern"].replace("(?<", "(?P<"), f"/rpm/{path}"))
    assert route["lifetime"] == lifetime
    assert site["index"] == "/rpm/" and not any(route["rewrite"] for route in site["routes"])
    assert len({(route["kind"], route["id"]) for route in site["routes"]}) == len(site["routes"]), "Apache finds a route by these"


CARGO = {"type": "cargo", "upstream": "https://index.example.org/cargo", "origins": ["https://files.example.org"]}


def cargo(**options):
    (site,) = resolve_sites([CARGO | options], DEFAULTS.get, {}, [], 80, "http://mirror.test:8080")
    return site


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("config.json", ("index", "https://index.example.org/cargo/config.json")),
        ("1/a", ("index", "https://index.example.org/cargo/1/a")),
        ("2/ab", ("index", "https://index.example.org/cargo/2/ab")),
        ("3/a/abc", ("index", "https://index.example.org/cargo/3/a/abc")),
        ("ca/rg/cargo", ("index", "https://index.example.org/cargo/ca/rg/cargo")),
        ("cf/g-/cfg-if", ("index", "https://index.example.org/cargo/cf/g-/cfg-if")),
        ("do/wn/download", ("index", "https://index.example.org/cargo/do/wn/download")),
        ("files/a/Cargo/1.0.0/download", ("artifact", "https://files.example.org/a/Cargo/1.0.0/download")),
        ("", None),
        ("api/v1/crates", None),
        ("not-offered/web.example.org/api/v1/crates", None),
    ],
)
def test_cargo_has_an_index_and_crates_and_nothing_else(path, expected):
    assert routed([cargo()], f"/cargo/{path}") == expected


FILES, NOWHERE = "http://mirror.test:8080/cargo/files", "http://mirror.test:8080/cargo/not-offered"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"dl":"https://files.example.org/crates"}', f'{{"dl":"{FILES}/crates"}}'),
        ('{"dl": "https://files.example.org:443/crates/{crate}"}', f'{{"dl": "{FILES}/crates/{{crate}}"}}'),
        ('{"dl":"https://files.example.org"}', f'{{"dl":"{FILES}"}}'),
        ('{"dl":"https://files.example.org:443"}', f'{{"dl":"{FILES}"}}'),
        ('{"dl":"https://files.example.org.evil.test/"}', '{"dl":"https://files.example.org.evil.test/"}'),
        ('{"api":"https://files.example.org/"}', f'{{"api":"{NOWHERE}/files.example.org/"}}'),
        ('{"api": "http://web.example.org"}', f'{{"api": "{NOWHERE}/web.example.org"}}'),
        ('{"api": null}', '{"api": null}'),
    ],
)
def test_cargo_downloads_from_the_mirror_and_has_no_api(before, after):
    assert rewritten(cargo(), before, "config") == after


def test_crates_that_are_beside_or_below_the_index_are_files():
    site = cargo(origins=["https://index.example.org"])
    assert rewritten(site, '"https://index.example.org/cargo/dl"', "config") == f'"{FILES}/cargo/dl"'
    assert routed([site], "/cargo/files/cargo/dl/a/1.0.0/download") == (
        "artifact",
        "https://index.example.org/cargo/dl/a/1.0.0/download",
    )
    (files,) = (route for route in site["routes"] if route["name"] == "files")
    for origin in "https://index.example.org/", "https://index.example.org:443/":
        pair = next(pair for pair in files["redirects"] if pair["from"] == origin)
        assert (pair["to"], pair["place"]) == ("/cargo/files/", "https://index.example.org/")


@pytest.mark.parametrize(
    ("given", "default", "upstream"),
    [
        ("cargo", "https://crates.example.org/", "https://index.crates.example.org"),
        ("cargo", "http://crates.example.org:8080/a", "http://index.crates.example.org:8080/a"),
        ({"type": "cargo", "upstream": "https://crates.example.org"}, "https://x.test", "https://crates.example.org"),
        ("pypi", "https://pypi.example.org", "https://pypi.example.org"),
    ],
)
def test_an_index_may_have_a_host_below_that_of_the_default_repository(given, default, upstream):
    assert resolve_sites([given], lambda _type: default, {}, [], 80)[0]["upstream"] == upstream


def test_without_a_default_repository_cargo_has_no_index():
    with pytest.raises(SiteError, match="has no default upstream"):
        resolve(["cargo"])


@pytest.mark.parametrize(
    ("path", "kind", "lifetime"),
    [
        ("org/example/demo/maven-metadata.xml", "index", 1),
        ("org/example/demo/maven-metadata.xml.sha1", "index", 1),
        ("org/example/demo/maven-metadata.xml.asc.md5", "index", 1),
        ("maven-metadata.xml", "index", 1),
        ("demo/demo/1.0/demo-1.0.jar", "artifact", 300),
        ("org/example/demo/1.0-beta+1/demo-1.0-beta+1-sources.jar.sha512", "artifact", 300),
        ("org/example/demo_2.13/1.0/demo_2.13-1.0.pom.asc", "artifact", 300),
        ("org/example/demo/1.0/demo-1.0.module", "artifact", 300),
        ("org/example/demo/1.0-SNAPSHOT/demo-1.0-SNAPSHOT.jar", "index", 1),
        ("org/example/demo/1.0-SNAPSHOT/demo-1.0-20260102.030405-6.jar.sha1", "index", 1),
        ("org/example/demo/1.0-SNAPSHOT/maven-metadata.xml", "index", 1),
        ("org/example/a-SNAPSHOT/1.0/a-SNAPSHOT-1.0.jar", "artifact", 300),  # an artifact's name
        ("org/example/demo/1.0/demo-2.0.jar", "index", 300),
        ("org/example/demo/1.0/", "index", 300),
        ("archetype-catalog.xml", "index", 300),
        (".index/nexus-maven-repository-index.gz", "index", 300),
    ],
)
def test_maven_knows_what_never_changes_and_what_changes_together(path, kind, lifetime):
    (site,) = resolve([{"type": "maven", "upstream": "https://repository.example.org/maven2/"}])
    assert routed([site], f"/maven/{path}") == (kind, f"https://repository.example.org/maven2/{path}")
    route = next(route for route in site["routes"] if re.match(route["pattern"].replace("(?<rest>", "(?P<rest>"), f"/maven/{path}"))
    assert route["lifetime"] == lifetime


def test_routes_of_one_target_that_are_fresh_for_different_times_are_kept_apart():
    def ids(**options):
        (site,) = resolve([{"type": "maven", "upstream": "https://repository.example.org/maven2"} | options])
        return {route["name"]: route["id"] for route in site["routes"]}

    assert len(set(ids().values())) == 2
    assert ids()["changing"] != ids()["other"] == ids(lifetime=60)["release"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("dists/stable/InRelease", "index"),
        ("dists/stable/main/binary-amd64/Packages.xz", "index"),
        ("dists/stable/main/binary-amd64/by-hash/SHA256/0a1b", "artifact"),
        ("dists/stable/main/binary-amd64/by-hash/SHA256/", "index"),
        ("pool/main/h/hello/hello_2.10-3_amd64.deb", "artifact"),
        ("pool/main/h/hello/hello_2.10.orig.tar.gz", "artifact"),
        ("by-hash/SHA256/0a1b", "artifact"),
        ("hello_2.10-3_amd64.deb", "artifact"),
        ("flat/hello_2.10-3_amd64.udeb", "artifact"),
        ("flat/latest.deb", "index"),
        ("flat/latest_amd64.deb", "index"),
        ("flat/Packages", "index"),
        ("project/trace/master", "index"),
    ],
)
def test_deb_knows_what_never_changes(path, kind):
    site = {"type": "deb", "name": "debian", "upstream": "http://archive.example.org/debian"}
    assert routed(resolve([site]), f"/debian/{path}") == (kind, f"http://archive.example.org/debian/{path}")


def test_an_index_of_deb_is_fresh_for_a_second_whatever_its_site_says():
    (site,) = resolve([{"type": "deb", "upstream": "http://archive.example.org", "lifetime": 600}])
    assert {route["lifetime"] for route in site["routes"] if route["kind"] == "index"} == {1}


ARCHIVES = [
    {"url": "http://more.test/linux/debian", "suites": ["stable"]},
    {"url": "http://archive.test/debian", "suites": ["stable", "stable-updates"]},
    {"url": "http://archive.test/debian-security", "suites": ["stable-security"]},
]


@pytest.mark.parametrize(
    ("site", "url", "suites"),
    [
        ({"name": "debian-security"}, "http://archive.test/debian-security", ["stable-security"]),
        ({"name": "debian"}, "http://more.test/linux/debian", ["stable"]),
        ({"name": "debian", "suites": ["stable", "stable-updates"]}, "http://archive.test/debian", ["stable", "stable-updates"]),
        ({"name": "sec", "suites": ["stable-security"]}, "http://archive.test/debian-security", ["stable-security"]),
        ({"name": "debian", "upstream": "http://mine.test/debian"}, "http://mine.test/debian", []),
    ],
)
def test_deb_takes_its_upstream_from_the_mirror_hosts_own_sources(site, url, suites):
    (found,) = resolve_sites([{"type": "deb", **site}], DEFAULTS.get, {}, [], 80, archives=ARCHIVES)
    assert (found["upstream"], found["suites"]) == (url, suites)
    assert (found["probe"], found["discover"]) == ((suites or [""])[0], bool(suites))


@pytest.mark.parametrize("site", [{}, {"name": "ubuntu"}, {"name": "debian", "suites": ["sid"]}])
def test_deb_without_a_source_that_fits_needs_an_upstream(site):
    with pytest.raises(SiteError, match="no apt source of the mirror host has its suites.*set upstream: for it in mirror_sites"):
        resolve_sites([{"type": "deb", **site}], DEFAULTS.get, {}, [], 80, archives=ARCHIVES)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("", "index"),
        ("versions", "index"),
        ("names", "index"),
        ("info/rake", "index"),
        ("info/Some_gem.with-all", "index"),
        ("specs.4.8.gz", "index"),
        ("latest_specs.4.8.gz", "index"),
        ("prerelease_specs.4.8.gz", "index"),
        ("gems/rake-13.0.6.gem", "artifact"),
        ("gems/nokogiri-1.16.0-x86_64-linux.gem", "artifact"),
        ("quick/Marshal.4.8/rake-13.0.6.gemspec.rz", "artifact"),
        ("api/v1/dependencies", ""),
        ("api/v1/gems", ""),
        ("gems/rake", ""),
        ("gems/a/b.gem", ""),
        ("info/", ""),
        ("quick/Marshal.4.8/", ""),
    ],
)
def test_gem_knows_what_never_changes_and_what_is_none_of_its(path, kind):
    site = {"type": "gem", "upstream": "https://gems.example.org/all"}
    assert routed(resolve([site]), f"/gem/{path}") == ((kind, f"https://gems.example.org/all/{path}") if kind else None)


def test_gems_specifications_are_fresh_for_less_time():
    (site,) = resolve([{"type": "gem", "upstream": "https://gems.example.org"}])
    routes = {route["name"]: route for route in site["routes"] if route["kind"] == "index"}
    assert [routes[name]["lifetime"] for name in ("specifications", "index")] == [60, 300]
    assert routes["specifications"]["id"] != routes["index"]["id"], "Apache tells routes apart by it"


def test_gem_is_sent_elsewhere_by_whole_urls():
    (site,) = resolve_sites([{"type": "gem", "upstream": "https://gems.example.org"}], {}.get, {}, [], 80, "http://mirror.test")
    assert (site["index"], site["discover"], site["here"]) == ("/gem/", False, "http://mirror.test")
    assert not any(route["rewrite"] for route in site["routes"])


def test_generic_knows_what_never_changes():
    sites = resolve(
        [{"name": "tools", "type": "generic", "upstream": "http://host.test", "immutable": [r"v[0-9]+/.+\.tgz"], "lifetime": 60}]
    )
    assert routed(sites, "/tools/v1/a.tgz") == ("artifact", "http://host.test/v1/a.tgz")
    assert routed(sites, "/tools/latest/a.tgz") == ("index", "http://host.test/latest/a.tgz")
    assert {route["lifetime"] for route in sites[0]["routes"]} == {60}
    assert not any(route["prefix"] for route in sites[0]["routes"]), "a prefix would win over the expressions"


def test_two_sites_of_one_type():
    sites = resolve(["pypi", {"name": "cpu", "type": "pypi", "upstream": "https://cpu.test/whl", "origins": ["https://cpu.test"]}])
    assert [site["index"] for site in sites] == ["/pypi/simple/", "/cpu/simple/"]
    assert build(sites, "m", "r", "http://m.test", "nginx")["mirror_info"] == {"pypi": {"url": "http://m.test/pypi/simple"}}


def test_mirror_info_has_the_keys_that_zuul_jobs_documents_and_no_other():
    """Source: zuul-jobs, "Mirror Configuration"; archives are lists there, since a security one may be at another URL."""
    archives = {"debian": ["stable"], "security": ["stable-security"], "ubuntu": ["noble", "noble-updates"], "tools": ["stable"]}
    given = [
        *({"name": name, "type": "deb", "upstream": f"http://{name}.test", "suites": suites} for name, suites in archives.items()),
        {"name": "debian-x", "type": "deb", "upstream": "http://x.test"},
        *({"name": name, "type": "rpm", "upstream": f"http://{name}.test"} for name in ("fedora", "epel", "opensuse", "rpm")),
        {"name": "wheel", "type": "generic", "upstream": "http://wheel.test"},
        {"name": "opensuse-files", "type": "generic", "upstream": "http://files.test"},
        *({"type": kind, "upstream": f"http://{kind}.test"} for kind in ("npm", "golang", "cargo", "maven", "gem", "oci")),
        {"name": "internal", "type": "pypi", "upstream": "http://internal.test", "origins": []},
        "pypi",
    ]
    said = {name: {"vendor": "debian", "components": ["main"]} for name in ("debian", "security")}
    said |= {"ubuntu": {"vendor": "", "components": ["main", "universe"]}, "tools": {"vendor": "tools", "components": ["main"]}}
    found = build(resolve(given, said), "m", "r", "http://m.test", "nginx")["mirror_info"]

    def archive(name, components):
        return {"type": "deb", "options": {}, "url": f"http://m.test/{name}", "suites": archives[name], "components": components}

    urls = {"fedora": "fedora", "epel": "epel", "opensuse": "opensuse", "wheel": "wheel", "pypi": "internal/simple"}
    assert found == {key: {"url": f"http://m.test/{path}"} for key, path in urls.items()} | {
        "debian": [archive("debian", ["main"]), archive("security", ["main"])],
        "ubuntu": [archive("ubuntu", ["main", "universe"])],
    }


BASEOS = "$releasever${releasever_minor:+z}/BaseOS/$basearch/os"


@pytest.mark.parametrize(
    "told", [[], "baseos", {"baseos": "/9"}, {"baseos": "9/"}, {"baseos": "../9"}, {"base os": "9"}, {"baseos": "9\n"}, {"baseos": ".."}]
)
def test_repositories_are_paths_by_name(told):
    site = {"type": "rpm", "upstream": "http://h.test"}
    (resolved,) = resolve([site | {"repositories": {"baseos": BASEOS}}])
    document = build([resolved], "m", "", "http://m.test", "nginx")
    assert from_document(document, "", ["rpm"], "it")["indexes"]["rpm"]["sites"][0]["repositories"] == {"baseos": BASEOS}
    with pytest.raises(SiteError, match="repositories are no names with a path|has no repositories that dnf could name"):
        resolve([site | {"repositories": told}])
    document["sites"][0]["repositories"] = told
    with pytest.raises(BadInput, match="has a site with the repositories"):
        from_document(document, "", ["rpm"], "it")


@pytest.mark.parametrize(
    ("sites", "sentence"),
    [
        ([], "at least one site"),
        ("pypi", "not a list"),
        ([7], r"mirror_sites\[0\] is neither"),
        (["conda"], r"mirror_sites\[0\]: type 'conda' is unknown; set one of cargo, deb, gem, generic, golang, maven, npm, oci, pypi, rpm"),
        ([{"type": "pypi", "posts": True}], "nothing is posted to a registry of type 'pypi' that could pass; take posts out"),
        ([NPM | {"posts": "yes"}], "posts is neither true nor false"),
        ([{"type": "pypi", "url": "x"}], "unknown option 'url'"),
        ([{"type": "pypi", "name": "Py PI"}], "name 'Py PI'"),
        ([{"type": "generic", "name": "g"}], "no default upstream; set upstream:"),
        (["golang"], "'golang' has no default upstream; set upstream: for it in mirror_sites"),
        ([NPM | {"repositories": {}}], "has no repositories that dnf could name"),
        (["rpm"], "'rpm' has no default upstream; set upstream: for it in mirror_sites"),
        ([{"type": "pypi", "upstream": "index.example.org"}], "no scheme or host"),
        ([{"type": "pypi", "upstream": "ftp://index.example.org"}], "no scheme or host"),
        ([{"type": "pypi", "upstream": "https://user:word@index.example.org"}], "credentials"),
        ([{"type": "pypi", "upstream": "https://index.example.org/?a=b"}], "more than scheme"),
        ([{"type": "pypi", "upstream": "https://index.example.org/a;b"}], "more than scheme"),
        ([{"type": "pypi", "upstream": "http://MIRROR.test"}], "is this mirror itself"),
        ([{"type": "pypi", "upstream": "http://192.0.2.1/pypi"}], "is this mirror itself"),
        ([{"type": "pypi", "origins": ["files.example.org"]}], "origins 'files.example.org' has no scheme"),
        ([{"type": ["pypi"]}], "is unknown; set one of"),
        *(
            ([{"type": "pypi", **given}], "has a host or a port that is none")
            for url in ("https://h.test:99999", "https://[::1/simple", "https://[dead]/x")
            for given in ({"upstream": url}, {"origins": [url]})
        ),
        ([{"type": "pypi", "upstream": "https://user:word@[::1/simple"}], "credentials"),
        ([{"type": "pypi", 7: 8, "x": 9}], "unknown option '7'"),
        ([{"type": "pypi", "name": 42}], "name '42' is no text of"),
        ([{"type": "pypi", "port": [8081]}], "port '.8081.' is not a number from 1 to 65535"),
        ([{"type": "pypi", "origins": None}], "origins is not a list"),
        ([{"type": "pypi", "origins": "https://files.example.org"}], "origins is not a list"),
        ([{"type": "pypi", "origins": ["https://a.test", "https://f.test", "http://f.test"]}], "two origins have one host"),
        ([{"type": "pypi", "representations": ["JSON"]}], "representation 'JSON' is unknown"),
        (["pypi", "pypi"], "share the path /pypi/"),
        (["pypi", {"type": "pypi", "name": "b", "path": "/pypi/"}], "share the path /pypi/"),
        (["pypi", {"type": "pypi", "name": "b", "path": "/pypi/b/"}], "lie within each other"),
        ([{"type": "pypi", "path": "/"}], "path '/'"),
        ([{"type": "pypi", "path": "/a b/"}], "path '/a b/'"),
        ([{"type": "pypi", "path": "/../"}], "path '/../'"),
        ([{"type": "pypi", "path": "/health/"}], "path '/health/'"),
        ([{"type": "pypi", "lifetime": 0}], "lifetime '0'"),
        ([{"type": "pypi", "lifetime": True}], "lifetime 'True'"),
        *(
            ([{"type": "oci", "upstream": "http://h.test", "probe": probe}], "probe '.*' is no image as repository:tag")
            for probe in ("a@sha256:0123", "h.test:5000/a/b:1", "a:b:c")
        ),
        *(
            ([{"type": "rpm", "upstream": "http://h.test", "probe": probe}], "probe '.*' is no name, or path without a slash at its end")
            for probe in ("9/x86_64/os/", "../x", "a//b", "a b", "a?b=c", 42, ["a"])
        ),
        ([{"type": "pypi", "immutable": ["a"]}], "take immutable out"),
        ([{"type": "generic", "upstream": "http://h.test", "immutable": ["("]}], "no valid expression"),
        ([{"type": "generic", "upstream": "http://h.test", "immutable": ['a"']}], "holds a quote"),
        ([{"type": "generic", "upstream": "http://h.test", "immutable": "a"}], "not a list"),
        ([{"type": "generic", "upstream": "http://h.test", "query": "yes"}], "query is neither"),
        (["deb"], "ends in /deb; set upstream: for it"),
        ([{"type": "deb", "suites": "stable"}], "suites is not a list"),
        ([{"type": "deb", "suites": ["../stable"]}], "suite '../stable' is none"),
        ([{"type": "deb", "suites": ["./"], "upstream": "http://h.test"}], "suite './' is none"),
        ([{"type": "deb", "suites": [7], "upstream": "http://h.test"}], "suite '7' is none"),
        ([{"type": "pypi", "suites": ["stable"]}], "type 'pypi' has no suites"),
        ([{"type": "pypi", "port": "x"}], "port 'x' is not a number from 1 to 65535"),
        ([{"type": "pypi", "port": True}], "port 'True' is not a number"),
        ([{"type": "pypi", "port": 0}], "port '0' is not a number"),
        ([{"type": "pypi", "port": 65536}], "port '65536' is not a number"),
        ([{"type": "pypi", "port": 80}], "Site 'pypi': port 80 is the mirror's own, mirror_port; set another port"),
        ([{"type": "pypi", "port": 81}, NPM | {"port": 81}], "Site 'npm': port 81 is that of site 'pypi'; set another port"),
        (
            [NPM | {"port": 5801}, {"type": "oci", "upstream": "http://i.test"}],
            "port 5801 is that of the programs that fetch, mirror_fetcher_port",
        ),
        ([{"type": "pypi", "upstream": "http://mirror.test:81"}, NPM | {"port": 81}], "'http://mirror.test:81' is this mirror itself"),
    ],
)
def test_bad_input_gets_one_sentence(sites, sentence):
    with pytest.raises(SiteError, match=sentence) as caught:
        resolve(sites)
    assert str(caught.value).count(". ") == 0 and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("given", "probe"),
    [
        ("", ""),
        ("devel:/languages:/python/Leap_15.6", "devel:/languages:/python/Leap_15.6"),
        ("c++/9.0~rc1", "c++/9.0~rc1"),
        ("@scope/name", "@scope/name"),
        ("library/app:1.0", "library/app:1.0"),
        ("/.config/a%2Bb", ".config/a%2Bb"),
    ],
)
def test_a_probe_is_one_to_nodes_as_well(given, probe):
    sites = resolve([{"type": "rpm", "upstream": "http://h.test", "probe": given}])
    document = build(sites, "m", "", "http://m.test", "nginx")
    assert from_document(document, "", ["rpm"], "it")["indexes"]["rpm"]["probe"] == document["sites"][0]["probe"] == probe


def test_another_port_of_this_host_may_be_an_upstream():
    assert resolve([{"type": "pypi", "upstream": "http://mirror.test:3141"}])


def test_what_upstream_does_not_offer_is_not_promised():
    site = resolve(["pypi"], {"pypi": {"origins": ["https://files.example.org"], "representations": ["html"]}})[0]
    assert site["offered"] == ["html"]
    assert build([site], "m", "", "http://m.test", "nginx")["sites"][0]["representations"] == ["html"]


def test_a_mirror_may_have_a_site_on_another_port_than_the_site_says():
    npm = {"type": "npm", "upstream": "https://registry.test", "origins": [], "port": 4873}
    sites = resolve([npm, {"type": "pypi", "upstream": "https://index.test", "origins": []}])
    for ports, expected in (None, 4873), ({"npm": "@PORT1@"}, "@PORT1@"):
        told = build(sites, "m", "", "http://m.test", "nginx", ports)["sites"]
        assert [site.get("port") for site in told] == [expected, None]


IMAGES = {"type": "oci", "name": "images", "upstream": "https://images.example.org:5000"}
DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (f"library/app/manifests/{DIGEST}", "artifact"),
        (f"app/blobs/{DIGEST}", "artifact"),
        ("library/app/manifests/latest", "index"),
        ("library/app/tags/list", "index"),
        ("library/app/blobs/latest", ""),
        ("library/app/blobs/uploads/", ""),
        ("_catalog", ""),
    ],
)
def test_oci_knows_what_never_changes_and_what_is_none_of_its(path, kind):
    upstream = f"https://images.example.org:5000/v2/{path}"
    assert routed(resolve([IMAGES]), f"/v2/images/{path}") == ((kind, upstream) if kind else None)


def test_each_oci_site_is_fetched_for_by_a_program_of_its_own():
    more = {**IMAGES, "name": "more", "upstream": "http://more.example.org", "registry": "more.example.org:5000"}
    sites = resolve_sites([IMAGES, {"type": "generic", "upstream": "http://a.test"}, more], {}.get, {}, [], 80, fetcher_port=7000)
    told = [([(each["name"].rpartition(".")[0], each["passing"]) for each in site["fetchers"]], site["registry"]) for site in sites]
    assert told == [
        ([("images", False), ("images.passing", True)], "images.example.org:5000"),
        ([], ""),
        ([("more", False), ("more.passing", True)], "more.example.org:5000"),
    ]
    keeps, passes = sites[0]["fetchers"]
    asked = {route["name"]: route["fetch"] for route in sites[0]["routes"]}
    kept, passed = (f"http://{each['address']}:7000/{each['prefix']}/v2/" for each in (keeps, passes))
    assert asked == {"manifest": kept, "tag": kept, "blob": passed}
    everyone = [each for site in sites for each in site["fetchers"]]
    assert {each["port"] for each in everyone} == {7000}
    assert [len({each[key] for each in everyone}) for key in ("name", "address", "prefix")] == [4, 4, 4]
    assert all(re.fullmatch(r"127\.[1-9]\d*\.\d+\.\d+", each["address"]) for each in everyone)
    assert resolve_sites([more, IMAGES], {}.get, {}, [], 80, fetcher_port=7000)[1] == sites[0], "and stays the same beside others"


@pytest.mark.parametrize(
    ("site", "port", "settings"), [({"upstream": "https://other.test"}, 5801, ""), ({}, 7000, ""), ({}, 5801, "a certificate")]
)
def test_a_program_that_differs_in_anything_fetches_beside_the_one_before(site, port, settings):
    (before,), (after,) = (
        resolve_sites([IMAGES | changes], {}.get, {}, [], 80, fetcher_port=to, fetcher_settings=text)
        for changes, to, text in (({}, 5801, ""), (site, port, settings))
    )
    for key in ("name", "address", "prefix"):
        assert not {each[key] for each in before["fetchers"]} & {each[key] for each in after["fetchers"]}
    same = [route["id"] for route in before["routes"]] == [route["id"] for route in after["routes"]]
    assert same is ("upstream" not in site), "what is stored stays"


def test_an_oci_site_asks_whether_everybody_may_pull():
    assert [resolve([site])[0]["discover"] for site in (IMAGES, {**IMAGES, "origins": []})] == [True, False]


@pytest.mark.parametrize(
    ("site", "sentence"),
    [
        ({"type": "oci"}, "type 'oci' has no default upstream; set upstream: for it"),
        ({**IMAGES, "path": "/images/"}, "clients of type 'oci' ask below /v2/, not at '/images/'; set another path"),
        ({**IMAGES, "registry": "https://images.example.org"}, "registry 'https://images.example.org' is no host name"),
        ({"type": "pypi", "registry": "images.example.org"}, "only names of images begin with that of a registry; take registry out"),
    ],
)
def test_refused_oci_sites(site, sentence):
    with pytest.raises(SiteError, match=sentence):
        resolve([site])


WHEELS = {"name": "wheels", "type": "pypi", "upstream": "https://wheels.example.org/whl/cpu", "index": "", "origins": []}
FILE = "torch-2.0%2Bcpu-py3-none-any.whl"


@pytest.mark.parametrize(
    ("index", "path", "kind", "below"),
    [
        ("", "torch/", "index", "torch/"),
        ("", "", "index", ""),
        ("", FILE, "artifact", FILE),
        ("", f"torch/{FILE}", "artifact", f"torch/{FILE}"),
        ("", "pypi/", "index", "pypi/"),
        ("cpu/", "cpu/torch/", "index", "cpu/torch/"),
        ("cpu/", FILE, "artifact", FILE),
        ("cpu/", "simple/torch/", None, ""),
    ],
)
def test_an_index_where_the_site_says(index, path, kind, below):
    (site,) = resolve([{**WHEELS, "index": index}])
    assert routed([site], f"/wheels/{path}") == ((kind, f"{WHEELS['upstream']}/{below}") if kind else None)
    assert (site["index"], site["index_url"]) == (f"/wheels/{index}", f"{WHEELS['upstream']}/{index}")


def test_links_of_an_index_at_its_root_lead_below_the_site():
    (site,) = resolve([WHEELS])
    (rewrite,) = [route["rewrite"] for route in site["routes"] if route["kind"] == "index"]
    assert {"from": 'href="/whl/cpu/', "to": 'href="/wheels/'} in rewrite
    assert {"from": "https://wheels.example.org/whl/cpu/", "to": "/wheels/"} in rewrite


@pytest.mark.parametrize(
    ("site", "sentence"),
    [
        ({**WHEELS, "index": "cpu"}, "index 'cpu' is not of the form words/, or empty; correct it"),
        ({**WHEELS, "index": "../"}, "index '../' is not of the form words/"),
        ({**WHEELS, "index": "/"}, "index '/' is not of the form words/"),
        ({**WHEELS, "index": True}, "index 'True' is not of the form words/"),
        ({"type": "npm", "upstream": "https://a.test", "index": "cpu/"}, "type 'npm' has its index at one place only; take index out"),
        ({"type": "generic", "upstream": "https://a.test", "index": ""}, "type 'generic' has its index at one place only"),
    ],
)
def test_refused_indexes(site, sentence):
    with pytest.raises(SiteError, match=re.escape(sentence)):
        resolve([site])


@pytest.mark.parametrize("upstream", ["https://h.test:443/x/", "https://H.test/x"])
def test_a_default_port_and_capitals_make_no_other_upstream(upstream):
    (plain,), (given,) = (resolve([{"type": "rpm", "upstream": url, "probe": None}]) for url in ("https://h.test/x", upstream))
    assert given == plain
