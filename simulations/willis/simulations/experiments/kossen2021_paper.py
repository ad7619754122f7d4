"""What Kossen 2021 did and reached, and how the experiment here differs: words for its page."""

from willis.simulations.experiments.experiment import Row

CITATION = (
    "Kossen T, Subramaniam P, Madai VI, et al. Synthesizing anonymized and labeled TOF-MRA patches "
    "for brain vessel segmentation using generative adversarial networks. Computers in Biology and "
    "Medicine 131 (2021) 104254."
)

DID = (
    "2-D patches of 96 x 96 pixels with two channels, image and vessel mask made jointly; 41 training "
    "patients, 1,000 patches each, half of them centred on vessels.",
    "DCGAN (latent 100, batch 250, 300 epochs, Adam 3e-4, betas 0.5 and 0.999) with label smoothing "
    "from 0.7 to 1.2, feature matching and minibatch discrimination.",
    "WGAN-GP (latent 128, batch 300, 200 epochs, Adam 1e-4, betas 0 and 0.9, 5 critic steps, penalty "
    "10) with instance norm in the critic, and with spectral norm instead (WGAN-GP-SN).",
    "Generator of 6 transposed convolutions, kernel 5, width 96; tanh; labels cut at 0.8.",
    "A U-net trained on synthetic patches alone, tested on real patients; and transfer to a second "
    "data set with 1 to 15 of its patients, with and without pre-training.",
)

PAPER = (
    Row("real", {"DSC, first": 0.89, "95HD, first": 26.57}),
    Row("WGAN-GP-SN", {"DSC, first": 0.85, "95HD, first": 30.0}),
    Row("WGAN-GP-SN, first preprint", {"DSC, first": 0.82, "95HD, first": 28.97}),
    Row(
        "pre-trained on synthetic, 1 real subject of the second data set",
        {"DSC, second": 0.91, "95HD, second": 24.66},
    ),
    Row(
        "no pre-training, 1 real subject of the second data set",
        {"DSC, second": 0.84, "95HD, second": 27.36},
    ),
)

DIFFERENCES = (
    "Other data: see Subjects above. The paper's scans are not public.",
    "Narrower networks, fewer patches and far fewer steps, so that two cores suffice; the sizes are "
    "in kossen2021.toml.",
    "Intensities are scaled by the subject's own percentiles; the paper took each patch's minimum and "
    "maximum.",
    "HD95 is the 95th percentile Hausdorff distance of MONAI; the paper's is that of "
    "EvaluateSegmentation: the two have no common scale.",
    "The U-net is the one that judges every release here, trained for a number of steps fixed beforehand.",
    "The generator whose patches pre-train was fixed beforehand (WGAN-GP-SN), not chosen on real subjects.",
    "Learning rates are up to ten times the paper's, and the Wasserstein critics step twice for a "
    "generator's step, not five times: narrow networks and few steps draw no vessels otherwise. They were "
    "set by looking at what was drawn after a thousand rounds.",
    "The generator that is drawn from is the mean of the last rounds' (weight 0.98 on the past), for "
    "steadier draws after few rounds; the paper took the last.",
    "A drawn label counts as foreground above 0, midway between both values; the paper cut at 0.8.",
    "Forward and backward passes in bfloat16.",
    "Trained openly on pooled patches: not private, as in the paper. The same studies train federated "
    "and at subject level when sites and a budget are put into them.",
)

OWN_DATA = (
    "Write a cohort.csv (subject, site, image, label) for each of the two data sets, with TOF-MRA "
    "volumes and vessel masks as NIfTI; patches are cut from axial slices at the files' own spacing."
)
