# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fixture tree of RPM repositories, as a download server has it, which says of nothing how long it lives, and a log of all it
was asked. Source: createrepo_c(8).
"""

from __future__ import annotations

import gzip
import hashlib
import typing as t
from pathlib import Path

from paths import APACHE, Found, Paths

TYPES = {".xml": "text/xml", ".gz": "application/x-gzip", ".rpm": "application/x-rpm", ".drpm": "application/x-rpm", ".asc": "text/plain"}
NAMESPACES = 'xmlns="http://linux.duke.edu/metadata/{}" packages="1"'


class RpmTree(Paths):
    """``files`` has bodies by path."""

    HEADERS: t.ClassVar = {"": APACHE}
    ABSENT: t.ClassVar = {"Content-Type": "text/html; charset=iso-8859-1"}

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}

    def publish(self, repository: str, version: str, digests: bool = True) -> list[str]:
        """A repository of one package, in the place of what was there; returns the paths of repomd.xml, its signature, its primary
        and the package."""
        for path in [path for path in self.files if path.startswith(f"{repository}/repodata/")]:
            del self.files[path]
        package, href = f"package {version} of {repository}\n".encode() * 9, f"Packages/d/demo-{version}-1.noarch.rpm"
        primary = gzip.compress(
            f"<metadata {NAMESPACES.format('common')}><package type='rpm'><name>demo</name><version epoch='0' ver='{version}' rel='1'/>"
            f"<checksum type='sha256' pkgid='YES'>{sha256(package)}</checksum><size package='{len(package)}'/>"
            f"<location href='{href}'/></package></metadata>".encode(),
            mtime=0,
        )
        name = f"repodata/{sha256(primary) + '-' if digests else ''}primary.xml.gz"
        repomd = (
            f"<repomd {NAMESPACES.format('repo')}><revision>{version}</revision><data type='primary'>"
            f"<checksum type='sha256'>{sha256(primary)}</checksum><location href='{name}'/></data></repomd>"
        ).encode()
        made = {
            "repodata/repomd.xml": repomd,
            "repodata/repomd.xml.asc": f"signature of {sha256(repomd)}\n".encode(),
            name: primary,
            href: package,
        }
        self.files |= {f"{repository}/{path}": body for path, body in made.items()}
        return [f"{repository}/{path}" for path in made]

    def load(self, folder: Path) -> None:
        """What is in a folder, in the place of all that was there."""
        self.files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def find(self, path: str) -> Found:
        """Body and media type."""
        return (self.files[path], TYPES.get(Path(path).suffix, "application/octet-stream")) if path in self.files else None


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
