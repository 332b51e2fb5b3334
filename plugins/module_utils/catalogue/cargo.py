# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Rust crate registry and registries of its kind, by their sparse index.

Source: the Cargo book, "Registry Index"; RFC 2789. Crates are below ``dl`` of config.json, wherever that leads, so they are files
of a linked origin even where that is the index's own.
"""

from __future__ import annotations

from .ecosystem import Ecosystem, Route

CARGO = Ecosystem(
    type="cargo",
    index="",
    probe="cfg-if",
    page="config.json",
    subdomain="index.",
    linked=True,
    whole_links=True,
    not_offered=('"api":"', '"api": "'),
    routes=(
        Route("config", "index", "", links="files", match=r"config\.json"),
        # What the index does not have, such as the web API, is not asked of it.
        Route("crate", "index", "", match=r"(?:1/[\w-]|2/[\w-]{2}|3/[\w-]/[\w-]{3}|[\w-]{2}/[\w-]{2}/[\w-]{4,})"),
    ),
)
