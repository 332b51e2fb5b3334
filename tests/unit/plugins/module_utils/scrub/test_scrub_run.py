# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run finds, purges, and leaves to the next one."""

from __future__ import annotations

import base64
import errno
import gzip
import hashlib
import io
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.health.golang import sum_of
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub import LISTING, REGISTRIES, BadInput, Scrub, State, read_locks
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub.base import Route, Site

BODY, OTHER = b"right " * 50, b"wrong " * 50  # three slices each


def counts(report) -> tuple[int, ...]:
    (site,) = report["sites"]
    return tuple(site[key] for key in ("looked_at", "good", "bad", "unknown", "incomplete", "remaining"))


def project(stage, name: str, stored: bytes = BODY, metadata: bytes | None = None) -> list[Path]:
    stage.publish(name, f"{name}-1.0.tar.gz", BODY, metadata)
    return stage.put(f"{name}-1.0.tar.gz", stored)


def test_good_bad_unknown_incomplete(stage):
    kept = project(stage, "good")
    gone = project(stage, "bad", BODY[:-1] + b"?")
    kept += stage.put("unlisted-1.0.tar.gz", BODY)
    parts = project(stage, "partly")
    parts.pop(1).unlink()
    report = stage.scrub()
    assert counts(report) == (4, 1, 1, 1, 1, 0) and report["complete"]
    (bad,) = report["bad"]
    assert bad["path"] == stage.path("bad-1.0.tar.gz") and bad["purged"] and bad["expected"] != bad["found"]
    assert not any(file.exists() for file in gone) and all(file.exists() for file in [*kept, *parts])
    assert report["unknown_because"] == {"upstream tells no digest of it": 1}
    assert report["bytes_read"] == 2 * len(BODY)


def test_metadata_is_compared_with_its_own_digest(stage):
    project(stage, "one", metadata=b"Name: one\n")
    project(stage, "two", metadata=b"Name: two\n")
    stage.put("one-1.0.tar.gz.metadata", b"Name: one\n")
    (gone,) = stage.put("two-1.0.tar.gz.metadata", b"Name: owt\n")
    report = stage.scrub()
    assert counts(report) == (4, 3, 1, 0, 0, 0) and not gone.exists()
    assert sorted(stage.index.asked) == ["https://index.test/simple/one/", "https://index.test/simple/two/"], "once for each project"


def test_a_name_that_holds_its_digest_needs_nobody(stage, refused):
    stage.site = replace(stage.site, type="oci")
    stage.index.faults[""] = refused
    names = [f"app/blobs/sha256:{hashlib.sha256(body).hexdigest()}" for body in (BODY, OTHER)]
    kept, gone = (stage.put(name, BODY)[0] for name in names)
    wrong = lock(stage, f"{digest(OTHER)}  {stage.path(names[0])[1:]}\n")
    for upstream in True, False:
        report = stage.scrub(upstream=upstream, locks=wrong, purge=False, state="")
        assert counts(report) == (2, 1, 1, 0, 0, 0) and report["bad"][0]["reason"] == "its name has another digest"
    stage.scrub()
    assert kept.exists() and not gone.exists() and stage.index.asked == []


@pytest.mark.parametrize(("answer", "length"), [
    ("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-99/400", 100),
    ("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-98/99", 100),
    ("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 50-99/300", 50),
    ("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-49/300", 50),
    ("HTTP/1.1 206 Partial Content", 100),
    ("HTTP/1.1 200 OK\r\nContent-Length: 300", 100),
])  # fmt: skip
def test_files_that_contradict_themselves_are_bad(stage, answer, length):
    files = project(stage, "torn")
    stage.put_part("torn-1.0.tar.gz", BODY[:length], 0, answer=answer)
    stage.index.faults["torn"] = 503
    report = stage.scrub()
    assert counts(report)[2] == 1 and not files[0].exists() and stage.index.asked == [], "nobody has to be asked for that"


def test_a_whole_body_in_one_part(stage):
    stage.publish("whole", "whole-1.0.tar.gz", BODY)
    stage.put_part("whole-1.0.tar.gz", BODY[:100], answer="HTTP/1.1 200 OK\r\nContent-Length: 100")
    assert counts(stage.scrub())[2] == 1
    file = stage.put_part("whole-1.0.tar.gz", b"", answer=f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}")
    file.write_bytes(file.read_bytes() + BODY)
    assert counts(stage.scrub())[1] == 1


def test_what_is_not_served_any_more_is_left_alone(stage):
    file = stage.put("old-1.0.tar.gz", BODY, identity="ffffffff")[0]
    project(stage, "new")
    report = stage.scrub()
    assert counts(report) == (1, 1, 0, 0, 0, 0) and file.exists()
    assert report["unknown_because"] == {"no site of the mirror has it any more, so it is not served": 1}


def test_report_only_purges_nothing_and_keeps_no_state(stage):
    files = project(stage, "bad", OTHER)
    for _again in range(2):
        report = stage.scrub(purge=False, state="")
        assert counts(report) == (1, 0, 1, 0, 0, 0) and report["bad"][0]["purged"] is False
    assert all(file.exists() for file in files) and not (stage.folder / "scrub.json").exists()


def test_a_purge_that_fails_is_told(stage, monkeypatch):
    project(stage, "bad", OTHER)

    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", refuse)
    assert stage.scrub()["bad"][0]["purged"] is False


def test_what_is_replaced_while_it_is_read_is_read_again(stage):
    files = project(stage, "busy", OTHER)
    look, looks = stage.store.look, []

    def replaced(artifact):
        looks.append(artifact)
        if len(looks) == 2:
            for file in files:
                file.rename(file.with_name(file.name + ".0000000001"))
            project(stage, "busy")
        return look(artifact)

    stage.store.look = replaced
    assert counts(stage.scrub()) == (1, 1, 0, 0, 0, 0) and all(file.exists() for file in files)


@pytest.mark.parametrize(("fault", "bad", "unknown"), [(errno.EIO, 1, 0), (errno.EMFILE, 0, 1), (errno.EACCES, 0, 1), (errno.ELOOP, 0, 1)])
def test_only_a_medium_that_fails_makes_a_file_bad(stage, monkeypatch, fault, bad, unknown):
    files = project(stage, "one")

    def broken(*_args):
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(Scrub, "_digests", broken)
    report = stage.scrub()
    assert counts(report)[2:4] == (bad, unknown) and files[0].exists() is not bool(bad)
    assert f"it cannot be read: {os.strerror(fault)}" in (report["bad"][0]["reason"] if bad else report["unknown_because"])


# ---------------------------------------------------------------------------------------------------------------- pages

PAGE = b'{"files": [' + b",".join(b'{"url": "/pypi/files/%d"}' % number for number in range(9999)) + b"]}"
ZIPPED = gzip.compress(PAGE)


def flipped(body: bytes) -> bytes:
    return body[:-6] + bytes([body[-6] ^ 1]) + body[-5:]


@pytest.mark.parametrize(("form", "body", "told", "reason"), [
    ("json|gzip", ZIPPED, "", ""),
    ("json|gzip", ZIPPED + ZIPPED, "", ""),
    ("json|gzip", ZIPPED[: len(ZIPPED) // 2], "", "of the page as json gzip, its gzip stream has no end"),
    ("json|gzip", ZIPPED[:-1], "", "has no end"),
    ("json|gzip", b"", "", "has no end"),
    ("json|gzip", flipped(ZIPPED), "", "its gzip stream is damaged"),
    ("json|gzip", ZIPPED + b"more", "", "its gzip stream is damaged"),
    ("html|gzip", b"plain", "", "its gzip stream is damaged"),
    ("json|", PAGE, "", ""),
    ("json|", PAGE[: len(PAGE) // 2], "", "of the page as json, it is no JSON"),
    ("json|", b"[" * 99999, "", "it is no JSON"),
    ("json|", b"\xff" + PAGE, "", "it is no JSON"),
    ("html|", ZIPPED, f"\r\nContent-Length: {len(ZIPPED)}", "of the page as html, it is gzip, and its head does not say so"),
    ("html|", PAGE, f"\r\nContent-Length: {len(PAGE)}\r\nContent-Type: ", "its head names no media type"),
    ("html|", PAGE, f"\r\nContent-Length: {len(PAGE)}", ""),
    ("html|", PAGE[1:], f"\r\nContent-Length: {len(PAGE)}", f"{len(PAGE) - 1} of {len(PAGE)} bytes are stored"),
])  # fmt: skip
def test_a_page_that_contradicts_itself_is_purged(stage, form, body, told, reason):
    project(stage, "one")
    file = stage.put_page("one", body, form, told)
    for purge in False, True:
        report = stage.scrub(purge=purge, state="scrub.json" if purge else "")
        (site,) = report["sites"]
        assert (site["pages"], site["bad_pages"]) == (1, bool(reason)) and counts(report) == (1, 1, 0, 0, 0, 0)
        assert file.exists() is not (purge and bool(reason))
        for entry in report["bad"]:
            assert entry["path"] == "/pypi/simple/one/" and reason in entry["reason"] and entry["purged"] is purge
        assert f", {len(report['bad'])} of 1 pages bad" in report["summary"]


def test_each_form_of_a_page_is_told(stage):
    files = [stage.put_page("one", b"x", form) for form in ("json|", "json|gzip", "html|gzip")]
    assert len(stage.scrub()["bad"]) == 3 and not any(file.exists() for file in files)


def test_a_page_that_ends_before_its_body(stage):
    file = stage.put_page("one", PAGE)
    os.truncate(file, file.stat().st_size - len(PAGE) - 3)
    assert stage.scrub()["sites"][0]["bad_pages"] == 1 and not file.exists()


def test_pages_that_cannot_be_judged_are_left_alone(stage):
    files = [stage.put_page("one", b"<html>", "html|"), stage.put_page("two", b"", status="301 Moved Permanently", form="html|")]
    files += [stage.put_page("old", b"", identity="ffffffff")]
    report = stage.scrub()
    assert all(file.exists() for file in files) and report["sites"][0]["pages"] == 2
    assert report["unknown_because"] == {
        "a page has neither a checksum nor a length": 1,
        "a page is an answer with the status line 'HTTP/1.1 301 Moved Permanently'": 1,
        "no site of the mirror has it any more, so it is not served": 1,
    }


def test_a_page_that_is_replaced_while_it_is_read_is_read_again(stage):
    file = stage.put_page("one", ZIPPED[:-9])
    look, looks = stage.store.look, []

    def replaced(page):
        looks.append(page)
        if len(looks) == 2:
            file.rename(file.with_name(file.name + ".0000000001"))
            stage.put_page("one", ZIPPED)
        return look(page)

    stage.store.look = replaced
    assert stage.scrub()["bad"] == [] and file.exists() and len(looks) == 3


def test_pages_take_a_tenth_of_the_time_and_go_on_where_they_stopped(stage):
    for number in range(10):
        stage.put_page(f"p{number}", b" " * 98 + b"{}", "json|")
        project(stage, f"p{number}", OTHER)
    look, seen, looked_at, pages = stage.store.look, [], 0, 0
    stage.store.look = lambda item: seen.append(item.path) or look(item)
    for _run in range(5):
        report = stage.scrub(limit=30, bytes_rate=100)
        (site,) = report["sites"]
        assert site["pages"] <= 4 and report["seconds"] <= 30
        looked_at, pages = looked_at + site["looked_at"], pages + site["pages"]
    assert looked_at == 10 and pages > 10
    order = [path for path in seen if "/simple/" in path]
    assert list(dict.fromkeys(order)) == [f"/pypi/simple/p{number}/" for number in range(10)]


def test_a_page_that_takes_longer_than_its_share_is_in_the_way_of_none(stage):
    for name in "big", "small":
        stage.put_page(name, b" " * (3 << 20), "json|")
    project(stage, "one")
    for _run in range(2):
        report = stage.scrub(limit=50, bytes_rate=1 << 18)
        assert report["sites"][0]["pages"] == 1 and counts(report)[1] == 1
        assert list(report["unknown_because"]) == ["it takes longer than one run may take; raise time_limit or read_rate"]


# ------------------------------------------------------------------------------------------------------------- upstream


def test_upstream_away_purges_nothing_and_comes_back_to_it(stage, refused):
    files = [file for number in range(6) for file in project(stage, f"p{number}", OTHER)]
    stage.index.faults[""] = refused
    report = stage.scrub()
    assert counts(report)[:4] == (3, 0, 0, 3) and not report["complete"] and all(file.exists() for file in files)
    assert report["sites"][0]["message"] == f"upstream is away, so this site was left: {refused}"
    assert len(stage.index.asked) == 9, "three tries for each of three projects, and then no more"
    stage.index.faults.clear()
    report = stage.scrub()
    assert counts(report)[:3] == (5, 0, 5) and report["complete"], "no run begins where the last one did, so one was passed over"
    assert counts(stage.scrub())[2] == 1


def test_after_answers_it_comes_back_to_the_first_project_that_had_none(stage, refused):
    for number in range(6):
        project(stage, f"p{number}")
    stage.index.faults = {f"p{number}/": refused for number in (2, 3, 4, 5)}
    assert stage.scrub()["sites"][0]["after"] == stage.path("p1-1.0.tar.gz")
    stage.index.faults.clear()
    assert counts(stage.scrub()) == (4, 4, 0, 0, 0, 0)


def test_one_project_without_an_answer_stops_nothing(stage):
    for number in range(6):
        project(stage, f"p{number}", OTHER)
    stage.index.faults["p3"] = 500
    report = stage.scrub()
    assert counts(report)[:4] == (6, 0, 5, 1) and report["complete"] and report["unknown_because"] == {"upstream could not be asked": 1}


def test_answers_in_between_show_that_upstream_is_there(stage):
    for number in range(8):
        project(stage, f"p{number}")
    stage.index.faults = {f"p{number}/": 500 for number in (1, 3, 5, 7)}
    report = stage.scrub()
    assert counts(report)[:4] == (8, 4, 0, 4) and report["complete"]


def test_a_page_that_cannot_be_had_is_asked_for_once(stage):
    for name in "demo-1.0.tar.gz", "demo-2.0.tar.gz", "demo-3.0.tar.gz":
        stage.put(name, BODY)
    stage.index.faults[""] = 503
    assert counts(stage.scrub())[3] == 3 and len(stage.index.asked) == 3, "with two more tries"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_an_upstream_that_has_no_such_page_is_not_away(stage, status):
    for number in range(6):
        project(stage, f"p{number}", OTHER)
    stage.index.faults[""] = status
    report = stage.scrub()
    assert counts(report) == (6, 0, 0, 6, 0, 0) and report["complete"] and len(stage.index.asked) == 6


def test_a_dead_edge_is_tried_again(stage):
    project(stage, "one")
    stage.index.faults["one"] = 502
    ask = stage.index.request

    def third(*args, **kwargs):
        if len(stage.index.asked) == 2:
            stage.index.faults.clear()
        return ask(*args, **kwargs)

    stage.index.request = third
    assert counts(stage.scrub())[1] == 1 and len(stage.index.asked) == 3


# ----------------------------------------------------------------------------------------------------------------- locks


def lock(stage, text: str):
    (stage.folder / "lock.txt").write_text(text)
    return read_locks([str(stage.folder / "lock.txt")], REGISTRIES)


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_a_locked_digest_needs_no_upstream(stage, refused):
    project(stage, "one")
    stage.index.faults[""] = refused
    assert counts(stage.scrub(locks=lock(stage, f"one==1.0 --hash=sha256:{digest(BODY)}")))[1] == 1 and stage.index.asked == []


def test_without_upstream_a_pinned_release_has_to_have_a_locked_digest(stage):
    project(stage, "one", OTHER)
    project(stage, "two", OTHER)
    report = stage.scrub(upstream=False, locks=lock(stage, f"one==1.0 --hash=sha256:{digest(BODY)}"))
    assert counts(report) == (2, 0, 1, 1, 0, 0) and report["unknown_because"] == {"no lock file has it": 1} and stage.index.asked == []
    assert report["bad"][0]["expected"] == f"sha256:{digest(BODY)}"


def module(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("example.org/A@v1.0.0/a.go", content)
    return out.getvalue()


def sha512(body: bytes) -> str:
    return base64.b64encode(hashlib.sha512(body).digest()).decode()


GO_SUM = f"example.org/A v1.0.0 {sum_of({'example.org/A@v1.0.0/a.go': BODY})}\n"
PACKAGES = {"node_modules/@scope/demo": {"version": "1.0.0", "integrity": f"sha512-{sha512(BODY)}"}}


@pytest.mark.parametrize(("kind", "path", "text", "pack"), [
    ("pypi", "demo-1.0.tar.gz", f"demo==1.0 --hash=sha256:{hashlib.sha256(BODY).hexdigest()}", bytes),
    ("npm", "@scope/demo/-/demo-1.0.0.tgz", json.dumps({"lockfileVersion": 3, "packages": PACKAGES}), bytes),
    ("cargo", "crates/demo/1.0.0/download",
     f'[[package]]\nname = "demo"\nversion = "1.0.0"\nchecksum = "{hashlib.sha256(BODY).hexdigest()}"\n', bytes),
    ("gem", "gems/demo-1.0-java.gem", f"CHECKSUMS\n  demo (1.0-java) sha256={hashlib.sha256(BODY).hexdigest()}\n", bytes),
    ("golang", "example.org/!a/@v/v1.0.0.zip", GO_SUM, module),
])  # fmt: skip
def test_lock_files_of_each_type(stage, kind, path, text, pack):
    stage.site = replace(stage.site, type=kind, path="/pypi/files/packages/")
    locks = lock(stage, text)
    files = stage.put(path, pack(BODY))
    assert len(files) > 1 and counts(stage.scrub(upstream=False, locks=locks))[:3] == (1, 1, 0)
    files = stage.put(path, pack(BODY)[:-1] + b"?")
    report = stage.scrub(upstream=False, locks=locks)
    assert counts(report)[:3] == (1, 0, 1) and not files[0].exists()
    assert report["bad"][0]["reason"] == "the lock files have another digest"


def test_upstream_knows_files_that_a_lock_leaves_out(stage, refused):
    project(stage, "one")
    locks = lock(stage, f"one==1.0 --hash=sha256:{digest(b'its wheel')}")
    stage.index.faults[""] = refused
    assert counts(stage.scrub(locks=locks))[3] == 1, "nothing is purged because upstream is away"
    stage.index.faults.clear()
    assert counts(stage.scrub(locks=locks))[1] == 1


def test_a_checksum_list_has_the_last_word(stage, refused):
    project(stage, "one")
    stage.index.faults[""] = refused
    report = stage.scrub(locks=lock(stage, f"{digest(OTHER)}  {stage.path('one-1.0.tar.gz')[1:]}\n"))
    assert counts(report)[2] == 1 and stage.index.asked == []


# ------------------------------------------------------------------------------------------------------------ time, rate


def test_it_stops_at_the_time_limit_and_goes_on_from_there(stage):
    for number in range(10):
        project(stage, f"p{number}", OTHER)
    seen = []
    for _run in range(4):
        report = stage.scrub(limit=3.5, bytes_rate=len(BODY))
        seen += [entry["path"] for entry in report["bad"]]
        assert report["seconds"] <= 3.5 and (report["complete"] or report["stopped"] == "the time limit ended")
        if report["complete"]:
            break
    assert report["complete"] and seen == [stage.path(f"p{number}-1.0.tar.gz") for number in range(10)], "each once"
    assert stage.scrub()["sites"][0]["stored"] == 0


def test_an_artifact_that_takes_longer_than_a_run_is_passed_over(stage):
    project(stage, "big", OTHER)
    project(stage, "small", OTHER)
    first, second = stage.scrub(limit=2, bytes_rate=100), stage.scrub(limit=20, bytes_rate=100)
    assert list(first["unknown_because"]) == ["it takes longer than one run may take; raise time_limit or read_rate"]
    assert counts(first)[:4] == (1, 0, 0, 1) and counts(second)[:3] == (1, 0, 1)


def test_rates_hold(stage):
    for number in range(5):
        project(stage, f"p{number}")
    stage.put_page("p0", b" " * 198 + b"{}", "json|")
    stage.scrub(bytes_rate=100)
    assert stage.time.slept == pytest.approx(16.0), "a page and 15 slices, of which the first waits for none"
    stage.time.slept = 0.0
    stage.scrub(request_rate=0.5)
    assert stage.time.slept == pytest.approx(8.0), "the first of five requests waits for none"


@pytest.mark.parametrize("before", [10, 0])
def test_a_listing_that_takes_all_the_time_is_told(stage, before):
    project(stage, "one")
    listed = stage.store.walk

    def slow():
        for artifact in listed():
            stage.time.now += before
            yield artifact
        stage.time.now += 10

    stage.store.walk = slow
    report = stage.scrub(limit=5)
    assert not report["complete"] and report["stopped"] == LISTING and report["summary"].endswith(LISTING)


# ----------------------------------------------------------------------------------------------------------------- state


def test_a_run_that_is_killed_loses_nothing(stage, monkeypatch):
    for number in range(6):
        project(stage, f"p{number}", OTHER)
    purge, purged, left, state = stage.store.purge, [], [], stage.folder / "scrub.json"

    def killed(stored):
        purge(stored)
        purged.append(stored)
        if len(purged) == 4:
            left.append(state.read_text())
            raise KeyboardInterrupt

    monkeypatch.setattr(stage.store, "purge", killed)
    with pytest.raises(KeyboardInterrupt):
        stage.scrub()
    state.write_text(left[0])
    report = stage.scrub()
    assert [entry["path"] for entry in report["bad"]] == [stage.path(f"p{number}-1.0.tar.gz") for number in range(6)]
    assert stage.scrub()["bad"] == []


def test_two_runs_at_once(stage):
    project(stage, "one")
    first = State(str(stage.folder / "scrub.json"), stage.time)
    first.load()
    with pytest.raises(BadInput, match="another scrub runs"):
        stage.scrub()
    first.lock.close()
    assert counts(stage.scrub())[1] == 1


@pytest.mark.parametrize("text", ["", "{", '{"version": 9, "after": {}, "finished": {}, "bad": []}', '{"version": 1}', "[]"])
def test_a_state_that_cannot_be_read(stage, text):
    (stage.folder / "scrub.json").write_text(text)
    with pytest.raises(BadInput, match="remove it"):
        stage.scrub()


def test_a_state_that_cannot_be_written(stage):
    with pytest.raises(BadInput, match="set another state_file"):
        stage.scrub(state="nowhere/scrub.json")


def test_the_site_that_was_not_looked_at_for_longest_comes_first(stage):
    other = Site("other", "pypi", "/other/", "https://other.test", "/other/simple/", (Route("/other/files/", "https://other.test/", "1"),))
    for number in range(3):
        project(stage, f"p{number}")
    assert [site["site"] for site in stage.scrub(sites=[stage.site, other])["sites"]] == ["pypi", "other"]
    stage.time.now += 100
    stage.scrub(sites=[stage.site])
    assert [site["site"] for site in stage.scrub(sites=[stage.site, other])["sites"]] == ["other", "pypi"]


def test_a_store_of_another_kind(stage):
    stage.put("one-1.0.tar.gz", BODY, version=6)
    with pytest.raises(BadInput, match="of version 6 of Nginx's cache, where 5 is known; correct cache_path or engine"):
        stage.scrub()
