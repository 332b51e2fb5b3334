# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found out about a registry from its index."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.discovery import DiscoveryError, Found, discover
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client, Headers, HttpError, Response

SITE = {"name": "main", "type": "pypi", "upstream": "https://index.test", "probe": "demo"}


def pages(text, status=200, media_type="text/html", **headers):
    """A fault that answers every request for the page with this."""
    made = Response(status, Headers({"Content-Type": media_type, **headers}), text.encode(), "https://index.test/simple/demo/")
    return lambda _method, _url, _headers, _response: made


def test_pypi(world):
    assert discover(world, SITE) == Found(["https://files.test"], ["json", "v1html", "html"])
    assert {headers["Accept-Encoding"] for _method, _url, headers in world.asked} == {"gzip"}


def test_an_index_elsewhere(world):
    world.faults.append(pages('<a href="https://files.test/1.whl">x</a>'))
    discover(world, {**SITE, "index_url": "https://index.test/whl/cpu/"})
    assert {url for _method, url, _headers in world.asked} == {"https://index.test/whl/cpu/{}/".format(SITE["probe"])}


def test_html_whatever_is_asked_for(world):
    world.offered, world.serial["https://index.test"] = ("html",), ""
    found = discover(world, SITE)
    assert found.representations == ["html"] and found.origins[0] == "https://files.test"


def test_a_representation_that_is_refused_is_not_offered(world):
    world.faults.append(lambda _m, _u, headers, response: replace(response, status=406) if "html" in headers["Accept"] else response)
    assert discover(world, SITE).representations == ["json"]


LINKS = {
    "the most first, then by name, nothing below upstream": (
        ["https://index.test/1.whl", "https://b.test/1.whl", "https://a.test/1.whl", "https://c.test:444/1.whl", "https://c.test:444/2.whl"],
        ["https://c.test:444", "https://a.test", "https://b.test"]),
    "relative links": (["../../packages/1.whl", "/packages/2.whl"], []),
    "without a scheme": (["//files.test/1.whl"], ["https://files.test"]),
    "default ports": (["https://files.test:443/1.whl", "https://files.test/2.whl"], ["https://files.test"]),
}  # fmt: skip


@pytest.mark.parametrize("name", LINKS)
def test_origins(world, name):
    links, expected = LINKS[name]
    world.faults.append(pages("".join(f'<a href="{link}">x</a>' for link in links)))
    assert discover(world, SITE).origins == expected


class Archive:
    """Answers as it is told for each path, else with 404."""

    def __init__(self, **statuses):
        self.statuses = statuses
        self.bodies = {}

    def get(self, url, redirects=0):
        name = url.removeprefix("https://archive.test/debian/dists/").replace("/", "_")
        status = self.statuses.get(name, 404)
        if status == 0:
            raise HttpError(f"GET {url} failed: the connection was refused")
        return Response(status, url=url, body=self.bodies.get(name, b""))


def test_an_archives_vendor_and_components_are_those_that_its_releases_say():
    archive = Archive(stable_Release=200, new_InRelease=200)
    signed = b'-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nOrigin: Other\nComponents: main non-free-firmware "x\nSHA256:\n a 1 b\n'
    archive.bodies = {"stable_Release": b"Origin: Debian\r\nComponents: main updates/contrib\r\n", "new_InRelease": signed}
    site = {"name": "x", "type": "deb", "upstream": "https://archive.test/debian", "suites": ["stable", "new"]}
    assert discover(archive, site) == Found(components=["main", "updates/contrib", "non-free-firmware"], vendor="debian")
    assert discover(archive, {**site, "suites": ["new"]}).vendor == "other"


@pytest.mark.parametrize("name", ["InRelease", "Release"])
def test_an_archive_that_has_its_suites(name):
    site = {"name": "debian", "type": "deb", "upstream": "https://archive.test/debian/", "suites": ["stable", "new"]}
    assert discover(Archive(**{f"stable_{name}": 200, f"new_{name}": 200}), site) == Found()
    with pytest.raises(DiscoveryError, match="answered 404 where the Release of suite 'new' should be, .*/dists/new/; correct suites: or"):
        discover(Archive(**{f"stable_{name}": 200}), site)
    with pytest.raises(DiscoveryError, match="answered 403 where the Release of suite 'stable' should be"):
        discover(Archive(**{f"stable_{name}": 403}), site)
    with pytest.raises(DiscoveryError, match="refused; let this host reach it, or set another upstream:") as caught:
        discover(Archive(**{f"stable_{name}": 0}), site)
    assert str(caught.value).endswith("in mirror_sites for site 'debian'.")


def test_links_beside_the_upstreams_path(world):
    links = ["https://index.test/base/1.whl", "https://index.test/f/2.whl", "https://index.test/f/3.whl", "https://files.test/1.whl"]
    world.faults.append(pages("".join(f'<a href="{link}">x</a>' for link in links)))
    assert discover(world, {**SITE, "upstream": "https://index.test/base"}).origins == ["https://files.test", "https://index.test"]


PROBE = "; set probe: to a project that it has, or origins:, in mirror_sites for site 'main'."
REACH = "; set origins: in mirror_sites for site 'main', or let this host reach its upstream."
REFUSALS = {
    "not there": (pages("", 404), "https://index.test/simple/demo/ answered 404" + PROBE),
    "no files": (pages("<html>Please log in</html>"), "https://index.test/simple/demo/ lists no files" + PROBE),
    "no index": (pages("{}", media_type="application/json"), "type 'application/json', which is no index page" + PROBE),
    "no encoding": (pages("x", **{"Content-Encoding": "br"}), REACH),
    "nothing acceptable": (pages("", 406), "is to be had neither as JSON nor as HTML; set another upstream:."),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(world, name):
    fault, sentence = REFUSALS[name]
    world.faults.append(fault)
    with pytest.raises(DiscoveryError) as caught:
        discover(world, SITE)
    assert str(caught.value).startswith("Site 'main': ") and str(caught.value).endswith(sentence)


def test_without_reach_it_says_what_to_set(world, unreachable):
    world.faults.append(unreachable)
    with pytest.raises(DiscoveryError) as caught:
        discover(world, SITE)
    assert str(caught.value) == (
        "Site 'main': GET https://index.test/simple/demo/ failed: the connection was refused; "
        "set origins: in mirror_sites for site 'main', or let this host reach its upstream."
    )


@pytest.mark.parametrize("kind", ["pypi", "npm", "cargo"])
def test_a_name_that_does_not_resolve_is_looked_at_first(kind, monkeypatch):
    def unknown(*_arguments, **_options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DiscoveryError) as caught:
        discover(Client(), {**SITE, "type": kind, "upstream": "https://index.invalid"})
    told, advice = str(caught.value).split("; ")
    assert "the name index.invalid does not resolve" in told
    assert advice == "check upstream: of site 'main' in mirror_sites, or, where only this host does not know it, set origins: there."


def test_an_upstream_that_is_the_index_is_told_apart(world):
    with pytest.raises(DiscoveryError, match="/simple/simple/demo/ answered 404; upstream: is the part above simple/, so take that off"):
        discover(world, {**SITE, "upstream": "https://index.test/simple"})


def test_a_default_project_is_looked_at(world):
    world.faults.append(pages("", 404))
    with pytest.raises(DiscoveryError, match="https://index.test/simple/pip/ answered"):
        discover(world, {**SITE, "upstream": "https://index.test/", "probe": ""})


@pytest.mark.parametrize("kind", ["generic", "deb"])
def test_other_types_link_to_nothing(world, kind):
    assert discover(world, {**SITE, "type": kind}) == Found()
    assert not world.asked


CARGO = {"name": "crates", "type": "cargo", "upstream": "https://crates.test/"}


def config(text, status=200):
    """A fault that answers the request for config.json with this."""
    made = Response(status, Headers({"Content-Type": "application/json"}), text.encode(), "https://crates.test/config.json")
    return lambda _method, url, _headers, response: made if url == "https://crates.test/config.json" else response


@pytest.mark.parametrize(
    ("dl", "expected"),
    [
        ("https://files.test/crates", "https://files.test"),
        ("https://crates.test:443/v1/crates", "https://crates.test"),
        ("http://files.test:8080/{lowerprefix}/{crate}/{version}", "http://files.test:8080"),
    ],
)
def test_cargo(world, dl, expected):
    world.faults.append(config(json.dumps({"dl": dl, "api": "https://web.test"})))
    assert discover(world, CARGO) == Found([expected])


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (config("", 404), "https://crates.test/config.json answered 404"),
        (config("<html>"), "https://crates.test/config.json does not tell where crates are (dl)"),
        (config("[]"), "https://crates.test/config.json does not tell where crates are (dl)"),
        (config('{"dl": "/crates"}'), "https://crates.test/config.json does not tell where crates are (dl)"),
        (config('{"dl": 7}'), "https://crates.test/config.json does not tell where crates are (dl)"),
    ],
)
def test_cargo_says_what_to_set(world, fault, sentence):
    world.faults.append(fault)
    with pytest.raises(DiscoveryError) as caught:
        discover(world, CARGO)
    assert str(caught.value) == f"Site 'crates': {sentence}; set origins: in mirror_sites for site 'crates', or another upstream:."


def test_cargo_without_reach(world, unreachable):
    world.faults.append(unreachable)
    with pytest.raises(DiscoveryError, match="config.json failed: the connection was refused; set origins: in mirror_sites"):
        discover(world, CARGO)


NPM = {"name": "npm", "type": "npm", "upstream": "https://registry.test", "probe": "@a/demo"}


def documents(*links):
    versions = {str(number): {"dist": {"tarball": link}} for number, link in enumerate(links)}
    return pages(json.dumps({"versions": versions}), media_type="application/json")


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        (["https://registry.test/@a/demo/-/demo-1.tgz"], []),
        (
            ["https://b.test/1.tgz", "https://a.test:443/1.tgz", "https://registry.test/x", "https://b.test/2.tgz"],
            ["https://b.test", "https://a.test"],
        ),
        (["https://registry.test:443/1.tgz"], ["https://registry.test"]),
        (["no link"], []),
    ],
)
def test_npm(world, links, expected):
    world.faults.append(documents(*links))
    assert discover(world, NPM) == Found(expected)
    assert [url for _method, url, _headers in world.asked] == ["https://registry.test/@a/demo"]


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (pages("", 404), "answered 404; set probe: to a package that it has, or origins:, in mirror_sites for site 'npm'"),
        (pages("<html>"), "is no document of a package; set probe:"),
        (pages('{"versions": {"1": {}}}'), "is no document of a package; set probe:"),
        (pages("x", **{"Content-Encoding": "br"}), "or let this host reach its upstream"),
    ],
)
def test_npm_that_cannot_be_read(world, fault, sentence):
    world.faults.append(fault)
    with pytest.raises(DiscoveryError, match=sentence):
        discover(world, NPM)


OCI = {"name": "images", "type": "oci", "upstream": "https://images.test/"}
BEARER = 'Bearer realm="https://tokens.test/token",service="images.test"'


class Images:
    """A registry that answers with `status` and asks for that authentication; `token` is what it gives to everybody, if anything.

    `pull` is what it answers to who has that and asks for a manifest, for which it asks for the authentication `asks_there`.
    """

    def __init__(self, status=401, asks=BEARER, token=b'{"token": "t"}', pull=200, asks_there=f'{BEARER},scope="repository:a/b:pull"'):
        self.status, self.asks, self.token, self.pull, self.asks_there = status, asks, token, pull, asks_there
        self.heads = []

    def get(self, url, redirects=0):
        if url == "https://images.test/v2/":
            return Response(self.status, Headers({"WWW-Authenticate": self.asks}), url=url)
        scope = "&scope=repository%3Aa/b%3Apull" if self.heads else ""
        assert url == f"https://tokens.test/token?service=images.test{scope}"
        return Response(200 if self.token else 401, body=self.token, url=url)

    def head(self, url, headers):
        assert url.startswith("https://images.test/v2/a/b/manifests/") and "oci.image.index" in headers["Accept"]
        self.heads.append(url.rpartition("/")[2])
        if self.asks_there and "Authorization" not in headers:
            return Response(401, Headers({"WWW-Authenticate": self.asks_there}), url=url)
        assert headers.get("Authorization") == ("Bearer t" if self.asks_there else None)
        return Response(self.pull, Headers(), url=url)


@pytest.mark.parametrize("images", [Images(), Images(200, ""), Images(token=b'{"access_token": "t"}')])
def test_a_registry_of_images_that_everybody_may_pull_from(images):
    assert discover(images, OCI) == Found()


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (
            Images(asks="Basic"),
            "https://images.test/v2/ answered 401, and this mirror pulls anonymously only; set another upstream:",
        ),
        (Images(403, ""), "answered 403, and this mirror pulls anonymously only"),
        (Images(token=b""), "https://images.test/ gives no token without credentials, and this mirror pulls anonymously only"),
        (Images(token=b"{}"), "gives no token without credentials"),
        (Images(token=b"<html>"), "gives no token without credentials"),
        (Images(404, ""), "answered 404, so it is no registry of images; set another upstream: in mirror_sites for site 'images'."),
    ],
)
def test_a_registry_of_images_that_is_not_for_everybody(images, sentence):
    with pytest.raises(DiscoveryError, match=re.escape(sentence)):
        discover(images, OCI)


@pytest.mark.parametrize(
    ("images", "answered"),
    [
        (Images(), 200),
        (Images(asks_there=BEARER), 200),
        (Images(200, "", asks_there=""), 200),
        (Images(pull=404), 404),
        (Images(pull=429), 429),
        (Images(pull=401), 401),
        (Images(pull=403), 403),
        (Images(200, "", pull=401, asks_there=""), 401),
        (Images(200, "", pull=401), 401),
    ],
)
def test_an_image_that_not_everybody_may_pull_is_told_from_one_that_is_not_there(images, answered):
    for probe, tag in ("a/b", "latest"), ("a/b:one", "one"):
        images.heads, site = [], OCI | {"probe": probe}
        if answered in (401, 403):
            sentence = f"https://images.test/v2/a/b/manifests/{tag} answered {answered}, and this mirror pulls anonymously only; "
            with pytest.raises(DiscoveryError, match=f"{re.escape(sentence)}set another upstream: or probe: in mirror_sites for site 'im"):
                discover(images, site)
        else:
            assert discover(images, site) == Found()
        assert set(images.heads) == {tag}


def test_a_registry_of_images_without_reach():
    class Away:
        def get(self, url, redirects=0):
            raise HttpError(f"GET {url} failed: the connection was refused")

    with pytest.raises(DiscoveryError, match="refused; let this host reach it, or set another upstream: in mirror_sites for site 'images'"):
        discover(Away(), OCI)
