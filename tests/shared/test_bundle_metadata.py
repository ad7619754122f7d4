"""``configs/metadata.json`` says what MONAI's schema of 2024-07-25, which it names, wants of a bundle.

MONAI's ``verify_metadata`` fetches that schema, and a test fetches nothing: its demands are told again below
in fewer words, and given to MONAI's own command as the file that it would have fetched.
"""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from harness.made_release import study_of, write
from monai.bundle.scripts import verify_metadata

from willis.shared.networks.build import build_generator
from willis.shared.networks.start import arrays_of
from willis.shared.release_bundle import layout
from willis.shared.study import Study

TEXTS = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description")
WHO = ("authors", "copyright")
MORE_TEXTS = ("data_source", "data_type", "image_classes", "label_classes", "pred_classes", "intended_use")
TENSOR = {
    "type": "object",
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
    "properties": {
        **{name: {"type": "string"} for name in ("type", "format", "dtype")},
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object"},
    },
}
NAMED = {
    "type": "object",
    "additionalProperties": {"anyOf": [TENSOR, {"type": ["number", "string", "boolean"]}]},
}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2019-09/schema",
    "type": "object",
    "required": [*TEXTS, *WHO, "required_packages_version", "network_data_format"],
    "properties": {
        **{name: {"type": "string"} for name in (*TEXTS, *WHO, *MORE_TEXTS)},
        **{name: {"type": "object"} for name in ("changelog", "required_packages_version", "eval_metrics")},
        "references": {"type": "array", "items": {"type": "string"}},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {"inputs": NAMED, "outputs": NAMED},
        },
    },
}


@pytest.fixture(params=[(16, 16), (8, 16, 8)], ids=["flat", "volumes"])
def metadata(request, tmp_path) -> Path:
    values = study_of().model_dump(mode="json")
    values["patch"]["size"] = list(request.param)
    study = Study.model_validate(values)
    release = write(tmp_path / "release", study=study, arrays=arrays_of(build_generator(study)))
    return release.folder / layout.METADATA


def test_monais_own_command_finds_no_fault_and_would_find_one(metadata, tmp_path):
    told, schema, broken = (
        json.loads(metadata.read_text()),
        tmp_path / "schema.json",
        tmp_path / "broken.json",
    )
    assert told["schema"].endswith("/meta_schema_20240725.json")
    schema.write_text(json.dumps(SCHEMA))
    given: dict[str, Any] = {
        "filepath": str(schema),
        "hash_val": hashlib.md5(schema.read_bytes()).hexdigest(),
    }
    verify_metadata(meta_file=str(metadata), **given)
    broken.write_text(json.dumps(told | {"authors": 3}))
    with pytest.raises(ValueError, match="'string'"):
        verify_metadata(meta_file=str(broken), **given)


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("version",), None),
        (("authors",), ["north", "south"]),
        (("required_packages_version",), "nibabel"),
        (("network_data_format", "outputs"), None),
        (("network_data_format", "outputs", "pred", "value_range"), "-1 to 1"),
        (("network_data_format", "inputs", "seed", "num_channels"), 1.5),
    ],
)
def test_the_demands_can_fail(metadata, way, value):
    told: dict[str, Any] = json.loads(metadata.read_text())
    jsonschema.validate(told, SCHEMA)
    broken = copy.deepcopy(told)
    place = broken
    for step in way[:-1]:
        place = place[step]
    if value is None:
        del place[way[-1]]
    else:
        place[way[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


def test_it_tells_the_pairs_of_the_study(metadata):
    told = json.loads(metadata.read_text())
    sheet = json.loads((metadata.parents[1] / layout.SHEET).read_text())
    made = told["network_data_format"]["outputs"]["pred"]
    assert made["spatial_shape"] == sheet["study"]["patch"]["size"]
    assert made["num_channels"] == len(made["channel_def"]) == 2
    assert made["value_range"] == [-1, 1]
