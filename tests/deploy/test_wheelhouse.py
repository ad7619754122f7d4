"""``deploy/wheelhouse.sh``: what is fetched, and that a carried folder is taken only whole and unchanged."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "wheelhouse.sh"
PINS = (SCRIPT.parents[1] / "constraints.txt").read_text()

# Stands for python3: writes down its calls, and leaves a wheel where one would be fetched.
FAKE = """\
#!/bin/bash
echo "$*" >> {log}
case "$*" in
    *" download "*torch==*) echo torch > "$5/torch-2.13.0+cu130-py3.whl" ;;
    *" wheel "*) echo willis > "$6/willis-0.2.0-py3-none-any.whl" ;;
    *" download "*) [ {reachable} = 1 ] || exit 1; echo numpy > "$5/numpy-2.0-py3.whl" ;;
    *--dry-run*) exit {incomplete} ;;
    --version) echo Python 3.12.0 ;;
esac
"""

pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None or shutil.which("sha256sum") is None,
    reason="bash or sha256sum is not installed",
)


class Machine:
    """A folder with a Python that only writes down its calls."""

    def __init__(self, folder: Path) -> None:
        self.house, self.log, self.python = folder / "wheels", folder / "log", folder / "python3"

    def run(self, *words: str | Path, torch: str = "", reachable: int = 1, incomplete: int = 0):
        self.log.write_text("")
        self.python.write_text(FAKE.format(log=self.log, reachable=reachable, incomplete=incomplete))
        self.python.chmod(0o755)
        clean = os.environ | {"PYTHON": str(self.python), "TORCH": torch}
        ended = subprocess.run(
            [str(SCRIPT), *map(str, words)], capture_output=True, text=True, env=clean, check=False
        )
        return ended.returncode, ended.stderr

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def machine(tmp_path):
    """A machine, and no folder of wheels yet."""
    return Machine(tmp_path)


def test_wheels_are_fetched_by_the_pins_and_summed(machine):
    code, said = machine.run(machine.house)
    assert code == 0, said
    wheel, download, dry = machine.calls()
    assert wheel.startswith("-m pip wheel --no-deps")
    assert "--only-binary :all:" in download
    assert f"--constraint {machine.house}.part/constraints.txt" in download
    assert download.endswith("willis-0.2.0-py3-none-any.whl")
    assert "--no-index" in dry
    assert "--isolated" in dry
    assert (machine.house / "constraints.txt").read_text() == PINS
    assert len((machine.house / "SHA256SUMS").read_text().splitlines()) == 3
    assert "2 wheels, all as fetched" in said


def test_another_torch_is_fetched_first_and_pinned_as_it_came(machine):
    wish = "torch==2.13.0 --index-url https://download.example/cu130"
    code, said = machine.run(machine.house, torch=wish)
    assert code == 0, said
    assert machine.calls()[0].endswith(wish)
    pins = (machine.house / "constraints.txt").read_text().splitlines()
    assert [line for line in pins if line.startswith("torch==")] == ["torch==2.13.0+cu130"]
    assert len(pins) == len(PINS.splitlines())


def test_fetching_again_removes_what_it_fetched_and_nothing_else(machine):
    wish = "torch==2.13.0 --index-url https://download.example/cu130"
    machine.run(machine.house, torch=wish)
    assert machine.run(machine.house)[0] == 0
    assert not (machine.house / "torch-2.13.0+cu130-py3.whl").exists()
    (machine.house / "mine-1.0-py3.whl").touch()
    code, said = machine.run(machine.house)
    assert (code, "does not name" in said) == (1, True)
    assert (machine.house / "mine-1.0-py3.whl").exists()


def test_a_fetch_that_fails_leaves_the_folder_of_before(machine):
    machine.run(machine.house)
    before = {file: file.read_bytes() for file in machine.house.iterdir()}
    assert machine.run(machine.house, reachable=0)[0] == 3
    assert {file: file.read_bytes() for file in machine.house.iterdir()} == before


def test_a_carried_folder_is_taken_whole_and_unchanged(machine):
    machine.run(machine.house)
    assert machine.run("--check", machine.house)[0] == 0
    assert len(machine.calls()) == 1, "nothing is fetched by a check"


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda house: (house / "numpy-2.0-py3.whl").write_text("other"), "is not what was fetched"),
        (lambda house: (house / "numpy-2.0-py3.whl").unlink(), "is not what was fetched"),
        (lambda house: (house / "constraints.txt").write_text("numpy==1"), "is not what was fetched"),
        (lambda house: (house / "evil-1.0-py3.whl").touch(), "does not name"),
    ],
)
def test_a_folder_that_was_changed_is_refused(machine, harm, told):
    machine.run(machine.house)
    harm(machine.house)
    code, said = machine.run("--check", machine.house)
    assert code == 1
    assert told in said
    assert machine.calls() == [], "nothing of it was handed to pip"


def test_bad_calls_and_a_lost_index_have_their_codes(machine):
    assert machine.run("--check", machine.house)[0] == 2
    assert machine.run("--chekc")[0] == 2
    assert machine.run("a", "b")[0] == 2
    code, said = machine.run(machine.house, reachable=0)
    assert (code, "cannot fetch every wheel" in said) == (3, True)
    code, said = machine.run(machine.house, incomplete=1)
    assert (code, "is not complete for Python 3.12.0" in said) == (3, True)
