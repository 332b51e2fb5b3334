# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The npm registry and registries of its kind.

Source: npm's "Registry API" and "Package Metadata" (npm/registry, docs). A document of a package, the packument, is to be had
whole, and as the part of it that an install needs.
"""

from __future__ import annotations

from .ecosystem import Ecosystem, Representation, Route

INSTALL = "application/vnd.npm.install-v1+json"
# A package, or one of its versions. What lies deeper is a tarball, wherever a registry keeps these.
DOCUMENT = r"(?:@[^/]+/)?[^/]+(?:/[^/]*)?"

NPM = Ecosystem(
    type="npm",
    index="",
    probe="isarray",
    page="{}",
    linked=True,
    # Clients take `dist.tarball` for a whole URL.
    whole_links=True,
    representations=(
        Representation("install", (INSTALL,), f"{INSTALL}; q=1.0, application/json; q=0.8"),
        Representation("full", ("application/json", "application/*", "*/*"), "application/json"),
    ),
    routes=(
        # Below "-/" is the registry's own interface; of it, what `npm audit signatures` and `npm dist-tag ls` read.
        Route("interface", "index", "-/", match=r"npm/v1/(?:keys|attestations/.+)|package/.+/dist-tags|ping"),
        Route("audit", "pass", "-/npm/v1/security/", match=r"audits(?:/quick)?|advisories/bulk"),
        Route("tarball", "artifact", "", match=rf"(?!-/)(?:.+/-/.+\.tgz|(?!.*/-/)(?!{DOCUMENT}$).+)"),
        Route("package", "index", "", links="all", negotiated=True, match=rf"(?!-/)(?!.*/-/){DOCUMENT}"),
    ),
)
