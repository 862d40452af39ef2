"""`python -m services.notifier`: the notifier as a process of its own."""

from shared.collector import made_for_good

with made_for_good():
    from services.notifier.main import create_app
    from services.notifier.settings import NotifierSettings
    from shared.launch import launch

if __name__ == "__main__":
    launch("notifier", NotifierSettings, create_app, lambda settings: settings.notifier_port)
