"""How a room becomes a process: settings read, logs set up, app made, served. Alike for all three."""

import sys
from collections.abc import Callable

from fastapi import FastAPI

from shared.observe import configure_logs
from shared.server import serve
from shared.settings import AnySettings, SettingsError, exit_with, load


def launch(
    name: str, cls: type[AnySettings], create_app: Callable[[AnySettings], FastAPI], port: Callable[[AnySettings], int]
) -> None:
    """Run one room until it is told to stop. Settings that cannot work are one line on stderr and exit status 78."""
    try:
        settings = load(cls)
        configure_logs(name, settings.log_level, settings.log_format)
        app = create_app(settings)
    except (SettingsError, ValueError) as error:
        exit_with(SettingsError(str(error)))
    serve(app, host=settings.host, port=port(settings), setting=f"LEADS_{name.upper()}_PORT")
    sys.exit(0)
