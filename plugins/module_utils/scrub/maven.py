# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of a Maven repository, which stand in files of their own beside each file.

Source: Maven Resolver, "About Checksums". A file that is such a digest itself, or a signature, is small: upstream's own is compared.
"""

from __future__ import annotations

import hashlib
import re

from ..http import Response
from .base import Hashes, Registry, Site, spelled

LENGTHS = {"sha1": 40, "sha256": 64}  # which one is asked for first, and how many digits it has
SMALL = (".md5", ".sha1", ".sha256", ".sha512", ".asc")


class Maven(Registry):
    def projects(self, path: str) -> tuple[str, ...]:
        """Of each file, the files that tell its digest."""
        return (path,) if path.endswith(SMALL) else tuple(f"{path}.{algorithm}" for algorithm in LENGTHS)

    def question(self, site: Site, project: str) -> tuple[str, dict[str, str]]:
        return f"{site.upstream}/{project[len(site.path) :]}", {}

    def read(self, response: Response) -> dict[str, Hashes]:
        body = response.decoded()
        found: dict[str, Hashes] = {spelled(response.url): {"sha256": hashlib.sha256(body).hexdigest()}}
        file, _dot, algorithm = response.url.rpartition(".")
        if algorithm in LENGTHS:
            # Some write the file's name before or after the digest.
            digest = re.search(rf"(?<!\w)[0-9a-fA-F]{{{LENGTHS[algorithm]}}}(?!\w)", body.decode("utf-8", "replace"))
            if not digest:
                raise ValueError(f"{response.url} is no digest")
            found[spelled(file)] = {algorithm: digest[0].lower()}
        return found
