# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table, what upstreams do: dead edges, certificates, answers that are not what they should be."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
import typing as t
from pathlib import Path

import pytest
from bench import ACCEPT, EXPIRED, PIP, Fresh, Mirror, Reply, World, age, at_once, fetch, good, show, until
from promises import patient, promise, table
from registry import HTML, JSON

Make = t.Callable[..., Fresh]


def refused(reply: Reply | None) -> bool:
    """Whether a client can tell that it got nothing of use."""
    return reply is None or reply.status >= 400 or not reply.complete


# ---------------------------------------------------------------------------------------------------------------- edges


@promise("retried")
@pytest.mark.parametrize("what", ["index", "file"])
@table(
    "site, fault, count",
    {
        "one address": ("edge", {"edges": 6, "status": 502}, 350),
        "one address, hangs up": ("edge", {"edges": 6, "drop": True}, 120),
        "several addresses": ("edges", {"edges": 6, "status": 502}, 120),
        "one of the addresses": ("edges", {"address": "127.0.0.3", "status": 503}, 120),
        "one of the addresses, hangs up": ("edges", {"address": "127.0.0.3", "drop": True}, 120),
        "the first address": ("edges", {"address": "127.0.0.1", "status": 503}, 120),
        "the first address, hangs up": ("edges", {"address": "127.0.0.1", "drop": True}, 120),
    },
)
def test_a_dead_edge(mirror: Mirror, fresh: Make, site: str, fault: dict[str, t.Any], count: int, what: str) -> None:
    """A CDN draws its edge for each connection, and a retry on the same connection fails again: one edge of six is dead."""
    projects = [fresh(site, kinds="sdist") for _number in range(count)]
    projects[0].registry.fault(**fault)
    failed = [
        reply.status
        for reply in (mirror.get(project.index if what == "index" else project.file) for project in projects)
        if reply.status != 200
    ]
    assert len(failed) <= 0.003 * count, f"failed {len(failed)} of {count}: {failed}"


@promise("retried")
@pytest.mark.parametrize("what", ["index", "file"])
@pytest.mark.parametrize("site", ["edge", "edges"])
def test_tries_end(mirror: Mirror, fresh: Make, site: str, what: str) -> None:
    """Where every edge is dead, an upstream in trouble is not asked for ever."""
    project = fresh(site)
    project.registry.fault(path=project.pattern, status=502)
    reply = mirror.get(project.index if what == "index" else project.file)
    assert reply.status == 502 and 2 <= len(project.asked()) <= 8, (show(reply), len(project.asked()))


@promise("retried")
@patient
def test_tries_end_in_time(mirror: Mirror, fresh: Make) -> None:
    project = fresh("edge")
    project.registry.fault(path=project.pattern, delay=0.8, status=502)
    reply = mirror.get(project.index)
    assert reply.status >= 500 and reply.seconds < 4, show(reply)


# --------------------------------------------------------------------------------------------------------- certificates


def pair(mirror: Mirror, kind: str) -> tuple[str, str]:
    return str(mirror.root / f"{kind}.pem"), str(mirror.root / f"{kind}.key")


@promise("verified")
@pytest.mark.parametrize("kind", ["selfsigned", "expired", "wrongname", "unknown"])
def test_a_certificate_that_turns_bad(mirror: Mirror, fresh: Make, kind: str) -> None:
    """While it runs, with sessions of the good certificate that could be resumed."""
    for _time in range(3):
        project = fresh("turning")
        assert good(mirror.get(project.index), project.page(HTML)) and good(mirror.get(project.file), project.content)
    project.registry.certify(*pair(mirror, kind))
    try:
        for _time in range(3):
            bad = fresh("turning")
            assert [mirror.get(path).status for path in (bad.index, bad.file)] == [502, 502]
            assert bad.asked() == []
    finally:
        project.registry.certify(*pair(mirror, "turning"))
    assert good(mirror.get(bad.index), bad.page(HTML)), "it does not recover"


@promise("verified")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
def test_an_upstream_of_one_protocol(mirror: Mirror, fresh: Make, version: ssl.TLSVersion) -> None:
    project = fresh("good")
    contexts = [origin.server.tls for origin in project.registry.origins.values()]
    for context in contexts:
        context.minimum_version = context.maximum_version = version
    try:
        for path in project.index, project.file:
            assert mirror.get(path).status == 200, path
    finally:
        for context in contexts:
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@promise("verified")
def test_good_and_bad_certificates_side_by_side(mirror: Mirror, fresh: Make) -> None:
    """What one site's sessions are good for is nothing to another."""
    kinds = ["good", "selfsigned", "good", "expired", "good", "wrongname", "unknown", "turning"] * 2
    for kind in kinds:
        project = fresh(kind)
        expected = 200 if kind in ("good", "turning") else 502
        assert [mirror.get(path).status for path in (project.index, project.file)] == [expected] * 2, kind


@promise("verified")
def test_an_authority_that_is_not_trusted_any_more(mirror: Mirror, fresh: Make) -> None:
    bundle = Path(pair(mirror, "ca")[0])
    before = bundle.read_text()

    def cold() -> int:
        return mirror.get(fresh("good").index).status

    assert cold() == 200
    try:
        bundle.write_text(Path(pair(mirror, "ca2")[0]).read_text())
        mirror.reload()
        assert until(lambda: {cold() for _time in range(5)} == {502}, 5), "still accepted"
    finally:
        bundle.write_text(before)
        mirror.reload()
    assert until(lambda: {cold() for _time in range(5)} == {200}, 10)


# -------------------------------------------------------------------------------------------------------------- answers

UNREADABLE: dict[str, dict[str, t.Any]] = {
    "brotli": {"headers": {"Content-Encoding": "br"}},
    "deflate": {"headers": {"Content-Encoding": "deflate"}},
    "gzip twice": {"headers": {"Content-Encoding": "gzip, gzip"}},
    "gzip that is none": {"corrupt": True},
    "plain text": {"headers": {"Content-Type": "text/plain"}},
    "an unknown type": {"headers": {"Content-Type": "application/octet-stream"}},
    "no type": {"headers": {"Content-Type": None}},
    "nothing": {"status": 204},
    "a part": {"status": 206, "headers": {"Content-Type": HTML, "Content-Range": "bytes 0-9/100"}},
    "very large headers": {"headers": {"X-Long": "x" * 100_000}},
}


@promise("whole")
@pytest.mark.parametrize("kind", [JSON, HTML])
@table("fault", UNREADABLE)
def test_a_page_that_cannot_be_rewritten(mirror: Mirror, fresh: Make, fault: dict[str, t.Any], kind: str) -> None:
    """It is not passed on with its links as they were, and not kept."""
    project = fresh()
    project.registry.fault(path=project.pattern, **fault)
    for _time in range(2):
        reply = mirror.attempt(project.index, {"Accept": ACCEPT[kind], "Accept-Encoding": "gzip"})
        assert refused(reply), reply and show(reply)
    project.registry.heal()
    assert good(mirror.get(project.index, {"Accept": ACCEPT[kind]}), project.page(kind), kind)


@promise("stale")
@patient
@table("fault", UNREADABLE)
def test_a_page_that_cannot_be_rewritten_replaces_none(mirror: Mirror, fresh: Make, fault: dict[str, t.Any]) -> None:
    if "corrupt" in fault:
        pytest.skip("its headers are right, so that it is on its way to the client when it fails")
    project = fresh("brief")
    before = mirror.get(project.index, {"Accept": PIP}).body
    project.registry.publish(project.name, "2.0")
    number = project.registry.fault(path=project.pattern, **fault)
    age()
    reply = mirror.get(project.index, {"Accept": PIP})
    assert good(reply, before, JSON) and reply.cache == "stale", show(reply)
    project.registry.heal(number)
    assert until(lambda: good(mirror.get(project.index, {"Accept": PIP}), project.page(JSON), JSON), 5)


@promise("whole")
@table(
    "lie",
    {
        "another begin": "bytes 5-{end}/{size}",
        "another unit": "lines 0-{last}/{size}",
        "nonsense": "bytes from here to there",
        "none": None,
        "a file that is larger": "bytes 0-{last}/99999999",
    },
)
def test_a_part_that_says_it_is_another_one(mirror: Mirror, fresh: Make, lie: str | None) -> None:
    project = fresh(size=50_000, kinds="wheel")
    size = len(project.content)
    value = lie and lie.format(size=size, last=size - 1, end=size + 4)
    project.registry.fault(path=project.pattern, headers={"Content-Range": value})
    for headers in {}, {"Range": "bytes=10-19"}:
        reply = mirror.attempt(project.file, headers)
        assert refused(reply) or reply and reply.body in (project.content, project.content[10:20]), reply and show(reply)
    project.registry.heal()
    assert good(mirror.get(project.file), project.content)


@promise("whole")
@pytest.mark.parametrize("status", [100, 103])
def test_interim_responses(mirror: Mirror, fresh: Make, status: int) -> None:
    """RFC 9110, 15.2: what comes before the answer is not the answer."""
    project = fresh()
    project.registry.fault(path=project.pattern, interim=status)
    for path, body in (project.index, project.page(HTML)), (project.file, project.content):
        reply = mirror.attempt(path)
        assert refused(reply) or reply and good(reply, body), reply and show(reply)
        assert not reply or reply.seconds < 1.5, "the client is left waiting"
    project.registry.heal()
    assert good(mirror.get(project.index), project.page(HTML)) and good(mirror.get(project.file), project.content)


@promise("http")
def test_an_empty_file(world: World, mirror: Mirror) -> None:
    registry = world.registries["tools"]
    for path in "v9.0/empty", "empty":
        registry.put(f"/static/{path}", "")
        for headers in {}, {}, {"Range": "bytes=0-9"}:
            reply = mirror.get(f"/tools/{path}", headers)
            assert reply.body == b"" and reply.complete and reply.status in ((200, 416) if headers else (200,)), show(reply)
        assert mirror.get(f"/tools/{path}").cache == "hit"


@promise("stale")
@patient
def test_a_redirect_that_leads_to_itself(mirror: Mirror, fresh: Make) -> None:
    """It is no page: what was stored is served in its place."""
    project, unseen = fresh("brief"), fresh("brief")
    before = mirror.get(project.index)
    for each in project, unseen:
        each.registry.fault(path=each.pattern, redirect=f"{each.registry.index_url}/simple/{each.name}/")
    age()
    reply = mirror.get(project.index)
    assert good(reply, before.body) and reply.cache == "stale", show(reply)
    assert mirror.get(unseen.index).status == 502
    assert len(unseen.asked()) <= 4


# ------------------------------------------------------------------------------------------------------ query, addresses


@promise("generic")
def test_a_query_counts_where_the_site_says_so(world: World, mirror: Mirror, spare: Mirror) -> None:
    registry = world.registries["pypi"]
    for site, where, fetched in (("ask", spare, 20), ("tools", mirror, 1)):
        path = f"/static/{site}-query"
        registry.put(path, "the answer")
        for _time in range(2):
            for number in range(20):
                assert good(where.get(f"/{site}/{site}-query?n={number}"), b"the answer")
        asked = [request["path"] for request in registry.requests(f"{path}(?![a-z])")]
        assert len(asked) == fetched and asked[0] == (f"{path}?n=0" if fetched > 1 else path)


@promise("names")
@table("site", {"an address": "literal", "a name with no other": "aaaa"})
def test_an_upstream_on_ipv6(world: World, spare: Mirror, site: str) -> None:
    registry = world.registries[site]
    registry.publish("six", "1.0")
    project = Fresh(registry, "six", site)
    assert good(spare.get(project.index, {"Accept": PIP}), project.page(JSON), JSON)
    assert good(spare.get(project.file), project.content)


@promise("names")
def test_clients_on_ipv6(spare: Mirror, fresh: Make) -> None:
    project = fresh()
    for host in f"[::1]:{spare.address[1]}", "[::1]", "localhost", "mirror.test":
        assert good(fetch(("::1", spare.address[1]), project.index, {"Host": host}), project.page(HTML))


# ---------------------------------------------------------------------------------------------------------------- herds


@promise("stale")
@patient
def test_who_waits_for_a_hung_upstream_waits_once(mirror: Mirror, fresh: Make) -> None:
    """Clients that ask for one lapsed page one after the other do not wait one after the other."""
    project = fresh("brief")
    before = mirror.get(project.index).body
    project.registry.fault(path=project.pattern, hang=True)
    age()

    def ask(number: int) -> Reply:
        time.sleep(number * 0.1)
        return mirror.get(project.index)

    replies = at_once(20, ask)
    assert all(good(reply, before) for reply in replies), [show(reply) for reply in replies if reply.status != 200][:3]
    slowest = max(reply.seconds for reply in replies)
    assert slowest < mirror.variables["mirror_index_timeout"] + mirror.variables["mirror_connect_timeout"] + 0.5, slowest


@promise("stale")
@patient
@table("known", {"stored": True, "never seen": False})
def test_a_page_that_hangs_keeps_no_other_one_old(mirror: Mirror, fresh: Make, known: bool) -> None:
    """Clients go on asking for both."""
    hung, other, done = fresh("partly"), fresh("partly"), threading.Event()
    for project in (hung, other) if known else (other,):
        mirror.get(project.index)
    hung.registry.fault(path=hung.pattern, hang=True)

    def insist(project: Fresh) -> None:
        while not done.is_set():
            mirror.attempt(project.index)
            time.sleep(0.1)

    clients = [threading.Thread(target=insist, args=(project,)) for project in (hung, hung, other)]
    for client in clients:
        client.start()
    try:
        for version in ("2.0", "3.0", "4.0"):
            age()
            other.registry.publish(other.name, version)
            age()
            reply = mirror.get(other.index)
            assert good(reply, other.page(HTML)), (version, show(reply))
    finally:
        done.set()
        for client in clients:
            client.join()


@promise("stale")
@patient
def test_a_kept_connection_does_not_wait_twice(mirror: Mirror, fresh: Make) -> None:
    """A silent upstream is asked for one page, and then, by the next request on the connection, for another one."""
    lapsed, expired, before = fresh("steady"), fresh("steady"), []
    for project in lapsed, expired:
        before.append(mirror.get(project.index).body)
        age(EXPIRED)
        project.registry.fault(path=project.pattern, hang=True)
    connection = http.client.HTTPConnection(*mirror.address, timeout=30)
    began = time.monotonic()
    for project, body in zip((expired, lapsed), before[::-1], strict=True):
        connection.request("GET", project.index, headers={"Host": "mirror.test"})
        assert connection.getresponse().read() == body
    connection.close()
    assert time.monotonic() - began < mirror.variables["mirror_index_timeout"] * 1.5


def lapsed(mirror: Mirror, project: Fresh, changed: bool) -> tuple[bytes, list[Reply]]:
    """What a page was, and what 50 clients get that ask for it at once after a long silence."""
    before = mirror.get(project.index).body
    if changed:
        project.registry.publish(project.name, "2.0")
    project.registry.fault(path=project.pattern, delay=0.3)
    age()
    return before, at_once(50, lambda _number: mirror.get(project.index))


@promise("once")
@patient
@pytest.mark.parametrize("changed", [False, True], ids=["unchanged", "changed"])
def test_who_waits_for_a_lapsed_page_waits_together(mirror: Mirror, fresh: Make, changed: bool) -> None:
    """Upstream is asked once for all of them, or twice."""
    project = fresh("brief")
    before, replies = lapsed(mirror, project, changed)
    wanted = before, project.page(HTML)
    assert all(any(good(reply, page) for page in wanted) for reply in replies), [show(reply) for reply in replies if reply.status != 200][
        :3
    ]
    assert len(project.asked()) <= 3, [request["status"] for request in project.asked()]


@promise("stale")
@patient
def test_who_waits_for_a_lapsed_page_gets_the_present_one(mirror: Mirror, fresh: Make) -> None:
    project = fresh("brief")
    _before, replies = lapsed(mirror, project, True)
    assert all(good(reply, project.page(HTML)) for reply in replies)
