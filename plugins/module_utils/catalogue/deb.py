# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives of Debian packages, flat ones included. What is signed has to arrive as it is, so nothing is rewritten.

Source: the Debian wiki, "DebianRepository/Format"; Debian Policy, "Package archives".
"""

from __future__ import annotations

from .ecosystem import Ecosystem, Route

DEB = Ecosystem(
    type="deb",
    index="",
    page="dists/{}/InRelease",
    together=True,
    mirror_info=("debian", "ubuntu"),
    routes=(
        Route("pool", "artifact", "pool/"),
        # A package's file has its version in its name, wherever a flat archive keeps it.
        Route("named", "artifact", "", match=r"(?:.+/)?(?:by-hash/[^/]+/[0-9a-f]+|[^/_]+_[^/_]+_[^/_]+\.[ud]?deb)"),
        # A Release names the digests of indices, which change in place where they are not asked for by their digests.
        Route("index", "index", "", lifetime=1),
    ),
)
