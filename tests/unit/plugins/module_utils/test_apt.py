# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read in apt's sources."""

from __future__ import annotations

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.apt import archives, folder, key, sources

DEB822 = """# the archive
Types: deb
 deb-src
# http://elsewhere.test/debian
URIs: http://archive.test/debian
Suites: stable stable-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 deb http://not.test/a b c
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
uris:
 http://archive.test/debian-security/
# why
 http://second.test/debian-security
Suites: stable-security
Enabled: yes

Enabled: no
Types: deb
URIs: http://off.test/debian
Suites: stable
"""
ONE_LINE = """deb http://archive.test/debian stable main # deb http://no.test/ stable main
  deb-src [arch=amd64 signed-by=/k.gpg] http://archive.test/debian/ stable-backports main
#deb http://off.test/debian stable main
deb mirror+file:///etc/apt/mirrors/a.list stable-security main
deb mirror+file:/nowhere stable main
deb cdrom:[Debian]/ stable main
deb http://flat.test/repo ./
"""
LISTS = {
    "/etc/apt/mirrors/a.list": "# ours\nhttp://mirror.test/debian-security/\tpriority:1\n\nhttps://archive.test/debian-security\tpriority:2\n"
}


def test_deb822():
    assert list(sources(DEB822))[:2] == [
        (["http://archive.test/debian"], ["stable", "stable-updates"]),
        (["http://archive.test/debian-security/", "http://second.test/debian-security"], ["stable-security"]),
    ]
    assert "off.test" not in str(list(sources(DEB822))) and "not.test" not in str(list(sources(DEB822)))


def test_archives_in_their_order():
    assert archives([ONE_LINE, DEB822], lambda path: LISTS.get(path, "")) == [
        {"url": "http://archive.test/debian", "suites": ["stable", "stable-backports", "stable-updates"]},
        {"url": "https://archive.test/debian-security", "suites": ["stable-security"]},
        {"url": "http://flat.test/repo", "suites": ["./"]},
        {"url": "http://archive.test/debian-security", "suites": ["stable-security"]},
    ]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://a.test/debian", "https://A.test:443/debian//", True),
        ("http://a.test/debian", "HTTP://a.test:80/debian", True),
        ("http://a.test/debian", "http://a.test/Debian", False),
        ("http://a.test:8080/debian", "http://a.test/debian", False),
        ("http://a.test/debian", "mirror+file:/a.test/debian", False),
    ],
)
def test_two_spellings_of_one_archive(one, other, same):
    assert (key(one) == key(other)) is same


@pytest.mark.parametrize(("suite", "expected"), [("stable", "dists/stable/"), ("a/updates", "dists/a/updates/"), ("/", ""), ("b/", "b/")])
def test_where_a_suite_is(suite, expected):
    assert folder(suite) == expected
