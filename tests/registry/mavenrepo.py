# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fixture Maven repository: projects with releases and snapshots, checksums and a signature beside each file, a log of all it was asked.

It says of nothing how long it lives. Signatures are worth nothing, but fit their file alone.
Source: Maven, "Repository Layout" and "Repository Metadata"; Maven Resolver, "About Checksums".
"""

from __future__ import annotations

import hashlib
import typing as t

from paths import COOKIE, Found, Paths

CHECKSUMS = ("sha1", "md5", "sha256", "sha512")
BESIDE = (*CHECKSUMS, "asc")
TYPES = {"pom": "text/xml", "jar": "application/java-archive", "module": "application/vnd.org.gradle.module+json"}


def beside(body: bytes, kind: str) -> bytes:
    """What stands in the file of that kind beside a body."""
    if kind in CHECKSUMS:
        return hashlib.new(kind, body).hexdigest().encode()
    return b"-----BEGIN PGP SIGNATURE-----\n%s\n-----END PGP SIGNATURE-----\n" % hashlib.sha256(body).hexdigest().encode()


class MavenRepo(Paths):
    """``projects`` has versions by project (its path), and how often each was published."""

    HEADERS: t.ClassVar = {
        "": {
            "ETag": '"{md5}"',
            "Last-Modified": "{modified}",
            "X-Checksum-MD5": "{md5}",
            "X-Checksum-SHA1": "{sha1}",
            "Vary": "Accept-Encoding",
            "Age": "3294",
            **COOKIE,
        }
    }
    ABSENT: t.ClassVar = {"Content-Type": "text/html", "X-Amz-Error-Code": "NoSuchKey", "Vary": "Accept-Encoding"} | COOKIE
    WHY = "<html><head><title>404 Not Found</title></head><body>{path}</body></html>\n"
    PACKED = ("text/xml", "text/plain")

    def __init__(self) -> None:
        super().__init__()
        self.projects: dict[str, dict[str, int]] = {}
        self.sizes: dict[str, int] = {}
        self.published = 0

    def publish(self, project: str, version: str, size: int = 1000) -> None:
        """A version, or the next build of a snapshot; its jar has so many bytes, which cannot be packed."""
        versions = self.projects.setdefault(project, {})
        versions[version] = versions.get(version, 0) + 1
        self.sizes[f"{project}/{version}"] = size
        self.published += 1

    def metadata(self, project: str) -> bytes:
        versions, (group, _slash, artifact) = self.projects[project], project.rpartition("/")
        releases = [version for version in versions if not version.endswith("-SNAPSHOT")]
        listed = "".join(f"      <version>{version}</version>\n" for version in versions)
        newest = f"    <latest>{list(versions)[-1]}</latest>\n" + "".join(
            f"    <release>{version}</release>\n" for version in releases[-1:]
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<metadata>\n  <groupId>{group.replace('/', '.')}</groupId>\n  <artifactId>{artifact}</artifactId>\n  <versioning>\n"
            f"{newest}    <versions>\n{listed}    </versions>\n    <lastUpdated>{sum(versions.values())}</lastUpdated>\n"
            "  </versioning>\n</metadata>\n"
        ).encode()

    def find(self, path: str) -> Found:
        """Body and media type."""
        stem, _dot, kind = path.rpartition(".")
        if kind in BESIDE:
            found = self.find(stem)
            return found and (beside(found[0], kind), "text/plain")
        folder, _slash, name = path.rpartition("/")
        if path == "archetype-catalog.xml":
            return f"<archetype-catalog>{self.published}</archetype-catalog>".encode(), "text/xml"
        if name == "maven-metadata.xml" and folder in self.projects:
            return self.metadata(folder), "text/xml"
        project, _slash, version = folder.rpartition("/")
        build = self.projects.get(project, {}).get(version, 0)
        if not build or kind not in TYPES:
            return None
        size = self.sizes[folder] if kind == "jar" else 100
        body = b"%s build %d\n" % (path.encode(), build) + hashlib.shake_128(b"%d" % build).digest(size)
        return body, TYPES[kind]
