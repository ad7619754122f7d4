"""A hub's own signature under the releases of its runs."""

from pathlib import Path

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
        ReleaseError: One is not what its digests say.
        StateError: The key cannot be read, or a signature cannot be written.
    """
    found = [
        release.parent
        for release in sorted(runs.glob("*/release"))
        if release.is_dir() and not (release / SIGNATURE).exists()
    ]
    return [run.name for run in found if sign_as_hub(run)]
