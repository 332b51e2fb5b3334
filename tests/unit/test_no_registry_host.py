# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No registry's address is written down: it comes from the package-url definitions, the inventory, or the registry itself."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from packageurl.validate import DEFINITIONS_BY_TYPE

ROOT = Path(__file__).resolve().parents[2]
HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+")
DEFAULTS = {
    urlsplit(definition.default_repository_url).hostname or "": name
    for name, definition in DEFINITIONS_BY_TYPE.items()
    if getattr(definition, "default_repository_url", None)
}
# SHA-256 of further hosts, which the definitions lack and which may not be written down here either.
DIGESTS = {
    "8b5bb5eb9d758455b8635855cf8aaf05b68775e3f83f0291e800ef338fb9783c": "PyPI's files",
    "70bb4000cd2fab03af01fed086c6bf3c2c970f8b8b8001c311028ec3b80e775a": "npm's mirror",
    "00a7dc5a0cc388586b8665846e7d8ae94a6dd096f2aa1aa3b4aab4ac484f998a": "Go's proxy",
    "9da5f32d964125123cc368f231b473bea59307f811c7b9b2e731601e586b82b5": "Go's checksums",
    "3530c4415dd857fb74a542a51c41453902e3a51739cd5f266999c93cc0022aab": "Docker's registry",
    "e680c440a2e92079ab1bf7a927e8d3920f1bcd173c0487e28e020110b2e59efc": "Debian's archive",
    "c2b35955576ffa710bfb7c4e5de8141335829cb1333377cbaf7daaeff9647b35": "Debian's archive",
    "1ba4e37997a2e986efa6cd844e43fd25b9e816359d31612baa9c18b71e3b5294": "Debian's archive",
    "2e97613f5a81eaa4f8a58f552a005713c0c8f333e026efb7771ad28429532374": "Debian's archive",
    "a0f007d863a0ed19c5bd996ef6eaab194af2f1ac685c0f71a75270a0366f8983": "Ubuntu's archive",
    "e514b0d3b0562f54b6622ba95659592c26a4f6473677346ffba9e876eee160ef": "Ubuntu's archive",
    "bd383ddb262bbd95b11cc748575feff8e0e80b988f54e604da24081031707dad": "Fedora's mirrors",
    "1c517ad454a51648dbaa0d7511fc71fa615fc9340517043c44d0f5b7f540747f": "Fedora's mirrors",
    "43c04ed1dabe979b9c552549bf0ab023abd3e1cc6d5ff7f42cfa2296b0973a67": "Maven Central",
    "0fd460f0568e29c129d5164443c22dc23e1fa5ade91d6cc915a0c74ce08fba57": "GitHub's containers",
    "271dacc9f4d0caf8ff708d7751532df465f1b6bf192cc169e6afc639faed6894": "Quay",
}


def digest(host: str) -> str:
    return hashlib.sha256(host.encode()).hexdigest()


def registries(text: str) -> Iterator[tuple[int, str]]:
    """Line numbers, from 1, of registries' hosts and of hosts below one, and whose they are."""
    for number, line in enumerate(text.splitlines(), 1):
        for host in HOST.findall(line.lower().replace("%2f", "/")):
            labels = host.split(".")
            for name in (".".join(labels[start:]) for start in range(len(labels) - 1)):
                owner = DEFAULTS.get(name) or DIGESTS.get(digest(name))
                if owner:
                    yield number, owner
                    break


def files() -> Iterable[Path]:
    """What is tracked, and what would be with the next `git add`."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return (path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file() and not path.is_symlink())


def test_no_file_names_a_registry() -> None:
    found = []
    for path in files():
        name = str(path.relative_to(ROOT))
        content = path.read_bytes().decode("utf-8", "replace")
        found += [f"{name} in its name: {owner}" for _number, owner in registries(name)]
        found += [f"{name}:{number}: {owner}" for number, owner in registries(content)]
    assert found == []


@pytest.mark.parametrize("host", sorted(DEFAULTS))
@pytest.mark.parametrize("text", ["{0}", "a\nhttps://{0}:443/simple/", "files.{0}", '"{0}."', "https%3A%2F%2F{0}%2F", "<{0}>"])
def test_a_registry_is_found(text: str, host: str) -> None:
    assert [owner for _number, owner in registries(text.format(host))] == [DEFAULTS[host]]
    assert list(registries(text.format(host.upper())))


def test_a_host_known_by_its_digest_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIGESTS, digest("files.example.org"), "an example")
    assert list(registries("see https://cdn.files.example.org/x")) == [(1, "an example")]


@pytest.mark.parametrize("text", ["https://index.example.org", "index.test", "PyPI", "npm", "1.2.3", "nearby.mirrors.site", "sites.py"])
def test_other_names_are_not(text: str) -> None:
    assert list(registries(text)) == []
