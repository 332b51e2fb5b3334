# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table, what befalls the disk: full, read-only, wiped, damaged, and the limits that keep it from filling.

The second mirror's cache lies on a small filesystem of its own for these rows, so they need root.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import typing as t
from pathlib import Path

import pytest
from bench import ACCEPT, Fresh, Mirror, age, at_once, good, show, until
from promises import patient, promise
from registry import HTML, JSON

Make = t.Callable[..., Fresh]
MEGABYTE = 1_000_000


@contextlib.contextmanager
def disk(spare: Mirror, megabytes: int, *also: str) -> t.Iterator[Path]:
    """The second mirror's cache is on a filesystem of its own; what is named beside it is on the same one."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small filesystem")
    cache = spare.root / "cache"
    with contextlib.ExitStack() as stack:
        spare.stop()
        stack.callback(spare.start)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=777,size={megabytes}m", "none", cache], check=True)
        stack.callback(subprocess.run, ["umount", "--lazy", cache], check=True)
        for name in also:
            (shared := cache / name).mkdir()
            shared.chmod(0o777)
            subprocess.run(["mount", "--bind", shared, spare.root / name], check=True)
            stack.callback(subprocess.run, ["umount", "--lazy", spare.root / name], check=True)
        spare.start()
        stack.callback(spare.stop)
        yield cache


def fill(folder: Path) -> Path:
    """Use up what is left of a filesystem."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(65536)):
            pass
    return filler


def free(folder: Path) -> int:
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def failures(mirror: Mirror, projects: list[Fresh], files: bool = True) -> list[str]:
    """What went wrong where eight clients asked for all pages, in two representations, and all files."""

    def one(number: int) -> list[str]:
        project = projects[number]
        wanted = [(project.index, {"Accept": ACCEPT[kind], "Accept-Encoding": "gzip"}, project.page(kind)) for kind in (JSON, HTML)]
        wanted += [(project.file, {}, project.content)] if files else []
        replies = [(mirror.attempt(path, headers), body) for path, headers, body in wanted]
        return [reply and show(reply) or "no answer" for reply, body in replies if not reply or not good(reply, body)]

    return [failure for some in at_once(len(projects), one) for failure in some]


def restrict(folder: Path, how: str) -> t.Callable[[], object]:
    """Make a cache's filesystem full or read-only; gives what takes that back."""
    if how == "full":
        return fill(folder).unlink
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    return lambda: subprocess.run(["mount", "-o", "remount,rw", folder], check=True)


@promise("disk")
@patient
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_cache_that_cannot_be_written(spare: Mirror, fresh: Make, how: str) -> None:
    """Warm and cold, small and large, fresh and lapsed: what cannot be stored is sent all the same."""
    warm, lapsed = [fresh(size=100_000, kinds="wheel") for _number in range(10)], [fresh("brief") for _number in range(10)]
    cold = [fresh(size=(number % 3) * MEGABYTE, kinds="wheel") for number in range(30)]
    with disk(spare, 20) as folder:
        assert failures(spare, warm + lapsed) == []
        give_back = restrict(folder, how)
        age()
        for project in lapsed[::2]:
            project.registry.publish(project.name, "2.0")
        for _time in range(3):
            assert failures(spare, warm + lapsed) == []
        assert failures(spare, cold) == []
        give_back()
        assert failures(spare, warm + cold) == []
        assert until(lambda: spare.get(cold[0].index).cache == "hit" and spare.get(cold[0].file).cache == "hit"), "it stores nothing more"


@promise("disk")
@patient
def test_one_disk_for_all_that_is_full(spare: Mirror, fresh: Make) -> None:
    """Pages, warm or cold, and warm files do not need it."""
    warm, lapsed, cold = ([fresh(site, size=100_000, kinds="wheel") for _number in range(10)] for site in ("pypi", "brief", "pypi"))
    with disk(spare, 20, "temp") as folder:
        assert failures(spare, warm + lapsed) == []
        filler = fill(folder)
        age()
        for project in lapsed:
            project.registry.publish(project.name, "2.0")
        assert failures(spare, warm + lapsed) == []
        assert failures(spare, cold, files=False) == []
        filler.unlink()
        assert failures(spare, cold) == []


@promise("disk")
@patient
def test_a_cache_that_is_wiped_under_load(spare: Mirror, fresh: Make) -> None:
    projects = [fresh(size=200_000, kinds="wheel") for _number in range(8)]
    stop = threading.Event()

    def wipe() -> None:
        while not stop.wait(0.02):
            spare.wipe()

    thread = threading.Thread(target=wipe)
    thread.start()
    try:
        failed = [failure for _time in range(15) for failure in failures(spare, projects)]
    finally:
        stop.set()
        thread.join()
    assert failed == [], f"failed {len(failed)} of {15 * 24}: {failed[0]}"


@promise("disk")
@patient
def test_the_cache_keeps_its_size_and_makes_room(spare: Mirror, fresh: Make) -> None:
    """Files of four times what it may keep are sent whole; where others use the disk too, it gives way. It may take some seconds."""
    projects = [fresh(size=2 * MEGABYTE, kinds="wheel") for _number in range(50)]
    limit = 24 << 20
    with disk(spare, 200) as folder:

        def used() -> int:
            with contextlib.suppress(FileNotFoundError):
                return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "others")
            return limit * 2

        for some in range(0, 50, 10):
            assert failures(spare, projects[some : some + 10]) == []
        assert until(lambda: used() <= limit * 1.05, 15, 0.5), f"{used()} bytes are kept, {limit} may be"
        assert used() > limit / 4, "it keeps less than it may"
        assert failures(spare, projects[-3:] + projects[:3]) == []
        (folder / "others").write_bytes(bytes(free(folder) - MEGABYTE))
        assert until(lambda: free(folder) >= 4 << 20, 15, 0.5), f"{free(folder)} bytes are free"
        assert failures(spare, projects[-3:] + projects[:3]) == []
