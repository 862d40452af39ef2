"""RabbitMQ's users for Leads: one for each room, with the least that it needs; one for ops, one for the web pages.

Written as RabbitMQ's own definitions (https://www.rabbitmq.com/docs/definitions), which it imports at every start: a
password that was changed here is changed there at its next start.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from urllib.parse import quote

from shared.bus.rabbitmq.permissions import Permissions, to_consume, to_mend, to_publish
from shared.topology import leads_topology

VHOST = "leads"

_SALT_BYTES = 4
"""As RabbitMQ's `rabbit_password_hashing_sha256` wants it: https://www.rabbitmq.com/docs/passwords."""


@dataclass(frozen=True)
class BrokerUser:
    """A user, and what it may do in the virtual host of Leads."""

    name: str
    permissions: Permissions
    tags: tuple[str, ...] = ()


_TOPOLOGY = leads_topology()

API = BrokerUser("leads-api", to_publish(_TOPOLOGY))
NOTIFIER = BrokerUser("leads-notifier", to_consume(_TOPOLOGY))
OPS = BrokerUser("leads-ops", to_mend(_TOPOLOGY))
ADMIN = BrokerUser("leads-admin", Permissions(".*", ".*", ".*"), tags=("administrator",))


def url(user: BrokerUser, password: str, host: str) -> str:
    """`LEADS_BROKER_URL` for this user, at RabbitMQ's standard port."""
    return f"amqp://{user.name}:{quote(password, safe='')}@{host}:5672/{VHOST}"


def definitions(passwords: Mapping[BrokerUser, str]) -> str:
    """The document that makes these users, and no other, with hashed passwords."""
    return json.dumps(
        {
            "vhosts": [{"name": VHOST}],
            "users": [
                {
                    "name": user.name,
                    "password_hash": _hashed(password),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": list(user.tags),
                }
                for user, password in passwords.items()
            ],
            "permissions": [{"user": user.name, "vhost": VHOST, **asdict(user.permissions)} for user in passwords],
        },
        indent=2,
    )


def _hashed(password: str) -> str:
    salt = secrets.token_bytes(_SALT_BYTES)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
