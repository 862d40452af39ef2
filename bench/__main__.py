"""`make bench`: Leads measured beside what its users would take instead, and beside what this machine gives at most.

`python -m bench` measures all parts (about an hour), `python -m bench intake lists` some, `--short` everything in a few
minutes, which is what CI runs. `--write` puts the results into docs/performance.md.
`python -m bench profile` tells where api and storage spend their time. Nothing is asserted about speed.
What is asserted is that nothing that was accepted is missing.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path

from bench import (
    downloads,
    intake,
    latency,
    lists,
    memory,
    notifier,
    profiler,
    relay,
    report,
    search,
    start,
    workers,
    wrk,
)
from bench.figures import Result
from bench.floors import part as floors
from bench.peers.pocketbase import MISSING as POCKETBASE_MISSING
from bench.peers.pocketbase import find_pocketbase
from bench.peers.protocol import Lost
from bench.rounds import say
from bench.size import LONG, SHORT, Size
from tests.harness.nginx import MISSING as NGINX_MISSING
from tests.harness.nginx import find_nginx
from tests.harness.postgresql import MISSING as POSTGRESQL_MISSING
from tests.harness.postgresql import find_postgresql
from tests.harness.rabbitmq import MISSING as RABBITMQ_MISSING
from tests.harness.rabbitmq import find_rabbitmq

PARTS: Mapping[str, Callable[[Size, Path], Coroutine[None, None, Result]]] = {
    "intake": intake.measure,
    "workers": workers.measure,
    "lists": lists.measure,
    "search": search.measure,
    "downloads": downloads.measure,
    "floors": floors.measure,
    "relay": relay.measure,
    "notifier": notifier.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "start": start.measure,
}
PROFILE = "profile"
"""Instead of parts: measures nothing, tells where the time goes."""


def main() -> None:
    """Measure, print, and write when asked. Ends with status 1 when a part failed; the others are measured."""
    # Who is told to end, ends what it started, as after Ctrl-C, also where a shell started it to ignore that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    wanted = _arguments()
    missing = _missing()
    if missing:
        sys.exit(f"bench: {missing}")
    size = SHORT if wanted.short else LONG
    if wanted.parts == [PROFILE]:
        profiler.main(size)
        return
    results: dict[str, report.Measured] = {}
    for name in wanted.parts:
        result = _measure(name, size)
        if result is not None:
            results[name] = report.measured(f"make bench ARGS={name}", result)
            print(f"\n## {name.capitalize()}\n\n{report.details(results[name])}", flush=True)
            if wanted.write:
                report.write({name: results[name]}, list(PARTS))
    print(f"\n{report.machine()}; load on the same cores\n\n{report.summary(results.values())}")
    failed = [name for name in wanted.parts if name not in results]
    if failed:
        sys.exit(f"bench: failed, see above: {', '.join(failed)}")


def _measure(name: str, size: Size) -> Result | None:
    """The result of one part, or None when it failed, which is told."""
    say(f"{name} ...")
    try:
        with tempfile.TemporaryDirectory(prefix="leads-bench-") as folder:
            return asyncio.run(PARTS[name](size, Path(folder)))
    except Lost as lost:
        say(f"{name}: something is missing: {lost}")
    except Exception:  # noqa: BLE001 - an hour's other figures are not lost for it; the status tells
        say(f"{name}: failed\n{traceback.format_exc()}")
    return None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (all, unless named), or {PROFILE}"
    )
    parser.add_argument("--short", action="store_true", help="a few minutes in all; nothing to quote")
    parser.add_argument("--write", action="store_true", help="put the results into docs/performance.md")
    wanted = parser.parse_args()
    if wanted.short and wanted.write:
        parser.error("--write is for the long form: figures of the short one are not to be quoted")
    unknown = [name for name in wanted.parts if name not in (*PARTS, PROFILE)]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}: there are {', '.join(PARTS)}, and {PROFILE}")
    if PROFILE in wanted.parts and wanted.parts != [PROFILE]:
        parser.error("profile is measured alone")
    wanted.parts = wanted.parts or [*PARTS]
    return wanted


def _missing() -> str | None:
    """What is not installed."""
    if not wrk.is_here():
        return wrk.MISSING
    wanted = (
        (find_pocketbase, POCKETBASE_MISSING),
        (find_rabbitmq, RABBITMQ_MISSING),
        (find_postgresql, POSTGRESQL_MISSING),
        (find_nginx, NGINX_MISSING),
    )
    return next((missing for find, missing in wanted if find() is None), None)


if __name__ == "__main__":
    main()
