"""The programs of docs/pairs.md run, and its figures are the code's."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from harness.made_release import study_of, write

from willis.shared.command import willis
from willis.shared.recipes.network_sampler import block_of
from willis.shared.study import Study
from willis.shared.synthetic_pairs import SyntheticPairs

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "pairs.md").read_text(encoding="utf-8")
MEASURED = ROOT / "simulations/willis/simulations/benchmarks/results/pairs-per-second.json"
PROGRAMS = dict(re.findall(r"^## (\S+)\n\n```python\n(.*?)^```", GUIDE, re.M | re.S))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the guide's programs find ``release``."""
    place = tmp_path_factory.mktemp("guide")
    write(place / "release")
    return place


@pytest.mark.parametrize("title", ["PyTorch", "MONAI", "torchio"])
def test_a_program_runs(folder, title):
    program = PROGRAMS[title].replace("n=2000", "n=80").replace("num_workers=2", "num_workers=1")
    assert program.count("n=80") == program.count("num_workers=1") == 1
    told = "print('last', len(pairs), tuple(labels.shape if 'labels' in dir() else batch['label'].shape))\n"
    ended = subprocess.run(
        [sys.executable, "-c", program + told],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stderr
    assert "last 80 (16, 1, 16, 16)" in ended.stdout  # 80 = 64 + 16
    assert ("unit subject" in ended.stdout) == (title == "PyTorch")


def test_the_line_for_nnunet_writes_a_raw_data_set(folder, monkeypatch):
    monkeypatch.chdir(folder)
    [line] = [line for line in GUIDE.splitlines() if line.startswith("willis synthesize")]
    done = CliRunner().invoke(willis, line.replace("2000", "2").split()[1:])
    assert done.exit_code == 0, done.output
    assert (folder / "raw" / "Dataset901_TinyStudy" / "datalist.json").is_file()


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (64, 64, 64)])
def test_the_blocks_are_those_of_the_guide(size):
    values = study_of().model_dump(mode="json")
    values["patch"]["size"] = list(size)
    block = {1: "one"}.get(found := block_of(Study.model_validate(values)), str(found))
    assert f"{block} of {' x '.join(map(str, size))}" in GUIDE


def test_the_memory_is_that_of_the_guide():
    # An image and a label of 64 x 64 float32.
    assert inspect.signature(SyntheticPairs).parameters["memory_mib"].default == 256
    assert "256 MiB" in GUIDE
    assert f"{256 * 2**20 // (2 * 64 * 64 * 4):,} pairs of 64 x 64" in GUIDE


def test_the_speeds_are_those_that_were_measured():
    rows = json.loads(MEASURED.read_text(encoding="utf-8"))["rows"]
    speed = {(size, way): f"{value:.3g}" for size, _, way, value, _ in rows}
    ratio = {size: value for size, _, way, _, value in rows if way == "batched"}
    sizes = list(ratio)
    assert sizes == ["64 x 64", "96 x 96", "64 x 64 x 64"]
    said = " ".join(GUIDE.split())
    streamed = " ".join((ROOT / "docs/collect.md").read_text(encoding="utf-8").split())
    for way in ("batched", "item by item", "two workers", "stream", "a block, literally"):
        first, second, third = (speed[size, way] for size in sizes)
        assert f"{first}, {second} and {third}" in said
        if way in ("batched", "stream"):
            assert f"{first}, {second} and {third}" in streamed
    for size, way in ((0, "1"), (0, "16"), (0, "64"), (2, "1"), (2, "8")):
        assert f"{speed[sizes[size], f'{way} a forward']} " in said
    assert f"batches were {ratio['64 x 64']:.0f} times as fast (64 x 64)" in said
    assert f"and {ratio['96 x 96']:.0f} times (96 x 96)" in said
    assert f"they were not ({ratio['64 x 64 x 64']:.2f})" in said
    assert min(ratio["64 x 64"], ratio["96 x 96"]) >= 3
