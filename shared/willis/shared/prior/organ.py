"""One compact organ, its own grey, and the compartments that touch it."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from willis.shared.prior.compartments import draw_surroundings
from willis.shared.prior.organ_body import Frame, draw_body, pieces_of
from willis.shared.prior.target import Target
from willis.shared.prior.tissue import Tissue, power_law_field

Field = Float[ndarray, "*space"]

_OUTLINE_SLOPE = 4.0  # smoothness of the outline, as a spectrum_slope


def draw_organ(tissue: Tissue, values: Mapping[str, float], generator: np.random.Generator) -> Target:
    """Draw the organ and its surroundings; parameters are the first of ``parameters.ORGAN``.

    Guarantees:
        The label is one piece (face-connected), or up to two where a 2-D slice cuts both ends of an arched
        body beside its middle (``cut`` above 1). It is never empty, unless ``presence`` says so.
    """
    size = tissue.intensity.shape
    present = generator.uniform() < values["presence"]
    body = draw_body(size, values, generator)
    frame = body.frame(size)
    rough = power_law_field(size, _OUTLINE_SLOPE, generator)
    outline = _outline(frame, rough, values, generator)
    most = 2 if len(size) == 2 and abs(values["cut"]) > 1 else 1
    label = pieces_of(outline < 1, frame.level, most=most) & present
    around = draw_surroundings(
        tissue, label, body=body, frame=frame, rough=rough, values=values, generator=generator
    )
    own = (1 - values["through"]) * (values["background"] - tissue.intensity)
    inner = own + _inner(frame, values, generator)
    inner += _coat((1 - outline) * np.float32(body.half[1]), np.flip(rough, -1), values)
    return Target(label, label.astype(np.float32), np.where(label, inner, around).astype(np.float32))


def _outline(
    frame: Frame, rough: Field, values: Mapping[str, float], generator: np.random.Generator
) -> Field:
    """Level whose 1 is the outline: rough all over, lobed towards the head; a slice never misses it."""
    level = frame.level - max(float(frame.level.min()) - 0.7, 0)
    count, phase = generator.uniform(1.5, 3.5), generator.uniform(0, 2 * np.pi)
    waves = np.cos(2 * np.pi * count * frame.long + np.float32(phase))
    lobed = np.float32(values["lobes"]) * np.clip(0.3 - frame.long, 0, 1) * waves
    return level + np.float32(values["irregularity"]) * rough + lobed


def _coat(depth: Field, rough: Field, values: Mapping[str, float]) -> Field:
    """An outer layer of another grey that belongs to the organ and comes and goes along its surface."""
    near = np.clip(np.float32(values["coat_width"]) - depth + np.float32(0.5), 0, 1)
    return np.float32(values["coat"]) * near * np.clip(np.float32(0.5) + rough, 0, 1)


def _inner(frame: Frame, values: Mapping[str, float], generator: np.random.Generator) -> Field:
    """What varies inside the organ: texture, a slope along it, a stripe along its middle."""
    texture = power_law_field(frame.level.shape, values["spectrum_slope"], generator)
    slope = np.clip(frame.long, -1, 1) * np.float32(values["inner_slope"])
    reach = np.maximum(np.abs(frame.level), np.abs(frame.across) / 3)
    stripe = np.float32(values["stripe"]) * np.clip(1.2 - 2 * reach, 0, 1)
    return np.float32(values["inner_spread"]) * texture + slope + stripe
