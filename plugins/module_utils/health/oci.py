# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a site of type oci: what podman, skopeo and containerd rely on, played on one image.

Source: the OCI distribution specification, "Pull" and "Determining Support"; the image specification.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from ..catalogue.oci import MANIFESTS
from ..discovery.oci import token_for
from ..http import HttpError, Response
from .base import (
    Probe,
    Skip,
    Verdict,
    ask_upstream,
    bad,
    expect,
    get_small,
    good,
    is_stale,
    judge_head,
    judge_hit,
    judge_lag,
    judge_range,
)

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
TELLS = "Docker-Content-Digest"
PLATFORM = {"architecture": "amd64", "os": "linux"}


def _tag(probe: Probe) -> str:
    """The path of the tag's manifest. Raises Skip."""
    repository, _colon, tag = probe.site.probe.partition(":")
    if not repository:
        raise Skip("no image to look at is known; set probe: for this site")
    return f"{probe.site.path}{repository}/manifests/{tag or 'latest'}"


def _named(probe: Probe, kind: str, descriptor: Any) -> str:
    """The path of what a descriptor names. Raises ValueError."""
    digest = str(descriptor.get("digest")) if isinstance(descriptor, dict) else ""
    if not DIGEST.fullmatch(digest):
        raise ValueError(f"{probe.url(_tag(probe))} names {digest[:80]!r}, which is no digest")
    return f"{_tag(probe).rpartition('/manifests/')[0]}/{kind}/{digest}"


def _object(response: Response) -> Mapping[str, Any]:
    try:
        value = json.loads(response.decoded())
    except ValueError as error:
        raise ValueError(f"{response.url} is no JSON") from error
    if not isinstance(value, dict):
        raise ValueError(f"{response.url} is no object")
    return value


def _manifest(probe: Probe) -> Mapping[str, Any]:
    """The image's manifest: that of one platform, where the tag is of several."""
    value = _object(expect(probe.get(_tag(probe))))
    entries = value.get("manifests")
    if not isinstance(entries, list) or not entries:
        return value
    fitting = [entry for entry in entries if isinstance(entry, dict) and PLATFORM.items() <= (entry.get("platform") or {}).items()]
    return _object(expect(probe.get(_named(probe, "manifests", (fitting or entries)[0]))))


def _config(probe: Probe) -> str:
    """The path of the image's configuration, which is its smallest blob."""
    return _named(probe, "blobs", _manifest(probe).get("config"))


def _judge_digest(response: Response, digest: str) -> Verdict:
    found = f"sha256:{hashlib.sha256(response.body).hexdigest()}"
    return good(f"{found}, {len(response.body)} bytes") if found == digest else bad(f"{response.url} has {found}, not {digest}; purge it")


def support(probe: Probe) -> Verdict:
    """The mirror says that it is a registry."""
    response = expect(probe.get("/v2/"))
    said = response.headers.get("Docker-Distribution-API-Version")
    return good(said) if said == "registry/2.0" else bad(f"{response.url} says {said or 'nothing'}, not registry/2.0")


def tag(probe: Probe) -> Verdict:
    """The tag's manifest has the digest that comes with it."""
    response = expect(probe.get(_tag(probe)))
    if TELLS not in response.headers:
        return bad(f"{response.url} comes without {TELLS}")
    return _judge_digest(response, response.headers.get(TELLS))


def manifest(probe: Probe) -> Verdict:
    """The manifest that the tag leads to is to be had by its digest, too."""
    digest = expect(probe.head(_tag(probe))).headers.get(TELLS)
    return _judge_digest(expect(probe.get(_named(probe, "manifests", {"digest": digest}))), digest)


def config(probe: Probe) -> Verdict:
    """The image's configuration has the digest by which the manifest names it."""
    path = _config(probe)
    return _judge_digest(get_small(probe, path), path.rpartition("/")[2])


def tag_hit(probe: Probe) -> Verdict:
    """A repeated request for the tag is answered from the cache."""
    return judge_hit(probe, _tag(probe))


def blob_hit(probe: Probe) -> Verdict:
    """A repeated request for a blob is answered from the cache."""
    return judge_hit(probe, _config(probe))


def tag_head(probe: Probe) -> Verdict:
    """HEAD of the tag tells what GET sends: clients look so whether it has moved."""
    return judge_head(probe, _tag(probe))


def blob_head(probe: Probe) -> Verdict:
    """HEAD of a blob tells what GET sends."""
    return judge_head(probe, _config(probe))


def blob_range(probe: Probe) -> Verdict:
    """A range of a blob has the bytes of that slice."""
    return judge_range(probe, get_small(probe, _config(probe)))


def freshness(probe: Probe) -> Verdict:
    """The tag is not served stale: one that had just expired is refreshed within moments."""
    response = expect(probe.until(lambda found: not is_stale(found), lambda: probe.get(_tag(probe))))
    if is_stale(response):
        return bad(f"{response.url} stays stale; what fetches from {probe.site.upstream} cannot refresh it, see its log")
    return good("not stale")


def _theirs(probe: Probe) -> Response:
    """Upstream's answer to HEAD of the tag; who asks has at most to fetch a token first. Raises Skip."""
    response = ask_upstream(probe, _tag(probe), "HEAD", Accept=MANIFESTS)
    if response.status != 401 or probe.upstream is None:
        return response
    try:
        token = token_for(probe.upstream, response.headers.get("WWW-Authenticate"))
    except HttpError as error:
        raise Skip(f"upstream could not be asked: {error}") from error
    return ask_upstream(probe, _tag(probe), "HEAD", Accept=MANIFESTS, Authorization=f"Bearer {token}")


def lag(probe: Probe) -> Verdict:
    """The tag has the digest that it has upstream, or not for long another one."""

    def told(response: Response) -> set[str]:
        if TELLS not in response.headers:
            raise ValueError(f"{response.url} comes without {TELLS}")
        return {response.headers.get(TELLS)}

    return judge_lag(probe, _theirs(probe), probe.head(_tag(probe)), told)


CHECKS = (
    support, tag, manifest, config, tag_hit, blob_hit, tag_head, blob_head, blob_range, freshness, lag,
)  # fmt: skip
