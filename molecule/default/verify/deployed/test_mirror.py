# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every mirror, under systemd and without it, serves under its own name."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from lab import fetch
from testinfra.host import Host

testinfra_hosts = ["ansible://mirrors"]

JSON = "application/vnd.pypi.simple.v1+json"


@pytest.fixture(scope="module")
def mirror(settings: dict[str, Any]) -> str:
    return f"http://{settings['inventory_hostname']}"


def test_the_init_keeps_the_service_if_there_is_one(host: Host, settings: dict[str, Any]) -> None:
    assert host.file("/run/systemd/system").exists is settings["lab_init"]
    if settings["lab_init"]:
        units = host.check_output("cd /etc/systemd/system && ls -d nearby-mirror*.service").split()
        assert len(units) == 3 and sum(unit.startswith("nearby-mirror-oci-images.") for unit in units) == 2
        for service in units:
            assert host.service(service).is_running and host.service(service).is_enabled, service
        assert host.check_output("systemctl is-system-running") == "running"


def test_nothing_else_listens(host: Host, settings: dict[str, Any]) -> None:
    sockets = host.check_output("ss --no-header --listening --tcp --numeric").splitlines()
    ports = {line.split()[3].rpartition(":")[2] for line in sockets}
    assert ports == {"22", "80", "8081", "5801"}


def test_it_answers_a_load_balancer(host: Host, mirror: str) -> None:
    answer = fetch(host, f"{mirror}/health")
    assert (answer.status, answer.body) == (200, b"ok\n")


def test_it_says_what_it_is(host: Host, mirror: str, settings: dict[str, Any]) -> None:
    document = fetch(host, f"{mirror}/mirror.json").json
    assert document["name"] == settings["inventory_hostname"]
    assert document["region"] == settings["mirror_region"]
    assert document["url"] == mirror
    assert document["engine"] == settings.get("mirror_engine", "nginx")
    assert [(site["type"], site["index"]) for site in document["sites"]] == [
        ("pypi", "/pypi/simple/"),
        ("generic", ""),
        ("oci", "/v2/images/"),
    ]
    assert document["sites"][0]["origins"] == ["http://files.upstream.test:8001"]


def test_it_tells_a_person(host: Host, mirror: str) -> None:
    page = fetch(host, f"{mirror}/")
    assert page.headers["content-type"].startswith("text/html")
    assert f"{mirror}/pypi/simple" in page.text


@pytest.mark.parametrize("accept", [JSON, "text/html"])
def test_the_second_client_gets_the_first_ones_page(host: Host, mirror: str, accept: str) -> None:
    first = fetch(host, f"{mirror}/pypi/simple/sampleproj/", Accept=accept)
    second = fetch(host, f"{mirror}/pypi/simple/sampleproj/", Accept=accept)
    assert first.headers["content-type"].startswith(accept)
    assert first.body == second.body
    assert second.headers["cache-status"].startswith("nearby; hit")
    assert "upstream.test" not in second.text


def test_files_come_from_the_mirror(host: Host, mirror: str) -> None:
    page = fetch(host, f"{mirror}/pypi/simple/sampleproj/", Accept=JSON).json
    assert page["files"]
    for file in page["files"]:
        assert file["url"].startswith("/pypi/files/")
        assert fetch(host, mirror + file["url"]).status == 200
        assert fetch(host, mirror + file["url"]).headers["cache-status"].startswith("nearby; hit")


def test_a_site_of_another_type_is_at_its_path_and_on_its_port(host: Host, mirror: str) -> None:
    files = fetch(host, f"{mirror}/pypi/simple/sampleproj/", Accept=JSON).json["files"]
    wheel = next(file for file in files if file["filename"].endswith(".whl"))
    name = wheel["url"].removeprefix("/pypi/files/")
    by_path, on_port = fetch(host, f"{mirror}/tools/{name}"), fetch(host, f"{mirror}:8081/{name}")
    assert hashlib.sha256(by_path.body).hexdigest() == wheel["hashes"]["sha256"]
    assert on_port.body == by_path.body
    assert on_port.headers["cache-status"].startswith("nearby; hit")
    assert fetch(host, f"{mirror}:8081/tools/{name}").status == 404


def test_an_image_comes_from_the_mirror_and_no_blob_is_kept_twice(host: Host, mirror: str) -> None:
    manifest = fetch(host, f"{mirror}/v2/images/app/manifests/latest")
    (layer,) = manifest.json["layers"]
    first, second = (fetch(host, f"{mirror}/v2/images/app/blobs/{layer['digest']}") for _time in range(2))
    assert f"sha256:{hashlib.sha256(first.body).hexdigest()}" == layer["digest"] and second.body == first.body
    assert second.headers["cache-status"].startswith("nearby; hit")
    digest = layer["digest"].removeprefix("sha256:")
    assert host.check_output(f"find /var/cache/nearby-mirror-fetchers -path '*/blobs/*' -name '{digest}*'") == ""
