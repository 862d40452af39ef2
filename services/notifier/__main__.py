"""`python -m services.notifier`: the notifier as a process of its own."""

import os

from services.notifier.main import create_app
from services.notifier.settings import NotifierSettings
from shared.launch import launch

NICENESS = 10
"""The notifier yields to the intake where they share a machine: a person waits for the 201, nobody for the e-mail."""

if __name__ == "__main__":
    os.nice(NICENESS)
    launch("notifier", NotifierSettings, create_app, lambda settings: settings.notifier_port)
