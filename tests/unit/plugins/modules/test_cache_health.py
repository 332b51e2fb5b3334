# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
import yaml
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Response
from ansible_collections.nearby.mirrors.plugins.modules import cache_health

URL = "http://mirror.test:8080"


def test_healthy(play, documented):
    result = play(cache_health, url=URL + "/")
    documented(cache_health, result)
    assert result["changed"] is False and result["bad"] == [] and "failed" not in result and result["url"] == URL


def test_unhealthy(play, documented, world):
    world.files[URL][0]["url"] = "https://files.test/demo-1.0.tar.gz"
    result = play(cache_health, url=URL)
    documented(cache_health, result)
    assert result["failed"] and result["bad"] == ["pypi/links"] and result["summary"].split(", ")[1] == "1 bad"
    assert result["msg"].startswith(
        "The mirror http://mirror.test:8080 is not healthy: pypi/links: links leave /pypi/: 1 to https://files.test"
    )
    assert result["msg"].endswith(
        ". Look at /var/log/nearby-mirror/error.log on the mirror and deploy it again, or set report_only to go on all the same."
    )


@pytest.mark.parametrize("status", [200, 404])
def test_what_is_no_mirror(play, world, status):
    world.faults.append(lambda _method, url, _headers, _response: Response(status, body=b"<html>", url=url))
    advice = "Check the URL, and whether the mirror runs there, or set report_only to go on all the same."
    assert play(cache_health, url=URL)["msg"].endswith(f". {advice}")


@pytest.mark.parametrize("check_mode", [True, False])
def test_report_only(play, documented, world, unreachable, check_mode):
    world.faults.append(unreachable)
    result = play(cache_health, url=URL, report_only=True, _ansible_check_mode=check_mode)
    documented(cache_health, result)
    assert "failed" not in result and result["bad"] == ["health"] and result["changed"] is False


def test_given_sites(play, world):
    result = play(cache_health, url=URL, sites=[world.site(name="own")])
    assert {entry["site"] for entry in result["checks"]} == {"", "own"}


def test_options_arrive(play):
    play(cache_health, url=URL, ca_path="/ca.pem", upstream_ca_path="/up.pem", timeout=3, max_artifact_size=10**9)
    assert [(client["ca_path"], client["timeout"], client["max_body"]) for client in play.clients] == [
        ("/ca.pem", 3.0, 10**9),
        ("/up.pem", 3.0, 10**9),
    ]


def test_upstream_is_left_alone(play):
    result = play(cache_health, url=URL, upstream_check=False)
    assert len(play.clients) == 1 and result["bad"] == []


def test_documentation_has_every_parameter(play):
    documented = yaml.safe_load(cache_health.DOCUMENTATION)["options"]
    result = play(cache_health, url=URL)
    assert set(result["invocation"]["module_args"]) == set(documented) | {"ca_path", "timeout"}
    for name, option in documented.items():
        assert result["invocation"]["module_args"][name] == (URL if name == "url" else option.get("default"))
