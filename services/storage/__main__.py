"""`python -m services.storage`: the storage room as a process."""

from services.storage.main import create_app
from services.storage.settings import StorageSettings
from shared.observe import configure_logs
from shared.server import serve
from shared.settings import SettingsError, exit_with, load_or_exit


def main() -> None:
    """Serve until stopped. A setting that cannot work is one line on stderr and exit status 78."""
    settings = load_or_exit(StorageSettings)
    configure_logs("storage", settings.log_level, settings.log_format)
    try:
        app = create_app(settings)
    except SettingsError as error:
        exit_with(error)
    serve(app, host=settings.host, port=settings.storage_port, setting="LEADS_STORAGE_PORT")


if __name__ == "__main__":
    main()
