"""`python -m services.api`: the api as a process of its own."""

from shared.collector import made_for_good

with made_for_good():
    from services.api.main import create_app
    from services.api.settings import ApiSettings
    from shared.launch import launch

if __name__ == "__main__":
    launch("api", ApiSettings, create_app, lambda settings: settings.api_port)
