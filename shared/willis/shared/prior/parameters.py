"""Every factor of the procedural prior: its name, unit, meaning, bounds and usual range.

Each image draws one value of each parameter, uniformly between its low and high. The usual ranges are
broad on purpose (domain randomisation, Tobin et al. 2017): they come from what the modalities look like,
not from anyone's patients. Intensities are relative: 1 is about the brightest an image gets before the
scanner's gain. Counts are rounded. Lengths are pixels, whatever their size in mm.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Parameter:
    """One factor of the simulator.

    Attributes:
        low: Low end of the usual range.
        high: High end of it.
        least: No range may start below.
        most: No range may end above.
        unit: What a value counts.
        meaning: What it changes in the image or its label.
    """

    low: float
    high: float
    least: float
    most: float
    unit: str
    meaning: str

    def usually(self, low: float, high: float) -> "Parameter":
        """Return the same parameter with another usual range."""
        return replace(self, low=low, high=high)


P = Parameter

TISSUE: Mapping[str, Parameter] = {
    "background": P(0.3, 0.6, 0.05, 2, "relative intensity", "mean of the tissue"),
    "background_spread": P(0.005, 0.06, 0, 1, "relative intensity", "standard deviation of its texture"),
    "spectrum_slope": P(1.5, 3.5, 0, 6, "exponent", "its power in a plane falls as frequency ** -slope"),
    "regions": P(0, 4, 0, 12, "count", "borders between tissues of different grey"),
    "region_spread": P(0, 0.12, 0, 1, "relative intensity", "standard deviation of the tissues' greys"),
    "region_slope": P(4.5, 6.5, 2, 8, "exponent", "smoothness of those borders; a field's spectrum_slope"),
    "spots": P(0, 3, 0, 40, "count in 48 x 48 or 48^3", "round things that are no target"),
    "spot_radius": P(1.5, 7, 0.5, 60, "pixels", "radius of the largest of them"),
    "spot_contrast": P(-0.2, 0.1, -2, 2, "relative intensity", "what they add to the tissue"),
    "outside": P(-1, 0.35, -10, 0.9, "share of the image", "dark beyond an edge; below 0 there is none"),
    "outside_level": P(0.01, 0.1, 0, 1, "relative intensity", "how dark it is there"),
}

SCANNER: Mapping[str, Parameter] = {
    "contrast": P(0.12, 0.6, -2, 2, "relative intensity", "what the target adds to the tissue under it"),
    "blur": P(0.3, 1.1, 0, 10, "pixels", "standard deviation of the point spread"),
    "bias_field": P(0, 0.3, 0, 2, "log intensity", "largest slow change of the gain, up or down"),
    "noise": P(0.002, 0.035, 0, 1, "relative intensity", "standard deviation of Rician noise, per channel"),
    "grain": P(0, 0.8, 0, 5, "pixels", "standard deviation of the noise's own blur (interpolation)"),
    "gain": P(200, 1500, 1e-3, 1e6, "scanner units", "stored value of relative intensity 1"),
    "margin_low": P(0, 0.6, 0, 5, "share of the patch's span", "subject's darkest below the patch's own"),
    "margin_high": P(0, 0.6, 0, 5, "share of the patch's span", "subject's brightest above the patch's own"),
}

VESSELS: Mapping[str, Parameter] = {
    "trees": P(0.6, 2.4, 0.1, 20, "count in 48 pixels", "at least 1; grows with side, in 3-D with side ** 2"),
    "radius": P(0.9, 4, 0.6, 40, "pixels", "radius of the thickest trunk; thinnest vessel is 0.6"),
    "radius_spread": P(0.2, 0.8, 0, 1, "share", "how much thinner the other trunks may be"),
    "curvature": P(0.2, 2.5, 0, 20, "degrees per pixel", "standard deviation of the change of heading"),
    "branching": P(0.5, 3.5, 0, 20, "count in 100 pixels", "branches along a vessel"),
    "branch_angle": P(25, 75, 0, 120, "degrees", "between branch and parent"),
    "branch_ratio": P(0.45, 0.8, 0.2, 1, "share", "branch radius over parent radius"),
    "taper": P(0, 0.4, 0, 2, "log radius in 100 pixels", "thinning along a vessel"),
    "beading": P(0, 0.12, 0, 0.5, "share", "standard deviation of the radius along a vessel"),
    "tilt": P(-0.6, 0.6, -10, 1, "share", "how steeply vessels cross a 2-D image; up to 0 all lie in it"),
    "contrast_by_radius": P(0, 0.7, 0, 1, "share", "contrast lost by a vessel of radius 0; 1/e of it at 2"),
    "core": P(
        -0.3, 0.3, -0.9, 2, "share", "contrast gained on the axis of a vessel, parabolic (flow, reflex)"
    ),
    **TISSUE,
    **SCANNER,
}

LESIONS: Mapping[str, Parameter] = {
    "lesions": P(1, 5, 0, 60, "count in 48 x 48 or 48^3", "blobs; nearby ones flow together"),
    "radius": P(1.5, 8, 0.5, 100, "pixels", "radius of the largest; the others are down to a quarter"),
    "stretch": P(1, 2.2, 1, 6, "ratio", "longest over shortest axis"),
    "irregularity": P(0, 0.35, 0, 1, "share of the radius", "roughness of the outline"),
    "clustering": P(0, 1, 0, 1, "share", "pull of all lesions towards one place"),
    "contrast_spread": P(0, 0.4, 0, 0.9, "share", "how much fainter single lesions may be"),
    **TISSUE,
    "regions": TISSUE["regions"].usually(1, 6),
    "region_spread": TISSUE["region_spread"].usually(0.02, 0.15),
    **SCANNER,
    "contrast": SCANNER["contrast"].usually(0.1, 0.5),
    "margin_low": SCANNER["margin_low"].usually(0, 0.3),
    "margin_high": SCANNER["margin_high"].usually(0, 0.3),
}

ORGAN: Mapping[str, Parameter] = {
    "extent": P(0.22, 0.45, 0.05, 2, "share of the longest side", "half the organ's length"),
    "elongation": P(1.2, 4.5, 1, 8, "ratio", "length over width"),
    "angle": P(0, 180, -360, 360, "degrees", "of the long axis, from the last axis"),
    "tilt": P(-30, 30, -90, 90, "degrees", "of the long axis, out of the last two axes (3-D)"),
    "bend": P(-0.5, 0.5, -2, 2, "share of the half length", "how far the ends bend to one side"),
    "irregularity": P(0.03, 0.22, 0, 1, "share of the width", "roughness of the outline"),
    "offset": P(0, 0.25, 0, 0.5, "share of each side", "distance of its centre from the image's, at most"),
    "neighbours": P(1, 5, 0, 20, "count", "other structures of a similar grey"),
    "likeness": P(0.4, 1.3, -2, 3, "ratio", "contrast of the neighbours over the organ's"),
    "rim": P(-0.2, 0.2, -1, 1, "relative intensity", "a patchy layer around the organ"),
    "rim_width": P(1, 3, 0, 20, "pixels", "thickness of that layer"),
    **TISSUE,
    "background_spread": TISSUE["background_spread"].usually(0.005, 0.035),
    "regions": TISSUE["regions"].usually(1, 5),
    "region_spread": TISSUE["region_spread"].usually(0.02, 0.12),
    "spot_contrast": TISSUE["spot_contrast"].usually(-0.25, 0.25),
    **SCANNER,
    "contrast": SCANNER["contrast"].usually(-0.35, -0.08),
    "noise": SCANNER["noise"].usually(0.002, 0.025),
    "margin_low": SCANNER["margin_low"].usually(0, 0.15),
    "margin_high": SCANNER["margin_high"].usually(0, 0.15),
}
