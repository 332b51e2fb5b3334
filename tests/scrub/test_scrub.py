# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mirror serves after a scrub, by what clients get and what upstream is asked."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from pathlib import Path

import bench
import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.simple_api import MEDIA_TYPES
from scrub_stage import SITE, SLICE, Stage


def counts(report: dict) -> tuple[int, ...]:
    (site,) = report["sites"]
    return tuple(site[key] for key in ("looked_at", "good", "bad", "unknown", "incomplete"))


def test_of_30_bad_objects_none_is_served_after_one_scrub(stage: Stage) -> None:
    artifacts = [artifact for project in range(8) for artifact in stage.publish(f"scrubbed-{project}", 5, (project % 4) * SLICE)]
    bad = artifacts[:30]
    for number, artifact in enumerate(bad):
        stage.flip(artifact, number / (len(bad) - 1))
    served = sum(stage.get(artifact) != artifact.content for artifact in bad)
    assert served == 30, "what is stored is served, right or wrong"
    stage.registry.forget()

    report = stage.scrub()
    assert report["changed"] and report["complete"] and counts(report) == (40, 10, 30, 0, 0)
    assert {entry["path"] for entry in report["bad"]} == {stage.path(artifact) for artifact in bad}
    assert all(entry["purged"] for entry in report["bad"])
    assert {entry["expected"] for entry in report["bad"]} == {f"sha256:{artifact.sha256}" for artifact in bad}
    assert report["requests"] == 8 == len(stage.registry.requests()), "each project's page is asked for once"

    stage.registry.forget()
    served = sum(stage.get(artifact) != artifact.content for artifact in artifacts)
    assert served == 0
    fetched = {request["path"] for request in stage.registry.requests(origin="files")}
    assert fetched == {artifact.path for artifact in bad}, "those that were bad are fetched again, and no other"
    again = stage.scrub()
    assert not again["changed"] and counts(again) == (40, 40, 0, 0, 0)


def test_it_goes_on_where_it_was_killed(stage: Stage) -> None:
    artifacts = stage.publish("killed", 12, 2 * SLICE)
    for artifact in artifacts:
        stage.flip(artifact)
    running = subprocess.Popen(stage.command(read_rate=5 * SLICE), env=stage.environment, stdout=subprocess.DEVNULL)
    assert bench.until(lambda: sum(not stage.stored(artifact) for artifact in artifacts) >= 4, 60)
    os.kill(stage.module_process(), signal.SIGKILL)
    running.wait()
    gone = sum(not stage.stored(artifact) for artifact in artifacts)
    assert 4 <= gone < 12
    report = stage.scrub()
    assert report["complete"] and counts(report)[0] <= 13 - gone, "what was looked at is not looked at again"
    assert {entry["path"] for entry in report["bad"]} == {stage.path(artifact) for artifact in artifacts}, "all are told, once"
    assert all(stage.get(artifact) == artifact.content for artifact in artifacts)


def test_it_goes_on_where_the_time_ended(stage: Stage) -> None:
    artifacts = stage.publish("timed", 10, 2 * SLICE)
    seen, reports = 0, []
    while not reports or not reports[-1]["complete"]:
        began = time.monotonic()
        reports.append(stage.scrub(time_limit=2, read_rate=5 * SLICE))
        seen += counts(reports[-1])[0]
        assert reports[-1]["seconds"] < 4 and time.monotonic() - began < 20 and len(reports) < 10
    assert seen == len(artifacts) and len(reports) > 1
    assert sum(report["bytes_read"] for report in reports) < 1.5 * sum(len(artifact.content) for artifact in artifacts)


def test_upstream_away_purges_nothing(stage: Stage) -> None:
    artifacts = [stage.publish(f"kept-{number}", 1, SLICE)[0] for number in range(4)]
    for artifact in artifacts:
        stage.flip(artifact)
    stage.registry.vanish()
    report = stage.scrub()
    assert not report["changed"] and not report["complete"] and counts(report)[2:4] == (0, 3)
    assert "upstream is away" in report["summary"] and "the connection was refused" in report["summary"]
    assert all(stage.stored(artifact) for artifact in artifacts)
    stage.registry.back()
    assert any(stage.scrub()["complete"] for _run in range(4))
    stage.scrub()
    assert all(stage.get(artifact) == artifact.content for artifact in artifacts)


def test_digests_of_a_lock_file(stage: Stage, tmp_path: Path) -> None:
    right, wrong, other = (stage.publish(name, 1, SLICE)[0] for name in ("lock-right", "lock-wrong", "lock-other"))
    lock = tmp_path / "constraints.txt"
    lock.write_text("".join(f"lock-{name}==1.0 --hash=sha256:{a.sha256}\n" for name, a in (("right", right), ("wrong", wrong))))
    for artifact in (wrong, other):
        stage.flip(artifact)
    stage.registry.vanish()
    report = stage.scrub(lock_files=[str(lock)], upstream_check=False)
    assert counts(report) == (3, 1, 1, 1, 0) and [entry["path"] for entry in report["bad"]] == [stage.path(wrong)]
    stage.registry.back()
    assert stage.get(wrong) == wrong.content and stage.get(other) != other.content


def test_metadata_and_a_missing_slice(stage: Stage) -> None:
    (artifact,) = stage.publish("parts", 1, 3 * SLICE)
    metadata = f"{stage.path(artifact)}.metadata"
    assert stage.mirror.get(metadata).body == artifact.core
    stage.stored(artifact)[-1][0].unlink()
    assert counts(stage.scrub()) == (2, 1, 0, 0, 1)
    assert stage.get(artifact) == artifact.content
    assert counts(stage.scrub()) == (2, 2, 0, 0, 0)


def test_pages_that_were_cut_in_half_though_upstream_says_that_nothing_has_changed(stage: Stage) -> None:
    stage.publish("paged", 9, 0)
    forms = itertools.product(("json", "html"), ("gzip", "identity"))
    wants = [{"Accept": MEDIA_TYPES[kind][0], "Accept-Encoding": encoding} for kind, encoding in forms]

    def pages() -> list[bench.Reply]:
        return [stage.mirror.get(f"/{SITE}/simple/paged/", want) for want in wants]

    right = [(page.body, page.plain) for page in pages()]
    assert bench.until(lambda: len(stage.pages("paged")) == len(wants)) and stage.scrub()["sites"][0]["bad_pages"] == 0
    for file in stage.pages("paged"):
        os.truncate(file, file.stat().st_size - min(len(body) for body, _plain in right) // 2)
    bench.age()
    stage.registry.forget()
    assert not {page.body for page in pages()} & {body for body, _plain in right}
    assert bench.until(lambda: {request["status"] for request in stage.registry.requests("/simple/paged/")} == {304})

    report = stage.scrub()
    (site,) = report["sites"]
    assert (site["pages"], site["bad_pages"]) == (4, 3), "nothing tells that of a page of HTML without gzip"
    assert {entry["path"] for entry in report["bad"]} == {f"/{SITE}/simple/paged/"} and all(entry["purged"] for entry in report["bad"])
    assert [page.plain for page in pages()[:3]] == [plain for _body, plain in right[:3]]
    assert stage.scrub()["sites"][0]["bad_pages"] == 0


@pytest.mark.parametrize("how", [{"check_mode": True}, {"report_only": True}])
def test_telling_purges_nothing(stage: Stage, how: dict[str, bool]) -> None:
    (artifact,) = stage.publish("told-" + next(iter(how)).replace("_", "-"), 1, SLICE)
    stage.flip(artifact)
    report = stage.scrub(**how)
    assert not report["changed"] and counts(report)[2] == 1 and stage.get(artifact) != artifact.content
    assert stage.scrub(fail_on_bad=1)["failed"] and stage.get(artifact) == artifact.content


def test_the_playbook_goes_on_until_its_time_is_over(stage: Stage) -> None:
    artifacts = stage.publish("played", 6, 2 * SLICE)
    for artifact in artifacts:
        stage.flip(artifact)
    settings = {"nearby_scrub_read_rate": 2 * SLICE, "nearby_scrub_time_limit": 60, "nearby_scrub_fail_on_bad": 6}
    code, told = stage.play(**settings, nearby_scrub_part=4)
    assert told.count("to go; the time limit ended") >= 1, "it says in between how far it is"
    assert all(f"bad: {stage.path(artifact)}" in told for artifact in artifacts)
    assert code and "6 were bad" in told
    assert all(stage.get(artifact) == artifact.content for artifact in artifacts)
    code, told = stage.play(**settings)
    assert not code and "6 looked at, 6 good" in told and "changed=0" in told


def test_a_store_that_cannot_be_listed_in_a_part_of_the_time_gets_the_rest_or_fails(stage: Stage) -> None:
    (artifact,) = stage.publish("listed", 1, SLICE)
    stage.flip(artifact)
    folder = stage.mirror.root / "cache" / ("many" if stage.mirror.engine == "apache" else "artifact/many")
    folder.mkdir()
    suffix = ".header" if stage.mirror.engine == "apache" else ""
    for first in range(0, 120_000, 30_000):  # a file has so many names at most
        source = folder / f"{first:032x}{suffix}"
        source.touch()
        for number in range(first + 1, first + 30_000):
            os.link(source, folder / f"{number:032x}{suffix}")
    began = time.monotonic()
    code, told = stage.play(nearby_scrub_part=1, nearby_scrub_time_limit=1)
    assert code and "raise time_limit" in told and stage.get(artifact) != artifact.content and time.monotonic() - began < 90
    code, told = stage.play(nearby_scrub_part=1, nearby_scrub_time_limit=90)
    assert not code and f"bad: {stage.path(artifact)}" in told and stage.get(artifact) == artifact.content
