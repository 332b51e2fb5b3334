# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Go module proxy and proxies of its kind, with the checksum databases that they proxy in their turn.

Source: the Go modules reference, "GOPROXY protocol" and "Checksum database". Neither has links, so nothing is rewritten.
"""

from __future__ import annotations

from .ecosystem import Ecosystem, Route

# ``.info`` of a branch or of a revision changes: only that of a whole version never does.
VERSION = r"v[0-9]+\.[0-9]+\.[0-9]+(?:[-+][^/]*)?"

GOLANG = Ecosystem(
    type="golang",
    index="",
    probe="golang.org/x/sync",
    page="{}/@v/list",
    routes=(
        # A record keeps its number, and a tile its hashes: what is signed of them may be older than what is there now.
        Route("checksum", "artifact", "sumdb/", match=r"[^/]+/(?:lookup|tile)/.+"),
        Route("database", "index", "sumdb/"),
        Route("version", "artifact", "", match=rf".+/@v/{VERSION}\.(?:info|mod|zip)"),
        Route("module", "index", ""),
    ),
)
