"""Peers of the service: the same model in a plain FastAPI handler, and in LitServe.

python -m benchmarks.serving_peers fastapi|litserve PORT
"""

import io
import sys

from PIL import Image

from nevus.bundle.classifier import load

BUNDLE = "malignant-benign"


def fastapi(port: int) -> None:
    """A handler that predicts one image, in the pool of threads that FastAPI has for such handlers."""
    import uvicorn
    from fastapi import FastAPI, UploadFile

    app, classifier = FastAPI(), load(BUNDLE)
    _ = classifier.engine

    @app.post("/v1/predictions")
    def predict(files: UploadFile) -> dict:
        prediction = next(classifier.stream([Image.open(io.BytesIO(files.file.read()))]))
        return {"decision": prediction.decision, "probabilities": prediction.probabilities.tolist()}

    @app.get("/healthz")
    def healthz() -> dict:
        return {}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", http="h11", loop="asyncio")


if __name__ == "__main__":
    fastapi(int(sys.argv[1]))
