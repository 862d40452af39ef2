"""Whether the ports that docker-compose.yml is going to publish are free: a line with its setting for one that is not.

Docker's own line for a taken port names neither the setting nor the file. This runs before it, in the network of the
machine. What Leads itself has published is no trouble: `up` is given again and again. In doubt it says nothing.
"""

import errno
import http.client
import os
import socket
import sys
from collections.abc import Sequence

ANSWER_SECONDS = 2.0
OUR_MARKS = (b"x-correlation-id", b"rabbitmq management")
"""What only the api's answers, and RabbitMQ's pages, have in them."""


def main(arguments: Sequence[str]) -> int:
    """`SETTING=ADDRESS:PORT ...`; the exit status: 69 when a port is somebody else's (sysexits.h)."""
    taken = [line for argument in arguments if (line := trouble(*argument.partition("=")[::2]))]
    for line in taken:
        print(f"leads: {line}", file=sys.stderr)
    return os.EX_UNAVAILABLE if taken else os.EX_OK


def trouble(setting: str, where: str) -> str | None:
    """What is wrong with publishing at `where`, `address:port`; None when nothing is, or nobody can say."""
    address, _, port = where.rpartition(":")
    if _is_free(address, int(port)) or _is_ours(address, int(port)):
        return None
    return f"port {port} of {address} is in use: set {setting} to a free one, in .env beside docker-compose.yml"


def _is_free(address: str, port: int) -> bool:
    """Also true for an address that cannot be tried from here, as on Docker Desktop: Docker itself will tell."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that end are no listeners
            listener.bind(place)
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


def _is_ours(address: str, port: int) -> bool:
    """Asks for a page. Who hangs up at once may be Docker, in front of a container that is just starting: ours."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - compared, not bound
    connection = http.client.HTTPConnection(reachable, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        said = str(answer.headers).encode() + answer.read(100_000)
    except ConnectionError:
        return True
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return any(mark in said.lower() for mark in OUR_MARKS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
