# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's configuration for each engine, with sites that touch every kind of route; nothing is started."""

from __future__ import annotations

import functools
import sys
import typing as t
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "behaviour")]

import bench  # noqa: E402
import configuration  # noqa: E402

# Negotiated and not, rewritten and not, immutable, with a query, of one origin and of two, over TLS and not.
SITES = [
    {"name": "pypi", "type": "pypi", "upstream": "https://index.example.org", "origins": ["https://files.example.org"]},
    {"name": "plain", "type": "pypi", "upstream": "http://plain.example.org:8080/root", "origins": ["http://plain.example.org:8080/root"]},
    {"name": "tools", "type": "generic", "upstream": "http://static.example.org/tools", "immutable": [r"v[0-9.]+/.*"]},
    {"name": "npm", "type": "npm", "upstream": "https://registry.example.org", "origins": []},
    {"name": "open", "type": "npm", "upstream": "https://registry.example.org", "origins": [], "posts": True, "port": 4873},
    {"name": "golang", "type": "golang", "upstream": "https://proxy.example.org"},
    {"name": "rpm", "type": "rpm", "upstream": "https://rpm.example.org/pub"},
    {"name": "cargo", "type": "cargo", "upstream": "https://crates.example.org", "origins": ["https://files.example.org"]},
    {"name": "maven", "type": "maven", "upstream": "https://repository.example.org/maven2"},
    {"name": "debian", "type": "deb", "upstream": "http://archive.example.org/debian"},
    {"name": "gem", "type": "gem", "upstream": "https://gems.example.org"},
    {"name": "images", "type": "oci", "upstream": "https://images.example.org", "origins": [], "port": 5000},
    {"name": "asked", "type": "generic", "upstream": "https://asked.example.org", "query": True, "immutable": [r"v[0-9.]+/.*"]},
]


@pytest.fixture(scope="session")
def parsed(rendered: t.Callable[[str], Path]) -> t.Callable[[str], configuration.Directive]:
    """The configuration of an engine as a tree; parsed once."""
    return functools.cache(lambda engine: configuration.PARSERS[engine](rendered(engine)))


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory, render: t.Callable[..., Path]) -> t.Callable[[str], Path]:
    """The configuration's file for an engine; rendered once."""
    files: dict[str, Path] = {}

    def once(engine: str) -> Path:
        if engine not in files:
            files[engine] = render(tmp_path_factory.mktemp(engine), engine, SITES)
        return files[engine]

    return once


@pytest.fixture
def rendered_with_a_certificate(tmp_path: Path, render: t.Callable[..., Path]) -> t.Callable[[str], Path]:
    certificate, key = bench.certificate(tmp_path, "mirror", "mirror.test")[0]
    return lambda engine: render(tmp_path, engine, SITES, mirror_tls_certificate=certificate, mirror_tls_key=key)


@pytest.fixture(scope="session")
def render() -> t.Callable[..., Path]:
    """Writes an engine's configuration for some sites below a folder."""

    def written(folder: Path, engine: str, sites: list[dict[str, t.Any]], **variables: t.Any) -> Path:
        mirror = bench.Mirror(folder, engine, sites, mirror_resolvers=["127.0.0.1"], **variables)
        mirror.render()
        return mirror.root / "etc" / "mirror.conf"

    return written
