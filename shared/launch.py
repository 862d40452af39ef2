"""How a room becomes a process: settings read, logs and traces set up, app made, served. Alike for all three."""

import os
import sys
from collections.abc import Callable

from fastapi import FastAPI

from shared.collector import made_for_good
from shared.observe import configure_logs
from shared.server import serve
from shared.settings import AnySettings, Settings, SettingsError, exit_with, load
from shared.tracing.spans import name_trace


def launch(
    name: str, cls: type[AnySettings], create_app: Callable[[AnySettings], FastAPI], port: Callable[[AnySettings], int]
) -> None:
    """Run one room until it is told to stop. Settings that cannot work are one line on stderr and exit status 78."""
    os.umask(0o077)  # whatever a room writes holds people's data
    try:
        with made_for_good():
            settings = load(cls)
            processors = [name_trace] if settings.otlp_endpoint else []
            configure_logs(name, settings.log_level, settings.log_format, *processors)
            stop_traces = _start_traces(name, settings)
            app = create_app(settings)
    except (SettingsError, ValueError) as error:
        exit_with(SettingsError(str(error)))
    serve(app, host=settings.host, port=port(settings), setting=f"LEADS_{name.upper()}_PORT")
    stop_traces()
    sys.exit(0)


def _start_traces(name: str, settings: Settings) -> Callable[[], None]:
    if not settings.otlp_endpoint:
        return lambda: None
    from shared.tracing import otlp  # 11 MiB that a room without a collector never needs

    headers = settings.otlp_headers
    return otlp.start(name, settings.otlp_endpoint, headers.get_secret_value() if headers else None)
