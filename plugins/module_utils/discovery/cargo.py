# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The origin of the crates, from config.json at the root of the index (the Cargo book, "Registry Index")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..http import Client, HttpError, origin
from .base import DiscoveryError, Found, unreached


def discover(client: Client, site: Mapping[str, Any]) -> Found:
    """The origin of ``dl``, which may be the upstream's own."""
    url = site["upstream"].rstrip("/") + "/config.json"
    advice = "set origins: in mirror_sites for site '{}', or another upstream:".format(site["name"])
    try:
        response = client.get(url, {"Accept-Encoding": "gzip"}, redirects=3)
        body = response.decoded()
    except HttpError as error:
        raise unreached(site["name"], error) from error
    if response.status != 200:
        raise DiscoveryError("Site '{}': {} answered {}; {}.".format(site["name"], url, response.status, advice))
    try:
        found = origin(json.loads(body)["dl"])
    except (ValueError, KeyError, TypeError, AttributeError):
        found = ""
    if not found:
        raise DiscoveryError("Site '{}': {} does not tell where crates are (dl); {}.".format(site["name"], url, advice))
    return Found([found])
