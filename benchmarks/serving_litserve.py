"""A peer of the service: the same model in LitServe, with its batches.

python -m benchmarks.serving_litserve PORT
"""

import io
import sys

import litserve as ls
import numpy as np
from PIL import Image

from nevus.bundle.classifier import load
from nevus.bundle.image_check import CHECK_IMAGE_SIZE, check_images
from nevus.data.images import decode
from nevus.data.preprocess import resize_square


class Api(ls.LitAPI):
    """Decodes the images of a batch, and runs the model once on them."""

    def setup(self, device):
        """Load the bundle."""
        self.classifier = load("malignant-benign")
        _ = self.classifier.engine

    def decode_request(self, request):
        """Return the content of the file."""
        return request["files"].file.read()

    def predict(self, x):
        """Predict a batch of contents."""
        images = [decode(Image.open(io.BytesIO(one))) for one in x]
        size = self.classifier.bundle.spec.image_size
        logits, _ = self.classifier.logits([resize_square(one, size) for one in images])
        scores = check_images(np.stack([resize_square(one, CHECK_IMAGE_SIZE) for one in images]))
        found = self.classifier.decide(logits, scores)
        return [{"decision": one.decision, "probabilities": one.probabilities.tolist()} for one in found]

    def batch(self, inputs):
        """Keep the list."""
        return inputs

    def unbatch(self, output):
        """Keep the list."""
        return output

    def encode_response(self, output):
        """Return the answer."""
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=16, batch_timeout=0.005, api_path="/v1/predictions")
    ls.LitServer(api, accelerator="cpu", timeout=60).run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error"
    )
