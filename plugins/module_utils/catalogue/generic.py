# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Any HTTP host: a prefix, an upstream, and which paths never change."""

from __future__ import annotations

from .ecosystem import Ecosystem, Route

# The inventory says with ``immutable`` which paths never change; each expression becomes an artifact route before this one.
GENERIC = Ecosystem(type="generic", mirror_info=("wheel",), routes=(Route("rest", "index", ""),))
