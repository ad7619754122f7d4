"""What the released code of Kossen 2022 claims for its example run, and what the same run costs.

The run: 41 patients with 1,000 patches each, batches of 32 (50 epochs of 1,281), noise 1, five critic steps a
batch, delta 1/41,000. In truth the five critic steps of a batch see one draw, each with noise of its own:
together they tell as much of it as one step with 1/sqrt(5) of the noise; passes over fakes cost nothing. Its
claim of 3.6 follows from an accountant that counts ten steps a batch (every pass over real and over fake
patches), each on a fresh draw: that was worked out from the figure, not read from its source. The patient's
figure is given for what the code does.
"""

import math
from collections.abc import Sequence

from willis.shared.accounting import MechanismRun, epsilon, epsilon_rdp, patient_epsilon
from willis.simulations.experiments.experiment import Row, Setting, Value
from willis.simulations.experiments.parts import kept_values
from willis.simulations.experiments.table import shown

PATIENTS, PATCHES, BATCH, EPOCHS, CRITIC_STEPS, NOISE = 41, 1000, 32, 50, 5, 1.0
_UNITS = PATIENTS * PATCHES
_BATCHES = EPOCHS * (_UNITS // BATCH)
DELTA = 1 / _UNITS

TRUE = "what it does: one draw a batch, used for five critic steps"
RUNS: dict[str, MechanismRun] = {
    "what its claim follows from: ten fresh draws a batch": MechanismRun(
        BATCH / _UNITS, NOISE, 2 * CRITIC_STEPS * _BATCHES
    ),
    TRUE: MechanismRun(BATCH / _UNITS, NOISE / math.sqrt(CRITIC_STEPS), _BATCHES),
    "had every critic step drawn afresh, and fakes cost nothing": MechanismRun(
        BATCH / _UNITS, NOISE, CRITIC_STEPS * _BATCHES
    ),
}


def example_run(setting: Setting) -> list[Row]:
    """Return the rows of the example run, kept in the run's folder."""
    return [
        Row(
            name,
            kept_values(
                setting.folder,
                f"accounting/{place}",
                lambda name=name, run=run: cells_of(run) | (per_patient(run) if name == TRUE else {}),
            ),
        )
        for place, (name, run) in enumerate(RUNS.items())
    ]


def reading_of(rows: Sequence[Row]) -> str:
    """Say in a sentence what the example run claims, and what it costs per patch and per patient."""
    claimed, true = (row.values for row in rows[:2])
    rdp, pld = "epsilon per patch, RDP", "epsilon per patch, PLD"
    return (
        f"The released code's example run at delta {true['delta']}: epsilon {shown(claimed[rdp])} per patch "
        f"is claimed; with the reuse of draws counted it is {shown(true[rdp])} by the same accountant, "
        f"{shown(true[pld])} by PLD, and {shown(true['epsilon per patient'])} per patient: no guarantee for "
        "a patient."
    )


def cells_of(run: MechanismRun) -> dict[str, Value]:
    """Return a run's epsilon per patch, by Renyi DP as the paper and by PLD."""
    return {
        "epsilon per patch, RDP": epsilon_rdp([run], delta=DELTA),
        "epsilon per patch, PLD": epsilon([run], delta=DELTA),
        "delta": f"1/{_UNITS:,}",
        "neighbours": "add or remove one patch",
        "draws": run.steps,
        "noise multiplier": run.noise_multiplier,
    }


def per_patient(run: MechanismRun) -> dict[str, Value]:
    """Return what a run means for a patient, all of whose patches are added or removed."""
    figure, note = patient_epsilon([run], patches_per_patient=PATCHES, delta=DELTA)
    return {
        "epsilon per patient": "no finite figure" if figure is None else figure,
        "how per patient": note,
    }
