"""`python -m bench.floors NAME --seconds 5`: one floor in a process of its own; prints how many a second."""

import argparse
import asyncio
import tempfile
from pathlib import Path

FLOORS = ("script", "files", "commits", "publishes")


def measure(name: str, folder: Path, seconds: float, url: str) -> float:
    """How many a second."""
    if name == "script":
        from bench.floors.script import intake_per_second

        return intake_per_second(folder, seconds)
    if name == "publishes":
        from bench.floors.publishes import publishes_per_second

        return asyncio.run(publishes_per_second(url, seconds))
    from bench.floors.disk import commits_per_second, files_per_second

    return (files_per_second if name == "files" else commits_per_second)(folder, seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.floors")
    parser.add_argument("name", choices=FLOORS)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--url", default="", help="of the RabbitMQ that confirms publishes")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leads-floor-") as folder:
        print(f"{measure(wanted.name, Path(folder), wanted.seconds, wanted.url):.2f}")


if __name__ == "__main__":
    main()
