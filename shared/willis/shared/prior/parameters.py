"""Every factor of the procedural prior: its name, unit, meaning, bounds and usual range.

Each image draws one value of each parameter, uniformly between its low and high. The usual ranges are
broad on purpose (domain randomisation, Tobin et al. 2017): they come from what the modalities look like,
not from anyone's patients. Intensities are relative: 1 is about the brightest an image gets before the
scanner's gain. Counts are rounded. Lengths are pixels, whatever their size in mm.

A user's own prior is one of these families with ranges of its own, ``[prior.ranges]`` of the study file: what
travels to the hospitals is numbers within bounds, never code. A range of one value pins a factor.
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
    "spots": P(0, 3, -20, 40, "count in 48 x 48 or 48^3", "round things, no target; below 0 none"),
    "spot_radius": P(1.5, 7, 0.5, 60, "pixels", "radius of the largest of them"),
    "spot_contrast": P(-0.2, 0.1, -2, 2, "relative intensity", "what they add to the tissue"),
    "spot_edge": P(1, 1, 0.5, 20, "pixels", "width of their rim"),
    "discs": P(-1, -1, -20, 5, "count", "large discs or balls that are no target; below 0.5 there is none"),
    "disc_radius": P(15, 40, 1, 200, "pixels", "radius of them"),
    "disc_contrast": P(-0.2, 0.2, -2, 2, "relative intensity", "what they add to the tissue"),
    "bumps": P(0, 0, 0, 1, "relative intensity", "standard deviation of a second texture, of one size"),
    "bump_size": P(2, 10, 1, 60, "pixels", "diameter of its grains"),
    "outside": P(
        -1, 0.35, -10, 0.98, "share of the image", "no tissue beyond an edge; below 0 all is tissue"
    ),
    "outside_edge": P(0.06, 0.06, 0, 0.5, "share of the image", "how far that edge wanders"),
    "outside_level": P(0.01, 0.1, 0, 3, "relative intensity", "how bright it is there"),
}

SCANNER: Mapping[str, Parameter] = {
    "contrast": P(0.12, 0.6, -2, 2, "relative intensity", "what the target adds to the tissue under it"),
    "polarity": P(1, 1, -1, 1, "sign", "below 0 the target is as much darker as it would be brighter"),
    "gamma": P(1, 1, 0.2, 5, "exponent", "tone curve: relative intensity is raised to it"),
    "blur": P(0.3, 1.1, 0, 10, "pixels", "standard deviation of the point spread"),
    "bias_field": P(0, 0.3, 0, 2, "log intensity", "largest slow change of the gain, up or down"),
    "noise": P(0.002, 0.035, 0, 1, "relative intensity", "standard deviation of Rician noise, per channel"),
    "grain": P(0, 0.8, 0, 5, "pixels", "standard deviation of the noise's own blur (interpolation)"),
    "coarse": P(1, 1, 1, 8, "ratio", "pixels of the scanner's own over the image's; interpolated"),
    "gain": P(200, 1500, 1e-3, 1e6, "scanner units", "stored value of relative intensity 1"),
    "margin_low": P(0, 0.6, 0, 5, "share of the patch's span", "subject's darkest below the patch's own"),
    "margin_high": P(0, 0.6, 0, 5, "share of the patch's span", "subject's brightest above the patch's own"),
    "absolute": P(0, 0, 0, 1, "switch", "from 0.5 on a patch spans relative intensity 0 to 1, not its own"),
}

VESSELS: Mapping[str, Parameter] = {
    "trees": P(0.6, 2.4, 0.1, 20, "count in 48 pixels", "at least 1; grows with side, in 3-D with side ** 2"),
    "radius": P(0.9, 4, 0.6, 40, "pixels", "radius of the thickest trunk; thinnest vessel is 0.6"),
    "radius_spread": P(0.2, 0.8, 0, 1, "share", "how much thinner the other trunks may be"),
    "curvature": P(0.2, 2.5, 0, 20, "degrees per pixel", "standard deviation of the change of heading"),
    "branching": P(0.5, 3.5, 0, 20, "count in 100 pixels", "branches along a vessel"),
    "branch_angle": P(25, 75, 0, 120, "degrees", "between branch and parent"),
    "branch_ratio": P(0.45, 0.8, 0.2, 1, "share", "branch radius over parent radius, at most"),
    "branch_length": P(20, 60, 1, 300, "radii of the branch", "its length, at most, beyond 10 pixels"),
    "taper": P(0, 0.4, 0, 2, "log radius in 100 pixels", "thinning along a vessel"),
    "beading": P(0, 0.12, 0, 0.5, "share", "standard deviation of the radius along a vessel"),
    "paired": P(0, 0.4, 0, 1, "share", "chance that a trunk runs beside a companion, as artery and vein do"),
    "loops": P(-1, 0.7, -20, 20, "count in 48 pixels", "rings that leave a trunk and close; below 0 none"),
    "tilt": P(-0.6, 0.6, -10, 1, "share", "how steeply vessels cross a 2-D image; up to 0 all lie in it"),
    "contrast_by_radius": P(0, 0.7, 0, 1, "share", "contrast lost by a vessel of radius 0; 1/e of it at 2"),
    "contrast_spread": P(0, 0.5, 0, 0.95, "share", "how much fainter single trees may be"),
    "fading": P(0, 0.2, 0, 1, "share", "standard deviation of the contrast along vessels"),
    "roundness": P(0, 0.6, 0, 2, "exponent", "of the profile: 0 flat, 0.5 the depth of a cylinder"),
    "core": P(-0.3, 0.3, -0.9, 2, "share", "contrast gained on the axis of a vessel (flow, reflex)"),
    "core_width": P(0.3, 1, 0.05, 2, "share of the radius", "half width of that"),
    "swell": P(-0.1, 0.3, -0.7, 2, "share of the radius", "how far a vessel is seen beyond its label"),
    "edge": P(0, 0.8, 0, 10, "pixels", "standard deviation of the vessels' own blur"),
    "lines": P(-1, 2, -20, 40, "count in 48 pixels", "lines that are no target; below 0 none"),
    "line_radius": P(0.7, 3, 0.6, 40, "pixels", "radius of the thickest of them"),
    "line_contrast": P(-0.4, 0.4, -2, 2, "share of the contrast", "what they add to the tissue"),
    "line_blur": P(0.7, 3, 0, 20, "pixels", "standard deviation of their own blur"),
    **TISSUE,
    "spot_edge": TISSUE["spot_edge"].usually(0.7, 4),
    "discs": TISSUE["discs"].usually(-2, 0.8),
    "bumps": TISSUE["bumps"].usually(0, 0.03),
    **SCANNER,
    "gamma": SCANNER["gamma"].usually(0.8, 1.25),
    "coarse": SCANNER["coarse"].usually(1, 1.6),
}

LESIONS: Mapping[str, Parameter] = {
    "lesions": P(1, 5, 0, 60, "count in 48 x 48 or 48^3", "blobs; nearby ones flow together"),
    "radius": P(1.5, 8, 0.5, 100, "pixels", "radius of the largest; the others are down to a quarter"),
    "stretch": P(1, 2.2, 1, 6, "ratio", "longest over shortest axis"),
    "irregularity": P(0, 0.35, 0, 1, "share of the radius", "roughness of the outline"),
    "clustering": P(0, 1, 0, 1, "share", "pull of all lesions towards one place"),
    "contrast_spread": P(0, 0.4, 0, 0.9, "share", "how much fainter single lesions may be"),
    "softness": P(0, 3, 0, 50, "pixels", "depth inside the border at which a lesion shows fully"),
    "core": P(-0.7, 0.5, -0.95, 5, "share", "contrast gained in the core; below 0 lost (necrosis)"),
    "core_size": P(0, 0.8, 0, 1, "share of the radius", "how far the core reaches"),
    "lesion_spread": P(0, 0.3, 0, 2, "share of the contrast", "standard deviation of the lesions' texture"),
    "halo": P(-0.3, 0.5, -2, 2, "share of the contrast", "what oedema or penumbra around lesions adds"),
    "halo_width": P(0, 5, 0, 100, "pixels", "how far it reaches"),
    "halo_labelled": P(0, 0, 0, 1, "share", "chance that the label holds it"),
    "decoys": P(0, 4, 0, 60, "count in 48 x 48 or 48^3", "things like lesions that are none: vessels, sulci"),
    "decoy_radius": P(0.6, 2, 0.3, 50, "pixels", "radius of the largest; they may be up to 6 times as long"),
    "decoy_contrast": P(0, 1, -3, 3, "share of the contrast", "what the strongest of them adds"),
    "ventricles": P(-12, 12, -500, 500, "pixels", "half length of dark ventricles; below 1 there are none"),
    "midline": P(0, 2, 0, 50, "pixels", "width of the dark cleft between the hemispheres, beside ventricles"),
    "fluid": P(-0.4, -0.05, -2, 2, "relative intensity", "what ventricles and cleft add to the tissue"),
    "mass_effect": P(-2, 2, -50, 50, "pixels", "most that the largest lesion pushes tissue; up to 0 none"),
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
    "taper": P(-0.3, 0.6, -0.9, 0.9, "share", "thickness lost at the tail (axis' end); below 0 at the head"),
    "arch": P(-0.6, 0.6, -3, 3, "half depths", "how far the ends bend out of the plane of length and width"),
    "cut": P(-0.8, 0.8, -2, 2, "half depths", "a 2-D image's distance from the organ's middle"),
    "irregularity": P(0.03, 0.22, 0, 1, "share of the width", "roughness of the outline"),
    "lobes": P(0, 0.15, 0, 1, "share of the width", "depth of the lobes of the head"),
    "offset": P(0, 0.25, 0, 0.5, "share of each side", "distance of its centre from the image's, at most"),
    "neighbours": P(1, 5, 0, 20, "count", "other structures of a similar grey"),
    "likeness": P(0.4, 1.3, -2, 3, "ratio", "contrast of the neighbours over the organ's"),
    "presence": P(1, 1, 0, 1, "share", "chance that the organ is in the image; else its label is empty"),
    "inner_spread": P(0, 0.03, 0, 1, "relative intensity", "standard deviation of the organ's own texture"),
    "inner_slope": P(-0.04, 0.04, -1, 1, "relative intensity", "grey gained from its middle to its tail"),
    "stripe": P(-0.05, 0.05, -1, 1, "relative intensity", "grey gained on its long axis"),
    "coat": P(-0.08, 0.12, -1, 1, "relative intensity", "grey gained in its patchy outer layer"),
    "coat_width": P(0, 1.5, 0, 20, "pixels", "thickness of that layer, which the label holds"),
    "rim": P(-0.2, 0.2, -1, 1, "relative intensity", "a patchy layer around the organ, over the tissue"),
    "rim_width": P(1, 3, 0, 20, "pixels", "thickness of that layer"),
    "abutting": P(-1.5, 1.5, -10, 10, "half widths", "radius of a body like it at its head; up to 0 none"),
    "white": P(0, 0.35, -2, 2, "relative intensity", "what bed, large body and cores of folds add"),
    "fluid": P(-0.4, 0, -2, 2, "relative intensity", "what horn and clefts add"),
    "bed": P(-3, 5, -100, 100, "pixels", "thickness of a bright layer along the organ; up to 0 none"),
    "horn": P(-3, 4, -100, 100, "pixels", "most fluid between organ and bed, on one side; up to 0 none"),
    "mass": P(-10, 12, -500, 500, "pixels", "gap to a large body on the horn's side; below 0 there is none"),
    "pools": P(-0.2, 0.15, -1, 0.9, "share of the image", "larger pools of fluid; up to 0 there is none"),
    "through": P(0, 0.6, 0, 1, "share", "of the tissue's pattern that shows through organ and compartments"),
    "folds": P(-1, 1, -1, 1, "sign", "tissue is folded above 0"),
    "fold_spacing": P(8, 20, 3, 500, "pixels", "from one cleft to the next"),
    "fold_parallel": P(0, 0.95, 0, 1, "share", "how strictly the folds follow the organ"),
    "ribbon": P(2, 5, 0, 100, "pixels", "thickness of a fold's grey"),
    "sulcus": P(-1, 3, -10, 50, "pixels", "width of the fluid in a cleft; up to 0 there is none"),
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
