"""`make demo` and `make test` do all set-up, once; tried with a Python that only writes down its calls."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = (ROOT / "constraints.txt").read_text()

# Stands for python3, and puts itself into the virtual environments that it makes.
FAKE = """\
#!/bin/sh
echo "$(basename "$0") $*" >> {log}
case "$*" in
    --version) echo "Python 3.9.9" ;;
    *version_info*) exit {old} ;;
    "-m venv .venv")
        mkdir -p .venv/bin
        [ {no_venv} = 0 ] || exit 1
        for name in python willis ruff pyright; do cp "$0" .venv/bin/$name; done ;;
esac
"""
DEMO = "willis simulate simulations/studies/demo.toml --virtual 4 --out runs/demo"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def checkout(tmp_path):
    """A folder with the Makefile and what it reads."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def make(checkout: Path, *words: str, old: int = 0, no_venv: int = 0) -> tuple[list[str], int, str]:
    """Return what was called, the exit code, and what was said."""
    log, python = checkout.parent / "log", checkout.parent / "python3"
    log.write_text("")
    python.write_text(FAKE.format(log=log, old=old, no_venv=no_venv))
    python.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "TORCH", "DEMO"}}
    ended = subprocess.run(
        ["make", f"PYTHON={python}", *words], cwd=checkout, capture_output=True, text=True, env=clean
    )
    return log.read_text().splitlines(), ended.returncode, ended.stdout + ended.stderr


def test_a_fresh_checkout_is_set_up_once(checkout):
    calls, code, said = make(checkout, "demo")
    assert code == 0, said
    assert calls[1:] == [
        "python3 -m venv .venv",
        "python -m pip install --quiet -c .venv/pins.txt hatchling editables",
        "python -m pip install --no-build-isolation -c .venv/pins.txt -e .[dev,onnx,ray]",
        DEMO,
    ]
    assert (checkout / ".venv/pins.txt").read_text() == PINS
    assert make(checkout, "demo")[0] == [DEMO]


def test_new_pins_are_installed(checkout):
    make(checkout, "setup")
    os.utime(checkout / "constraints.txt", (2**31, 2**31))
    calls = make(checkout, "setup")[0]
    assert not any("venv .venv" in call for call in calls)
    assert any("-e .[dev,onnx,ray]" in call for call in calls)


def test_an_unfinished_demo_is_resumed_and_a_finished_one_kept(checkout):
    make(checkout, "setup")
    run = checkout / "runs/demo"
    run.mkdir(parents=True)
    (run / "study.toml").touch()
    assert make(checkout, "demo")[0] == [f"{DEMO} --resume"]
    (run / "report.html").touch()
    calls, code, said = make(checkout, "demo")
    assert (calls, code) == ([], 0)
    assert "runs/demo is finished: open runs/demo/report.html" in said
    assert make(checkout, "DEMO=runs/other", "demo")[0] == [DEMO.replace("runs/demo", "runs/other")]


def test_another_torch_is_taken_and_remembered(checkout):
    make(checkout, "setup")
    wish = "torch==2.13.0 --index-url https://download.example/cu130"
    calls, code, said = make(checkout, f"TORCH={wish}", "setup")
    assert code == 0, said
    installs = [call for call in calls if "pip install" in call]
    assert installs[0] == f"python -m pip install {wish}"
    assert len(installs) == 3
    assert (checkout / ".venv/pins.txt").read_text() == re.sub(r"^torch==.*\n", "", PINS, flags=re.M)
    assert make(checkout, "setup")[0] == []


def test_tests_run_after_style_and_types(checkout):
    make(checkout, "setup")
    calls = make(checkout, "test")[0]
    assert calls[:3] == ["ruff check", "ruff format --check --quiet", "pyright "]
    apart = "python -m pytest -n 2 --dist loadfile"
    assert calls[3].startswith(f"{apart} --cov=willis.shared --cov=willis.client --cov=willis.server")
    assert make(checkout, "test-slow")[0] == ["python -m pytest -m slow"]
    (said,) = make(checkout, "test-federation")[0]
    assert said.startswith(f"{apart} -m federation and not slow")
    assert make(checkout, "test-gpu")[0] == ["python -m pytest -m gpu"]


def test_what_only_examples_need_is_installed_with_them_and_once(checkout):
    make(checkout, "setup")
    calls, code, said = make(checkout, "test-examples")
    assert code == 0, said
    assert calls[0] == "python -m pip install --no-build-isolation -c .venv/pins.txt -e .[examples]"
    assert calls[-1] == "python -m pytest -n 2 --dist loadfile -m examples and not slow tests/examples"
    assert not any("uninstall" in call for call in calls)
    assert make(checkout, "test-examples")[0] == calls[-1:]
    os.utime(checkout / "constraints.txt", (2**31, 2**31))
    assert calls[0] in make(checkout, "test-examples")[0]


def test_a_torchvision_of_another_build_is_taken_out(checkout):
    make(checkout, "setup")
    python = checkout / ".venv/bin/python"
    honest = python.read_text()
    python.write_text(honest.replace('case "$*" in', 'case "$*" in\n    "-c import torchvision") exit 1 ;;'))
    assert "python -m pip uninstall --quiet --yes torchvision" in make(checkout, "test-examples")[0]


def test_an_old_python_is_refused_by_name(checkout):
    calls, code, said = make(checkout, "demo", old=1)
    assert code == 2
    assert re.search(
        r"Willis needs Python 3.11 or newer; \S+ is Python 3.9.9. Name another: make PYTHON=", said
    )
    assert not any("venv" in call for call in calls)


def test_a_python_without_venv_leaves_nothing_half_made(checkout):
    _, code, said = make(checkout, "demo", no_venv=1)
    assert code == 2
    assert "apt-get install python3-venv" in said
    assert not (checkout / ".venv").exists()


def test_cleaning_keeps_runs(checkout):
    make(checkout, "setup")
    kept, cache = checkout / "runs/demo/report.html", checkout / "shared/willis/__pycache__/a.pyc"
    for file in (
        kept,
        cache,
        *(checkout / room / "x" for room in ("client", "server", "simulations", "tests", "docs")),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert make(checkout, "clean")[1] == 0
    assert kept.exists()
    assert (checkout / ".venv").exists()
    assert not cache.parent.exists()
    assert make(checkout, "clean-all")[1] == 0
    assert kept.exists()
    assert not (checkout / ".venv").exists()


def test_help_lists_every_target(checkout):
    said = make(checkout, "help")[2]
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.M)
    assert phony is not None
    assert re.findall(r"^  make (\S+)", said, re.M) == phony[1].split()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_everything_asked_for_is_pinned():
    pinned = {normal(line.split("==")[0]): line.split("==")[1] for line in PINS.splitlines() if "==" in line}
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [*PROJECT["project"]["dependencies"], "ray", "editables"]
    asked += [line for extra in ("dev", "ray", "examples") for line in extras[extra]]
    names = {normal(re.split(r"[\[<>=~!; ]", line)[0]) for line in asked}
    assert names <= set(pinned)
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in pinned.values()), "no local builds"
    assert not any(word in PINS for word in ("-e ", "@", "file:"))


def test_the_pins_are_what_the_tests_run_with():
    from importlib.metadata import version

    for line in PINS.splitlines():
        name, _, wanted = line.partition("==")
        if normal(name) in {"torch", "numpy", "flwr", "pydantic", "opacus", "monai"}:
            assert version(name).split("+")[0] == wanted


def test_continuous_integration_runs_the_tests():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    last = [line for line in text.splitlines() if line][-3:]
    targets = ["make test", "make test-examples", "exec make test-federation"]
    assert last == [f'{target} PYTHON="$python"' for target in targets]
    assert subprocess.run(["bash", "-n", script]).returncode == 0
