# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where upstream sends those who ask for what the mirror refuses: told where it is known and undeclared, and else nothing is added."""

from __future__ import annotations

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.health.base import REDIRECT_BYTES, Probe, Site
from ansible_collections.nearby.mirrors.plugins.module_utils.http import REDIRECTS, BodyTooLarge, Client, Headers, HttpError, Response
from fake_mirror import ELSEWHERE, SENT_ELSEWHERE, documented, moved, verdicts_of

MIRROR, UPSTREAM, FILES = "http://mirror.test:8080", "https://registry.test/pub", "https://files.test"
SITE = {"name": "tools", "type": "generic", "path": "/tools/", "upstream": UPSTREAM, "origins": [FILES], "probe": "v1/tool"}
REFUSED = f"{MIRROR}/tools/v1/tool answered 502, not 200"


class Refusing(Client):
    """A mirror that refuses everything with a status, and an upstream whose answers, or lack of them, are given."""

    def __init__(self, says: Response | Exception, status: int = 502) -> None:
        super().__init__()
        self.says, self.status = says, status
        self.asked: list[tuple] = []

    def request(self, method, url, headers=None, max_body=None, redirects=0, origins=()):
        if url.startswith("http://mirror.test:"):
            return Response(200, body=b"ok\n", url=url) if url.endswith("/health") else Response(self.status, url=url)
        self.asked.append((method, url, headers, max_body, redirects))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def sent(location: str, status: int = 302) -> Response:
    return Response(status, Headers({"Location": location}))


def sample(world: Refusing, site: dict | None = None, upstream: bool = True) -> str:
    found = verdicts_of(world, MIRROR, documented(SITE) if site is None else site, world if upstream else None)
    assert found["sample"][0] == "bad"
    return found["sample"][1]


@pytest.mark.parametrize("status", REDIRECTS)
def test_every_redirect_counts(status):
    world = Refusing(sent(f"{ELSEWHERE}/v1/tool", status))
    assert sample(world) == REFUSED + SENT_ELSEWHERE
    assert world.asked == [("GET", f"{UPSTREAM}/", None, REDIRECT_BYTES, 0), ("GET", f"{UPSTREAM}/v1/tool", None, REDIRECT_BYTES, 0)]


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("//Other.test/a?token=secret", "https://other.test"),
        ("https://user:secret@other.test:443/a", "https://other.test"),
        ("http://registry.test/pub/v1/tool", "http://registry.test"),
        ("https://registry.test/elsewhere/tool", "https://registry.test"),  # not below the site's upstream
        ("/elsewhere/tool", "https://registry.test"),
        ("https://files.test:444/tool", "https://files.test:444"),
        ("https://registry.test.other.test/pub/tool", "https://registry.test.other.test"),
    ],
)
def test_the_origin_is_told_and_nothing_else_of_where_it_leads(location, place):
    assert sample(Refusing(sent(location))) == REFUSED + SENT_ELSEWHERE.replace(ELSEWHERE, place)


@pytest.mark.parametrize(
    "says",
    [
        sent("https://files.test/tool"),
        sent("https://files.test:443/tool"),
        sent("https://registry.test/pub/other"),
        sent("/pub/other"),
        sent("other"),
        sent("mailto:someone"),
        sent("https://[::/tool"),
        sent(f"{ELSEWHERE}/tool", 304),
        sent(f"{ELSEWHERE}/tool", 201),
        Response(301),
        Response(200, body=b"a tool"),
        Response(404),
        Response(502),
        HttpError("no way there"),
    ],
)
def test_what_is_declared_or_no_redirect_explains_nothing(says):
    world = Refusing(says)
    assert sample(world) == REFUSED and world.asked


def test_a_large_answer_is_one():
    world = Refusing(BodyTooLarge("answered with more than 65536 bytes"))
    assert sample(world) == REFUSED and len(world.asked) == 2


def test_an_upstream_that_gives_no_answer_is_not_waited_for_again():
    world = Refusing(HttpError("no complete answer within 30 seconds"))
    sample(world)
    assert len(world.asked) == 1


@pytest.mark.parametrize(
    ("changes", "upstream"),
    [({}, False), ({"routes": []}, True), ({"upstream": ""}, True), ({"routes": [{"path": "/other/", "target": FILES}]}, True)],
)
def test_nobody_is_asked_where_upstream_is_not_known_or_not_to_be_asked(changes, upstream):
    world = Refusing(sent(ELSEWHERE))
    assert sample(world, documented(SITE) | changes, upstream) == REFUSED and not world.asked


@pytest.mark.parametrize("status", [404, 500, 503, 504])
def test_nobody_is_asked_about_another_answer(status):
    world = Refusing(sent(ELSEWHERE), status)
    assert f"answered {status}, not 200" in sample(world) and not world.asked


def test_what_a_program_fetches_for_the_mirror_is_not_asked_for():
    """It follows redirects, which lead to storage that no site declares."""
    world = Refusing(sent(ELSEWHERE))
    site = documented({"name": "images", "type": "oci", "upstream": "https://images.test", "probe": "app:one"})
    assert verdicts_of(world, MIRROR, site, world)["tag"] == ("bad", f"{MIRROR}/v2/images/app/manifests/one answered 502, not 200")
    assert [asked[0] for asked in world.asked] == ["HEAD"], "by the check that compares tags alone"


def test_it_is_asked_where_the_file_comes_from_and_as_the_check_asked():
    world = Refusing(sent(f"{ELSEWHERE}/a"))
    site = Site.from_dict(documented({"type": "npm", "name": "npm", "upstream": UPSTREAM, "origins": [FILES]}), "here")
    probe = Probe(world, MIRROR, site, world)
    for _time in range(2):
        probe.get("/npm/files/demo/-/demo-1.0.0.tgz", Accept="application/x", Range="bytes=0-1")
    assert world.asked == [("GET", f"{FILES}/demo/-/demo-1.0.0.tgz", {"Accept": "application/x"}, REDIRECT_BYTES, 0)]


def test_what_is_not_of_the_site_is_not_asked_for():
    world = Refusing(sent(f"{ELSEWHERE}/a"))
    probe = Probe(world, MIRROR, Site.from_dict(documented(SITE), "here"), world)
    for path in "/mirror.json", "http://mirror.test:8081/tools/v1/tool":
        assert probe.get(path).status == 502 and not world.asked


def test_it_is_told_on_the_site_s_own_port_and_below_a_path_too():
    world = Refusing(sent(f"{ELSEWHERE}/a"))
    found = verdicts_of(world, f"{MIRROR}/below", documented(SITE) | {"port": 4873}, world)
    assert found["sample"][1] == REFUSED.replace("/tools/", "/below/tools/") + SENT_ELSEWHERE
    assert found["port"][1] == f"{REFUSED}{SENT_ELSEWHERE}".replace(":8080/tools/", ":4873/")
    assert world.asked[-1][1] == f"{UPSTREAM}/v1/tool"
    there = Site.from_dict(documented(SITE) | {"port": 4873}, "here").at_its_port
    assert there.source("/v1/tool") == f"{UPSTREAM}/v1/tool"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"origins": FILES}, "sites[0] has origins that are no list"),
        ({"routes": {"/": FILES}}, "sites[0] has routes that are no list"),
        ({"routes": [FILES]}, "sites[0] has a route without a path or a target"),
        ({"routes": [{"path": "/tools/"}]}, "sites[0] has a route without a path or a target"),
    ],
)
def test_sites_that_are_none(changes, sentence):
    report = health.examine(Refusing(sent(ELSEWHERE)), MIRROR, [SITE | changes])
    assert report.failure == f"document: {sentence}"


def test_without_a_declared_origin_the_sentence_is_the_same():
    assert moved(Refusing(Response(404)), MIRROR, SITE | {"origins": []}, "/tool")["sample_hit"] == REFUSED + SENT_ELSEWHERE
