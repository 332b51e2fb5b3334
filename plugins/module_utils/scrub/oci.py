# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of blobs and manifests, which are asked for by them.

Source: the OCI distribution specification, "Pull"; the image specification, "Digests", for their form.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from .base import Hashes, Registry

DIGEST = re.compile(r".+/(?:manifests|blobs)/(sha256|sha384|sha512):([0-9a-f]+)")


class Oci(Registry):
    def named(self, path: str) -> Hashes:
        found = DIGEST.fullmatch(unquote(path.partition("?")[0]))
        return {found[1]: found[2]} if found else {}
