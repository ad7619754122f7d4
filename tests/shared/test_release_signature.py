"""A signature stands for every byte of a release: what is changed, added, lost or led elsewhere is seen."""

import base64
import hashlib
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from willis.shared.errors import ReleaseError, StateError
from willis.shared.release_signature import (
    SIGNATURE,
    SUMS,
    fingerprint,
    is_safe_name,
    make_release_key,
    parse_sums,
    read_public_key,
    sign_release,
    verify_release,
)

FILES = {"LICENSE": b"free", "models/model.safetensors": b"\x00" * 5000, "docs/README.md": b"# card\n"}


def write_sums(folder: Path) -> None:
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(FILES)
    ]
    (folder / SUMS).write_text("".join(lines))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_release_key(tmp_path / "release.key", tmp_path / "release.pub")
    return tmp_path / "release.key"


@pytest.fixture
def public(key: Path) -> Ed25519PublicKey:
    return read_public_key(key.with_name("release.pub"))


@pytest.fixture
def release(tmp_path: Path, key: Path) -> Path:
    folder = tmp_path / "release"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    write_sums(folder)
    sign_release(folder, key)
    return folder


def test_a_release_that_was_signed_verifies(release: Path, public: Ed25519PublicKey) -> None:
    found = verify_release(release, public)
    assert found.digest == hashlib.sha256((release / SUMS).read_bytes()).hexdigest()
    assert found.files == {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}


def test_the_signature_is_one_line_and_the_same_again(release: Path, key: Path) -> None:
    first = (release / SIGNATURE).read_bytes()
    sign_release(release, key)
    assert (release / SIGNATURE).read_bytes() == first
    assert first.endswith(b"\n")
    assert first.count(b"\n") == 1
    assert len(base64.b64decode(first)) == 64


def test_the_signature_is_ed25519_of_the_digests_bytes(release: Path, public: Ed25519PublicKey) -> None:
    """The witness: the library itself, on the bytes as they lie."""
    public.verify(base64.b64decode((release / SIGNATURE).read_bytes()), (release / SUMS).read_bytes())


def test_a_key_is_made_once_and_is_its_owners_alone(key: Path) -> None:
    before = key.read_bytes(), key.with_name("release.pub").read_bytes()
    make_release_key(key, key.with_name("release.pub"))
    assert (key.read_bytes(), key.with_name("release.pub").read_bytes()) == before
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.with_name("release.pub").unlink()
    make_release_key(key, key.with_name("release.pub"))
    assert key.with_name("release.pub").read_bytes() == before[1]
    key.unlink()
    with pytest.raises(StateError, match="is lost: restore it"):
        make_release_key(key, key.with_name("release.pub"))


def test_a_key_that_others_may_read_signs_nothing(release: Path, key: Path) -> None:
    key.chmod(0o640)
    with pytest.raises(StateError, match="chmod 600"):
        sign_release(release, key)


def test_a_fingerprint_by_hand(public: Ed25519PublicKey) -> None:
    hex_digits = hashlib.sha256(public.public_bytes_raw()).hexdigest().upper()
    assert fingerprint(public).replace(":", "") == hex_digits
    assert len(fingerprint(public)) == 95  # 32 pairs and 31 colons


@pytest.mark.parametrize("name", [*FILES, SUMS, SIGNATURE])
@pytest.mark.parametrize("place", [0, -2])
def test_a_changed_byte_of_any_file_is_seen(
    release: Path, public: Ed25519PublicKey, name: str, place: int
) -> None:
    data = bytearray((release / name).read_bytes())
    data[place] ^= 1
    (release / name).write_bytes(data)
    with pytest.raises(ReleaseError):
        verify_release(release, public)


@pytest.mark.parametrize("name", [*FILES, SUMS, SIGNATURE])
def test_a_missing_file_is_seen(release: Path, public: Ed25519PublicKey, name: str) -> None:
    (release / name).unlink()
    with pytest.raises(ReleaseError, match=f"{name}.* missing|{name}: missing"):
        verify_release(release, public)


@pytest.mark.parametrize("name", ["more.py", "scripts/more.py", "models/deep/more.py", ".hidden", "empty/"])
def test_a_file_more_is_seen(release: Path, public: Ed25519PublicKey, name: str) -> None:
    path = release / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith("/"):
        path.mkdir()
    else:
        path.write_text("print('run me')")
    with pytest.raises(ReleaseError, match="not signed"):
        verify_release(release, public)


def test_a_link_is_no_file(release: Path, public: Ed25519PublicKey, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(FILES["LICENSE"])  # the very bytes that were signed
    (release / "LICENSE").unlink()
    (release / "LICENSE").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReleaseError, match="no plain file"):
        verify_release(release, public)


def test_a_folder_that_is_a_link_is_none(release: Path, public: Ed25519PublicKey, tmp_path: Path) -> None:
    (release / "models").rename(tmp_path / "models")
    (release / "models").symlink_to(tmp_path / "models")
    with pytest.raises(ReleaseError, match="no plain file"):
        verify_release(release, public)
    (tmp_path / "link").symlink_to(release)
    with pytest.raises(ReleaseError, match="it is a link"):
        verify_release(tmp_path / "link", public)


def test_another_hubs_signature_is_refused(release: Path, tmp_path: Path) -> None:
    make_release_key(tmp_path / "other.key", tmp_path / "other.pub")
    with pytest.raises(ReleaseError, match="another hub made it"):
        verify_release(release, read_public_key(tmp_path / "other.pub"))


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/../b", "a/b/c", "a\\b", ".a", "a/.b", "-", "", "a//b"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    assert not is_safe_name(name)
    with pytest.raises(ReleaseError, match="names no file"):
        parse_sums(f"{'0' * 64}  {name}\n".encode(), where="r")


@pytest.mark.parametrize(
    ("sums", "said"),
    [
        (b"", "whole lines"),
        (b"0" * 64 + b"  a", "whole lines"),
        (b"0" * 63 + b"  a\n", "names no file"),
        (b"A" * 64 + b"  a\n", "names no file"),
        (b"0" * 64 + b" *a\n", "names no file"),
        (b"0" * 64 + b"  a\r\n", "names no file"),
        (b"0" * 64 + b"  SHA256SUMS\n", "names no file"),
        (b"0" * 64 + b"  a\n" + b"1" * 64 + b"  A\n", "twice"),
        (b"\xff" * 70 + b"\n", "names no file"),
        (b"0" * 64 + b"  a\n" + b"\n" * 70_000, "at most 65536"),
    ],
)
def test_lines_that_do_not_fit_are_refused(sums: bytes, said: str) -> None:
    with pytest.raises(ReleaseError, match=said):
        parse_sums(sums, where="r")


@given(st.lists(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,9}", fullmatch=True), min_size=1, max_size=2))
def test_a_safe_name_stays_in_its_folder(parts: list[str]) -> None:
    name = "/".join(parts)
    assert is_safe_name(name)
    assert (Path("/root/release") / name).resolve().is_relative_to("/root/release")


@given(st.text(max_size=20))
def test_whatever_is_safe_stays_in_its_folder(name: str) -> None:
    if is_safe_name(name):
        assert Path("/root/release", name).resolve().is_relative_to("/root/release")
        assert Path(name).parts == tuple(name.split("/"))
