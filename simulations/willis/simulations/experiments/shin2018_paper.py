"""What Shin 2018 did and reached, and how this house's form of it differs; texts of the page."""

from willis.simulations.experiments.experiment import Row

TITLE = "Shin 2018: lesions by image-to-image translation, labels edited before synthesis"
CITATION = (
    "Shin HC, Tenenholtz NA, Rogers JK, et al. Medical image synthesis for data augmentation and"
    " anonymization using generative adversarial networks. SASHIMI 2018, LNCS 11037, 1-11."
)
DID = (
    "A pix2pix from T1 to brain segmentation, trained on ADNI.",
    "A pix2pix from segmentation and tumour label to multi-parametric MRI, trained on BraTS 2015.",
    "The tumour label is moved, scaled or put into a healthy brain before the image is made.",
    "A segmenter is trained on real, on real and synthetic, and on synthetic images alone, which no patient's"
    " image is among; then fine-tuned with 10 % of the real ones.",
)
_DICE = "Dice, whole tumour (from memory, not checked against the paper)"
PAPER = (
    Row("real", {_DICE: 0.64}),
    Row("real + synthetic", {_DICE: 0.80}),
    Row("synthetic only", {_DICE: 0.25}),
    Row("synthetic, then 10 % of the real images", {_DICE: 0.80}),
)
DIFFERENCES = (
    "Other subjects: real stroke masks in simulated brains (semi-synthetic), not tumours; slices of 2 mm, "
    "patches in 2-D, not volumes.",
    "Two sequences (FLAIR-like, T1-like) and not four; one label and not four parts of a tumour.",
    "T1 to tissue is trained on simulated brains, whose tissues are known exactly, and not on ADNI;"
    " its training is short, and its learning rate 1e-3 for that.",
    "What the translator is told of the brain is the blurred first sequence in a few levels, computed where"
    " the image is, and not a segmentation into tissues.",
    "Adam at 1e-3 with beta1 0: narrow networks and few rounds draw little otherwise. Set by looking at"
    " what was drawn.",
    "No dropout: noise is a channel of the input.",
    "The paper calls synthetic images anonymous. Here training openly gives no such guarantee, and the rows"
    " say so; one row is the same recipe under a subject-level epsilon.",
)
OWN_DATA = (
    "BraTS as a cohort.csv whose images are 4-D NIfTI (FLAIR first, T1 second, on one grid) and whose labels "
    "are whole tumours: willis experiment run shin2018 --cohort brats/cohort.csv [--second other/cohort.csv]."
    " Lesions are then put into other subjects' brains, inside the brain."
)
