# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference pages are what tools/reference.py makes of the code as it is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
assert SPEC and SPEC.loader
reference = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reference)


def test_the_pages_are_up_to_date() -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in reference.FOLDER.glob("*.md")}
    wanted = reference.pages()
    stale = sorted(name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name))
    assert stale == [], "run tools/reference.py"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Set V(true) or O(mirror_state=absent).", "Set `true` or `mirror_state=absent`."),
        ("See O(ignore:upstream) and RV(checks[].site).", "See `upstream` and `checks[].site`."),
        ("As M(nearby.mirrors.cache_health) says", "As [`nearby.mirrors.cache_health`](module-cache_health.md) says"),
        ("of P(nearby.mirrors.sites#lookup)", "of [`nearby.mirrors.sites`](lookup-sites.md)"),
        (r"C(a\)b)", "`a)b`"),
        ("PyPI (the index) and L(text,https://docs.example.org)", "PyPI (the index) and [text](https://docs.example.org)"),
    ],
)
def test_markup(text: str, expected: str) -> None:
    assert reference.markup(text) == expected
