"""How a room becomes a process: settings read, logs set up, app made, served. Alike for all three."""

import gc
import os
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
    os.umask(0o077)  # whatever a room writes holds people's data
    try:
        settings = load(cls)
        configure_logs(name, settings.log_level, settings.log_format)
        app = create_app(settings)
    except (SettingsError, ValueError) as error:
        exit_with(SettingsError(str(error)))
    # What is loaded by now stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    serve(app, host=settings.host, port=port(settings), setting=f"LEADS_{name.upper()}_PORT")
    sys.exit(0)
