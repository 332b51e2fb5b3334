# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which origins does a registry's index link to, and which representations does it offer? Asked of the registry itself.

Adding an ecosystem that links to other origins is one file with its `discover`, and its line in `DISCOVERIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..http import Client
from . import cargo, deb, npm, oci, pypi
from .base import DiscoveryError, Found

# Types that are not here link to nothing outside their upstream.
DISCOVERIES: dict[str, Callable[[Client, Mapping[str, Any]], Found]] = {
    "pypi": pypi.discover,
    "npm": npm.discover,
    "deb": deb.discover,
    "cargo": cargo.discover,
    "oci": oci.discover,
}

__all__ = ["DiscoveryError", "Found", "discover"]


def discover(client: Client, site: Mapping[str, Any]) -> Found:
    """Of a site (name, type, upstream, probe). Raises DiscoveryError."""
    return DISCOVERIES.get(site["type"], lambda _client, _site: Found())(client, site)
