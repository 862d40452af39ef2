"""`python -m services.storage`: the storage as a process of its own."""

from shared.collector import made_for_good

with made_for_good():
    from services.storage.main import create_app
    from services.storage.settings import StorageSettings
    from shared.launch import launch

if __name__ == "__main__":
    launch("storage", StorageSettings, create_app, lambda settings: settings.storage_port)
