"""RabbitMQ's users for Leads: one for each room, with the least that it needs; one for ops, one for the web pages.

Written as RabbitMQ's own definitions (https://www.rabbitmq.com/docs/definitions), which it imports at every start: a
password that was changed here is changed there at its next start.
"""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from shared.topology import EXCHANGE, leads_topology

VHOST = "leads"

_SALT_BYTES = 4
"""As RabbitMQ's `rabbit_password_hashing_sha256` wants it: https://www.rabbitmq.com/docs/passwords."""


@dataclass(frozen=True)
class BrokerUser:
    """A user and what it may configure, write and read, as regular expressions over names."""

    name: str
    configure: str
    write: str
    read: str
    tags: tuple[str, ...] = ()


_QUEUES = [re.escape(queue.name) for queue in leads_topology().queues]
_WORK = "|".join(_QUEUES)
_RETRY_LEVELS = "|".join(rf"{name}\.retry\..*" for name in _QUEUES)
_DEAD_LETTERS = "|".join(rf"{name}\.dead" for name in _QUEUES)
_DEFAULT_EXCHANGE = r"amq\.default"
"""What copies go by. Whoever may write to it reaches every queue of the virtual host, which is Leads' own therefore."""

_NOTHING, _ANYTHING = "^$", ".*"

API = BrokerUser("leads-api", configure=_NOTHING, write=rf"^{EXCHANGE}$", read=_NOTHING)
NOTIFIER = BrokerUser(
    "leads-notifier",
    configure=rf"^({EXCHANGE}|{_WORK}|{_RETRY_LEVELS}|{_DEAD_LETTERS})$",
    write=rf"^({_WORK}|{_DEFAULT_EXCHANGE})$",
    read=rf"^({EXCHANGE}|{_WORK}|{_RETRY_LEVELS})$",
)
OPS = BrokerUser("leads-ops", configure=_NOTHING, write=rf"^{_DEFAULT_EXCHANGE}$", read=rf"^({_DEAD_LETTERS})$")
ADMIN = BrokerUser("leads-admin", _ANYTHING, _ANYTHING, _ANYTHING, tags=("administrator",))


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
            "permissions": [
                {
                    "user": user.name,
                    "vhost": VHOST,
                    "configure": user.configure,
                    "write": user.write,
                    "read": user.read,
                }
                for user in passwords
            ],
        },
        indent=2,
    )


def _hashed(password: str) -> str:
    salt = secrets.token_bytes(_SALT_BYTES)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
