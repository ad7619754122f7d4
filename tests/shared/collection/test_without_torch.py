"""Whoever collects needs neither torch nor what stands on it."""

import subprocess
import sys

BLOCKED = ("torch", "monai", "flwr", "scipy", "opacus", "matplotlib", "nibabel", "pydicom", "safetensors")
MODULES = ("command", "pair_file", "fetching", "remote_pairs", "door", "kit", "description")
SCRIPT = f"""
import sys
for name in {BLOCKED!r}:
    sys.modules[name] = None
import importlib
for name in {MODULES!r}:
    importlib.import_module("willis.shared.collection." + name)
from click.testing import CliRunner
from willis.shared.command import willis
ended = CliRunner().invoke(willis, ["collect", "list", "/nowhere/kit"])
print(ended.exit_code, ended.output)
"""


def test_every_module_imports_and_the_command_runs_without_torch() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("2 willis: ")
    assert "is no kit" in ended.stdout
