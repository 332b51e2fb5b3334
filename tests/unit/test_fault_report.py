# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fault run calls a miss, and that a run of one engine leaves the other's results alone."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

FAULTS = Path(__file__).resolve().parents[1] / "faults"


@pytest.fixture(scope="module")
def report() -> ModuleType:
    sys.path.insert(0, str(FAULTS))
    import report

    sys.path.remove(str(FAULTS))
    return report


def counted(**figures: int) -> dict:
    """A result: the share in thousandths that failed of each figure."""
    told = {name: {"failed": failed, "of": 1000} for name, failed in figures.items()}
    return told.pop("warm", {}) | told


@pytest.mark.parametrize(
    "found, misses",
    [
        (counted(warm=0, cold=3, wrong=0, stored=0), 0),
        (counted(warm=1), 1),
        (counted(cold=4), 1),
        (counted(warm=0, wrong=1), 1),
        (counted(warm=2, stored=1, recovery=1, cold=900), 4),
        ({"down_seconds": 4.9}, 0),
        ({"down_seconds": 5.1}, 1),
        ({"retried": 20}, 0),
        ({"retried": 21}, 1),
        ({"broken": "it did not start"}, 1),
    ],
)
def test_what_is_missed(report: ModuleType, found: dict, misses: int) -> None:
    fault = report.faults.Fault("a", "b", wanted=report.faults.EDGE, down=5, again=20)
    assert len(report.missed("nginx", fault, found)) == misses


def test_a_known_limit_excuses_its_fault(report: ModuleType) -> None:
    fault = next(fault for fault in report.faults.FAULTS if fault.name == "upstream_wrong_bytes_of_pages")
    assert report.missed("apache", fault, counted(warm=9)) == [] and report.cell("apache", fault, counted(warm=9)).endswith(
        "limit: mislabelled"
    )
    assert report.missed("nginx", fault, counted(warm=9)) and report.missed("apache", fault, {"broken": "it did not start"})
    for found in (counted(stored=9), {"retried": 1}):
        assert report.missed("apache", fault, found), "it excuses more than its figures"


def test_no_fault_excuses_what_a_mirror_has_stored(report: ModuleType) -> None:
    """That is for the limits, which operators read, and which differ by engine."""
    for fault in report.faults.FAULTS:
        assert not {"warm", "wrong", "stored", "recovery"} & set(fault.wanted), fault.name


def test_every_excuse_is_for_a_fault(report: ModuleType) -> None:
    for limit in [limit for limits in report.ENGINES.values() for limit in limits if limit.faults]:
        assert any(re.search(limit.faults, fault.name) for fault in report.faults.FAULTS), limit.key


def test_each_engine_has_its_part(report: ModuleType, tmp_path: Path) -> None:
    seen = {"engine": "1.2.3", "debian": "12.1", "date": "2026-01-01", "commit": "abc", "load": "1.0"}
    name = report.faults.FAULTS[0].name
    report.write(tmp_path, "nginx", seen, {name: counted(warm=0)}, True)
    report.write(tmp_path, "apache", seen, {name: counted(warm=7)}, True)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["nginx"][name] == {"failed": 0, "of": 1000} and results["apache"][name] == {"failed": 7, "of": 1000}
    report.write(tmp_path, "apache", seen | {"commit": "def"}, {name: counted(warm=6)}, False)
    page = (tmp_path / "RESULTS.md").read_text()
    assert "| 0 of 1000 | **6 of 1000** |" in page and f"- apache, {name}: warm: failed 6 of 1000" in page
    assert f"- apache, again: {name}, 2026-01-01, commit def" in page and "commit abc" in page


def test_faults_have_names_of_their_own(report: ModuleType) -> None:
    names = [fault.name for fault in report.faults.FAULTS]
    assert len(names) == len(set(names))
