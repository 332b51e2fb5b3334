# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a site answers on the port that it has to itself: the first of its own checks that can judge is played there."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.health.base import Site
from ansible_collections.nearby.mirrors.plugins.module_utils.health.pypi import PypiProbe
from ansible_collections.nearby.mirrors.plugins.module_utils.http import HttpError
from fake_mirror import FakeMirror, verdicts_of

BASE, OWN = "http://mirror.test:8080", "http://mirror.test:4873"
NPM = {"name": "npm", "type": "npm", "path": "/npm/", "probe": "demo", "port": 4873}
DOCUMENT = json.dumps({"versions": {"1.0.0": {"dist": {"tarball": f"{BASE}/npm/demo/-/demo-1.0.0.tgz"}}}}).encode()


class Mirror(FakeMirror):
    """Tells what it is asked on the site's port, where it answers with what is given."""

    def __init__(self, there: bytes | int | Exception) -> None:
        super().__init__()
        self.there, self.asked = there, set()

    def find(self, url, headers):
        if not url.startswith(OWN):
            return DOCUMENT
        self.asked.add(url)
        if isinstance(self.there, Exception):
            raise self.there
        return self.there

    def told(self, _body):
        return {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("there", "verdict", "detail"),
    [
        (DOCUMENT, "good", f"representations at {OWN}: "),
        (404, "bad", f"{OWN}/demo answered 404"),
        (b"<html>", "bad", f"{OWN}/demo is no document"),
        (HttpError(f"{OWN}/demo refuses connections"), "bad", "refuses connections"),
    ],
)
def test_what_answers_there(there, verdict, detail):
    mirror = Mirror(there)
    found = verdicts_of(mirror, BASE, NPM, None)["port"]
    assert found[0] == verdict and detail in found[1], found
    assert mirror.asked == {f"{OWN}/demo"}


def test_nothing_is_asked_there_without_one():
    assert "port" not in verdicts_of(Mirror(DOCUMENT), BASE, NPM | {"port": 0}, None)


def test_what_cannot_be_judged_is_skipped():
    assert verdicts_of(Mirror(DOCUMENT), BASE, NPM | {"probe": ""}, None)["port"][0] == "skipped"


@pytest.mark.parametrize(
    ("kind", "index", "path", "there"),
    [
        ("pypi", "/python/simple/", "/", "/simple/"),
        ("npm", "", "/", "/"),
        ("generic", "", "/", ""),
        ("oci", "", "/v2/", "/v2/"),  # below which clients of images ask every host
    ],
)
def test_where_a_site_is_on_its_port(kind, index, path, there):
    given = {"name": "python", "type": kind, "path": "/v2/python/" if kind == "oci" else "/python/", "index": index, "port": 4873}
    site = Site.from_dict(given, "here").at_its_port
    assert (site.path, site.index, site.port) == (path, there, 0)


def test_each_type_has_a_check_that_is_played_there():
    for kind, (_probe, checks) in health.CHECKS_BY_TYPE.items():
        assert set(health.ON_ITS_PORT.get(kind, checks[:1])) <= set(checks), kind


class Crates(Mirror):
    """Its configuration names the mirror's own port, wherever it is asked for; a crate's index file is what is given."""

    def find(self, url, headers):
        return json.dumps({"dl": f"{BASE}/cargo/crates"}).encode() if url.endswith("/config.json") else super().find(url, headers)


def test_crates_lead_to_the_mirror_s_port_from_that_of_the_site_too():
    entry = json.dumps({"name": "demo", "vers": "1.0.0", "cksum": "0" * 64, "yanked": False}).encode()
    site = {"name": "cargo", "type": "cargo", "path": "/cargo/", "probe": "demo", "port": 4873}
    assert verdicts_of(Crates(entry), BASE, site, None)["port"] == ("good", f"versions at {OWN}: 1 versions")
    assert verdicts_of(Crates(404), BASE, site, None)["port"][0] == "bad"


def test_a_prefix_alone_proves_nothing():
    """Any server answers something there."""
    site = {"name": "tools", "type": "generic", "path": "/tools/", "port": 4873}
    assert verdicts_of(Mirror(404), BASE, site, None)["port"][0] == "skipped"
    assert verdicts_of(Mirror(404), BASE, site | {"probe": "v1/tool"}, None)["port"][0] == "bad"


def test_nothing_is_remembered_from_the_mirror_s_port():
    probe = PypiProbe(FakeMirror(), BASE, Site("pypi", "pypi", "/pypi/"))
    probe.memo["page"] = "one"
    assert replace(probe, base=OWN).memo == {}


@pytest.mark.parametrize("port", ["4873", True, -1, 65536])
def test_what_is_no_port(port):
    report = health.examine(Mirror(DOCUMENT), BASE, [NPM | {"port": port}])
    assert report.bad == ["document"] and report.failure == "document: sites[0] has a port that is none"


def test_one_bad_check_of_each_site_is_told_and_how_many_more_are():
    report = health.Report()
    for site, check in ("", "health"), ("npm", "index"), ("npm", "links"), ("npm", "hit"):
        report.add(site, check, lambda: health.bad("no answer"), lambda: 0.0)
    assert report.failure == "health: no answer; npm/index: no answer (and 2 more of its checks)"
