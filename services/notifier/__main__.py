"""`python -m services.notifier`: the notifier as a process of its own."""

import os

from services.notifier.main import create_app
from services.notifier.settings import NotifierSettings
from shared.launch import launch

NICENESS = 19
"""The notifier yields to the intake where they share a machine: a person waits for the 201, nobody for the e-mail.

Even this leaves it a hundredth of a core beside one that wants all of it (sched(7)), and all that the intake leaves.
"""

if __name__ == "__main__":
    os.nice(NICENESS)
    launch("notifier", NotifierSettings, create_app, lambda settings: settings.notifier_port)
