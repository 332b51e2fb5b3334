# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a registry of images lets everybody pull, who has at most to fetch a token; it links to nothing that clients see.

Source: the OCI distribution specification, "Determining Support"; the token authentication of the registry "distribution".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ..catalogue.oci import MANIFESTS
from ..http import Client, HttpError
from .base import DiscoveryError, Found


def discover(client: Client, site: Mapping[str, Any]) -> Found:
    """Raises DiscoveryError where what it answers to everybody, or the image to look at, is not to be had without credentials."""
    url, where = site["upstream"].rstrip("/") + "/v2/", f"in mirror_sites for site '{site['name']}'"
    repository, _colon, tag = (site.get("probe") or "").partition(":")
    instead = "another upstream:"
    try:
        answer = client.get(url, redirects=3)
        asked = answer.headers.get("WWW-Authenticate")
        refusal = f"{url} answered {answer.status}" if answer.status in (401, 403) else ""
        if answer.status == 401 and asked.lower().startswith("bearer "):
            refusal = "" if token_for(client, asked) else f"{site['upstream']} gives no token without credentials"
        if repository and not refusal and answer.status in (200, 401):
            instead += " or probe:"
            refusal = _pull_refused(client, f"{url}{repository}/manifests/{tag or 'latest'}", f"repository:{repository}:pull")
    except HttpError as error:
        raise DiscoveryError(f"Site '{site['name']}': {error}; let this host reach it, or set another upstream: {where}.") from error
    if refusal:
        said = f"{refusal}, and this mirror pulls anonymously only"
        raise DiscoveryError(f"Site '{site['name']}': {said}; set {instead} {where}.")
    if answer.status not in (200, 401):
        said = f"{url} answered {answer.status}, so it is no registry of images"
        raise DiscoveryError(f"Site '{site['name']}': {said}; set another upstream: {where}.")
    return Found()


def _pull_refused(client: Client, url: str, scope: str) -> str:
    """What a registry that gives everybody a token says of a manifest; empty where it does not refuse it. Raises HttpError."""
    headers = {"Accept": MANIFESTS}
    answer = client.head(url, headers)
    challenge = answer.headers.get("WWW-Authenticate")
    if answer.status == 401 and challenge.lower().startswith("bearer "):
        token = token_for(client, challenge, scope)
        if not token:
            return f"{url} needs a token that nobody gets without credentials"
        answer = client.head(url, headers | {"Authorization": f"Bearer {token}"})
    return f"{url} answered {answer.status}" if answer.status in (401, 403) else ""


def token_for(client: Client, challenge: str, scope: str = "") -> str:
    """What a registry gives everybody who comes with what its WWW-Authenticate says; empty where it gives nothing. Raises HttpError.

    ``scope`` is what is asked for where it does not say.
    """
    said = {"scope": scope} | dict(re.findall(r'([a-z]+)="([^"]*)"', challenge))
    query = "&".join(f"{key}={quote(said[key])}" for key in ("service", "scope") if said.get(key))
    answer = client.get(f"{said.get('realm', '')}?{query}", redirects=3)
    try:
        told = json.loads(answer.body) if answer.status == 200 else {}
    except ValueError:
        return ""
    return str(told.get("token") or told.get("access_token") or "") if isinstance(told, dict) else ""
