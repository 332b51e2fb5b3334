# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a site of type generic: any HTTP host behind a prefix."""

from __future__ import annotations

from .base import Probe, Skip, Verdict, bad, expect, good, judge_head, judge_hit, judge_range, why


def _sample(probe: Probe) -> str:
    """The path of a file that never changes; `probe` is relative to the site."""
    if not probe.site.probe:
        raise Skip("no file to try is known; set probe: to a path below the site")
    return probe.site.path + probe.site.probe.lstrip("/")


def reachable(probe: Probe) -> Verdict:
    """The site's prefix leads to the upstream, whatever that answers there."""
    response = probe.get(probe.site.path)
    if response.status >= 500:
        reason = why(response) or f"; see whether the mirror reaches {probe.site.upstream}"
        return bad(f"{response.url} answered {response.status}{reason}")
    return good(f"answered {response.status}")


def sample(probe: Probe) -> Verdict:
    response = expect(probe.get(_sample(probe)))
    return good(f"{len(response.body)} bytes")


def sample_hit(probe: Probe) -> Verdict:
    return judge_hit(probe, _sample(probe))


def sample_head(probe: Probe) -> Verdict:
    return judge_head(probe, _sample(probe))


def sample_range(probe: Probe) -> Verdict:
    return judge_range(probe, expect(probe.get(_sample(probe))))


CHECKS = (reachable, sample, sample_hit, sample_head, sample_range)
