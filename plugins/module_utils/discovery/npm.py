# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The origins of tarballs, from the document of one package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..http import Client, HttpError, origin
from .base import DiscoveryError, Found, unreached


def discover(client: Client, site: Mapping[str, Any]) -> Found:
    """Origins that are not below the upstream, in their order."""
    upstream, name = site["upstream"].rstrip("/"), site["name"]
    url = "{}/{}".format(upstream, site["probe"])
    advice = f"set probe: to a package that it has, or origins:, in mirror_sites for site '{name}'"
    try:
        response = client.get(url, {"Accept": "application/json", "Accept-Encoding": "gzip"}, redirects=3)
        if response.status != 200:
            raise DiscoveryError(f"Site '{name}': {url} answered {response.status}; {advice}.")
        tarballs = [version["dist"]["tarball"] for version in json.loads(response.decoded())["versions"].values()]
    except HttpError as error:
        raise unreached(name, error) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DiscoveryError(f"Site '{name}': {url} is no document of a package; {advice}.") from error
    linked = [origin(str(link)) for link in tarballs if not str(link).startswith(upstream + "/")]
    return Found([found for found in dict.fromkeys(linked) if found])
