"""Whether a site reaches its hub: name, port, certificate, clock; through a proxy where there is one."""

import socket
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPSConnection

from cryptography import x509

from willis.client.node.verdict import Check
from willis.client.site import HubLink

_PATIENCE_S = 10.0
_SOON_DAYS = 30
_EARLY_S, _LATE_S = 5, 300  # what Flower's hub takes of a site's clock: ahead, behind
_UNREACHABLE, _BAD = 3, 2


def check_reach(hub: HubLink) -> Iterator[Check]:
    """Yield one check after another, up to the first that keeps the next from being tried; none raises."""
    way = proxy_to(hub) or (hub.host, hub.port)
    through = "" if way == (hub.host, hub.port) else f" (the proxy; it looks up {hub.host} itself)"
    try:
        socket.getaddrinfo(*way, type=socket.SOCK_STREAM)
    except OSError as fault:
        yield Check("name", "fault", f"{way[0]}{through} has no address: {fault.strerror}", _UNREACHABLE)
        return
    yield Check("name", "ok", f"{way[0]}{through} has an address")
    try:
        socket.create_connection(way, timeout=_PATIENCE_S).close()
    except OSError as fault:
        said = f"{way[0]}:{way[1]} does not answer: {fault.strerror or fault}; open it outward"
        yield Check("port", "fault", said, _UNREACHABLE)
        return
    yield Check("port", "ok", f"{way[0]}:{way[1]} answers")
    yield from _over_tls(hub, way)


def proxy_to(hub: HubLink) -> tuple[str, int] | None:
    """Return the proxy that HTTPS_PROXY names, unless NO_PROXY excepts the hub."""
    named = urllib.request.getproxies().get("https")
    if not named or urllib.request.proxy_bypass(f"{hub.host}:{hub.port}"):
        return None
    proxy = urllib.parse.urlsplit(named if "//" in named else f"//{named}")
    return (proxy.hostname, proxy.port or 3128) if proxy.hostname else None


def _over_tls(hub: HubLink, way: tuple[str, int]) -> Iterator[Check]:
    try:
        yield _authority(hub)
        context = ssl.create_default_context(cafile=str(hub.ca))
    except (OSError, ValueError) as fault:  # ssl.SSLError is an OSError
        yield Check("authority", "fault", f"{hub.ca} is no certificate: {fault}; take the kit's", _BAD)
        return
    connection = HTTPSConnection(*way, context=context, timeout=_PATIENCE_S)
    if way != (hub.host, hub.port):
        connection.set_tunnel(hub.host, hub.port)
    try:
        before = time.time()
        connection.request("HEAD", "/", headers={"Connection": "close"})
        certificate = getattr(connection.sock, "getpeercert", dict)()
        date = connection.getresponse().headers["Date"]
    except ssl.SSLCertVerificationError as fault:
        said = f"the hub's certificate is not to be trusted: {fault.verify_message}; is ca.crt the hub's?"
        yield Check("TLS", "fault", said, _UNREACHABLE)
        return
    except (OSError, HTTPException) as fault:
        yield Check("TLS", "fault", f"no TLS with {hub.address}: {fault}", _UNREACHABLE)
        return
    finally:
        connection.close()
    yield Check("TLS", "ok", f"{hub.address} is the hub that ca.crt vouches for")
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    yield _expiry("certificate", "the hub's certificate", datetime.fromtimestamp(ends, UTC))
    yield _clock(date, before)


def _authority(hub: HubLink) -> Check:
    ends = x509.load_pem_x509_certificate(hub.ca.read_bytes()).not_valid_after_utc
    return _expiry("authority", "the certificate of the hub's authority", ends)


def _expiry(name: str, what: str, ends: datetime) -> Check:
    days = (ends - datetime.now(UTC)).days
    if days < 0:
        return Check(name, "fault", f"{what} ended on {ends:%Y-%m-%d}; ask the hub for another", _UNREACHABLE)
    soon = days < _SOON_DAYS
    return Check(name, "warning" if soon else "ok", f"{what} ends in {days} days, on {ends:%Y-%m-%d}")


def _clock(date: str | None, before: float) -> Check:
    if date is None:
        return Check("clock", "warning", "the hub tells no time, so the clock could not be compared")
    ahead = (before + time.time()) / 2 - parsedate_to_datetime(date).timestamp()
    said = f"this clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the hub's"
    if not -_LATE_S < ahead < _EARLY_S + 1:  # the hub tells whole seconds
        return Check("clock", "fault", f"{said}, which refuses it: keep the time by NTP", _BAD)
    return Check("clock", "ok", said)
