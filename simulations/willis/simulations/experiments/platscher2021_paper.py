"""What Platscher 2021 did and reached, and how this house's form of it differs; texts of the page."""

from willis.simulations.experiments.experiment import Row

TITLE = "Platscher 2021: a generator of masks and three translators, joined into a database"
CITATION = (
    "Platscher M, Zopes J, Federau C. Image translation for medical image generation: ischemic stroke lesion"
    " segmentation. Biomedical Signal Processing and Control 72 (2022) 103283; arXiv:2010.02745."
)
DID = (
    "Factored p(image, mask) into p(mask), a WGAN-GP (penalty 10, 100 latent numbers, 1 critic step), and"
    " p(image given mask), by pix2pix, SPADE and CycleGAN from semantic maps to DWI.",
    "Translators: Adam 2e-4, beta1 0.5, least squares, L1 10, instance norm, dropout 0.3, a pool of 50 fakes,"
    " flips, 5 degrees of rotation, 5 % of zoom.",
    "Joined both into a large database, and trained U-Nets on 10, 50 or all clinical cases, with and"
    " without it.",
)
_DICE = "Dice, best run"
PAPER = (
    Row("clinical images alone", {_DICE: 0.673, "mean and deviation over runs": "0.632 +- 0.019"}),
    Row("with synthetic images, best", {_DICE: 0.728, "mean and deviation over runs": "0.708 +- 0.010"}),
    Row("readers among themselves", {_DICE: 0.769}),
)
DIFFERENCES = (
    "Other subjects: real stroke masks in simulated brains (semi-synthetic), FLAIR-like and not DWI; slices"
    " of 2 mm, patches in 2-D.",
    "Masks and translators learn in the same rounds and leave in one release. The generator of masks draws"
    " label and tissue level together, where the paper drew masks and took healthy brains' tissue.",
    "The tissue level is the blurred image in a few steps, and not a segmentation of the brain.",
    "Adam at 1e-3 with beta1 0, the generator of maps at every second round: narrow networks and few rounds"
    " draw little otherwise. Set by looking at what was drawn.",
    "No dropout (noise is a channel), no pool of fakes, no rotation and zoom: one subject's gradient must not"
    " depend on another's image, and all dice are public.",
    "Training on real patches here and there sees the same number of U-net steps.",
)
OWN_DATA = (
    "Stroke cases as a cohort.csv whose images are NIfTI with one sequence (or 4-D, of which the first is"
    " taken) and whose labels are lesions: willis experiment run platscher2021 --cohort stroke/cohort.csv"
    " [--second other/cohort.csv]."
)
