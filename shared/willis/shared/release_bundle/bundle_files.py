"""Every file of a release but its digests, as bytes: the same for the same input."""

import io
import json
from collections.abc import Mapping
from importlib.metadata import distribution
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save as save_tensors

from willis.shared.export.model_card import model_card
from willis.shared.recipes.contract import Sampler
from willis.shared.release_bundle import layout
from willis.shared.release_bundle.bundle_configs import drawing_of, inference_of, metadata_of, network_class
from willis.shared.release_bundle.privacy_statement import PrivacyStatement, prose_of, statement_of
from willis.shared.release_bundle.script_text import network_script, recipe_script, recipe_sources
from willis.shared.release_sheet import ReleaseSheet
from willis.shared.update import Arrays

_LICENCE = """\
The files in scripts/ are part of Willis and under the Apache License 2.0, whose text follows. It is a licence
of that code alone. The weights in models/ and the pairs drawn from them are of those who made this release,
and no licence of theirs is stated here: ask them. The model card and the privacy statement in docs/ say what
they must not be used for, and what is known of the patients' privacy.

"""


def bundle_files(sheet: ReleaseSheet, arrays: Arrays, sampler: Sampler) -> dict[str, bytes]:
    """Return the contents by path (:mod:`~willis.shared.release_bundle.layout`).

    Args:
        sheet: What ``release.json`` says.
        arrays: What the recipe draws from, by name, float32.
        sampler: The recipe's, of these arrays.
    """
    statement, drawing = statement_of(sheet), drawing_of(sheet, sampler)
    network = network_class(sampler)
    tensors = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    files = {
        layout.LICENCE: (_LICENCE + _apache()).encode(),
        layout.CARD: _card(sheet).encode(),
        layout.DRAWING: _json(drawing),
        layout.INFERENCE: _json(inference_of()),
        layout.METADATA: _json(metadata_of(sheet)),
        layout.STATEMENT: _json(statement.model_dump(mode="json")),
        layout.STATEMENT_PROSE: prose_of(statement).encode(),
        layout.STATEMENT_SCHEMA: _json(PrivacyStatement.model_json_schema()),
        layout.STATE_DICT: _state_dict(tensors),
        layout.WEIGHTS: save_tensors(tensors),
        layout.SHEET: _json(sheet.model_dump(mode="json")),
        layout.SCRIPT: (recipe_script() if network is None else network_script(network)).encode(),
    }
    if network is None:
        files[layout.SOURCES] = recipe_sources(drawing["module"])
    return files


def _card(sheet: ReleaseSheet) -> str:
    return model_card(
        sheet.study,
        run=sheet.run,
        rounds=sheet.rounds,
        network=sheet.network,
        spent={name: site.spent for name, site in sheet.sites.items()},
        ledger_heads={name: site.ledger_head for name, site in sheet.sites.items()},
        start=sheet.start.sentence(),
        versions=sheet.versions,
    )


def _state_dict(tensors: Mapping[str, np.ndarray]) -> bytes:
    data = io.BytesIO()
    torch.save({name: torch.from_numpy(value.copy()) for name, value in tensors.items()}, data)
    return data.getvalue()


def _json(values: Any) -> bytes:
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()


def _apache() -> str:
    text = distribution("willis").read_text("licenses/LICENSE")
    if text is None:
        raise FileNotFoundError("Willis was installed without its LICENSE; install it again")
    return text
