"""Requests and answers of the API."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

ID = r"^[0-9a-f]{32}$"
TEXT = r"^[^\x00-\x1f]*$"
"""No control characters: PostgreSQL cannot store NUL."""
_EXAMPLE_ID = "0f8fad5bd9cb469fa16570867728950e"


class PredictionOut(BaseModel):
    """The prediction for one image."""

    id: Annotated[str, Field(pattern=ID, description="For the heat map, and for a later diagnosis.")]
    image: Annotated[str | None, Field(description="Name of the uploaded file; it is not recorded.")]
    label: Annotated[str | None, Field(description="The most probable class.")]
    probabilities: Annotated[dict[str, float] | None, Field(description="Calibrated, by class; they sum to 1.")]
    decision: Annotated[str | None, Field(description="'cannot judge', or the class at the operating point.")]
    set: Annotated[list[str], Field(description="The classes that cannot be excluded; several mean 'not sure'.")]
    flag: Annotated[str, Field(description="Reason not to trust the number; empty if there is none.")]
    outcome: Annotated[str, Field(description="The prediction in words, for people.")]
    error: Annotated[str | None, Field(description="Why the image cannot be used.")]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _EXAMPLE_ID,
                    "image": "lesion.jpg",
                    "label": "benign",
                    "probabilities": {"benign": 0.91, "malignant": 0.09},
                    "decision": "malignant",
                    "set": ["benign"],
                    "flag": "",
                    "outcome": "Decision: malignant, at the threshold for a sensitivity of 95%.",
                    "error": None,
                }
            ]
        }
    )


class ModelName(BaseModel):
    """Which model predicted."""

    name: str
    digest: str


class PredictionsOut(BaseModel):
    """Predictions in the order in which the files were sent."""

    predictions: list[PredictionOut]
    model: ModelName
    request_id: str
    seconds: Annotated[float, Field(ge=0, description="From the request to the answer.")]
    disclaimer: str


class OutcomeIn(BaseModel):
    """A later diagnosis."""

    id: Annotated[str, Field(pattern=ID, description="Of the prediction.")]
    label: Annotated[
        str, Field(min_length=1, max_length=200, pattern=TEXT, description="The true class, one of the model's.")
    ]
    confirmed_by: Annotated[str, Field(max_length=200, pattern=TEXT, description="How it is known.")] = ""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"id": _EXAMPLE_ID, "label": "benign", "confirmed_by": "histopathology"}],
        }
    )


class OutcomesIn(BaseModel):
    """Later diagnoses."""

    outcomes: Annotated[list[OutcomeIn], Field(min_length=1, max_length=1000)]


class OutcomeProblem(BaseModel):
    """A diagnosis that was not entered."""

    id: str
    error: str


class OutcomesOut(BaseModel):
    """What was entered."""

    accepted: int
    problems: list[OutcomeProblem]


class OperatingPointOut(BaseModel):
    """A threshold for a guaranteed sensitivity."""

    sensitivity: float
    threshold: float
    confidence: float
    positives: int


class ModelOut(BaseModel):
    """The model that predicts."""

    name: str
    digest: str
    classes: list[str]
    license: str
    operating_points: list[OperatingPointOut]
    statements: Annotated[list[str], Field(description="What is known of its decisions, in sentences.")]
    card: Annotated[str, Field(description="The model card, Markdown.")]
    disclaimer: str


class ErrorOut(BaseModel):
    """Why a request was refused, in one sentence."""

    error: str

    model_config = ConfigDict(json_schema_extra={"examples": [{"error": "Cannot predict: no file was sent."}]})


class StatusOut(BaseModel):
    """State of the service."""

    status: str
