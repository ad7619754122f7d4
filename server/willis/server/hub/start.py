"""Start a study, or go on with it, and wait for its release."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from willis.server.checkpoint import RoundRecord, latest_round
from willis.server.hub.control import is_at_work, list_runs, log_of, start_run, stop_run
from willis.server.hub.folder import HubFolder
from willis.server.hub.runs import HubRun, new_run, runs_of
from willis.server.hub.sites import RegisteredSite, registered_sites
from willis.shared import errors
from willis.shared.errors import StateError, Unreachable, WillisError
from willis.shared.mechanism import mechanism_of
from willis.shared.release import read_release
from willis.shared.study import Study, read_study
from willis.shared.whole_file import write_whole

_END_S = 120.0  # Flower sees after about 60 s that a run's process is gone
_LOOK_S = 1.0
_ASK_S = 30.0
_AGAIN_S = 5.0  # a question to SuperLink takes a second of a processor
_ALONE_S = 20.0  # a coordinator takes some seconds from its start until it holds the run


def start_study(hub: HubFolder, study_path: Path, *, resume: bool = False) -> HubRun:
    """Submit a study to the sites; returns once SuperLink has it.

    Args:
        hub: Which is up.
        study_path: The study's TOML.
        resume: Go on with the newest run of this very study that has no release.

    Raises:
        StudyError: The study does not fit.
        StateError: A site of it is not registered, it runs already, or there is nothing to resume.
        Unreachable: The hub is not up.
    """
    study = read_study(study_path)
    mechanism_of(study, steps=study.training.draws)
    sites = _sites_of(hub, study)
    same = [run for run in runs_of(hub) if run.study.digest() == study.digest() and not run.is_released]
    if resume:
        run = _to_resume(same, study)
        _wait_until_idle(hub, run)
    else:
        _check_idle(hub, same)
        run = new_run(hub, study, study_path.read_bytes(), sites=sites)
    begun = latest_round(run.path / "server") is not None
    (run.path / "server" / "failure.json").unlink(missing_ok=True)
    config = {"study": run.path / "study.toml", "run": run.path, "publish": True, "resume": begun}
    run.add_flower_run(start_run(hub, config))
    return run


def wait_for(hub: HubFolder, run: HubRun, *, on_round: Callable[[RoundRecord], None]) -> Path:
    """Wait until a run ends; return its release's folder.

    Args:
        hub: Whose run it is.
        run: Which was started.
        on_round: Called with every round that ended, those before a resume too.

    Raises:
        WillisError: What ended the run, of the same kind as at the coordinator.
        Unreachable: The run ended without a word; the log to read is named.
    """
    told, asked = 0, time.monotonic()
    alone = asked  # since when no process coordinates the run
    while True:
        for record in (records := run.rounds())[told:]:
            on_round(record)
        told = len(records)
        if run.is_released:
            return read_release(run.release) and run.release
        if (failure := run.failure()) is not None:
            kinds = {kind.code: kind for kind in _kinds()}
            raise kinds.get(failure["code"], WillisError)(failure["message"])
        if run.has_coordinator():
            alone = time.monotonic()
        elif time.monotonic() - alone > _ALONE_S:
            _check_begun(hub, run)
            alone += _AGAIN_S
        if time.monotonic() - asked > _ASK_S:
            _check_alive(hub, run)
            asked = time.monotonic()
        time.sleep(_LOOK_S)


def stop_study(hub: HubFolder, run: HubRun) -> None:
    """Stop a run; what its sites have paid stays paid, and ``--resume`` goes on with it.

    Raises:
        StateError: It is not at work.
        Unreachable: The hub is not up.
    """
    status = list_runs(hub)
    at_work = [number for number in run.flower_runs() if is_at_work(status.get(number))]
    if not at_work:
        raise StateError(f"{run.name} is not at work: it is {run.state(status)}")
    for number in at_work:
        stop_run(hub, number)


def _sites_of(hub: HubFolder, study: Study) -> dict[str, RegisteredSite]:
    known = registered_sites(hub)
    lacking = [site.name for site in study.federation.sites if site.name not in known]
    if lacking:
        raise StateError(
            f"study {study.name} names sites that are not registered: {', '.join(lacking)} (registered: "
            f"{', '.join(known) or 'none'}); each makes its key, then `willis hub register HUB NAME=FILE.pub`"
        )
    return known


def _to_resume(same: list[HubRun], study: Study) -> HubRun:
    if not same:
        raise StateError(
            f"there is no run of study {study.name} ({study.digest()[:12]}) without a release; "
            "start without --resume, or give the study.toml that the run was begun with"
        )
    return same[-1]


def _check_idle(hub: HubFolder, same: list[HubRun]) -> None:
    status = list_runs(hub)
    for run in same:
        if any(is_at_work(status.get(number)) for number in run.flower_runs()):
            raise StateError(
                f"{run.name} runs this very study now; `willis hub stop` it first, or wait for it"
            )


def _wait_until_idle(hub: HubFolder, run: HubRun) -> None:
    until = time.monotonic() + _END_S
    while True:
        status = list_runs(hub)
        at_work = [number for number in run.flower_runs() if is_at_work(status.get(number))]
        if not at_work:
            return
        if not run.has_coordinator():  # what coordinated it was killed: Flower is told, not waited for
            _stop_all(hub, at_work)
        if time.monotonic() > until:
            raise StateError(f"{run.name} is still at work; `willis hub stop` it before it can be resumed")
        time.sleep(_LOOK_S)


def _stop_all(hub: HubFolder, numbers: Sequence[str]) -> None:
    for number in numbers:
        try:
            stop_run(hub, number)
        except StateError:
            if is_at_work(list_runs(hub).get(number)):  # else it ended by itself meanwhile
                raise


def _check_begun(hub: HubFolder, run: HubRun) -> None:
    """Refuse to wait on for a run that Flower thinks is running, but that no process coordinates."""
    try:
        state = run.state(list_runs(hub))
    except Unreachable:  # SuperLink is being restarted; the run may survive it
        return
    if state == "running" and not run.has_coordinator():
        raise Unreachable(f"{run.name} has lost its coordinator; `willis hub start --resume` goes on with it")


def _check_alive(hub: HubFolder, run: HubRun) -> None:
    try:
        state = run.state(list_runs(hub))
        if state not in ("failed", "stopped", "lost") or run.failure() is not None:
            return
        log = run.path / "flower.log"
        write_whole(log, log_of(hub, run.flower_runs()[-1]).encode())
    except Unreachable:  # SuperLink is being restarted; the run may survive it
        return
    if state == "stopped":
        raise WillisError(f"{run.name} was stopped; `willis hub start --resume` goes on with it")
    raise Unreachable(
        f"{run.name} ended without a word ({state}); see {log}, then `willis hub start --resume`"
    )


def _kinds() -> list[type[WillisError]]:
    found = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, WillisError)
    ]
    return sorted(found, key=lambda kind: -len(kind.__mro__))  # a kind before those that share its code
