# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.http import HttpError, Response
from ansible_collections.nearby.mirrors.plugins.module_utils.mirror_document import BadInput, Unusable, checked_url, find

BASE = "http://m.test:8080"
SITE = {"name": "pypi", "type": "pypi", "index": "/pypi/simple/", "probe": "pip"}
DOCUMENT = {"version": 1, "name": "m", "url": "http://other.test", "sites": [SITE]}
INDEX = {"url": BASE + "/pypi/simple/", "host": "m.test:8080", "plain": True, "probe": "pip", "upstream": ""}
GO = {"name": "golang", "type": "golang", "index": "/golang/", "probe": "example.org/!a", "upstream": "https://proxy.example.org/"}
ANSWERS = {BASE + "/mirror.json": json.dumps(DOCUMENT), BASE + "/pypi/simple/pip/": "{}"}


def server(answers: dict, asked: list | None = None):
    """A client's `get`: a body is 200, a number is that status, a string that begins with `!` is no answer."""

    def get(url: str, headers=None, **limits) -> Response:
        if asked is not None:
            asked.append(url)
        answer = answers.get(url, 404)
        if isinstance(answer, int):
            return Response(answer)
        if answer.startswith("!"):
            raise HttpError(f"GET {url} failed: {answer[1:]}")
        return Response(200, body=answer.encode())

    return get


def no_network(url: str, headers=None, **limits) -> Response:
    raise AssertionError("the network was used for " + url)


def test_the_document_is_fetched_once_and_the_index_probed() -> None:
    asked: list[str] = []
    found = find(server(ANSWERS, asked), ["pypi"], BASE + "/")
    assert found == {"url": BASE, "name": "m", "indexes": {"pypi": INDEX}, "left_out": {}}
    assert asked == list(ANSWERS)


def test_without_probing_only_the_document_is_asked_for() -> None:
    asked: list[str] = []
    find(server(ANSWERS, asked), ["pypi"], BASE, check=False)
    assert asked == [BASE + "/mirror.json"]


def test_a_given_document_needs_no_network() -> None:
    assert find(no_network, ["pypi"], document=DOCUMENT)["indexes"]["pypi"]["url"] == "http://other.test/pypi/simple/"
    assert find(no_network, ["pypi"], BASE, DOCUMENT)["indexes"]["pypi"] == INDEX


def test_the_first_site_of_a_type_counts() -> None:
    sites = [{"type": "generic", "index": ""}, SITE, dict(SITE, index="/second/simple/")]
    assert find(no_network, ["pypi"], BASE, dict(DOCUMENT, sites=sites))["indexes"] == {"pypi": INDEX}


def test_zuuls_mirror_info_needs_no_document() -> None:
    info = {"pypi": {"url": "https://m.test/pypi/simple"}, "debian": [{"url": "https://m.test/debian"}]}
    asked: list[str] = []
    found = find(server({"https://m.test/pypi/simple/pip/": "{}"}, asked), ["pypi"], mirror_info=info)
    assert found["url"] == "https://m.test"
    assert found["indexes"]["pypi"]["url"] == "https://m.test/pypi/simple/"
    assert not found["indexes"]["pypi"]["plain"]
    assert asked == ["https://m.test/pypi/simple/pip/"]


def test_a_go_proxy_is_asked_for_versions_and_tells_its_upstream() -> None:
    answers = {BASE + "/mirror.json": json.dumps(dict(DOCUMENT, sites=[GO])), BASE + "/golang/example.org/!a/@v/list": "v1.0.0\n"}
    asked: list[str] = []
    index = find(server(answers, asked), ["pypi", "golang"], BASE)["indexes"]["golang"]
    assert (index["url"], index["upstream"]) == (BASE + "/golang/", "https://proxy.example.org")
    assert asked == list(answers)


@pytest.mark.parametrize("broken", [502, "!the connection was refused"])
def test_an_index_that_fails_is_left_out_and_the_others_are_used(broken) -> None:
    answers = ANSWERS | {
        BASE + "/mirror.json": json.dumps(dict(DOCUMENT, sites=[GO, SITE])),
        BASE + "/golang/example.org/!a/@v/list": broken,
    }
    found = find(server(answers), ["pypi", "golang"], BASE)
    assert (list(found["indexes"]), list(found["left_out"])) == (["pypi"], ["golang"])
    assert "/golang/example.org/!a/@v/list" in found["left_out"]["golang"]


def test_types_that_are_left_alone_are_neither_probed_nor_offered() -> None:
    answers = ANSWERS | {BASE + "/mirror.json": json.dumps(dict(DOCUMENT, sites=[GO, SITE]))}
    asked: list[str] = []
    found = find(server(answers, asked), ["pypi", "golang"], BASE, left_alone=["golang"])
    assert (found["indexes"], found["left_out"], asked) == ({"pypi": INDEX}, {}, list(ANSWERS))


def test_a_mirror_whose_types_are_all_left_alone_is_no_useless_one() -> None:
    assert find(no_network, ["pypi"], document=DOCUMENT, left_alone=["pypi"])["indexes"] == {}
    with pytest.raises(Unusable):
        find(server(ANSWERS | {BASE + "/pypi/simple/pip/": 502}), ["pypi", "golang"], BASE, left_alone=["golang"])


def test_a_sparse_index_is_asked_for_what_cargo_asks_first() -> None:
    site = {"name": "cargo", "type": "cargo", "index": "/cargo/", "probe": "cfg-if"}
    answers = {BASE + "/mirror.json": json.dumps(dict(DOCUMENT, sites=[site])), BASE + "/cargo/config.json": "{}"}
    asked: list[str] = []
    assert find(server(answers, asked), ["cargo"], BASE)["indexes"]["cargo"]["url"] == BASE + "/cargo/"
    assert asked == list(answers)


OCI = {"name": "images", "type": "oci", "index": "/v2/images/", "probe": "library/app:one", "upstream": "https://images.test"}


def test_registries_of_images_count_by_their_names_and_no_image_is_asked_for() -> None:
    sites = [OCI | {"registry": "images.test"}, OCI | {"name": "own", "index": "/v2/own/", "registry": "own.test:5000"}]
    asked: list[str] = []
    found = find(server({BASE + "/mirror.json": json.dumps(dict(DOCUMENT, sites=sites))}, asked), ["oci"], BASE)
    assert [(site["name"], site["url"], site["registry"]) for site in found["indexes"]["oci"]["sites"]] == [
        ("images", f"{BASE}/v2/images/", "images.test"),
        ("own", f"{BASE}/v2/own/", "own.test:5000"),
    ]
    assert asked == [BASE + "/mirror.json"]


@pytest.mark.parametrize(("base", "own_url"), [(BASE, "http://m.test:5000"), ("https://[::1]", "https://[::1]:5000")])
def test_a_registry_of_images_may_have_a_port_of_its_own(base: str, own_url: str) -> None:
    sites = [OCI | {"registry": "images.test", "port": 5000}, OCI | {"name": "own", "index": "/v2/own/", "registry": "own.test"}]
    found = find(no_network, ["oci"], base, document=dict(DOCUMENT, sites=sites))
    assert [site.get("own_url") for site in found["indexes"]["oci"]["sites"]] == [own_url, None]


@pytest.mark.parametrize("port", ["5000", 0, 65536, True, None])
def test_a_port_that_is_none(port: object) -> None:
    with pytest.raises(BadInput, match="has a site with the port .*, which is none"):
        find(no_network, ["oci"], document=dict(DOCUMENT, sites=[OCI | {"registry": "images.test", "port": port}]))


@pytest.mark.parametrize("change", [{}, {"registry": ""}, {"registry": 'x"\n'}, {"registry": "https://images.test"}, {"registry": ".."}])
def test_a_registry_of_images_needs_a_name(change: dict) -> None:
    with pytest.raises(BadInput, match="with the registry .*, which is no host name"):
        find(no_network, ["oci"], document=dict(DOCUMENT, sites=[OCI | change]))


DEB = [
    {"name": name, "type": "deb", "index": f"/{name}/", "probe": probe, "upstream": f"http://archive.test/{name}/"}
    for name, probe in (("debian", "stable"), ("debian-security", "stable-security"))
]


def test_all_archives_count_and_the_first_is_asked_for_a_suite() -> None:
    answers = {BASE + "/mirror.json": json.dumps(dict(DOCUMENT, sites=DEB)), BASE + "/debian/dists/stable/InRelease": "signed"}
    asked: list[str] = []
    index = find(server(answers, asked), ["pypi", "deb"], BASE)["indexes"]["deb"]
    assert asked == list(answers)
    assert index["sites"] == [
        {"name": name, "url": f"{BASE}/{name}/", "upstream": f"http://archive.test/{name}"} for name in ("debian", "debian-security")
    ]


@pytest.mark.parametrize("change", [{"name": "../x"}, {"name": None}, {"upstream": ""}])
def test_an_archive_needs_a_name_and_an_upstream(change: dict) -> None:
    with pytest.raises(BadInput, match="and needs both"):
        find(no_network, ["deb"], document=dict(DOCUMENT, sites=[DEB[0] | change]))


BAD = {
    "no mirror": ({}, "no mirror is known for this node: set configure_mirrors_url"),
    "no scheme": ({"url": "m.test:8080"}, "configure_mirrors_url is 'm.test:8080', which has no scheme"),
    "another scheme": ({"url": "ftp://m.test"}, "which has no scheme: write http:// or https://"),
    "credentials": ({"url": "http://u:p@m.test"}, "configure_mirrors_url has credentials in it"),
    "a query": ({"url": "http://m.test/?a=b"}, "which is not a plain URL"),
    "no host": ({"url": "http:///pypi"}, "which is not a plain URL"),
    "a port out of range": ({"url": "http://m.test:99999"}, "which is not a plain URL"),
    "an address that is none": ({"url": "http://[12]"}, "which is not a plain URL"),
    "an address of a document that is none": ({"document": dict(DOCUMENT, url="http://[12]:80")}, "which is not a plain URL"),
    "something for a shell": ({"url": "http://m.test/$(id)"}, "which is not a plain URL"),
    "a later version": ({"document": dict(DOCUMENT, version=2)}, "has version 2, and this release of nearby.mirrors reads version 1"),
    "no version": ({"document": {"sites": []}}, "has version None"),
    "no sites": ({"document": {"version": 1}}, "sites is not a list"),
    "no usable site": ({"document": dict(DOCUMENT, sites=[])}, "no site that a client on this node can use \\(supported: pypi\\)"),
    "no base": ({"document": dict(DOCUMENT, url="")}, "url in configure_mirrors_document is '', which has no scheme"),
    "an index for a shell": ({"document": dict(DOCUMENT, sites=[dict(SITE, index="/a'b")])}, "which is not a plain path"),
    "an odd probe": ({"document": dict(DOCUMENT, sites=[dict(SITE, probe="../x")])}, "which is not a project's name"),
    "an upstream for a shell": (
        {"document": dict(DOCUMENT, sites=[dict(SITE, upstream="http://a.test/;id")])},
        "an upstream in .* not a plain",
    ),
    "info without url": ({"mirror_info": {"pypi": {}}}, "mirror_info has no url for pypi"),
    "info without our types": ({"mirror_info": {"fedora": {"url": "http://m.test"}}}, "no entry that a client on this node can use"),
    "info with credentials": ({"mirror_info": {"pypi": {"url": "http://u:p@m.test/"}}}, "for pypi in mirror_info has credentials"),
}


@pytest.mark.parametrize(("given", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_one_sentence_without_a_request(given: dict, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence) as caught:
        find(no_network, ["pypi"], **given)
    assert "\n" not in str(caught.value)
    assert "u:p" not in str(caught.value)


UNUSABLE = {
    "no answer": ({"/mirror.json": "!the connection was refused"}, "mirror.json failed: the connection was refused"),
    "no document": ({"/mirror.json": 404}, "mirror.json answered 404, not a mirror document"),
    "not JSON": ({"/mirror.json": "<html>"}, "mirror.json is not JSON"),
    "not an object": ({"/mirror.json": "[]"}, "is not a mirror document"),
    "a later version": ({"/mirror.json": '{"version": 2}'}, "mirror.json has version 2"),
    "no usable site": ({"/mirror.json": '{"version": 1, "sites": []}'}, "no site that a client on this node can use"),
    "a dead index": ({"/pypi/simple/pip/": 502}, "GET http://m.test:8080/pypi/simple/pip/ answered 502"),
    "a hung index": ({"/pypi/simple/pip/": "!no complete answer"}, "no complete answer"),
}


@pytest.mark.parametrize(("broken", "sentence"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_the_network_says_is_no_bad_input(broken: dict, sentence: str) -> None:
    answers = {**ANSWERS, **{BASE + path: answer for path, answer in broken.items()}}
    with pytest.raises(Unusable, match=sentence):
        find(server(answers), ["pypi"], BASE)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("HTTP://m.test/", "http://m.test"),
        ("https://[::1]:8443/region/a/", "https://[::1]:8443/region/a"),
        ("http://192.0.2.1:80", "http://192.0.2.1:80"),
        ("http://[::ffff:192.0.2.1]", "http://[::ffff:192.0.2.1]"),
    ],
)
def test_urls_are_kept_but_for_the_last_slash(given: str, wanted: str) -> None:
    assert checked_url(given, "x") == wanted
