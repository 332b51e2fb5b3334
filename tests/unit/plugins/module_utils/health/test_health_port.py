# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a site answers on the port that it has to itself: the first of its own checks that can judge is played there."""

from __future__ import annotations

import json

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
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


def test_the_path_below_which_all_sites_of_a_type_are_is_kept():
    """Clients of images ask below /v2/ of every host."""
    mirror = Mirror(404)
    verdicts_of(mirror, BASE, {"name": "images", "type": "oci", "path": "/v2/images/", "probe": "library/demo", "port": 4873}, None)
    assert mirror.asked and all(url.startswith(f"{OWN}/v2/") and "images" not in url for url in mirror.asked)


@pytest.mark.parametrize("port", ["4873", True, -1, 65536])
def test_what_is_no_port(port):
    report = health.examine(Mirror(DOCUMENT), BASE, [NPM | {"port": port}])
    assert report.bad == ["document"] and report.failure == "document: sites[0] has a port that is none"
