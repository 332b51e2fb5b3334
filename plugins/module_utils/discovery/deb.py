# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an archive has the suites that its site offers; it links to nothing outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..apt import folder
from ..http import Client, HttpError
from .base import DiscoveryError, Found


def discover(client: Client, site: Mapping[str, Any]) -> Found:
    """Raises DiscoveryError for the first suite that is not there."""
    for suite in site.get("suites") or []:
        url = site["upstream"].rstrip("/") + "/" + folder(suite)
        where = f"in mirror_sites for site '{site['name']}'"
        try:
            answers = (client.get(url + name, redirects=3).status for name in ("InRelease", "Release"))
            found = next((status for status in answers if status != 404), 404)
        except HttpError as error:
            raise DiscoveryError(f"Site '{site['name']}': {error}; let this host reach it, or set another upstream: {where}.") from error
        if found != 200:
            said = f"upstream answered {found} where the Release of suite '{suite}' should be, {url}"
            raise DiscoveryError(f"Site '{site['name']}': {said}; correct suites: or upstream: {where}.")
    return Found()
