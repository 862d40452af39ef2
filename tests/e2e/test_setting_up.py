"""`make` and `scripts/bootstrap`: what a person is told, and that nothing is set up twice or by halves."""

import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.harness.deployment import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What setting up needs of the repository, without a .venv."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    for name in ("Makefile", "leads"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def test_make_alone_explains_every_target() -> None:
    done = _run(["make"], ROOT)
    targets = set(re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split())
    assert set(re.findall(r"^  make ([\w-]+) +\w", done.stdout, re.MULTILINE)) == targets
    assert {"run", "test", "check"} <= targets


def test_make_run_becomes_leads_so_that_signals_reach_it(checkout: Path) -> None:
    _pretend_it_is_set_up(checkout, "runtime")
    assert _run(["make", "--dry-run", "run"], checkout).stdout == "exec ./leads up\n"


def test_requirements_that_changed_are_installed_again(checkout: Path) -> None:
    _pretend_it_is_set_up(checkout, "runtime")
    (checkout / "requirements" / "runtime.txt").touch()
    os.utime(checkout / ".venv" / ".runtime", (1, 1))
    assert "scripts/bootstrap runtime" in _run(["make", "--dry-run", "run"], checkout).stdout


@pytest.mark.parametrize("python", ["/bin/false", "/no/such/python3"])
def test_a_python_that_will_not_do_is_one_line(checkout: Path, python: str) -> None:
    done = _run(["scripts/bootstrap", "runtime"], checkout, PYTHON=python)
    assert done.stderr == (
        f"leads: needs Python 3.11 or newer; {python} is none: install it, or name one as PYTHON=/path/to/python3.\n"
    )
    assert done.returncode == 1
    assert not (checkout / ".venv").exists()


def test_a_python_without_the_venv_module_is_one_line(checkout: Path) -> None:
    python = _python_without_ensurepip(checkout)
    done = _run(["scripts/bootstrap", "runtime"], checkout, PYTHON=str(python))
    assert done.stderr == (
        f"leads: {python} has no venv module with pip: choose another one as PYTHON=/path/to/python3.\n"
    )
    assert done.returncode == 1
    assert not (checkout / ".venv").exists()


@pytest.mark.long
def test_packages_that_cannot_be_had_leave_no_stamp_and_say_so(checkout: Path) -> None:
    done = _run(["scripts/bootstrap", "runtime"], checkout, PYTHON=sys.executable, **_NO_INDEX)
    last = done.stderr.splitlines()[-1]
    assert last == "leads: requirements/runtime.txt could not be installed (see above): is a package index reachable?"
    assert done.returncode == 1
    assert not (checkout / ".venv" / ".runtime").exists()


@pytest.mark.long
def test_a_package_that_is_not_the_pinned_one_is_refused(checkout: Path) -> None:
    wheel = _tiny_wheel(checkout)
    pin = f"tiny @ {wheel.as_uri()} --hash=sha256:{'0' * 64}\n"
    (checkout / "requirements" / "runtime.txt").write_text(pin)
    done = _run(["scripts/bootstrap", "runtime"], checkout, PYTHON=sys.executable, **_NO_INDEX)
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (checkout / ".venv" / ".runtime").exists()


def test_leads_without_a_venv_says_what_to_run(checkout: Path) -> None:
    done = _run([str(checkout / "leads"), "up"], checkout.parent)
    assert done.stderr == f"leads: .venv is missing: run `make -C {checkout} run` once, which makes it.\n"
    assert done.returncode == 1


_NO_INDEX = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}


def _run(command: list[str], cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), **settings}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=90, check=False)


def _pretend_it_is_set_up(checkout: Path, name: str) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").touch()
    stamp = checkout / ".venv" / f".{name}"
    stamp.touch()
    for older in (checkout / ".venv" / "bin" / "python", checkout / "requirements" / f"{name}.txt"):
        os.utime(older, (0, 0))


def _python_without_ensurepip(checkout: Path) -> Path:
    """A Python as a bare Debian has it."""
    python = checkout / "python3"
    python.write_text(f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return python


def _tiny_wheel(checkout: Path) -> Path:
    wheel = checkout / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
        archive.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.dist-info/RECORD", "")
    return wheel
