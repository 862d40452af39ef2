"""An alert fires when it should, and whoever it wakes finds in the runbook what it means, how to look, what to do."""

import re
import subprocess

import pytest
import yaml

from tests.harness.deployment import ROOT
from tests.harness.prometheus import CONFIGURATION

RULES = CONFIGURATION.parent / "rules" / "leads.yml"
RULES_TEST = RULES.with_name("leads_test.yml")
RUNBOOK = "docs/runbook.md"
PARTS = ("**What it means.**", "**How to look.**", "**What to do.**")

ALERTS = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}


def promtool(*arguments: object) -> str:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def runbook() -> dict[str, str]:
    """Each entry by its heading."""
    pieces = re.split(r"^### (\w+)$", (ROOT / RUNBOOK).read_text(), flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def test_promtool_takes_the_configuration_and_its_rules():
    assert f"{len(ALERTS)} rules found" in promtool("check", "config", CONFIGURATION)


def test_each_alert_fires_past_its_threshold_and_is_silent_before():
    assert "SUCCESS" in promtool("test", "rules", RULES_TEST)
    seen: dict[str, set[bool]] = {name: set() for name in ALERTS}
    for case in yaml.safe_load(RULES_TEST.read_text())["tests"]:
        for check in case["alert_rule_test"]:
            seen[check["alertname"]].add(bool(check["exp_alerts"]))
    silent_or_firing = {name: found for name, found in seen.items() if found != {True, False}}
    assert not silent_or_firing, "each is tried on both sides of its threshold"


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_and_leads_to_its_entry_in_the_runbook(name: str):
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"{RUNBOOK}#{name.lower()}"
    entry = runbook()[name]
    assert [entry.count(part) for part in PARTS] == [1, 1, 1]
    assert entry.index(PARTS[0]) < entry.index(PARTS[1]) < entry.index(PARTS[2])


def test_the_runbook_has_no_entry_for_an_alert_that_is_gone():
    assert runbook().keys() == ALERTS.keys()
