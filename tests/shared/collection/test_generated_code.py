"""The code of the collection service is what its .proto gives, and nobody edited it."""

import importlib.resources
from pathlib import Path

import pytest
from grpc_tools import protoc

ROOT = Path(__file__).parents[3]
SOURCE = Path("willis/shared/collection/collection.proto")
WRITTEN = ("collection_pb2.py", "collection_pb2.pyi", "collection_pb2_grpc.py")


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generated")
    kinds = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    known = str(importlib.resources.files("grpc_tools") / "_proto")
    words = ["protoc", f"-I{ROOT / 'shared'}", f"-I{known}", *kinds, str(ROOT / "shared" / SOURCE)]
    assert protoc.main(words) == 0
    return out / SOURCE.parent


@pytest.mark.parametrize("name", WRITTEN)
def test_the_code_is_what_the_source_gives(again: Path, name: str) -> None:
    told = (ROOT / "shared" / SOURCE.parent / name).read_bytes()
    assert told == (again / name).read_bytes(), "run: make protobuf"


def test_all_that_is_written_is_compared(again: Path) -> None:
    assert sorted(path.name for path in again.iterdir()) == sorted(WRITTEN)
