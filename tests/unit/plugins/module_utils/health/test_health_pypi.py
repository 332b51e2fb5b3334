# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each check is seen good on a healthy mirror, and bad on one with the fault that it is there for."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.health import pypi
from ansible_collections.nearby.mirrors.plugins.module_utils.health.base import Options, cache_status
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Headers, HttpError, Response
from ansible_collections.nearby.mirrors.plugins.module_utils.simple_api import MEDIA_TYPES
from fake_mirror import SENT_ELSEWHERE, moved

MIRROR, UPSTREAM = "http://mirror.test:8080", "https://index.test"
WHEEL = "demo-1.0-py3-none-any.whl"


def examine(world, upstream=True, **given):
    report = health.examine(
        world, given.pop("base", MIRROR), upstream=world if upstream else None, sleep=world.sleep, now=world.now, **given
    )
    return report


def verdicts(report):
    return {health.label(entry): entry["verdict"] for entry in report.checks}


def details(report):
    return {health.label(entry): entry["detail"] for entry in report.checks}


def header(response, name, value):
    kept = [pair for pair in response.headers.fields if pair[0].lower() != name.lower()]
    return replace(response, headers=Headers(kept + ([(name, value)] if value is not None else [])))


def on(part, change, base=MIRROR, method="", **wanted):
    """A fault: change the responses to URLs that hold a part, of requests that carry some headers."""

    def fault(verb, url, headers, response):
        fits = all(value in headers.get(name.replace("_", "-"), "") for name, value in wanted.items())
        return change(response) if url.startswith(base) and part in url and fits and method in ("", verb) else response

    return fault


def answered(status):
    return lambda response: replace(response, status=status, body=b"")


def raw(change):
    return lambda response: replace(response, body=change(response.body))


def body(change):
    """A change of the page, before it is compressed."""

    def changed(response):
        packed = response.headers.get("Content-Encoding") == "gzip" and response.body
        return replace(response, body=gzip.compress(change(response.decoded()), mtime=0) if packed else change(response.body))

    return changed


def headed(name, value):
    return lambda response: header(response, name, value)


def said(text):
    return on("/pypi/", headed("Cache-Status", text))


def entry(number, base=MIRROR, **changes):
    """A change of one listed file; None takes a key away."""

    def change(world):
        listed = world.files[base][number]
        listed.update(changes)
        for key in [key for key, value in changes.items() if value is None]:
            del listed[key]

    return change


def fault(*faults):
    return lambda world: world.faults.extend(faults)


def setting(**values):
    return lambda world: [setattr(world, name, value) for name, value in values.items()]


def both(*changes):
    return lambda world: [change(world) for change in changes]


def everywhere(**changes):
    return both(*(entry(number, base, **changes) for number in (0, 1) for base in (MIRROR, UPSTREAM)))


def newer(age):
    """Upstream lists a file more, uploaded some seconds ago, and counts on."""

    def change(world):
        moment = f"2027-01-15T07:{59 - (age - 1) // 60:02d}:{(60 - age % 60) % 60:02d}Z"
        world.files[UPSTREAM].append({"filename": "demo-2.0.tar.gz", "hashes": {}, "upload-time": moment})
        world.serial[UPSTREAM] = "80"

    return change


JSON, HTML = MEDIA_TYPES["json"][0], MEDIA_TYPES["html"][0]
PAGE = "/simple/demo/"
STALE = "nearby; hit; detail=STALE"

# What is broken -> the checks that say so, and what one of them says.
FAULTS = {
    "no health": (fault(on("/health", answered(503))), {"health"}, "answered 503, not 200"),
    "other health": (fault(on("/health", body(lambda _: b"<html>"))), {"health"}, "not 'ok'"),
    "HTML for JSON": (setting(offered=("html",)), {"pypi/index_json", "pypi/index_html", "pypi/negotiation"}, "answers text/html"),
    "HTML for latest JSON": (
        fault(on(PAGE, headed("Content-Type", HTML), Accept=MEDIA_TYPES["json"][1])), {"pypi/index_json"}, "answers text/html"),
    "JSON for HTML": (
        fault(on(PAGE, headed("Content-Type", JSON), Accept=HTML)), {"pypi/index_html", "pypi/negotiation"}, "no PEP 691 document"),
    "HTML for pip": (
        fault(on(PAGE, headed("Content-Type", HTML), Accept=JSON + ", ")), {"pypi/negotiation"}, "answers text/html to pip"),
    "no index": (
        fault(on(PAGE, answered(502))), {"pypi/index_json", "pypi/index_html", "pypi/negotiation"}, "answered 502, not 200"),
    "index without files": (
        lambda world: world.files.update({MIRROR: []}),
        {"pypi/index_json", "pypi/index_html", "pypi/serial_lag"}, "lists no files"),
    "HTML lacks a file": (
        fault(on(PAGE, body(lambda text: text.replace(b"demo-1.0.tar.gz", b"gone-1.0.tar.gz")), Accept=HTML)),
        {"pypi/same_files"}, "differ in demo-1.0.tar.gz, gone-1.0.tar.gz"),
    "links to upstream": (
        entry(0, url="https://files.test/demo-1.0.tar.gz"), {"pypi/links"}, "1 to https://files.test in json"),
    "links beside the site": (
        entry(0, url="/elsewhere/demo-1.0.tar.gz"), {"pypi/links"}, "1 to http://mirror.test:8080/elsewhere/demo-1.0.tar.gz"),
    "port lost in links": (entry(1, url="http://mirror.test/pypi/files/" + WHEEL), {"pypi/links"}, "to http://mirror.test in html"),
    "provenance leaves": (
        fault(on(PAGE, body(lambda text: text.replace(b'/pypi/integrity', b'https://index.test/integrity')), Accept=JSON)),
        {"pypi/links"}, "1 to https://index.test in json"),
    "legacy links leave": (
        fault(on("/demo/json", body(lambda text: text.replace(b"/pypi/files", b"//files.test")))),
        {"pypi/links"}, "to http://files.test in legacy JSON"),
    "no legacy JSON": (fault(on("/demo/json", answered(404))), {"pypi/legacy_json"}, "upstream has it"),
    "legacy JSON is none": (fault(on("/demo/json", body(lambda _: b"[]"))), {"pypi/legacy_json", "pypi/links"}, "no project document"),
    "redirect leaves": (
        fault(on("DEMO", headed("Location", UPSTREAM + PAGE))), {"pypi/redirect"}, "redirects to https://index.test"),
    "no redirect": (
        fault(on("DEMO", answered(404)), on("DEMO", answered(200), UPSTREAM)), {"pypi/redirect"}, "upstream leads to the page"),
    "never a hit": (
        fault(said("nearby; fwd=uri-miss")), {"pypi/index_hit", "pypi/artifact_hit"}, "never a hit"),
    "another cache": (
        fault(said("cdn; hit")), {"pypi/index_hit", "pypi/artifact_hit"}, "no Cache-Status of 'nearby'"),
    "artifact not stored": (
        fault(on("/files/", headed("Cache-Status", "nearby; fwd=bypass"))), {"pypi/artifact_hit"}, "fwd=bypass"),
    "HEAD with a body": (
        fault(on("/files/", body(lambda _: b"x"), method="HEAD")), {"pypi/artifact_head"}, "sends a body"),
    "HEAD of another length": (
        fault(on(PAGE, headed("Content-Length", "0"), method="HEAD")), {"pypi/index_head"}, "says Content-Length 0"),
    "HEAD without a length": (
        fault(on("/files/", headed("Content-Length", None), method="HEAD")), {"pypi/artifact_head"}, "says Content-Length nothing"),
    "HEAD of another type": (
        fault(on(PAGE, headed("Content-Type", HTML), method="HEAD")), {"pypi/index_head"}, "says Content-Type text/html"),
    "gzip of another page": (
        fault(on(PAGE, headed("Content-Encoding", None), Accept_Encoding="gzip")), {"pypi/encoding", "pypi/serial_lag"}, "differs"),
    "gzip cut short": (
        fault(on(PAGE, raw(lambda text: text[:-9]), Accept_Encoding="gzip")), {"pypi/encoding", "pypi/serial_lag"}, "ends early"),
    "gzip for all": (
        fault(on(PAGE, headed("Content-Encoding", "gzip"), Accept_Encoding="identity")), {"pypi/encoding"}, "gzip"),
    "wrong bytes": (
        fault(on(WHEEL, body(lambda text: text.replace(b"w", b"v")))), {"pypi/artifact_digest"}, "purge it"),
    "index and file both wrong": (
        entry(1, UPSTREAM, hashes={"sha256": "00"}), {"pypi/artifact_digest"}, "upstream's index says 00"),
    "no file": (
        fault(on(WHEEL, answered(404))),
        {"pypi/artifact_digest", "pypi/artifact_hit", "pypi/artifact_head", "pypi/artifact_range", "pypi/metadata"}, "answered 404"),
    "range ignored": (
        fault(on(WHEEL, lambda response: replace(response, status=200), Range="bytes")), {"pypi/artifact_range"}, "answered 200, not 206"),
    "range of other bytes": (
        fault(on(WHEEL, body(lambda part: b"!" * len(part)), Range="bytes")), {"pypi/artifact_range"}, "other bytes"),
    "range of another size": (
        fault(on(WHEEL, headed("Content-Range", "bytes 1-50/9"), Range="bytes")), {"pypi/artifact_range"}, "announced as 'bytes 1-50/9'"),
    "wrong metadata": (fault(on(".metadata", body(lambda text: text + b"!"))), {"pypi/metadata"}, "another sha256"),
    "no metadata": (fault(on(".metadata", answered(404))), {"pypi/metadata"}, "answered 404"),
    "metadata not announced": (entry(1, **{"core-metadata": None}), {"pypi/metadata"}, "upstream announces metadata of 1 files"),
    "upload time lost": (entry(0, **{"upload-time": None}), {"pypi/upload_time"}, "the mirror has none for demo-1.0.tar.gz"),
    "no provenance": (fault(on("/integrity/", answered(404))), {"pypi/provenance"}, "answered 404"),
    "provenance is no JSON": (fault(on("/integrity/", body(lambda _: b"<html>"))), {"pypi/provenance"}, "is no JSON"),
    "stays stale": (fault(on(PAGE, headed("Cache-Status", STALE))), {"pypi/freshness"}, "stays stale"),
    "misses an old file": (
        lambda world: world.files[UPSTREAM].append({"filename": "demo-2.0.tar.gz", "hashes": {}, "upload-time": "2027-01-14T08:00:00Z"}),
        {"pypi/serial_lag"}, "missing for 86400 s: demo-2.0.tar.gz"),
    "no serial passed on": (lambda world: world.serial.update({MIRROR: ""}), {"pypi/serial_lag"}, "does not pass it on"),
}  # fmt: skip

# What is not there to be judged -> the checks that are skipped for it, and what one of them says; the rest is good.
SKIPS = {
    "HTML only": (
        both(setting(offered=("html",)), lambda world: world.document["sites"][0].update(representations=["html"])),
        {"pypi/index_json", "pypi/same_files"}, "upstream offers html only"),
    "no serial": (lambda world: world.serial.update({MIRROR: "", UPSTREAM: ""}), {"pypi/serial_lag"}, "gives no serial"),
    "no upload time": (everywhere(**{"upload-time": None}), {"pypi/upload_time"}, "upstream tells none"),
    "no provenance": (both(*(entry(1, base, provenance=None) for base in (MIRROR, UPSTREAM))), {"pypi/provenance"}, "names none"),
    "no metadata": (
        both(*(entry(1, base, **{"core-metadata": None}) for base in (MIRROR, UPSTREAM))), {"pypi/metadata"},
        "upstream announces none; " + WHEEL + ".metadata answered 200 all the same"),
    "no legacy JSON": (fault(on("/demo/json", answered(404), base="")), {"pypi/legacy_json"}, "upstream has none"),
    "upstream away": (
        lambda world: world.faults.append(on("/", refused, UPSTREAM)), {"pypi/serial_lag"}, "upstream could not be asked"),
    "two serials": (
        fault(on(PAGE, body(lambda text: text.replace(b"demo-1.0.tar.gz", b"gone-1.0.tar.gz")), Accept=HTML),
              on(PAGE, headed("X-PyPI-Last-Serial", "70"), Accept=HTML)),
        {"pypi/same_files"}, "HTML of serial 70"),
    "no digest": (
        both(*(entry(number, hashes={}) for number in (0, 1))),
        {"pypi/artifact_digest", "pypi/artifact_hit", "pypi/artifact_head", "pypi/artifact_range"}, "no file with a digest"),
    "no probe": (
        lambda world: world.document["sites"][0].update(probe=""),
        {"pypi/" + check.__name__ for check in pypi.CHECKS}, "set probe:"),
    "another type": (
        lambda world: world.document.update(sites=[world.site(type="conda")]), {"pypi/unknown_type"}, "type 'conda'"),
}  # fmt: skip


def refused(response):
    raise HttpError(f"GET {response.url} failed: the connection was refused")


def test_healthy(world):
    report = examine(world)
    assert details(report).pop("certificate") == "plain http"
    assert {check for check, verdict in verdicts(report).items() if verdict != "good"} == {"certificate"}, report.checks
    assert report.summary == f"{len(pypi.CHECKS) + 2} good, 0 bad, 1 skipped"
    assert all(entry["milliseconds"] >= 0 for entry in report.checks)
    assert world.slept == 0


def test_asks_nothing_but_the_mirror_and_its_upstream(world):
    examine(world)
    assert {url.split("/")[2] for _method, url, _headers in world.asked} == {"mirror.test:8080", "index.test"}
    assert {method for method, _url, _headers in world.asked} == {"GET", "HEAD"}


def test_upstream_is_left_alone_on_request(world):
    report = examine(world, upstream=False)
    assert {urlsplit(url).hostname for _method, url, _headers in world.asked} == {"mirror.test"}
    assert details(report)["pypi/serial_lag"] == "upstream was not to be asked"
    assert not report.bad


@pytest.mark.parametrize("name", FAULTS)
def test_fault(world, name):
    break_it, expected, sentence = FAULTS[name]
    break_it(world)
    report = examine(world)
    assert set(report.bad) == expected, report.failure
    assert sentence in report.failure


@pytest.mark.parametrize(
    ("end", "stale", "expected"),
    [
        (PAGE, False, {"index_json", "index_html", "negotiation"}),
        (PAGE, True, {"freshness"}),
        ("/demo/json", False, {"legacy_json"}),
        ("/DEMO/", False, {"redirect"}),
        (WHEEL, False, {"artifact_digest", "artifact_hit", "artifact_head", "artifact_range"}),
        (".metadata", False, {"metadata"}),
    ],
)
def test_where_a_project_moved_to_is_told(world, end, stale, expected):
    told = moved(world, MIRROR, world.site(origins=["https://files.test"]), end, stale, now=world.now())
    assert set(told) == expected and all(detail.endswith(SENT_ELSEWHERE) for detail in told.values()), told


@pytest.mark.parametrize("name", SKIPS)
def test_skip(world, name):
    change, expected, sentence = SKIPS[name]
    change(world)
    report = examine(world)
    assert not report.bad, report.failure
    assert {check for check, verdict in verdicts(report).items() if verdict == "skipped"} == expected | {"certificate"}
    assert any(sentence in detail for detail in details(report).values())


def test_every_check_has_a_fault():
    covered = set().union(*(expected for _change, expected, _sentence in FAULTS.values()))
    assert {"pypi/" + check.__name__ for check in pypi.CHECKS} <= covered


def test_small_lag_is_good(world):
    newer(600)(world)
    report = examine(world)
    assert not report.bad, report.failure
    assert details(report)["pypi/serial_lag"] == "serial 77, upstream 80: behind by 3"
    assert examine(world, options=Options(max_lag=599)).bad == ["pypi/serial_lag"]


def test_ahead_of_upstream_is_good(world):
    world.serial[MIRROR] = "90"
    assert details(examine(world))["pypi/serial_lag"] == "serial 90, upstream 77: up to date"


def test_a_page_that_had_just_expired_is_waited_for(world):
    left = [STALE, STALE]
    world.faults.append(lambda _m, url, _h, response: header(response, "Cache-Status", left.pop()) if PAGE in url and left else response)
    examine_only = [entry for entry in examine(world).checks if entry["check"] == "freshness"]
    assert examine_only[0]["verdict"] == "good"


def test_sizes_come_from_head_where_the_index_has_none(world):
    world.offered = ("html",)
    world.document["sites"] = [world.site(representations=["html"])]
    report = examine(world)
    assert not report.bad
    assert details(report)["pypi/artifact_digest"].startswith("sha256 of " + WHEEL)


def test_large_files_are_left_alone(world):
    report = examine(world, options=Options(max_artifact_size=10))
    assert not report.bad
    assert "above the limit of 10" in details(report)["pypi/artifact_digest"]
    assert not any(method == "GET" and url.endswith((".whl", ".tar.gz")) for method, url, _headers in world.asked)


def test_a_check_that_crashes_is_bad_and_hides_nothing(world, monkeypatch):
    def crash(probe):
        return {}["x"]

    monkeypatch.setitem(health.CHECKS_BY_TYPE, "pypi", (pypi.PypiProbe, (crash, pypi.index_json)))
    report = examine(world)
    assert report.bad == ["pypi/crash"] and verdicts(report)["pypi/index_json"] == "good"
    assert report.failure == "pypi/crash: the check itself failed with KeyError: 'x'"


def test_a_mirror_that_does_not_answer_is_asked_once(world, unreachable):
    world.faults.append(unreachable)
    report = examine(world, sites=[world.site()])
    assert verdicts(report) == {"health": "bad"} and len(world.asked) == 1


DOCUMENTS = {
    "a newer version": ({"version": 2, "sites": []}, "has version 2, and only version 1 is known; update nearby.mirrors here"),
    "no version": ({"sites": []}, "is no mirror document"),
    "no object": ([], "is no mirror document"),
    "sites no list": ({"version": 1, "sites": {}}, "sites is not a list"),
    "site no dictionary": ({"version": 1, "sites": ["pypi"]}, "sites[0] is not a dictionary"),
    "site without a name": ({"version": 1, "sites": [{"type": "pypi"}]}, "sites[0] has no name"),
    "site without a type": ({"version": 1, "sites": [{"name": "pypi"}]}, "sites[0] has no type"),
    "path without slashes": ({"version": 1, "sites": [{"name": "pypi", "type": "pypi", "path": "pypi"}]}, "begin and end with /"),
    "index elsewhere": ({"version": 1, "sites": [{"name": "pypi", "type": "pypi", "index": "/simple/"}]}, "an index outside it"),
    "probe a number": ({"version": 1, "sites": [{"name": "pypi", "type": "pypi", "probe": 3}]}, "a probe that is no text"),
    "representations a text": (
        {"version": 1, "sites": [{"name": "pypi", "type": "pypi", "representations": "json"}]}, "representations that are no list"),
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document(world, name):
    world.document, sentence = DOCUMENTS[name]
    report = examine(world)
    assert report.bad == ["document"] and sentence in report.failure


def test_a_page_that_is_no_document(world):
    world.faults.append(on("/mirror.json", body(lambda _: b"<html>")))
    assert examine(world).bad == ["document"]


SITES = {
    "least": {"name": "pypi", "type": "pypi", "probe": "demo"},
    "resolved": {"name": "pypi", "type": "pypi", "path": "/pypi/", "probe": "demo", "upstream": UPSTREAM + "/", "offered": ["json", "html"],
                 "representations": [{"name": "json"}, {"name": "v1html"}, {"name": "html"}]},
    "with dictionaries": {"name": "pypi", "type": "pypi", "probe": "demo", "representations": [{"name": "json"}, {"name": "html"}]},
}  # fmt: skip


@pytest.mark.parametrize("name", SITES)
def test_given_sites_stand_in_for_the_document(world, name):
    report = examine(world, sites=[SITES[name]])
    assert not report.bad and details(report)["document"] == "sites were given"
    assert verdicts(report)["pypi/index_json"] == "good"
    assert not any("mirror.json" in url for _method, url, _headers in world.asked)


@pytest.mark.parametrize(("days", "verdict"), [(13.9, "bad"), (14.0, "good"), (80.0, "good"), (None, "bad")])
def test_certificate(world, days, verdict):
    world.faults.append(lambda _method, _url, _headers, _response: Response(200, Headers(), b"ok", "", 1.0, days))
    report = examine(world, base="https://mirror.test", sites=[])
    assert verdicts(report)["certificate"] == verdict


CACHE_STATUS = [
    ("nearby; hit", {"hit": ""}),
    ("nearby; hit; detail=STALE", {"hit": "", "detail": "STALE"}),
    ("origin; fwd=miss, nearby;hit;ttl=30", {"hit": "", "ttl": "30"}),
    ('"nearby"; fwd=uri-miss; detail="a, b; c"', {"fwd": "uri-miss", "detail": "a, b; c"}),
    ("nearbyish; hit", None),
    ("", None),
]


@pytest.mark.parametrize(("value", "expected"), CACHE_STATUS)
def test_cache_status(value, expected):
    assert cache_status(Response(200, Headers({"Cache-Status": value}))) == expected


def test_json_is_read_as_the_document_says(world):
    world.document = json.loads(json.dumps(world.document))
    assert verdicts(examine(world))["document"] == "good"
