# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a Maven repository: a healthy mirror of one passes, and each fault is found by the checks that are there for it."""

from __future__ import annotations

import hashlib

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.health import maven
from ansible_collections.nearby.mirrors.plugins.module_utils.http import HttpError
from fake_mirror import SENT_ELSEWHERE, FakeMirror, by_end, moved, verdicts, verdicts_of

MIRROR, UPSTREAM = "http://mirror.test:8080", "https://repository.test/maven2"
SITE = {"name": "maven", "type": "maven", "path": "/maven/", "upstream": UPSTREAM, "index": "/maven/", "probe": "org/example/demo"}
PAGE = "org/example/demo/maven-metadata.xml"
POM, JAR = (f"org/example/demo/1.10/demo-1.10.{kind}" for kind in ("pom", "jar"))
NOW = 1_767_323_045  # as LATER says
LATER = "20260102030405"
FILES = {"pom", "jar", "file_hit", "file_head", "file_range"}


def metadata(*versions: str, newest: str = "<latest>1.11-rc</latest><release>1.10</release>", updated: str = LATER) -> bytes:
    listed = "".join(f"<version>{version}</version>" for version in versions)
    told = f"{newest}<versions>{listed}</versions><lastUpdated>{updated}</lastUpdated>"
    return f'<?xml version="1.0"?>\n<!-- by hand --><metadata><versioning>{told}</versioning></metadata>'.encode()


def sha1(body: bytes, form: str = "{}") -> bytes:
    return form.format(hashlib.sha1(body).hexdigest()).encode()


FILE = {
    PAGE: metadata("1.9", "1.10", "1.11-rc"),
    POM: b'<project xmlns="http://pom.test"><artifactId>demo</artifactId></project>',
    JAR: b"a jar of bytes",
}
BODIES = {**FILE, **{f"{path}.sha1": sha1(body) for path, body in FILE.items()}}


class Repository(FakeMirror):
    """The upstream and a mirror of it; `changes` replace the mirror's bodies or statuses by the ends of paths, `theirs` upstream's."""

    def __init__(self, changes: dict[str, object] | None = None, theirs: dict[str, object] | None = None) -> None:
        super().__init__()
        self.changes = {MIRROR: changes or {}, UPSTREAM: theirs or {}}
        self.away = False

    def find(self, url, headers):
        where, base = (MIRROR, MIRROR + "/maven/") if url.startswith(MIRROR) else (UPSTREAM, UPSTREAM + "/")
        if where == UPSTREAM and self.away:
            raise HttpError("no way there")
        changed = by_end(self.changes[where], path := url[len(base) :])
        return changed if changed is not None else BODIES.get(path, 404)


def examine(repository, upstream=True, options=None, now=NOW, **site):
    return verdicts_of(repository, MIRROR, SITE | site, repository if upstream else None, options, now=now)


def test_a_healthy_mirror():
    found = examine(Repository())
    assert verdicts(found, "good") == {check.__name__ for check in maven.CHECKS}, found
    assert found["metadata"] == ("good", "3 versions, 1.10"), "neither the last in the alphabet nor what is no release"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({PAGE: b"<html>"}, {"metadata", "metadata_checksum", "lag", *FILES}),
        ({PAGE: b"<!DOCTYPE a []>" + FILE[PAGE]}, {"metadata", "metadata_checksum", "lag", *FILES}),
        ({PAGE: metadata("1.9", newest="")}, {"metadata", "metadata_checksum", "lag", *FILES}),
        ({PAGE: metadata("1.10", newest="<latest>../1.10</latest>")}, {"metadata", "metadata_checksum", "lag", *FILES}),
        ({PAGE: metadata("1.9", "1.11-rc")}, {"metadata", "metadata_checksum"}),
        ({PAGE: 502}, {"metadata", "metadata_checksum", "metadata_hit", "freshness", "lag", *FILES}),
        ({f"{PAGE}.sha1": sha1(b"an older one")}, {"metadata_checksum"}),
        ({f"{PAGE}.sha1": b"<html>"}, {"metadata_checksum"}),
        ({f"{PAGE}.sha1": 502}, {"metadata_checksum"}),
        ({POM: FILE[POM][:-3]}, {"pom"}),
        ({POM: b"<html/>", ".pom.sha1": sha1(b"<html/>")}, {"pom"}),
        ({POM: FILE[POM].replace(b"demo", b"evil")}, {"pom"}),
        ({POM: 404}, {"pom", "file_hit", "file_head", "file_range"}),
        ({JAR: b"another jar"}, {"jar"}),
        ({JAR: 404}, {"jar"}),
        ({".jar.sha1": 502}, {"jar"}),
    ],
)
def test_fault(changes, expected):
    assert verdicts(examine(Repository(changes)), "bad") == expected


@pytest.mark.parametrize(
    ("end", "stale", "expected"),
    [
        (PAGE, False, {"metadata", "metadata_checksum", "metadata_hit", "freshness", *FILES}),
        (PAGE, True, {"freshness"}),
        (f"{PAGE}.sha1", False, {"metadata_checksum"}),
        (POM, False, FILES - {"jar"}),
        (JAR, False, {"jar"}),
    ],
)
def test_where_a_project_moved_to_is_told(end, stale, expected):
    told = moved(Repository(), MIRROR, SITE, end, stale, now=NOW)
    assert set(told) == expected and all(detail.endswith(SENT_ELSEWHERE) for detail in told.values()), told


def test_stale_and_never_a_hit():
    repository = Repository()
    repository.stale = True
    assert verdicts(examine(repository), "bad") == {"freshness"}
    repository = Repository()
    repository.cold = True
    assert verdicts(examine(repository), "bad") == {"metadata_hit", "file_hit"}


@pytest.mark.parametrize("form", ["{}\n", "{}  demo-1.10.jar", "SHA1 (demo) = {}"])
def test_checksums_as_old_tools_wrote_them(form):
    changes = {f"{path}.sha1": sha1(body, form) for path, body in FILE.items()}
    assert verdicts(examine(Repository(changes)), "bad") == set()


def test_metadata_that_are_just_changing_fit_when_asked_again():
    repository = Repository({f"{PAGE}.sha1": sha1(b"an older one")})
    asked = []

    def sleep(_seconds):
        asked.append(repository.changes[MIRROR].clear())

    report = health.examine(repository, MIRROR, [SITE], sleep=sleep)
    assert asked and "maven/metadata_checksum" not in report.bad


def test_what_cannot_be_judged_is_skipped():
    found = examine(Repository({".sha1": 404, JAR: 404}, {JAR: 404}))
    assert verdicts(found, "skipped") == {"metadata_checksum", "pom", "jar"}
    assert found["jar"] == ("skipped", "upstream has none")
    assert verdicts(examine(Repository(), options=health.Options(max_artifact_size=5)), "skipped") == {"jar"}
    assert verdicts(examine(Repository(), probe=""), "skipped") == {check.__name__ for check in maven.CHECKS}
    assert verdicts(examine(Repository(), upstream=False), "skipped") == {"lag"}
    away = Repository()
    away.away = True
    assert "could not be asked" in examine(away)["lag"][1]


@pytest.mark.parametrize(("seconds", "verdict"), [(3600, "skipped"), (3601, "bad")])
def test_a_mirror_may_lag_behind_for_a_while(seconds, verdict):
    found = examine(Repository(theirs={PAGE: metadata("1.9", "1.10", "1.11-rc", "1.12")}), now=NOW + seconds)
    assert found["lag"][0] == verdict and "1.12" in found["lag"][1]


def test_an_update_at_no_time_that_is_one_counts_as_long_ago():
    assert examine(Repository(theirs={PAGE: metadata("1.10", "1.12", updated="soon")}))["lag"][0] == "bad"
