"""What Kossen 2022 did and reached, and how the experiment here differs: words for its page."""

from willis.simulations.experiments.experiment import Row

CITATION = (
    "Kossen T, Hirzel MA, Madai VI, et al. Toward sharing brain images: differentially private TOF-MRA "
    "images with segmentation labels using generative adversarial networks. Frontiers in Artificial "
    "Intelligence 5 (2022) 813842."
)

DID = (
    "2-D patches of 96 x 96 pixels, image and vessel mask made jointly; 41, 11 and 14 patients for training, "
    "validation and test; a second test set.",
    "A WGAN with weights clipped to 0.01, RMSprop 5e-5, 5 critic steps for a generator step, Poisson batches "
    "of 32, latent 128, kernel 4; gradients clipped to 1 per patch, noise 1; 50 epochs; delta 1/41,000.",
    "A U-net trained on 41,000 synthetic pairs, tested on real patients; Frechet distances.",
    "The unit of its privacy is one patch, of which a patient gave 1,000. One Poisson batch is used for all "
    "critic steps, while its accountant takes them as fresh.",
)

PAPER = (
    Row(
        "DP-WGAN, epsilon 7.4 per patch", {"epsilon per patch": 7.4, "DSC, first": 0.75, "DSC, second": 0.69}
    ),
    Row("DP-WGAN, noise off", {"epsilon per patch": None, "DSC, first": 0.84, "DSC, second": 0.88}),
    Row(
        "DP-WGAN below epsilon 5 per patch",
        {"epsilon per patch": "below 5", "DSC, first": "below 0.61, unstable"},
    ),
)

DIFFERENCES = (
    "Other data: see Subjects above. The paper's scans are not public.",
    "Every critic step draws patches afresh, so what the accountant assumes is what is done; the reuse of "
    "the released code is counted in a table of its own.",
    "Epsilon is the privacy loss distribution's, rounded up, from the site's own ledger; per patient by "
    "a mixture of Gaussians over how many of a patient's patches a draw holds (group accounting).",
    "Noise goes on the gradients of real patches alone: fakes need none. At size full the fakes' mean "
    "gradient is taken off each patch's before the clip, so that the clip bounds what tells real from fake.",
    "No model was chosen on real subjects.",
    "Narrower networks, fewer patches, far fewer steps: the sizes are in kossen2022.toml. The noise follows "
    "from epsilon and the steps, where the paper set the noise.",
    "HD95 is the 95th percentile Hausdorff distance of MONAI, the paper's is that of EvaluateSegmentation.",
)

OWN_DATA = (
    "Write a cohort.csv (subject, site, image, label) for each of the two data sets, with TOF-MRA volumes "
    "and vessel masks as NIfTI; patches are cut from axial slices at the files' own spacing."
)
