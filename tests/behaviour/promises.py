# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mirror promises: the rows of the behaviour table hold every engine to it."""

from __future__ import annotations

import typing as t

import pytest

PROMISES = {
    "representation": "A client gets the representation it asked for, whoever asked before it",
    "links": "Links in every representation stay on the mirror, and map 1:1 to upstream paths",
    "protocol": "The registry's whole read protocol passes: metadata, upload time, provenance, status, serial, redirects",
    "http": "HEAD, Range, conditions, redirects and encoded characters work on hit and miss alike",
    "once": "One cold file wanted by many is fetched once, and later clients start before the first has finished",
    "whole": "A body that ends early is never stored; errors are not stored as content",
    "retried": "One dead edge of a CDN fails no request; tries end",
    "stale": "With upstream away, what was seen before is served, marked stale; back again, it refreshes by itself",
    "serial": "An index page is never replaced by an older one where the registry gives a serial",
    "verified": "Upstream certificates are verified, always",
    "closed": "Only declared origins are reached; credentials and cookies pass neither way; only GET and HEAD",
    "bounded": "The query string and odd spellings of a path fill no disk and poison no page",
    "held": "Slow clients and connections that are held open hold up nobody",
    "reloads": "Downloads outlive a reload; what is killed stores nothing short, and serves on when it is started again",
    "names": "An address change needs no restart, a name that does not resolve stops no start",
    "disk": "A wiped or damaged cache heals; a full or read-only disk fails no request",
    "itself": "The mirror says what it offers, how it is, and what it did",
    "generic": "Any HTTP host can be mirrored below a prefix",
}


def promise(key: str) -> pytest.MarkDecorator:
    """Mark rows with the promise that they hold an engine to."""
    assert key in PROMISES, key
    return pytest.mark.promise(key)


def table(names: str, rows: dict[str, t.Any]) -> pytest.MarkDecorator:
    """Rows by their name; a value is a tuple where there are several names."""
    return pytest.mark.parametrize(names, list(rows.values()), ids=list(rows))


patient = pytest.mark.patient  # a row that mostly waits, and may run beside others of its kind
