# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mirror serves after a scrub, by what clients get and what upstream is asked."""

from __future__ import annotations

from scrub_stage import SLICE, Stage


def counts(report: dict) -> tuple[int, ...]:
    (site,) = report["sites"]
    return tuple(site[key] for key in ("looked_at", "good", "bad", "unknown", "incomplete"))


def test_of_30_bad_objects_none_is_served_after_one_scrub(stage: Stage) -> None:
    artifacts = [artifact for project in range(8) for artifact in stage.publish(f"scrubbed-{project}", 5, (project % 4) * SLICE)]
    bad = artifacts[:30]
    for number, artifact in enumerate(bad):
        stage.flip(artifact, number % len(stage.stored(artifact)))
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
