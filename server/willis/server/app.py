"""Flower's door of the coordinator: reads where study and run are, and runs the rounds."""

import json
from pathlib import Path

from flwr.app import Context, UserConfig
from flwr.serverapp import Grid, ServerApp

from willis.server.publishing import publish
from willis.server.rounds import run_rounds
from willis.server.signing import sign_as_hub
from willis.shared.errors import StudyError, WillisError
from willis.shared.lock import held_alone
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.study import read_study
from willis.shared.whole_file import make_folder, write_whole

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run a study.

    Run configuration:
        study: Path of the study's TOML.
        run: The run's folder.
        resume: Continue the run in the folder.
        publish: Make ``release/`` in the run's folder after the last round, signed where a hub has the run.

    Raises:
        StudyError: The configuration names no study, or no run.
        StateError: Another ServerApp is at work in the run's folder.
        WillisError: As :func:`~willis.server.rounds.run_rounds` and
            :func:`~willis.server.publishing.publish`; also kept in ``server/failure.json``.
    """
    missing = [key for key in ("study", "run") if not context.run_config.get(key)]
    if missing:
        raise StudyError(f"the run's configuration names no {' and no '.join(missing)}")
    folder = Path(str(context.run_config["run"]))
    make_folder(folder / "server", mode=0o700)
    refusal = f"another ServerApp is at work in {folder}; wait for its end"  # each would have the sites pay
    with held_alone(folder / "server" / "lock", refusal):
        _run(grid, folder, context.run_config)


def _run(grid: Grid, folder: Path, config: UserConfig) -> None:
    failure = folder / "server" / "failure.json"
    failure.unlink(missing_ok=True)
    try:
        study = read_study(Path(str(config["study"])))
        run_rounds(
            grid,
            study,
            folder=folder,
            initial=recipe_of(study).start(),
            resume=bool(config.get("resume", False)),
        )
        if config.get("publish", False):
            publish(folder, study)
            sign_as_hub(folder)
    except WillisError as fault:
        write_whole(failure, json.dumps({"code": fault.code, "message": str(fault)}).encode())
        raise
