# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ubuntu's sources, in the style of its releases from 24.04 on and in the one before: led to the mirror, read by apt, and put back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from node_lab import Story, Told, document, write_files

ARCHIVE, SECURITY, OWN = "http://archive.example.org/ubuntu/", "http://security.example.org/ubuntu/", "https://own.example.org/ubuntu"
SITES = [
    {"name": name, "type": "deb", "path": f"/{name}/", "index": f"/{name}/", "upstream": upstream.rstrip("/")}
    for name, upstream in (("ubuntu", ARCHIVE), ("ubuntu-security", SECURITY))
]
DEB822 = f"""# See {OWN}/help for how this file is to be changed.
Types: deb deb-src
URIs: {ARCHIVE}
Suites: noble noble-updates noble-backports
Components: main restricted universe multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg

## Security updates. Aside from URIs and Suites,
## this should mirror your choices in the previous section.
Types: deb
URIs: {SECURITY}
Suites: noble-security
Components: main restricted universe multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
"""
KEY_INSIDE = f"""Types: deb
URIs: {OWN}
Suites: noble
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 deb {ARCHIVE} noble main
 -----END PGP PUBLIC KEY BLOCK-----
"""
ONE_LINE = f"""# See {ARCHIVE} for how to upgrade.
deb [signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg] {ARCHIVE} jammy main restricted
# deb-src {ARCHIVE} jammy main restricted

deb\t[ arch=amd64 lang=none signed-by=/etc/apt/keyrings/one.gpg,/etc/apt/keyrings/own.gpg ]\t{ARCHIVE}  jammy-updates universe
deb-src [signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg] {ARCHIVE.rstrip("/")} jammy main # {ARCHIVE}
deb [arch=amd64,i386 signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg by-hash=yes] {SECURITY} jammy-security main
deb http://user:word@archive.example.org/ubuntu/ jammy-proposed main
"""
PPA = f"deb [signed-by=/etc/apt/keyrings/own.gpg] {OWN} jammy main\n"
NODES = {
    "ubuntu-deb822": {
        "etc/apt/sources.list": (0o644, "# Ubuntu sources have moved to /etc/apt/sources.list.d/ubuntu.sources\n"),
        "etc/apt/sources.list.d/ubuntu.sources": (0o644, DEB822),
        "etc/apt/sources.list.d/own.sources": (0o600, KEY_INSIDE),
        "etc/apt/apt.conf.d/01own": (0o644, 'APT::Install-Recommends "0";\n'),
    },
    "ubuntu-one-line": {
        "etc/apt/sources.list": (0o664, ONE_LINE),
        "etc/apt/sources.list.d/own.list": (0o644, PPA),
        "etc/apt/sources.list.d/own.list.save": (0o644, ONE_LINE),
    },
}
LED = {"ubuntu-deb822": "etc/apt/sources.list.d/ubuntu.sources", "ubuntu-one-line": "etc/apt/sources.list"}
TOLD = {
    name: Told(
        {"configure_mirrors_document": document(sites=SITES)},
        files,
        other={"configure_mirrors_document": document("https://other.test", sites=SITES)},
    )
    for name, files in NODES.items()
}
FRONTS = {f"mirror+file:/etc/apt/mirrors/nearby-{site['name']}.list": site["upstream"] + "/" for site in SITES}


def led_back(text: str) -> str:
    for front, archive in FRONTS.items():
        text = text.replace(front, archive)
    return text


def targets(folder: Path, files: dict[str, tuple]) -> list[str]:
    """What apt itself would fetch with these files: URL, architecture, where it was said. Fails where apt cannot read them."""
    sources = {path: (0o644, entry[3].decode()) for path, entry in files.items() if path.startswith("etc/apt/s") and entry[3]}
    write_files(folder, sources)
    settings = {
        "Dir::Etc": folder / "etc/apt",
        "Dir::State": folder / "state",
        "Dir::Cache": folder / "cache",
        "APT::Architecture": "amd64",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    form = "$(URI) $(ARCHITECTURE) $(SOURCESENTRY)"
    command = ["apt-get", *options, "--no-release-info", "--format", form, "indextargets"]
    done = subprocess.run(command, text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return sorted(done.stdout.replace(str(folder), "").replace("//dists", "/dists").splitlines())


@pytest.mark.parametrize("name", NODES)
def test_each_source_of_what_is_mirrored_leads_to_the_mirror_and_all_else_stays(told: Story, name: str, tmp_path: Path) -> None:
    before, after = told.after["before"][name], told.after["configured"][name]
    assert told.after["check"][name] == before and told.runs["check"].changed(name)
    changed = [path for path in NODES[name] if after[path] != before[path]]
    assert changed == [LED[name]] and after[LED[name]][:3] == before[LED[name]][:3]
    text, there = told.text("configured", name, LED[name]), NODES[name][LED[name]][1]
    lines = [(new, old) for new, old in zip(text.splitlines(), there.splitlines(), strict=True) if new != old]
    assert len(lines) == sum(text.count(front) for front in FRONTS) == {"ubuntu-deb822": 2, "ubuntu-one-line": 4}[name]
    assert all(led_back(new).replace("ubuntu/ ", "ubuntu ") == old.replace("ubuntu/ ", "ubuntu ") for new, old in lines), lines
    asked = targets(tmp_path / "after", after)
    assert any(line.startswith("mirror+file:") for line in asked)
    assert [line.replace("//dists", "/dists") for line in sorted(map(led_back, asked))] == targets(tmp_path / "before", before)


@pytest.mark.parametrize("name", NODES)
def test_the_archive_stands_behind_the_mirror_and_all_is_put_back(told: Story, name: str) -> None:
    base = "http://mirror.test:8080"
    for step, url in ("configured", base), ("again", base), ("moved", "https://other.test"):
        for site, archive in ("ubuntu", ARCHIVE), ("ubuntu-security", SECURITY):
            listed = told.text(step, name, f"etc/apt/mirrors/nearby-{site}.list")
            assert [line.split("\t")[0].rstrip("/") for line in listed.splitlines()] == [f"{url}/{site}", archive.rstrip("/")]
    assert not told.runs["again"].changed(name)
    assert told.after["put back"][name] == told.after["before"][name]
