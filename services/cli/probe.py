"""Whether the room in this container is ready, as its exit status: the health check of docker-compose.yml.

Only the standard library, and little of it: it runs every few seconds in each container.
"""

import http.client
import os
import sys

TIMEOUT_SECONDS = 4.0


def probe(port: int) -> int:
    """0 when `/readyz` says so. Otherwise 1, with what it says on stdout, where `docker inspect` shows it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        said, is_ready = f"no answer on port {port}: {error}", False
    else:
        is_ready = answer.status == http.HTTPStatus.OK
    finally:
        connection.close()
    print(said, flush=True)
    return 0 if is_ready else 1


if __name__ == "__main__":
    os._exit(probe(int(sys.argv[1])))  # nothing to clean up, and leaving is half of the time
