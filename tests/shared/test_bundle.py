"""The bundle that travels holds no code, and its digest is what Flower sends."""

import hashlib
import io
import zipfile

from flwr.cli.build import build_fab_from_disk

from willis.shared.bundle import bundle_digest, write_bundle


def test_the_bundle_has_no_code(tmp_path):
    write_bundle(tmp_path)
    packed = zipfile.ZipFile(io.BytesIO(build_fab_from_disk(tmp_path)))
    assert {name for name in packed.namelist() if not name.startswith(".")} == {"README.md", "pyproject.toml"}
    assert not [name for name in packed.namelist() if name.endswith((".py", ".so", ".pth"))]


def test_what_lies_beside_it_does_not_travel(tmp_path):
    write_bundle(tmp_path)
    plain = build_fab_from_disk(tmp_path)
    (tmp_path / "site.yaml").write_text("epsilon_cap: 8")
    (tmp_path / "evil.py").write_text("print('here')")
    assert build_fab_from_disk(tmp_path) == plain


def test_the_digest_is_that_of_the_packed_bytes_and_the_same_every_time(tmp_path):
    write_bundle(tmp_path)
    assert bundle_digest() == hashlib.sha256(build_fab_from_disk(tmp_path)).hexdigest() == bundle_digest()
