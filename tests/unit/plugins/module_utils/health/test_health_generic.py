# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a generic site."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.health import generic
from fake_mirror import SENT_ELSEWHERE, moved

MIRROR = "http://mirror.test:8080"
SITE = {"name": "tools", "type": "generic", "path": "/pypi/", "upstream": "https://index.test", "index": "", "representations": []}
SAMPLE = {**SITE, "probe": "files/demo-1.0.tar.gz"}


def examine(world, site):
    report = health.examine(world, MIRROR, sites=[site], sleep=world.sleep)
    return {entry["check"]: (entry["verdict"], entry["detail"]) for entry in report.checks if entry["site"]}


def test_without_a_sample_only_the_prefix_is_asked_for(world):
    found = examine(world, SITE)
    assert found.pop("reachable") == ("good", "answered 404")
    assert {verdict for verdict, _detail in found.values()} == {"skipped"} and len(found) == len(generic.CHECKS) - 1


def test_with_a_sample(world):
    assert {verdict for verdict, _detail in examine(world, SAMPLE).values()} == {"good"}


@pytest.mark.parametrize(
    ("part", "change", "expected"),
    [
        ("/pypi/", {"status": 502}, {"reachable", "sample", "sample_hit", "sample_head", "sample_range"}),
        ("tar.gz", {"status": 404}, {"sample", "sample_hit", "sample_head", "sample_range"}),
        ("tar.gz", {"body": b"other bytes"}, {"sample_head", "sample_range"}),
    ],
)
def test_fault(world, part, change, expected):
    world.faults.append(lambda _method, url, _headers, response: replace(response, **change) if part in url else response)
    assert {check for check, (verdict, _detail) in examine(world, SAMPLE).items() if verdict == "bad"} == expected


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("/", {"reachable"}),
        ("tar.gz", {"sample", "sample_hit", "sample_head", "sample_range"}),
    ],
)
def test_where_a_file_moved_to_is_told(world, end, expected):
    told = moved(world, MIRROR, SAMPLE, end)
    assert set(told) == expected and all(detail.endswith(SENT_ELSEWHERE) for detail in told.values()), told


def test_never_a_hit(world):
    def forget(_method, _url, _headers, response):
        world.seen.clear()
        return response

    world.faults.append(forget)
    verdict, detail = examine(world, SAMPLE)["sample_hit"]
    assert verdict == "bad" and "fwd=uri-miss" in detail
