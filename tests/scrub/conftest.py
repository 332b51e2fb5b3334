# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mirror of each engine, for all tests."""

from __future__ import annotations

import contextlib
import sys
import typing as t
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / "behaviour")]

import bench  # noqa: E402
from registry import Registry  # noqa: E402
from scrub_stage import SITE, SLICE, Stage  # noqa: E402


@pytest.fixture(scope="session", params=list(bench.ENGINES))
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[tuple[bench.Mirror, Registry]]:
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(Registry())
        sites = [{"name": SITE, "type": "pypi", "upstream": registry.index_url, "origins": [registry.files_url], "lifetime": 1}]
        root = tmp_path_factory.mktemp(request.param)
        mirror = bench.Mirror(root, request.param, sites, mirror_resolvers=["127.0.0.1"], mirror_slice_size=f"{SLICE // 1024}k")
        mirror.render()
        stack.callback(mirror.clear)
        mirror.start()
        yield mirror, registry


@pytest.fixture
def stage(running: tuple[bench.Mirror, Registry], tmp_path: Path) -> t.Iterator[Stage]:
    """With an empty store; each test has projects of its own."""
    mirror, registry = running
    mirror.wipe()
    yield Stage(mirror, tmp_path / "scrub.json", registry)
    registry.back()
    registry.forget()
