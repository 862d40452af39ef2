"""Draws the dashboards for the README: `python -m bench.dashboards` (three minutes, needs Prometheus and RabbitMQ).

Grafana itself is not run. A deployment lives through a busy while with troubles, a real Prometheus with the shipped
configuration watches it, and each panel's own queries, read from the dashboard's JSON, are drawn where its grid puts
them. What a drawing shows was measured; how it looks is ours.
"""

import asyncio
import tempfile
from pathlib import Path

from bench.dashboards.collect import Span, shown
from bench.dashboards.drawing import draw
from bench.dashboards.story import live_through_troubles
from tests.harness.dashboards import dashboard, dashboards
from tests.harness.deployment import ROOT
from tests.harness.prometheus import prometheus, targets_of
from tests.harness.rabbitmq import RabbitNode
from tests.harness.sizes import at_scale

IMAGES = ROOT / "docs" / "images"


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="leads-dashboards-") as folder:
        await _draw_all(Path(folder))


async def _draw_all(folder: Path) -> None:
    for name in ("rabbitmq", "house", "prometheus"):
        (folder / name).mkdir()
    node = RabbitNode(folder / "rabbitmq", metrics=True)
    try:
        async with (
            at_scale(folder / "house", node) as house,
            prometheus(folder / "prometheus", targets_of(house.deployment, node)) as seen,
        ):
            span = Span(*await live_through_troubles(house, node))
            for name in dashboards():
                found = await shown(seen, name, span)
                file = IMAGES / f"dashboard-{name}.svg"
                file.write_text(draw(dashboard(name), found, span))
                print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1024:.0f} KiB")
    finally:
        node.stop()


if __name__ == "__main__":
    asyncio.run(main())
