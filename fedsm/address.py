"""Which address the jobs dial: pure choice, and the host's own addresses."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

import psutil

from fedsm.config import Coordinator
from fedsm.errors import ConfigError


def host_addresses() -> list[str]:
    """IPv4 addresses of this machine's interfaces."""
    return sorted(
        {
            address.address
            for addresses in psutil.net_if_addrs().values()
            for address in addresses
            if address.family == socket.AF_INET
        }
    )


def choose(addresses: Sequence[str], cidrs: Sequence[str]) -> str:
    """The one address that lies inside ``cidrs``.

    Raises
    ------
    ConfigError
        None or several do; lists the candidates.
    """
    networks = [ipaddress.ip_network(cidr) for cidr in cidrs]
    inside = [a for a in addresses if any(ipaddress.ip_address(a) in n for n in networks)]
    if len(inside) == 1:
        return inside[0]
    raise ConfigError(
        f"{'several' if inside else 'none'} of this machine's addresses "
        f"({', '.join(inside or addresses) or 'it has none'}) "
        f"{'lie' if inside else 'lies'} inside {', '.join(cidrs)}",
        where="coordinator.address",
        action="write the address that the sites' VPCs route to",
    )


def resolve(coordinator: Coordinator, cloud: str) -> str:
    """The host that jobs dial; on the local cloud ``auto`` is loopback."""
    if coordinator.address != "auto":
        return coordinator.address
    if cloud == "local":
        return "127.0.0.1"
    return choose(host_addresses(), coordinator.vpc_cidrs)


def listen_host(host: str) -> str:
    """What to bind: the host itself where it is one of this machine's addresses.

    Behind a load balancer or a DNS name the coordinator listens on every interface.
    """
    own = host_addresses()
    return host if host in own or host.startswith("127.") else "0.0.0.0"  # noqa: S104
