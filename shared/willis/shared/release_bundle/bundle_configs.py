"""The configurations of a MONAI bundle (MONAI 1.6), and what the script that draws is told."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from willis.shared.export.nnunet import ACROSS_MM, title_of
from willis.shared.game_plans import DcganPlan, WganGpPlan
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.recipes.contract import Sampler
from willis.shared.recipes.gan.networks import JointSource
from willis.shared.recipes.network_sampler import LatentSource, NetworkSampler
from willis.shared.release_sheet import ReleaseSheet
from willis.shared.study import Study

_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)


def metadata_of(sheet: ReleaseSheet) -> dict[str, Any]:
    """Return ``configs/metadata.json``."""
    study, versions = sheet.study, sheet.versions
    size = list(study.patch.size)
    channels = {str(at): one.value for at, one in enumerate(study.patch.channels)}
    label = {str(len(channels)): study.prior.family.value}
    made = {
        "type": "image",
        "format": "magnitude",
        "modality": "n/a",
        "num_channels": study.patch.n_channels,
        "spatial_shape": size,
        "dtype": "float32",
        "value_range": [-1, 1],
        "is_patch_data": True,
        "channel_def": channels | label,
    }
    return {
        "schema": _SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"released from run {sheet.run} after {sheet.rounds} rounds"},
        "monai_version": version("monai"),
        "pytorch_version": versions["torch"].partition("+")[0],
        "numpy_version": versions["numpy"],
        "required_packages_version": {"nibabel": version("nibabel")},
        "name": study.name,
        "task": "Synthetic pairs of image patch and label for training segmentation networks",
        "description": f"A generator trained in a federation by recipe {study.recipe.name}; no image "
        f"left its site. Privacy: {sheet.network.sentence()}",
        "authors": f"The sites of study {study.name}: {', '.join(sorted(sheet.sites))}",
        "copyright": "See LICENSE",
        "intended_use": "Training segmentation networks; no diagnosis, no decision about a person",
        "data_source": "Federated; pairs are synthetic",
        "network_data_format": {
            "inputs": {"seed": _seed_format()},
            "outputs": {"pred": made},
        },
    }


def inference_of() -> dict[str, Any]:
    """Return ``configs/inference.json``: ``python -m monai.bundle run`` in the bundle writes a data set."""
    return {
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/../nnunet'",  # beside the release: in it nobody signed it
        "n": 100,
        "seed": 1,
        "device": "cpu",
        "pairs": {"_target_": "scripts.generator.Pairs", "bundle": "@bundle_root", "device": "@device"},
        "run": ["$@pairs.write_nnunet(@output_dir, n=@n, seed=@seed)"],
    }


def drawing_of(sheet: ReleaseSheet, sampler: Sampler) -> dict[str, Any]:
    """Return ``configs/drawing.json``: what the script needs to know beside the weights."""
    study = sheet.study
    return _data_set(study, sheet) | (_network(sampler, study) or _recipe(study))


def network_class(sampler: Sampler) -> type | None:
    """Return the class of the network that a sampler draws from, if it is fed with nothing but dice."""
    if isinstance(sampler, NetworkSampler) and isinstance(sampler.source, LatentSource | JointSource):
        return type(sampler.network)
    return None


def _network(sampler: Sampler, study: Study) -> dict[str, Any] | None:
    kind = network_class(sampler)
    if kind is None or not isinstance(sampler, NetworkSampler):
        return None
    plan = study.recipe
    joint = plan if isinstance(plan, DcganPlan | WganGpPlan) else None
    arguments = {
        "channels": study.patch.n_channels,
        "width": study.networks.generator_width,
        "depth": study.networks.depth,
    }
    return {
        "network": kind.__name__,
        "latent": study.networks.latent,
        "arguments": arguments | ({"kernel": joint.kernel} if joint else {}),
        "texture": not joint,
        "threshold": joint.label_threshold if joint else 0.0,
        "prefix": "generator/" if joint else "",
        "block": sampler.block,
    }


def _recipe(study: Study) -> dict[str, Any]:
    kind = type(recipe_of(study))
    return {"module": kind.__module__, "recipe": kind.__qualname__}


def _data_set(study: Study, sheet: ReleaseSheet) -> dict[str, Any]:
    patch = study.patch
    title = title_of(study.name)
    spacing = list(patch.spacing_mm or [1.0] * patch.dimensions)
    return {
        "size": list(patch.size),
        "channels": [one.value for one in patch.channels],
        "label": study.prior.family.value,
        "privacy": sheet.network.sentence(),
        "voxel_mm": spacing if patch.dimensions == 3 else [*spacing, ACROSS_MM],
        "data_set": title,
        "data_set_sheet": _data_set_sheet(study, sheet, title),
    }


def _data_set_sheet(study: Study, sheet: ReleaseSheet, title: str) -> Mapping[str, Any]:
    return {
        "channel_names": {str(at): one.value for at, one in enumerate(study.patch.channels)},
        "labels": {"background": 0, study.prior.family.value: 1},
        "file_ending": ".nii.gz",
        "name": title,
        "spacing_known": study.patch.spacing_mm is not None,
        "description": f"Synthetic: drawn from a generator of study {study.name}",
        "privacy": sheet.network.sentence(),
        "study_digest": sheet.study_digest,
    }


def _seed_format() -> dict[str, Any]:
    return {
        "type": "tuples",
        "format": "n/a",
        "num_channels": 1,
        "spatial_shape": [1],
        "dtype": "int64",
        "value_range": [0, 2**63 - 1],
        "is_patch_data": False,
        "channel_def": {"0": "seed"},
    }
