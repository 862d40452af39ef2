"""Rate limits: by the caller's address for the intake, by address and by account for sign-in."""

import ipaddress
import time
from collections.abc import Sequence
from functools import lru_cache

from limits import RateLimitItem
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter
from starlette.requests import Request

from shared.problems import Problem, ProblemType

IPV6_PREFIX = 64
"""One household or machine has a /64 at least: counting single IPv6 addresses counts nothing."""


class Rates:
    """Raises `Problem` 429 once a caller has used up a limit; `None` is no limit."""

    def __init__(self, counts: Storage) -> None:
        """`counts` keeps who used what how often."""
        self._limiter = FixedWindowRateLimiter(counts)

    async def hit(self, limit: RateLimitItem | None, *who: str) -> None:
        """Count one use of `limit` by `who`."""
        if limit is None:
            return
        if await self._limiter.hit(limit, *who):
            return
        window = await self._limiter.get_window_stats(limit, *who)
        wait_seconds = min(limit.get_expiry(), max(1, round(window.reset_time - time.time())))
        detail = f"At most {limit.amount} in {limit.get_expiry()} seconds: try again in {wait_seconds} seconds."
        raise Problem(ProblemType.RATE_LIMITED, detail, retry_after_seconds=wait_seconds)


def caller_address(request: Request, trusted_proxies: Sequence[str]) -> str:
    """Who is calling: the peer, or what a trusted proxy says (the last hop that is not itself trusted).

    `X-Forwarded-For` from anybody else is a claim, and is not looked at.
    """
    peer = request.client.host if request.client else "unknown"
    if not trusted_proxies:
        return _bucket(peer)
    networks = [ipaddress.ip_network(proxy, strict=False) for proxy in trusted_proxies]
    claims = ",".join(request.headers.getlist("x-forwarded-for"))
    hops = [hop.strip() for hop in claims.split(",") if hop.strip()]
    address = peer
    while hops and _within(address, networks):
        address = hops.pop()
    return _bucket(address)


def _within(address: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


@lru_cache(1024)
def _bucket(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if parsed.version == 4:  # noqa: PLR2004
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped or ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))
