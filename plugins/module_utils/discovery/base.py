# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every discovery gives and raises."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from ..http import HttpError


class DiscoveryError(Exception):
    """The registry could not be read. The text is one sentence: what, where, why, and what to set instead."""


def unreached(name: str, error: HttpError) -> DiscoveryError:
    """What to say of a site whose registry gave no answer."""
    advice = f"set origins: in mirror_sites for site '{name}', or let this host reach its upstream"
    if isinstance(error.__cause__, socket.gaierror):
        advice = f"check upstream: of site '{name}' in mirror_sites, or, where only this host does not know it, set origins: there"
    return DiscoveryError(f"Site '{name}': {error}; {advice}.")


@dataclass(frozen=True)
class Found:
    """`origins` that an index links to (`scheme://host[:port]`), and names of the `representations` that the registry offers.

    Of an archive with suites, the `components` that they have, and its `vendor`, in small letters.
    """

    origins: list[str] = field(default_factory=list)
    representations: list[str] = field(default_factory=list)
    components: list[str] = field(default_factory=list)
    vendor: str = ""
