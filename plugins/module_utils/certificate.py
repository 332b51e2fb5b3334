# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a certificate and its key can be served: a client asks a server for it, both in memory, and looks as clients do."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from typing import Any

from .http import HttpError, trusting

SOON_DAYS = 14
NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, X509_VERIFY_PARAM_set_flags(3): dates are looked at apart
MISMATCHES = ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED")  # the second one where the key is of another kind


def shown(certificate: str, key: str, name: str = "") -> dict[str, Any]:
    """What a client that asks for that name, or for any, sees of the certificate. Raises OSError, of which ssl.SSLError is one."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key, password="")  # or it would ask whoever sits there
    client = trusting(certificate)
    client.verify_flags |= NO_CHECK_TIME
    client.check_hostname, client.hostname_checks_common_name = bool(name), False
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=name or None)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (asking, answering) * 3:  # TLS 1.2 takes that many turns
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return asking.getpeercert() or {}


def lacks(certificate: str, key: str, name: str) -> bool:
    """Whether the certificate is not for a name or an address, as a mirror is told of it: `*.` stands for all below a domain."""
    try:
        shown(certificate, key, name.strip("[]").replace("*", "any"))
    except (OSError, ValueError):
        return True
    return False


def examine(certificate: str, key: str, names: Iterable[str], now: float) -> tuple[list[str], list[str]]:
    """What keeps a mirror from serving with them, and what it is to be warned of: sentences. `now` is in seconds since the epoch."""
    for option, path in (("mirror_tls_certificate", certificate), ("mirror_tls_key", key)):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            return [f"{option} {path} cannot be read ({os.strerror(error.errno or 0)}); put the file there, or set it to another one."], []
    try:
        told = shown(certificate, key)
    except (OSError, ValueError, HttpError) as error:
        reason = getattr(error, "reason", "")
        if reason in MISMATCHES:
            return [f"The key {key} is not that of the first certificate in {certificate}; set mirror_tls_key to its own."], []
        reason = getattr(error, "verify_message", "") or str(reason or error).lower().replace("_", " ")
        advice = "each has to be a PEM file, the key without a passphrase"
        return [f"The certificate {certificate} and its key {key} cannot be served ({reason}); {advice}."], []
    begins, ends = (ssl.cert_time_to_seconds(told[date]) for date in ("notBefore", "notAfter"))
    found = []
    if now >= ends:
        found.append(f"The certificate {certificate} has expired, on {told['notAfter']}; renew it.")
    if now < begins:
        found.append(
            f"The certificate {certificate} is not valid before {told['notBefore']}; correct the host's clock, or get another one."
        )
    strange = [name for name in names if name != "*" and lacks(certificate, key, name)]
    if strange:
        found.append(
            f"The certificate {certificate} is not for {', '.join(strange)}; get one that is, or correct mirror_fqdn and mirror_aliases."
        )
    soon = not found and ends - now < SOON_DAYS * 86400
    return found, [f"The certificate {certificate} expires within {SOON_DAYS} days, on {told['notAfter']}; renew it."] if soon else []
