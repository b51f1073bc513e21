"""The HTTP application: routes, documents and errors.

FastAPI reads the annotations of the routes, which name local values: they must not be strings.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from fastapi import FastAPI, File, Form, Request, Response, UploadFile
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from nevus.bundle.model_card import DISCLAIMER
from nevus.errors import NevusError
from nevus.metrics.operating_points import SENSITIVITY
from nevus.register.entry import Entry, Outcome
from nevus.serving.config import Access
from nevus.serving.guard import Guard
from nevus.serving.page import card_of, render_page, statements
from nevus.serving.schemas import (
    ID,
    ErrorOut,
    ModelName,
    ModelOut,
    OperatingPointOut,
    OutcomeProblem,
    OutcomesIn,
    OutcomesOut,
    PredictionOut,
    PredictionsOut,
    StatusOut,
)
from nevus.serving.service import BusyError, Service, png_of

STATIC = Path(str(files("nevus.serving"))) / "static"
HEATMAP_SIDE = 512
"""Side of a heat map in pixels."""
FORMATS = "JPEG, PNG, TIFF, WebP, HEIC or DICOM files."
Identifier = Annotated[str, PathParameter(pattern=ID, description="Of the prediction.")]


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    meaning = {
        400: "The request cannot be read.",
        401: "The token is missing or wrong.",
        403: "The host name or the page of origin may not use the service.",
        404: "There is no such prediction, or its image is no longer kept.",
        413: "The request, or a number of files, is too large.",
        422: "The request has a wrong value.",
        503: "The service is busy or cannot record; the header Retry-After says when to try again.",
    }
    return {status: {"model": ErrorOut, "description": meaning[status]} for status in (401, 403, 413, 503, *statuses)}


class Companion(Protocol):
    """Something that runs with the application, as a DICOM node."""

    async def start(self) -> None:
        """Begin."""

    async def stop(self) -> None:
        """Finish what is under way."""


def create_app(service: Service, access: Access, name: str, companions: Sequence[Companion] = ()) -> Guard:
    """Make the application.

    Args:
        service: prepared; it is started and closed with the application.
        access: who may use it.
        name: of the bundle, for people.
        companions: that start after the service and stop before it.

    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            for companion in companions:
                await companion.start()
            yield
        finally:
            for companion in companions:
                await companion.stop()
            await service.close()

    app = FastAPI(
        title="nevus",
        version="1",
        description=f"A second opinion on images of skin lesions. {DISCLAIMER}",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_errors(app)
    _add_predictions(app, service, name)
    _add_others(app, service, name)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return Guard(app, access, service.limits, service.metrics)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def wrong(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"error": f"Cannot use {where}: {first['msg']}."}, 422)

    @app.exception_handler(HTTPException)
    async def refused(_request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)

    @app.exception_handler(BusyError)
    async def waiting(_request: Request, error: BusyError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 503, headers={"Retry-After": "1"})

    @app.exception_handler(NevusError)
    async def busy(_request: Request, error: NevusError) -> JSONResponse:
        print(f"nevus: {error}", file=sys.stderr)  # it may name the database, which is not the client's to know
        return JSONResponse({"error": "Cannot record the request. Try again later."}, 503, headers={"Retry-After": "5"})

    @app.exception_handler(Exception)
    async def failed(_request: Request, _error: Exception) -> JSONResponse:
        return JSONResponse({"error": "Cannot answer: the service failed. Its log has the reason."}, 500)


def _add_predictions(app: FastAPI, service: Service, name: str) -> None:
    limits, bundle = service.limits, service.classifier.bundle
    known = [point.sensitivity for point in bundle.rule.points]
    point = bundle.rule.operating_point
    default = point.sensitivity if point else SENSITIVITY

    @app.post(
        "/v1/predictions",
        response_model=PredictionsOut,
        responses=_errors(400, 422),
        summary="Predict images",
    )
    async def predict(
        request: Request,
        files: Annotated[list[UploadFile], File(min_length=1, description=FORMATS)],
        sensitivity: Annotated[
            float, Form(description="That decisions are made at.", json_schema_extra={"enum": known or [default]})
        ] = default,
    ) -> PredictionsOut:
        """Predict one or several images. A file that cannot be used is an entry with an `error`."""
        began = time.perf_counter()
        if len(files) > limits.max_files:
            raise HTTPException(413, f"Cannot predict more than {limits.max_files} files at once. Send fewer.")
        try:
            chosen = None if sensitivity == default else service.checked_sensitivity(sensitivity)
        except NevusError as error:
            raise HTTPException(422, str(error)) from None
        uploads = [(_plain(file.filename or ""), await file.read()) for file in files]
        request_id, served = await service.predict(uploads, _client(request), chosen)
        seconds = time.perf_counter() - began
        service.metrics.seconds.observe(seconds)
        return PredictionsOut(
            predictions=[_out(one.entry, one.name, one.outcome) for one in served],
            model=ModelName(name=name, digest=bundle.digest),
            request_id=request_id,
            seconds=seconds,
            disclaimer=DISCLAIMER,
        )

    @app.get(
        "/v1/predictions/{identifier}",
        response_model=PredictionOut,
        responses=_errors(404, 422),
        summary="A prediction that was made before",
    )
    async def prediction(identifier: Identifier) -> PredictionOut:
        """Return a recorded prediction. The name of its file is not recorded."""
        entry = await asyncio.to_thread(service.register.get, identifier)
        if entry is None:
            raise HTTPException(404, "Cannot find the prediction: there is none with this id.")
        return _out(entry, None, service.outcome(entry))

    @app.get(
        "/v1/predictions/{identifier}/heatmap.png",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}, "description": "The heat map."}, **_errors(404, 422)},
        summary="The heat map of a prediction",
    )
    async def heatmap(identifier: Identifier, background: Literal["image", "none"] = "image") -> Response:
        """Draw the heat map over the image (a square), or alone and transparent with `background=none`.

        Only the last images are kept in memory; the others only if the service keeps images.
        """
        found = await service.explanation(identifier)
        if found is None:
            raise HTTPException(404, "Cannot draw the heat map: the image is no longer kept. Send it again.")
        explanation, image = found

        def drawn() -> bytes:
            side = (HEATMAP_SIDE, HEATMAP_SIDE)
            return png_of(explanation.layer(side) if background == "none" else explanation.overlay(image.square))

        return Response(await service.draw(drawn), media_type="image/png")

    @app.get(
        "/v1/predictions/{identifier}/preview.jpg",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}, "description": "The preview."}, **_errors(404, 422)},
        summary="A preview of a DICOM, TIFF or HEIC image, which browsers do not show",
    )
    async def preview(identifier: Identifier) -> Response:
        """Return a small JPEG. JPEG, PNG and WebP files have none."""
        image = service.recent.get(identifier)
        if image is None or not image.preview:
            raise HTTPException(404, "Cannot show a preview: there is none.")
        return Response(image.preview, media_type="image/jpeg")


def _add_others(app: FastAPI, service: Service, name: str) -> None:
    bundle = service.classifier.bundle
    page = render_page(service.classifier, name, service.limits, service.prevalence)

    @app.post("/v1/outcomes", response_model=OutcomesOut, responses=_errors(400, 422), summary="Later diagnoses")
    async def outcomes(found: OutcomesIn) -> OutcomesOut:
        """Enter the diagnoses of earlier predictions, by id. What does not fit is listed and not entered."""
        given = [Outcome(one.id, one.label, one.confirmed_by) for one in found.outcomes]
        problems = await asyncio.to_thread(service.register.add_outcomes, given)
        wrong = [OutcomeProblem(id=one.id, error=p) for one, p in zip(given, problems, strict=True) if p]
        return OutcomesOut(accepted=len(given) - len(wrong), problems=wrong)

    @app.get("/v1/model", response_model=ModelOut, responses=_errors(), summary="The model and its card")
    async def model() -> ModelOut:
        return ModelOut(
            name=name,
            digest=bundle.digest,
            classes=list(bundle.classes),
            license=bundle.license,
            operating_points=[
                OperatingPointOut(
                    sensitivity=one.sensitivity,
                    threshold=float(one.threshold or 0.0),
                    confidence=one.confidence,
                    positives=one.positives,
                )
                for one in bundle.rule.points
            ],
            statements=statements(bundle, service.prevalence),
            card=card_of(bundle),
            disclaimer=DISCLAIMER,
        )

    @app.get("/healthz", response_model=StatusOut, summary="Whether the process lives")
    async def healthz() -> StatusOut:
        return StatusOut(status="ok")

    @app.get("/readyz", response_model=StatusOut, responses=_errors(), summary="Whether it can predict and record")
    async def readyz() -> StatusOut:
        if not await asyncio.to_thread(lambda: service.ready):
            raise HTTPException(503, "Cannot predict yet: model or register are not ready.", {"Retry-After": "1"})
        return StatusOut(status="ready")

    @app.get("/metrics", response_class=Response, responses=_errors(), summary="Counters for Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page)


def _out(entry: Entry, name: str | None, words: str) -> PredictionOut:
    return PredictionOut(
        id=entry.id,
        image=name,
        label=entry.label,
        probabilities=dict(entry.probabilities) if entry.probabilities is not None else None,
        decision=entry.decision or None,
        set=list(entry.set),
        flag=entry.flag,
        outcome=words,
        error=entry.error,
    )


def _plain(name: str) -> str:
    """Return a name that is valid text: a client may send half a surrogate pair."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _client(request: Request) -> str:
    return request.client.host if request.client else "unknown"
