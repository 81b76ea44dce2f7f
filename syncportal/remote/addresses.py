"""Where calls may go: which URLs are acceptable, and which network addresses may be connected to.

Guarantees: the decision is made on addresses, after every spelling (decimal, octal, hex, mapped, translated) has been
resolved, so there is nothing to confuse; the caller connects to exactly the address that was checked. Link-local,
metadata, unspecified, multicast and reserved addresses are refused always; every other address that is not public
needs an entry in REMOTE_ALLOWED_NETWORKS. Does not open connections.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_ALWAYS_REFUSED: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ip_network(text), reason)
    for text, reason in (
        ("0.0.0.0/8", "unspecified"),
        ("::/128", "unspecified"),
        ("169.254.0.0/16", "link-local or cloud metadata"),
        ("fe80::/10", "link-local"),
        ("100.100.100.200/32", "cloud metadata"),
        ("168.63.129.16/32", "cloud metadata"),
        ("192.0.0.0/24", "reserved or cloud metadata"),
        ("fd00:ec2::/32", "cloud metadata"),
        ("fd20:ce::/32", "cloud metadata"),
        ("224.0.0.0/4", "multicast"),
        ("ff00::/8", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("2001::/32", "a Teredo tunnel"),
        ("100::/64", "reserved"),
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL: Final = IPv6Network("64:ff9b:1::/48")
_V4_COMPATIBLE: Final = IPv6Network("::/96")
_GLOBAL_6: Final = IPv6Network("2000::/3")
_LOOPBACK_6: Final = IPv6Address("::1")
_UNSPECIFIED_6: Final = IPv6Address("::")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)
_BAD_IN_URL = re.compile(r"[\x00-\x20\x7f\\]")
_resolver: ThreadPoolExecutor


def _start_resolver() -> None:
    """Make the resolver's pool; a forked child needs a new one, its parent's threads do not exist there."""
    global _resolver
    _resolver = ThreadPoolExecutor(max_workers=8, thread_name_prefix="resolve")


_start_resolver()
os.register_at_fork(after_in_child=_start_resolver)


class AddressRefused(Exception):
    """The address policy does not allow this connection; `detail` says which address and what to do."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NameNotResolved(Exception):
    """The host's name could not be turned into an address."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL, taken apart once: `host` is ASCII without brackets, `path` holds path and query as given."""

    scheme: str
    host: str
    port: int
    path: str


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """One address to connect to, already checked."""

    family: int
    sockaddr: tuple[Any, ...]


class AddressPolicy:
    """Decides which addresses may be connected to; immutable and shared between threads."""

    def __init__(self, allowed_networks: Iterable[str] = ()) -> None:
        """Take networks in CIDR form that may be reached although they are not public; ValueError for a bad one."""
        self.allowed: tuple[Network, ...] = tuple(ip_network(text.strip(), strict=False) for text in allowed_networks)

    def problem(self, address: str) -> str | None:
        """Say why an address may not be connected to, None when it may."""
        try:
            ip: Address = ip_address(address)
        except ValueError:
            return f"{address} is not a network address"
        for candidate in _with_embedded(ip):
            reason = self._reason(candidate)
            if reason is not None:
                return f"{address} is {reason}"
        return None

    def _reason(self, ip: Address) -> str | None:
        for network, reason in _ALWAYS_REFUSED:
            if ip.version == network.version and ip in network:
                return f"{reason}, which is never allowed"
        if any(ip.version == network.version and ip in network for network in self.allowed):
            return None
        if ip.is_loopback:
            return "this machine itself; add its network to REMOTE_ALLOWED_NETWORKS to allow it"
        if ip.is_reserved:
            return "reserved, which is never allowed"
        if not ip.is_global or (ip.version == 6 and ip not in _GLOBAL_6):
            return "a private address; add its network to REMOTE_ALLOWED_NETWORKS to allow it"
        return None

    def resolve(self, host: str, port: int, *, timeout_s: float) -> list[SocketAddress]:
        """Return the allowed addresses of a host in the resolver's order.

        Raises NameNotResolved (also after `timeout_s`), AddressRefused when no address is allowed.
        """
        found = _lookup(host, port, timeout_s=timeout_s)
        allowed: list[SocketAddress] = []
        refused = ""
        for family, sockaddr in found:
            problem = self.problem(str(sockaddr[0]))
            if problem is None:
                allowed.append(SocketAddress(family, sockaddr))
            else:
                refused = problem
        if not allowed:
            raise AddressRefused(f"The address of {host} is refused: {refused}.")
        return allowed


@lru_cache(maxsize=512)
def parse_url(url: str) -> Target:
    """Take a URL apart; raises AddressRefused for anything but plain http(s)://host[:port]/… without userinfo."""
    if _BAD_IN_URL.search(url):
        raise AddressRefused("The URL holds a space, a backslash or a control character.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressRefused(f"The URL is malformed: {error}.") from None
    if parts.scheme not in ("http", "https"):
        raise AddressRefused("Only http and https URLs are allowed.")
    if "@" in parts.netloc:
        raise AddressRefused("The URL holds a user name or password; use the credential setting instead.")
    if not parts.hostname or port == 0:
        raise AddressRefused("The URL has no usable host and port.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, _ascii(parts.hostname), port or (443 if parts.scheme == "https" else 80), path)


def _ascii(host: str) -> str:
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise AddressRefused("The URL's host is not a valid name.") from None


def _with_embedded(ip: Address) -> tuple[Address, ...]:
    """Return what an address really reaches: the IPv4 address that an IPv6 spelling carries, else itself."""
    if isinstance(ip, IPv4Address) or ip in (_LOOPBACK_6, _UNSPECIFIED_6):
        return (ip,)
    if ip.ipv4_mapped is not None:
        return (ip.ipv4_mapped,)
    low = IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip in _NAT64 or ip in _V4_COMPATIBLE:
        return (low,)
    if ip in _NAT64_LOCAL:
        return (low, ip)
    if ip.sixtofour is not None:
        return (ip.sixtofour, ip)
    if (int(ip) >> 32) & 0xFFFFFFFF in _ISATAP:
        return (low, ip)
    return (ip,)


def _lookup(host: str, port: int, *, timeout_s: float) -> list[tuple[int, tuple[Any, ...]]]:
    try:
        if _is_literal(host):
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        else:
            # getaddrinfo knows no timeout; a thread of its own keeps the caller's deadline.
            future = _resolver.submit(socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
            infos = future.result(timeout=max(timeout_s, 0.0))
    except FutureTimeout:
        future.cancel()
        raise NameNotResolved(f"The name {host} was not resolved in time.") from None
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a valid name"
        raise NameNotResolved(f"The name {host} cannot be resolved: {reason}.") from None
    return [(int(family), sockaddr) for family, _, _, _, sockaddr in infos]


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
