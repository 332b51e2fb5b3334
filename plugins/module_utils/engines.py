# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the engines cannot do. The one list that preflight, the documentation and the behaviour table read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Limit:
    """Something that an engine does not do.

    ``key``      its name.
    ``sentence`` what an operator should know.
    ``rows``     an expression that finds the rows of the behaviour table that the engine does not meet, by their node id; or none.
    ``faults``   an expression that finds the faults of the fault run that it excuses, by their names; or none.
    ``figures``  which figures of those faults may be missed.
    ``options``  options of a site that ask for it: such a site is refused.
    """

    key: str
    sentence: str
    rows: str = ""
    faults: str = ""
    figures: tuple[str, ...] = ("warm", "wrong")
    options: tuple[str, ...] = ()


UNCHECKED = Limit(
    "unchecked",
    "What is damaged on the mirror's own disk is served as it lies there, until a scrub takes it out.",
    figures=("warm", "wrong", "stored"),
)
PAIRS = Limit(
    "pairs",
    "While a Maven repository is away, its metadata, its snapshots and the checksums beside them are each served as last seen: where only"
    " one of two was asked for after both had changed, the other does not fit.",
    r"test_a_checksum_fits_though_one_of_both_was_asked_for_alone",
)
GENERATIONS = Limit(
    "generations",
    "Of an archive of Debian packages without by-hash, InRelease and an index may be of two generations for up to 3 s after it has"
    " published.",
)
ENGINES: dict[str, tuple[Limit, ...]] = {
    "nginx": (
        Limit(
            "hung",
            "While an upstream lets everybody wait, who asks for a page past twice its lifetime gets the stored one only after 0.7 of"
            " mirror_index_timeout, and who has just got an expired page waits as long for the next answer on its connection. A page that"
            " upstream needs longer for is not refreshed.",
        ),
        Limit(
            "one-disk",
            "Where cache and temporary files are on one filesystem and others fill it, files that are not stored yet arrive cut or"
            " not at all, for about 10 s, until mirror_min_free has made room.",
            faults=r"disk_full_one_disk",
            figures=("cold", "sent twice"),
        ),
        PAIRS,
        GENERATIONS,
        Limit(
            "late-blob",
            "Clients that ask for a blob of an image while it is fetched for the first time wait until all of it is there, and one that"
            " takes more than 15 minutes is fetched again meanwhile.",
        ),
        replace(
            UNCHECKED,
            sentence=f"{UNCHECKED.sentence} Clients of a file that was shortened there wait until they give up.",
            faults=r"stored_halved",
        ),
    ),
    "apache": (
        Limit(
            "late-start",
            "Clients that ask for a file while it is fetched for the first time wait until all of it is there: for 30 s where it has 200 MB"
            " and comes with 10 MB/s, while pip asks anew after 15 s, up to 5 times. One of more than 64 MB comes no faster than the client"
            " that asked for it first reads it; who has waited for 5 minutes fetches it anew.",
            r"test_who_comes_later_starts_before_the_first_has_finished",
        ),
        Limit(
            "refresh-in-front",
            "The first client that asks for an expired page waits while it is refreshed; the others get the expired one meanwhile, however"
            " old it is.",
            r"test_a_slow_refresh_delays_nobody_just_after_expiry|test_cache_status_just_after_expiry"
            r"|test_who_waits_for_a_lapsed_page_gets_the_present_one\[apache",
        ),
        Limit(
            "one-size",
            "Index pages and files share one cache, whose size is the sum of mirror_index_max_size and mirror_artifact_max_size. What was"
            " stored longest ago goes first, however much it is asked for.",
        ),
        Limit(
            "first-address",
            "A fetch that fails is tried again on a new connection, but at another address only where the name server gives the addresses"
            " in another order then, or where the first one takes no connection.",
            r"test_a_dead_edge\[.*apache.*the first address",
        ),
        Limit(
            "lengths",
            "A page that its upstream sends neither compressed nor with its length is fetched for each client.",
        ),
        Limit(
            "mislabelled",
            "A page that its upstream calls compressed though it is not is passed on as it came.",
            r"test_a_page_that_cannot_be_rewritten\[apache-gzip that is none",
            r"upstream_wrong_bytes_of_pages",
        ),
        Limit(
            "unframed",
            "A file that its upstream sends with neither a length nor chunks is passed on, though not stored: its clients cannot tell one"
            " that was cut short from a whole one, other than by its digest.",
            faults=r"upstream_truncated_close",
        ),
        Limit(
            "full-at-once",
            "Where others fill the disk of the cache within a second, a process of Apache may end as it stores something: its clients of"
            " that moment are answered 502, or not at all, and have to ask again.",
            faults=r"disk_full$",
            figures=("warm", "cold", "sent twice"),
        ),
        PAIRS,
        GENERATIONS,
        # Apache finds damage of a stored header alone, which is a file of its own; Nginx that of the begin of a stored response.
        replace(UNCHECKED, faults=r"stored_(heads_overwritten|emptied|halved)"),
    ),
}


def refusals(engine: str, sites: Iterable[Mapping[str, Any]]) -> list[str]:
    """Why an engine cannot offer sites as the inventory gives them: a sentence for each reason, none where it can."""
    if engine not in ENGINES:
        return [f"mirror_engine '{engine}' is unknown; set one of {', '.join(sorted(ENGINES))}."]
    return [
        f"Site '{site.get('name', site.get('type'))}': {option} is not to be had with mirror_engine '{engine}'. {limit.sentence}"
        for site in sites
        for limit in ENGINES[engine]
        for option in limit.options
        if site.get(option)
    ]
