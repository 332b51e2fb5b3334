# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table, what befalls the server: reloads, kills, and a clock that jumps. On the second mirror, since it disturbs."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import ctypes
import functools
import itertools
import os
import re
import shutil
import signal
import time
import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest
from bench import ENGINES, PIP, Fresh, Mirror, Reply, World, age, fetch, free_port, good, show, until
from promises import patient, promise
from registry import HTML, JSON, Project

Make = t.Callable[..., Fresh]
SIZE = 3_000_000  # more than two slices of the second mirror


@contextlib.contextmanager
def downloads(mirror: Mirror, projects: list[Fresh]) -> t.Iterator[Callable[[], list[Reply | None]]]:
    """Cold files on their way, each to two clients, slowly; gives what waits for the replies."""
    faults = [(project.registry, project.registry.fault(path=project.pattern, rate=SIZE)) for project in projects]
    with concurrent.futures.ThreadPoolExecutor(2 * len(projects)) as pool:
        futures = [pool.submit(mirror.attempt, project.file) for project in projects * 2]
        time.sleep(0.4)
        yield lambda: [future.result() for future in futures]
    for registry, number in faults:
        registry.heal(number)


def stored_right(mirror: Mirror, projects: list[Fresh]) -> None:
    """All is served whole and right, first from what is stored, and then again."""
    for _time in range(2):
        for project in projects:
            reply = mirror.get(project.file)
            assert good(reply, project.content) and reply.seconds < 14, "pip gives up after 15 s: " + show(reply)


@promise("reloads")
@patient
def test_five_reloads_during_downloads(spare: Mirror, fresh: Make) -> None:
    projects, warm = [fresh(size=SIZE, kinds="wheel") for _number in range(3)], fresh()
    assert all(project.content for project in projects)
    assert good(spare.get(warm.file), warm.content) and good(spare.get(warm.index), warm.page(HTML))
    with downloads(spare, projects) as replies:
        for _time in range(5):
            spare.reload()
            for _request in range(20):
                assert good(spare.get(warm.file), warm.content) and good(spare.get(warm.index), warm.page(HTML))
            time.sleep(0.15)
        for reply, project in zip(replies(), projects * 2, strict=True):
            assert reply and good(reply, project.content), reply and show(reply)
    stored_right(spare, projects)
    assert sum(request["sent"] for request in projects[0].asked("files")) <= 1.02 * len(projects[0].content)


@promise("reloads")
@patient
def test_pages_while_a_reload_changes_how_they_are_rewritten(world: World) -> None:
    """For a moment there are workers of two configurations: what either stores is rewritten by its own."""
    registry, root = world.registries["pypi"], world.mirror.root / "reloaded"
    mirror = Mirror(root, world.mirror.engine, [], mirror_resolvers=world.mirror.variables["mirror_resolvers"])
    configurations = []
    for origin in "http://elsewhere.test", registry.files_url:
        mirror.variables["mirror_sites"] = [{"name": "pypi", "type": "pypi", "upstream": registry.index_url, "origins": [origin]}]
        mirror.render()
        configurations.append({path: path.read_text() for path in (root / "etc").rglob("*") if path.is_file()})
    numbers, asked = itertools.count(), []

    def ask(end: float) -> None:
        while time.monotonic() < end:
            name = f"reloaded-{next(numbers)}"
            registry.projects[name] = Project(name).release("1.0", "sdist")
            asked.append((f"/pypi/simple/{name}/", mirror.attempt(f"/pypi/simple/{name}/")))

    def in_force(files: dict[Path, str]) -> bool:
        told = {mirror.get("/health")["X-Release"] for _time in range(20)}
        return told == {found[1] for text in files.values() if (found := re.search(r'X-Release "(\w+)"', text))}

    mirror.start()
    try:
        for files in configurations * 3:
            for path, text in files.items():
                path.write_text(text)
            mirror.reload()
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                for future in [pool.submit(ask, time.monotonic() + 0.6) for _thread in range(4)]:
                    future.result()
            assert until(functools.partial(in_force, files), 20)
        # Who is between two generations of Apache is told to come again, and a client does.
        statuses = collections.Counter(reply.status if reply else 0 for _path, reply in asked)
        assert len(asked) > 100 and not set(statuses) - {200, 503} and statuses[503] <= len(asked) // 20, statuses
        wrong = [path for path, _reply in asked if registry.files_url.encode() in mirror.get(path).plain]
        assert not wrong, f"{len(wrong)} of {len(asked)} lead to upstream"
    finally:
        mirror.stop()


@promise("reloads")
@patient
def test_workers_that_are_killed(spare: Mirror, fresh: Make) -> None:
    """What they were sending breaks, or is told to have failed, and is never stored short; they are replaced by themselves."""
    projects, warm = [fresh(size=SIZE, kinds="wheel") for _number in range(3)], fresh()
    assert all(project.content for project in projects)
    assert good(spare.get(warm.file), warm.content)
    workers = spare.workers()
    with downloads(spare, projects) as replies:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):  # it may have ended by itself after a reload
                os.kill(worker, signal.SIGKILL)
            assert until(lambda: (reply := spare.attempt(warm.file)) and good(reply, warm.content), 5, 0.02)
        for reply, project in zip(replies(), projects * 2, strict=True):
            told = reply and reply.status in (424, 502, 503)  # by another worker, that had handed it on
            assert not reply or told or not reply.complete or good(reply, project.content), show(reply)
    assert until(lambda: (reply := spare.attempt(warm.file)) and good(reply, warm.content), 5, 0.02)
    assert spare.process and spare.process.poll() is None, "the server ended"
    stored_right(spare, [warm, *projects])


@promise("reloads")
@patient
def test_a_server_that_is_killed(spare: Mirror, fresh: Make) -> None:
    """And is started again at once, as a service manager does."""
    projects, warm = [fresh(size=SIZE, kinds="wheel") for _number in range(3)], [fresh() for _number in range(20)]
    assert all(project.content for project in projects)
    for project in warm:
        assert good(spare.get(project.file), project.content) and good(spare.get(project.index, {"Accept": PIP}), project.page(JSON), JSON)
    with downloads(spare, projects) as replies:
        spare.kill()
        broken = replies()
    spare.start()
    for reply, project in zip(broken, projects * 2, strict=True):
        assert not reply or not reply.complete or good(reply, project.content), show(reply)
    asked = sum(len(project.asked()) for project in warm)
    for project in warm:
        assert good(spare.get(project.file), project.content) and good(spare.get(project.index, {"Accept": PIP}), project.page(JSON), JSON)
    assert sum(len(project.asked()) for project in warm) == asked, "what was stored is fetched again"
    stored_right(spare, projects)


@promise("reloads")
@patient
def test_what_a_killed_server_was_fetching_is_fetched_again_at_once(spare: Mirror, fresh: Make) -> None:
    """Though another process has its number by now, as after a boot."""
    project = fresh(size=SIZE, kinds="wheel")
    with downloads(spare, [project]) as replies:
        spare.kill()
        replies()
    try:  # one without a word is left of a row that fills the disk
        locks = {lock: lock.read_text().split() for lock in (spare.root / "temp").glob("fill-*.pid") if lock.stat().st_size}
        assert bool(locks) == (spare.engine == "apache")
        for lock, (number, began) in locks.items():
            assert number.isdigit() and began.isdigit()
            lock.write_text(f"{os.getpid()} {began}")
    finally:
        spare.start()
    reply = spare.get(project.file)
    assert good(reply, project.content) and reply.seconds < 5, show(reply)


@promise("reloads")
@patient
def test_nothing_is_left_of_a_server_that_is_killed_where_nobody_reaps(spare: Mirror) -> None:
    """As in a container whose first process is a `sleep`; this process is that one here (PR_SET_CHILD_SUBREAPER, prctl(2))."""
    prctl, is_subreaper = ctypes.CDLL(None, use_errno=True).prctl, 36

    def left() -> list[str]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                ended = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                line = (folder / "cmdline").read_text()
                found += [line] if str(spare.root) in line and not ended else []
        return found

    assert left()
    prctl(is_subreaper, 1)
    try:
        spare.kill()
        assert until(lambda: not left(), 5), left()
    finally:
        prctl(is_subreaper, 0)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        spare.start()


@promise("reloads")
@patient
def test_a_clock_that_jumps(spare: Mirror, fresh: Make) -> None:
    """A day ahead, and back again: nothing fails, and pages follow upstream again."""
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    if not library:
        pytest.skip("there is no libfaketime")
    clock = spare.root / "clock"
    clock.write_text("+0\n")
    project, gone = fresh("brief"), fresh("brief")
    spare.stop()
    spare.environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    try:
        spare.start()

        def served() -> bool:
            return good(spare.get(project.index), project.page(HTML)) and good(spare.get(project.file), project.content)

        assert served() and good(spare.get(gone.index), gone.page(HTML))
        before = time.mktime(time.strptime(spare.get("/health")["Date"], "%a, %d %b %Y %H:%M:%S GMT"))
        for jump in "+1d", "+0", "-1d", "+0":
            clock.write_text(jump + "\n")
            age(1)
            assert served(), jump
            fault = gone.registry.fault(path=gone.pattern, status=503)
            reply = spare.get(gone.index)
            assert good(reply, gone.page(HTML)), show(reply)
            gone.registry.heal(fault)
            if jump == "+1d":
                now = time.mktime(time.strptime(spare.get("/health")["Date"], "%a, %d %b %Y %H:%M:%S GMT"))
                assert now - before > 80_000, "the clock did not jump"
        cold = fresh()
        assert good(spare.get(cold.index), cold.page(HTML))
    finally:
        spare.stop()
        spare.environment = {}
        shutil.rmtree(spare.root / "cache")
        (spare.root / "cache").mkdir()
        spare.start()


@promise("itself")
@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this host has no IPv6")
@pytest.mark.parametrize("engine", list(ENGINES))
def test_it_listens_at_all_addresses_of_both_families(engine: str, tmp_path: Path) -> None:
    """On its own port, and on that of a site."""
    site = {"name": "tools", "type": "generic", "upstream": f"http://127.0.0.1:{free_port()}", "port": free_port()}
    mirror = Mirror(tmp_path, engine, [site], mirror_addresses=["0.0.0.0", "::"])
    mirror.render()
    try:
        mirror.start()
        for host in "127.0.0.1", "::1":
            assert fetch((host, mirror.address[1]), "/health").status == 200
            assert fetch((host, site["port"]), "/anything").status in (502, 503)
    finally:
        mirror.stop()
