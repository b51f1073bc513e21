"""A prediction as DICOM objects: a Structured Report, and a Secondary Capture with the heat map.

References: DICOM PS3.16, TID 1500 (Measurement Report); PS3.3, A.8 (Secondary Capture) and A.35.2 (Enhanced SR).
"""

from __future__ import annotations

import textwrap
from importlib.metadata import version
from typing import Any

import highdicom as hd
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from nevus.bundle.decision import CANNOT_JUDGE
from nevus.bundle.model_card import DISCLAIMER
from nevus.data.images import Pixels
from nevus.register.entry import Entry

SCHEME = "99NEVUS"
"""Coding scheme of our own concepts; the prefix 99 marks a private one (PS3.16, section 8.2)."""
MANUFACTURER = "nevus (research use only)"
SERIES = "nevus, research use only, not a medical device"
NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
EMPTY_IF_MISSING = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientOrientation",
)
CAPTION = 84
"""Height of the caption below the heat map in pixels."""


def structured_report(image: Dataset, entry: Entry, outcome: str) -> Dataset:
    """Return an Enhanced SR with the probabilities, the decision, the set and the flag.

    Args:
        image: the data set of the image, without its pixels or with them.
        entry: the prediction, of an image that could be used.
        outcome: in words.

    Raises:
        ValueError: the image has no UIDs.

    """
    image = _completed(image)
    assert entry.probabilities is not None
    classes = {name: _concept(f"class-{index}", name) for index, name in enumerate(entry.probabilities)}
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=hd.UID(), identifier=entry.id),
        algorithm_id=hd.sr.AlgorithmIdentification("nevus", version("nevus"), parameters=[entry.model_digest]),
        source_images=[hd.sr.SourceImageForMeasurementGroup.from_source_image(image)],
        measurements=[
            hd.sr.Measurement(_concept(f"p{index}", f"Probability of {name}"), round(p, 6), codes.UCUM.NoUnits)
            for index, (name, p) in enumerate(entry.probabilities.items())
        ],
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(_concept("decision", "Decision"), classes.get(entry.decision, _CANNOT_JUDGE)),
            *(
                hd.sr.QualitativeEvaluation(_concept("set", "Class that cannot be excluded"), classes[name])
                for name in entry.set
            ),
            *(
                [hd.sr.QualitativeEvaluation(_concept("flag", "Reason not to trust the numbers"), _flag(entry.flag))]
                if entry.flag
                else []
            ),
        ],
    )
    device = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=generate_uid(entropy_srcs=[entry.model_digest]), name="nevus", model_name=entry.model_digest[:64]
        ),
    )
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=_concept("classification", "Image classification"),
        imaging_measurements=[group],  # with the image; highdicom's image library knows no dermoscopic photographs
    )
    for key, name, text in (("outcome", "Outcome", outcome), ("disclaimer", "Disclaimer", DISCLAIMER)):
        item = hd.sr.TextContentItem(_concept(key, name), text, hd.sr.RelationshipTypeValues.CONTAINS)
        report[0].ContentSequence.append(item)
    made: Dataset = hd.sr.EnhancedSR(
        evidence=[image],
        content=report[0],
        series_number=9001,
        is_complete=True,
        **_new_object(),
    )
    return made


def secondary_capture(image: Dataset, entry: Entry, outcome: str, picture: Image.Image) -> Dataset:
    """Return a Secondary Capture of a picture, with the outcome in words below it.

    Args:
        image: the data set of the image.
        entry: the prediction.
        outcome: in words.
        picture: the heat map over the image, RGB.

    Raises:
        ValueError: the image has no UIDs.

    """
    image = _completed(image)
    made: Dataset = hd.sc.SCImage.from_ref_dataset(
        ref_dataset=image,
        pixel_array=captioned(picture, outcome),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),
        series_number=9002,
        **_new_object(),
    )
    made.PatientOrientation = None  # a photograph of the skin has none that is known
    made.ImageComments = f"{outcome} {DISCLAIMER} Prediction {entry.id}."
    if "BurnedInAnnotation" in image:  # the caption does not identify the patient; the image may
        made.BurnedInAnnotation = image.BurnedInAnnotation
    elif "BurnedInAnnotation" in made:
        del made.BurnedInAnnotation
    return made


def captioned(picture: Image.Image, text: str) -> Pixels:
    """Return a picture with a caption and the disclaimer below it, uint8 (h, w, 3)."""
    width = max(picture.width, 320)
    page = Image.new("RGB", (width, picture.height + CAPTION), "white")
    page.paste(picture.convert("RGB"), ((width - picture.width) // 2, 0))
    font = ImageFont.load_default(13)
    lines = [*textwrap.wrap(text, max(20, width // 7))[:3], DISCLAIMER]
    ImageDraw.Draw(page).multiline_text((8, picture.height + 6), "\n".join(lines), fill="black", font=font)
    return np.asarray(page)


def _new_object() -> dict[str, Any]:
    """Return what every result has: ids of its own, and where it comes from."""
    return {
        "series_instance_uid": hd.UID(),
        "sop_instance_uid": hd.UID(),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "series_description": SERIES,
    }


def _completed(image: Dataset) -> Dataset:
    """Return the header of an image, with empty values where highdicom needs an attribute that is missing."""
    missing = [name for name in NEEDED if not image.get(name)]
    if missing:
        raise ValueError(f"the image has no {missing[0]}")
    header = Dataset()
    for element in image:
        if element.tag.group < 0x7FE0:
            header.add(element)
    for name in EMPTY_IF_MISSING:
        if name not in header:
            setattr(header, name, None)
    return header


def _concept(code: str, meaning: str) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(code[:16], SCHEME, meaning[:64])


def _flag(flag: str) -> hd.sr.CodedConcept:
    return _concept(f"flag-{flag.replace(' ', '-')}", flag)


_CANNOT_JUDGE = _concept("cannot-judge", CANNOT_JUDGE)
