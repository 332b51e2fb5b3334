# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests that the operator vouches for, from files of two kinds.

Lock files of package managers name releases: a file of a release that is pinned has to have one of its digests. Checksum lists
(sha256sum, sha512sum) name files by their paths on the mirror.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from .base import Allowed, BadInput, Registry

CHECKSUM = re.compile(r"^([0-9a-fA-F]{64}|[0-9a-fA-F]{128}) [ *]/?(\S.*?)\r?$", re.MULTILINE)
ALGORITHMS = {64: "sha256", 128: "sha512"}
NONE: Allowed = frozenset()


@dataclass
class Locks:
    """`files` by path on the mirror without its first slash, `releases` by type, project and version."""

    files: dict[str, Allowed] = field(default_factory=dict)
    releases: dict[tuple[str, str, str], Allowed] = field(default_factory=dict)

    def of_file(self, path: str) -> Allowed:
        return self.files.get(unquote(path).lstrip("/"), NONE)

    def of_release(self, kind: str, candidates: Iterable[tuple[str, str]]) -> Allowed:
        """Of the first release that is locked."""
        return next((self.releases[kind, *pair] for pair in candidates if (kind, *pair) in self.releases), NONE)


def read_locks(paths: Iterable[str], registries: Mapping[str, Registry]) -> Locks:
    """All files as one; what several of them say of one thing is allowed by each. Raises BadInput."""
    locks = Locks()
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except (OSError, ValueError) as error:
            raise BadInput(f"the lock file {path} (lock_files) cannot be read: {getattr(error, 'strerror', None) or error}") from error
        files = {name: frozenset({(ALGORITHMS[len(digest)], digest.lower())}) for digest, name in CHECKSUM.findall(text)}
        releases = {(kind, *key): allowed for kind, registry in registries.items() for key, allowed in registry.locked(text).items()}
        if not files and not releases:
            raise BadInput(
                f"the lock file {path} (lock_files) has no digests: it is no lock file that is known here, and has no lines of sha256sum"
            )
        for name, allowed in files.items():
            locks.files[name] = locks.files.get(name, NONE) | allowed
        for key, allowed in releases.items():
            locks.releases[key] = locks.releases.get(key, NONE) | allowed
    return locks
