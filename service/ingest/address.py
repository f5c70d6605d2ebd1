"""Which network addresses a fetched URL may lead to. Knows no HTTP and resolves nothing."""

import ipaddress

IPv4 = ipaddress.IPv4Address
IPv6 = ipaddress.IPv6Address

# Global unicast (IANA IPv6 address space registry): all that is routed on the public internet.
PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
# Not public, though not every Python release says so: the 6to4 relay anycast, documentation (RFC 9637).
NOT_PUBLIC = (ipaddress.IPv4Network("192.88.99.0/24"), ipaddress.IPv6Network("3fff::/20"))


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet, and so is every IPv4 address it carries.

    IPv4-mapped and NAT64 addresses are judged by the IPv4 address they stand for; 6to4 and Teredo
    by themselves and by the addresses inside.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv4):
        return _is_public_ipv4(ip)
    if ip.scope_id is not None:
        return False
    if (carried := _stands_for(ip)) is not None:
        return _is_public_ipv4(carried)
    return _is_public_ipv6(ip) and all(_is_public_ipv4(inner) for inner in _tunnel_ends(ip))


def _stands_for(ip: IPv6) -> IPv4 | None:
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return IPv4(int(ip) & 0xFFFF_FFFF) if ip in NAT64 else None


def _tunnel_ends(ip: IPv6) -> tuple[IPv4, ...]:
    if ip.sixtofour is not None:
        return (ip.sixtofour,)
    return ip.teredo or ()


def _is_public_ipv4(ip: IPv4) -> bool:
    return ip.is_global and not (ip.is_multicast or ip.is_reserved) and not _is_listed(ip)


def _is_public_ipv6(ip: IPv6) -> bool:
    return ip in PUBLIC_IPV6 and ip.is_global and not ip.is_reserved and not _is_listed(ip)


def _is_listed(ip: IPv4 | IPv6) -> bool:
    return any(ip.version == network.version and ip in network for network in NOT_PUBLIC)
