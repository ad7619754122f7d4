"""The model card of a release: what it is, what it cost in privacy, and what it must not be used for."""

import json
from collections.abc import Mapping

from willis.shared.privacy import PrivacySpent, PrivacyUnit
from willis.shared.study import Study

_MEANING = {
    PrivacyUnit.SUBJECT: (
        "Add or remove **everything of one patient** at a site: no event about this release becomes more "
        "than e^epsilon times as likely, but for a chance of delta. The smaller both are, the harder it is "
        "to tell whether a given patient's images took part."
    ),
    PrivacyUnit.PATCH: (
        "**This is not a patient's privacy.** Add or remove *one patch*: no event about this release "
        "becomes more than e^epsilon times as likely, but for a chance of delta. A patient gave many "
        "patches; the figure per patient stands in the same sentence."
    ),
}

_LIMITS = """\
### Covered

* Every vector computed from a patient's patches: clipped per {unit}, summed, and noised inside the hospital
  before anything left it. This holds against whoever has the release, the synthetic patches, or the
  coordinator's view of every round.{shared_noise}

### Not covered

* **Scores on real subjects** (Dice and the like) published beside this release. They are statistics of
  real patients that no ledger paid for.
* **Floating-point attacks** on the sampling of the noise, and timing: the noise is drawn in floating point.
* **A patient seen at two sites**: what the sites spent adds up for that patient.
* Choices made by looking at earlier runs on the same patients, unless those runs are in the same ledger.
* What the study itself says: that a site takes part, how many subjects it declares, its weight.
* What is true of patients in general. Learning that is the purpose.

## Must not be used for

* Diagnosis, treatment, or any decision about a person.
* Ground truth about a person: a synthetic patch is drawn, nobody was scanned for it.
* A claim that the data are anonymous in law. Epsilon and delta are evidence for such an assessment, not its
  result.
* Estimating how frequent or how large something is in a population.
* The only test of a method that is meant for patients: test on real subjects.
"""


def model_card(
    study: Study,
    *,
    run: str,
    rounds: int,
    network: PrivacySpent,
    spent: Mapping[str, PrivacySpent],
    ledger_heads: Mapping[str, str],
    start: str,
    versions: Mapping[str, str],
) -> str:
    """Return the card as Markdown with YAML front matter; wherever an epsilon stands, its unit does too.

    Args:
        network: The bound for a patient seen at one site only.
        spent: What every site that took part has spent.
        start: One sentence: where the weights come from before any patient's data.
    """
    body = (_head(study, run, network), _what(study, rounds, spent), _privacy(study, network, start))
    tail = (
        _spending(study, spent, ledger_heads),
        _LIMITS.format(unit=study.privacy.unit.value, shared_noise=_shared_noise(study)),
    )
    return "\n".join((*body, *tail, _use(versions)))


def _head(study: Study, run: str, network: PrivacySpent) -> str:
    return "\n".join(
        (
            "---",
            "library_name: willis",
            "tags: [synthetic-data, differential-privacy, federated-learning, segmentation, medical-imaging]",
            f"study: {json.dumps(study.name)}",
            f"study_digest: {json.dumps(study.digest())}",
            f"run: {json.dumps(run)}",
            f"privacy: {json.dumps(network.sentence())}",
            "covered_by_epsilon: {weights: true, synthetic_patches: true, scores_on_real_subjects: false}",
            "---",
            f"# {study.name}: a generator of labelled patches",
            "",
        )
    )


def _what(study: Study, rounds: int, spent: Mapping[str, PrivacySpent]) -> str:
    patch = study.patch
    size = " x ".join(str(side) for side in patch.size)
    spacing = "the files' own spacing"
    if patch.spacing_mm is not None:
        spacing = " x ".join(f"{step:g}" for step in patch.spacing_mm) + " mm a pixel"
    channels = ", ".join(channel.value for channel in patch.channels)
    return (
        f"It draws pairs: an image patch of {size} pixels ({channels}; {spacing}; values -1 to 1) and its "
        f"label ({study.prior.family.value}; -1 background, 1 foreground). {len(spent)} of "
        f"{len(study.federation.sites)} sites made it together over {rounds} "
        f"{'round' if rounds == 1 else 'rounds'} by recipe {study.recipe.name}; no image left its site.\n"
    )


def _privacy(study: Study, network: PrivacySpent, start: str) -> str:
    return f"## Privacy\n\n**{network.sentence()}**\n\n{_MEANING[study.privacy.unit]}\n\n{start}\n"


def _spending(study: Study, spent: Mapping[str, PrivacySpent], ledger_heads: Mapping[str, str]) -> str:
    lines = ["### Spent, site by site", "", "| site | spent | ledger head |", "| --- | --- | --- |"]
    for site in sorted(spent):
        head = f"`{ledger_heads[site]}`" if ledger_heads.get(site) else "not told"
        lines.append(f"| {site} | {spent[site].sentence()} | {head} |")
    silent = sorted({site.name for site in study.federation.sites} - set(spent))
    if silent:
        lines += ["", f"Of the study's sites, {', '.join(silent)} gave no answer that this release holds."]
    return "\n".join((*lines, ""))


def _shared_noise(study: Study) -> str:
    plan = study.federation.secure
    if plan is None:
        return ""
    return (
        "\n* **Secure aggregation**: each site added only its share of the noise, the coordinator saw the "
        f"sites' sum alone. The figures hold while at most {plan.colluders} of the sites in a sum tell the "
        "coordinator their own share, or use it themselves, and the sites got each other's keys from each "
        "other. With more of them the true figure is larger."
    )


def _use(versions: Mapping[str, str]) -> str:
    made = ", ".join(f"{name} {versions[name]}" for name in sorted(versions))
    return (
        "## Use\n\n```\nsha256sum --check SHA256SUMS\n"
        "python scripts/generator.py --n 1000 --seed 1 --out pairs.pt   # without Willis\n"
        "# an nnU-Net data set in ../nnunet (pip install monai fire nibabel)\n"
        "python -B -m monai.bundle run --config_file configs/inference.json --n 1000\n"
        "willis synthesize RELEASE --n 1000 --seed 1 --format nnunet --out FOLDER\n```\n\n"
        "`models/model.safetensors` holds what the recipe draws from (float32), `models/model.pt` the same "
        "as a state dict; `docs/privacy_statement.md` says what the privacy figure means, `release.json` "
        "holds the whole "
        f"study and all figures above.\n\nMade with {made}.\n"
    )
