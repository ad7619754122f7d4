"""A hub's own signature under the releases of its runs."""

from pathlib import Path

from willis.shared.errors import ReleaseError
from willis.shared.release_signature import SIGNATURE, sign_release


def sign_as_hub(run: Path) -> bool:
    """Sign the release of a run with the key of the hub that the run lies in.

    A run of ``willis simulate`` lies in no hub: nobody vouches for its release, and it stays unsigned.

    Args:
        run: The run's folder, ``HUB/runs/RUN`` where a hub has it.

    Returns:
        Whether there is a hub, and the release is signed now.

    Raises:
        ReleaseError: The release is not what its digests say.
        StateError: The key cannot be read, or the signature cannot be written.
    """
    hub = run.parent.parent
    if run.parent.name != "runs" or not (hub / "hub.toml").exists():
        return False
    sign_release(run / "release", hub / "release.key")
    return True


def sign_older(runs: Path) -> list[str]:
    """Sign the releases that a hub made before it had a key; return the names of their runs.

    Raises:
        ReleaseError: Some are not what their digests say; all others are signed by then.
        StateError: The key cannot be read, or a signature cannot be written.
    """
    signed, problems = [], []
    for release in sorted(runs.glob("*/release")):
        if not release.is_dir() or (release / SIGNATURE).exists():
            continue
        try:
            if sign_as_hub(release.parent):
                signed.append(release.parent.name)
        except ReleaseError as fault:
            problems.append(f"{release.parent.name}: {fault}")
    if problems:
        raise ReleaseError("releases were left unsigned, and are not served; all else is done", problems)
    return signed
