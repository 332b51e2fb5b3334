# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an archive has the suites that its site offers, and what they say of themselves; it links to nothing outside.

Source: the Debian wiki, "DebianRepository/Format", on Release.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..apt import folder
from ..http import Client, HttpError
from .base import DiscoveryError, Found


def discover(client: Client, site: Mapping[str, Any]) -> Found:
    """The vendor is that of the first suite. Raises DiscoveryError for the first one that is not there."""
    releases = []
    for suite in site.get("suites") or []:
        url = site["upstream"].rstrip("/") + "/" + folder(suite)
        where = f"in mirror_sites for site '{site['name']}'"
        try:
            answers = [client.get(url + "InRelease", redirects=3)]
            if answers[0].status == 404:
                answers.append(client.get(url + "Release", redirects=3))
            release = answers[-1].decoded().decode("utf-8", "replace") if answers[-1].status == 200 else ""
        except HttpError as error:
            raise DiscoveryError(f"Site '{site['name']}': {error}; let this host reach it, or set another upstream: {where}.") from error
        if answers[-1].status != 200:
            said = f"upstream answered {answers[-1].status} where the Release of suite '{suite}' should be, {url}"
            raise DiscoveryError(f"Site '{site['name']}': {said}; correct suites: or upstream: {where}.")
        releases.append(release)
    components = (word for release in releases for word in _says(release, "Components").split() if re.fullmatch(r"[\w./+-]+", word))
    return Found(components=list(dict.fromkeys(components)), vendor=_says(releases[0], "Origin").lower() if releases else "")


def _says(release: str, field: str) -> str:
    """The first value of a field that is one line."""
    found = re.search(rf"(?m)^{field}:[ \t]*(.*?)[ \t\r]*$", release)
    return found[1] if found else ""
