"""One line of the register, and one later diagnosis."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field


def utc_now() -> datetime.datetime:
    """Return the time in UTC, without a time zone, as the register keeps it."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


@dataclass(frozen=True)
class Entry:
    """A prediction as the register keeps it. Neither the image nor the name of its file is part of it.

    Attributes:
        id: of the prediction, 32 hexadecimal digits.
        request_id: of the request that it came with.
        image_digest: SHA-256 of the file, hexadecimal.
        model_digest: of the bundle.
        client: network address, or `dicom:` and the title of the sending application.
        time: in UTC.
        label: the most probable class; None where the image cannot be used.
        probabilities: calibrated, by class; None where the image cannot be used.
        decision: see `nevus.bundle.prediction.Prediction`.
        set: the classes that cannot be excluded.
        flag: reason not to trust the number, or empty.
        kind: of image, or empty.
        scores: of the image check.
        sensitivity: guaranteed one that the decision was made at; None without a threshold.
        prevalence: share of the positive class that the probabilities are for; None for that of the validation images.
        error: why the image cannot be used; None if it can.

    """

    id: str
    request_id: str
    image_digest: str
    model_digest: str
    client: str
    time: datetime.datetime = field(default_factory=utc_now)
    label: str | None = None
    probabilities: Mapping[str, float] | None = None
    decision: str = ""
    set: tuple[str, ...] = ()
    flag: str = ""
    kind: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    sensitivity: float | None = None
    prevalence: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """A later diagnosis.

    Attributes:
        id: of the prediction.
        label: the true class, one of the model's.
        confirmed_by: how it is known, as `histopathology`; may be empty.

    """

    id: str
    label: str
    confirmed_by: str = ""
