import numpy as np
import pytest

from nevus.bundle import Bundle
from nevus.classifier import Classifier
from nevus.data.preprocess import Preprocess
from nevus.errors import NevusError
from nevus.models.registry import network
from nevus.runtime.inference import TorchEngine
from nevus.runtime.views import EightViews


class Corner:
    """The value of a corner, and where it is from: what eight views make of it can be told by hand."""

    preprocess = Preprocess(32)

    def __call__(self, pixels):
        return np.stack([pixels[:, 0, 0, 0], pixels[:, 0, 1, 0]], 1).astype(np.float32)


def test_every_corner_is_seen_twice_and_each_of_its_neighbours_once():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    seen = EightViews(Corner())(pixels)
    grey = pixels[..., 0].astype(np.float64)
    corners = [grey[:, r, c] for r in (0, -1) for c in (0, -1)]
    beside = [grey[:, r, c] for r, c in ((0, 1), (1, 0), (0, -2), (1, -1), (-1, 1), (-2, 0), (-1, -2), (-2, -1))]
    np.testing.assert_allclose(seen[:, 0], np.mean(corners, 0))
    np.testing.assert_allclose(seen[:, 1], np.mean(beside, 0))


def test_it_does_not_matter_how_an_image_is_laid():
    net = network("bit-r26x0.5", classes=0, seed=3)
    views = EightViews(TorchEngine(net, Preprocess(32)))
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    said = views(pixels)
    one = TorchEngine(net, Preprocess(32))
    assert not np.allclose(one(pixels), one(np.ascontiguousarray(pixels[:, ::-1])), atol=1e-3)
    for laid in (pixels[:, ::-1], pixels[:, :, ::-1], pixels.swapaxes(1, 2), np.rot90(pixels, axes=(1, 2))):
        np.testing.assert_allclose(views(np.ascontiguousarray(laid)), said, rtol=1e-3, atol=1e-4)


def test_a_classifier_sees_one_view_or_eight(picture):
    bundle = Bundle("bit-r26x0.5", ("a", "b"), Preprocess(32), network("bit-r26x0.5", classes=2), {}, "none")
    image = picture(32, 32)
    p = Classifier(bundle, views=8).predict_proba([image, image.transpose(method=0)])  # mirrored
    np.testing.assert_allclose(p[0], p[1], atol=1e-5)
    with pytest.raises(NevusError, match="correct --views"):
        Classifier(bundle, views=3)
