# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registries of container images, and of all else that is kept as one.

Source: the OCI distribution specification, "Pull"; the image specification and Docker's "Image Manifest" for the media types. What is
there for who has a token, docker-registry fetches as its pull-through cache; nothing is rewritten, since all has a digest. For its
own store it would fetch each blob a second time.
"""

from __future__ import annotations

from .ecosystem import Ecosystem, Route

# A manifest is what it is, whatever its client accepts: so a tag has one answer, and its digest is its own.
MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)
DIGEST = r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-f]{32,}"

OCI = Ecosystem(
    type="oci",
    index="",
    base="/v2/",
    page="",
    together=True,
    fetcher="docker-registry",
    routes=(
        Route("manifest", "artifact", "", match=rf".+/manifests/{DIGEST}", accept=MANIFESTS),
        Route("blob", "artifact", "", match=rf".+/blobs/{DIGEST}", passing=True),
        Route("tag", "index", "", match=r".+/(?:manifests/[^/]+|tags/list)", accept=MANIFESTS),
    ),
)
