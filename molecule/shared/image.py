# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the image of a test host: a minimal Debian that boots systemd and has an sshd.

    python3 image.py SUITE [SUITE ...]

Prints one JSON object: {"built": [<suite>, ...], "images": {<suite>: <image reference>, ...}}.

An image's tag is a hash of this file and of the host's CA bundle, so an image is built once and used until either changes;
images of the same suite with other tags are then removed. The packages come from where mmdebstrap's default says.
No package lists are in it: a fresh host has to fetch them itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = "localhost/nearby-lab"
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
PACKAGED = Path("/usr/share/ca-certificates")
PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "ca-certificates", "iproute2", "openssh-server", "sudo")
BUILD_SECONDS = 600
PODMAN_SECONDS = 120

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)

# Runs with the new root as its only argument.
SETUP = r"""
set -eu
chroot "$1" update-ca-certificates >&2
# Unattended upgrades would hold apt's lock and make timings noise.
for unit in apt-daily.timer apt-daily-upgrade.timer; do ln -sf /dev/null "$1/etc/systemd/system/$unit"; done
# A test host is thrown away: nothing on it has to survive a power cut, nobody reads its manuals.
printf 'force-unsafe-io\n' > "$1/etc/dpkg/dpkg.cfg.d/lab"
printf 'path-exclude=/usr/share/%s/*\n' doc man info locale >> "$1/etc/dpkg/dpkg.cfg.d/lab"
printf 'Acquire::Languages "none";\nAcquire::Retries "3";\n' > "$1/etc/apt/apt.conf.d/90lab"
# An empty folder with a new date would pass for lists that were just fetched; mmdebstrap's own clearing sets that date.
find "$1/var/lib/apt/lists" -type f -delete
touch -d 2000-01-01 "$1/var/lib/apt/lists"
: > "$1/etc/machine-id"
"""


def foreign_certificates() -> str:
    """Return the certificates that this host trusts and its distribution did not bring, as PEM in a stable order."""
    trusted = set(CERTIFICATE.findall(BUNDLE.read_text("ascii", "replace")))
    packaged: set[str] = set()
    for path in PACKAGED.rglob("*.crt"):
        packaged.update(CERTIFICATE.findall(path.read_text("ascii", "replace")))
    return "".join(sorted(certificate.rstrip() + "\n" for certificate in trusted - packaged))


def tag() -> str:
    """Return what the images of this recipe on this host are tagged with."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update(BUNDLE.read_bytes())
    return digest.hexdigest()[:12]


def podman(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run podman; raise with its own words when it fails and *check* is set."""
    done = subprocess.run(["podman", *arguments], check=False, capture_output=True, text=True, timeout=PODMAN_SECONDS)
    if check and done.returncode:
        raise RuntimeError(f"podman {' '.join(arguments)}: {done.stderr.strip()}")
    return done


def build(suite: str, image: str) -> None:
    """Make the root of *suite* and store it as *image*."""
    with tempfile.TemporaryDirectory(prefix="nearby-lab-") as work:
        root = Path(work, "root.tar")
        certificates = Path(work, "host")
        certificates.mkdir()
        # One file for each: what reads a folder of certificates takes the first of a file only.
        for number, certificate in enumerate(CERTIFICATE.findall(foreign_certificates())):
            (certificates / f"{number}.crt").write_text(certificate, "ascii")
        setup = Path(work, "setup.sh")
        setup.write_text(SETUP, "utf-8")
        done = subprocess.run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                "--skip=cleanup/apt/lists",
                f"--include={','.join(PACKAGES)}",
                f"--customize-hook=copy-in {certificates} /usr/local/share/ca-certificates",
                f'--customize-hook=sh {setup} "$1"',
                suite,
                str(root),
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"mmdebstrap {suite}: {done.stderr.strip()[-2000:]}")
        podman("import", "--quiet", "--change", "STOPSIGNAL SIGRTMIN+3", str(root), image)


def prune(suite: str, keep: str) -> None:
    """Remove the images of *suite* but *keep*; one that a container still uses stays."""
    listed = podman("images", "--filter", f"reference={REPOSITORY}:{suite}-*", "--format", "{{.Repository}}:{{.Tag}}")
    for image in set(listed.stdout.split()) - {keep}:
        podman("rmi", image, check=False)


def main(suites: list[str]) -> int:
    """Build what is missing of *suites*, one process at a time, and print where they are."""
    images = {suite: f"{REPOSITORY}:{suite}-{tag()}" for suite in suites}
    built = []
    with Path(tempfile.gettempdir(), "nearby-lab.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for suite, image in images.items():
            if podman("image", "exists", image, check=False).returncode:
                build(suite, image)
                built.append(suite)
            prune(suite, image)
    print(json.dumps({"built": built, "images": images}))
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        sys.exit(main(sys.argv[1:]))
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        sys.exit(f"image.py: {error}")
