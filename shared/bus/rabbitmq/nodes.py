"""`LEADS_BROKER_URL` read: which nodes it names, and how it may stand in a log. Connects to nothing.

The nodes of a cluster are hosts with commas between them, with one login and one virtual host for all, as in the URLs
of MongoDB and PostgreSQL: `amqp://user:password@rabbit-1,rabbit-2:5673,rabbit-3/vhost`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from yarl import URL


@dataclass(frozen=True)
class _Parts:
    """A URL cut by RFC 3986, section 3, but for the commas."""

    scheme: str
    login: str
    hosts: Sequence[str]
    rest: str
    """Path and query, from their slash or question mark on."""


def nodes_of(url: str) -> tuple[str, ...]:
    """A URL for each node. Raises `ValueError`, without the password, when `url` is none of RabbitMQ's."""
    parts = _cut(url)
    login = f"{parts.login}@" if parts.login else ""
    nodes = tuple(f"{parts.scheme}://{login}{host}{parts.rest}" for host in parts.hosts)
    if parts.scheme not in {"amqp", "amqps"} or not all(_is_readable(node) for node in nodes):
        raise _not_one()
    return nodes


def password_free(url: str) -> str:
    """The URL as it may stand in a log: with `***` for the password. Never raises."""
    try:
        nodes_of(url)
    except ValueError:
        return "a URL that cannot be read"
    parts = _cut(url)
    user, colon, _ = parts.login.partition(":")
    login = f"{user}{colon and ':***'}@" if parts.login else ""
    return f"{parts.scheme}://{login}{','.join(parts.hosts)}{parts.rest}"


def _cut(url: str) -> _Parts:
    scheme, _, after = url.partition("://")
    end = min((at for at in map(after.find, "/?#") if at >= 0), default=len(after))
    login, _, hosts = after[:end].rpartition("@")
    return _Parts(scheme, login, hosts.split(","), after[end:])


def _is_readable(node: str) -> bool:
    """An `@` behind the host is the end of a password with a slash in it: the half before would pass for a host."""
    try:
        parsed = URL(node)
        return bool(parsed.host) and "@" not in parsed.raw_path_qs
    except ValueError:
        return False


def _not_one() -> ValueError:
    return ValueError(
        "LEADS_BROKER_URL must look like amqp://user:password@host:5672/vhost (or amqps://…; the nodes of a cluster as "
        "host,host,host; a / or @ in the password as %2F or %40)"
    )
