"""Published numbers: of the paper, and of reader studies on other images. None of them was measured here."""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "Classification of Melanocytic Nevi using BigTransfer"
ACCURACY = {
    "bit": 0.8813,
    "inception-v3": 0.8443,
    "vgg16": 0.8424,
    "adaboost": 0.7992,
    "svm": 0.7765,
    "resnet50": 0.7670,
    "efficientnet-b0": 0.5477,
}
"""Table I of the paper: test accuracy of its systems on isic-malignant-benign, 660 images, which it also took for
validation. 88.13 % cannot occur on 660 images."""
SUPPORT = (360, 300)
"""Benign and malignant images in the test split of Table I."""
SECONDS = {"bit": 40.32, "inception-v3": 555.38}
"""Training times that the paper prints, on one P100 GPU."""


@dataclass(frozen=True)
class ReaderStudy:
    """A reader study: how dermatologists performed.

    Attributes:
        study: authors, journal, year.
        images: what they assessed.
        readers: number of dermatologists.
        sensitivity: for melanoma, from 0 to 1.
        specificity: for melanoma, from 0 to 1.

    """

    study: str
    images: str
    readers: int
    sensitivity: float
    specificity: float


READERS = (
    ReaderStudy(
        "Brinker et al., European Journal of Cancer 2019", "100 dermoscopic images, 20 melanomas", 157, 0.741, 0.600
    ),
    ReaderStudy("Haenssle et al., Annals of Oncology 2018", "100 dermoscopic images, level I", 58, 0.866, 0.713),
)
"""Dermatologists, on other images than any here: context, never a paired test."""
