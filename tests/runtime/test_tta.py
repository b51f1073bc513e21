from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from tests.helpers import small_bundle

from nevus.bundle.bundle import load_bundle
from nevus.bundle.classifier import Classifier
from nevus.data.preprocess import Preprocess
from nevus.errors import NevusError
from nevus.models.model import build_backbone
from nevus.runtime.feature_engine import TorchEngine
from nevus.runtime.tta import (
    CROP,
    LUMINANCE,
    TARGET_MEAN,
    TARGET_STD,
    TTAMean,
    TTAPolicy,
    TTAStack,
    split_views,
    tta_views,
    view_count,
    with_tta,
)


class Corner:
    """The value of a corner, and where it is from: what eight views make of it can be told by hand."""

    preprocess = Preprocess(32)

    def __call__(self, pixels):
        return np.stack([pixels[:, 0, 0, 0], pixels[:, 0, 1, 0]], 1).astype(np.float32)


def test_every_corner_is_seen_twice_and_each_of_its_neighbors_once():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    seen = TTAMean(Corner(), "d4")(pixels)
    gray = pixels[..., 0].astype(np.float64)
    corners = [gray[:, r, c] for r in (0, -1) for c in (0, -1)]
    beside = [gray[:, r, c] for r, c in ((0, 1), (1, 0), (0, -2), (1, -1), (-1, 1), (-2, 0), (-1, -2), (-2, -1))]
    np.testing.assert_allclose(seen[:, 0], np.mean(corners, 0))
    np.testing.assert_allclose(seen[:, 1], np.mean(beside, 0))


def test_it_does_not_matter_how_an_image_is_laid():
    net = build_backbone("bit-r26x0.5", classes=0, seed=3)
    one = TorchEngine(net, Preprocess(32))
    views = with_tta(one, "d4")
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    said = views(pixels)
    assert not np.allclose(one(pixels), one(np.ascontiguousarray(pixels[:, ::-1])), atol=1e-3)
    for laid in (pixels[:, ::-1], pixels[:, :, ::-1], pixels.swapaxes(1, 2), np.rot90(pixels, axes=(1, 2))):
        np.testing.assert_allclose(views(np.ascontiguousarray(laid)), said, rtol=1e-3, atol=1e-4)


def test_two_views_are_the_picture_and_its_mirror_image():
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    seen = tta_views(pixels, "flip")
    assert np.array_equal(seen[0], pixels)
    assert all(
        np.array_equal(np.asarray(Image.fromarray(one).transpose(Image.Transpose.FLIP_LEFT_RIGHT)), other)
        for one, other in zip(pixels, seen[1], strict=True)
    )


def test_four_views_are_the_whole_and_its_middle_in_two_lights():
    image_size = 40
    smooth = Image.fromarray(np.random.default_rng(2).integers(0, 256, (5, 5, 3), np.uint8))
    pixels = np.array(smooth.resize((image_size, image_size), Image.Resampling.BICUBIC))
    whole, evened, middle, both = (view[0] for view in tta_views(pixels[None], "crop-color"))
    assert np.array_equal(whole, pixels)
    rim = (image_size - round(CROP * image_size)) // 2
    oracle = smooth.resize((image_size, image_size), Image.Resampling.BICUBIC).crop(
        (rim, rim, image_size - rim, image_size - rim)
    )
    oracle = np.asarray(oracle.resize((image_size, image_size), Image.Resampling.BILINEAR))
    assert np.abs(middle.astype(int) - oracle).max() <= 1
    x = pixels.astype(np.float64)
    light = (x**6).mean((0, 1)) ** (1 / 6)
    assert np.abs(evened - np.clip(x * light.mean() / light, 0, 255)).max() <= 1
    assert both.shape == whole.shape
    light = (both.astype(np.float64) ** 6).mean((0, 1)) ** (1 / 6)
    assert light.max() / light.min() < 1.02 < 1.02 + np.abs(both.astype(int) - middle).max()


def test_a_lamp_of_another_color_does_not_matter_where_the_light_is_evened():
    pixels = np.random.default_rng(3).integers(40, 200, (1, 16, 16, 3), np.uint8)
    warm = np.round(pixels * np.array([1.2, 1.0, 0.8])).astype(np.uint8)
    one, other = (tta_views(p, "crop-color")[1].astype(int) for p in (pixels, warm))
    assert np.abs(one - other).max() <= 4
    black = np.zeros((1, 16, 16, 3), np.uint8)
    assert all(np.array_equal(view, black) for view in tta_views(black, "all"))


def test_six_views_are_gray_or_have_one_mean_and_spread_whatever_the_source():
    image_size = 24
    smooth = Image.fromarray(np.random.default_rng(5).integers(90, 160, (4, 4, 3), np.uint8))
    pixels = np.array(smooth.resize((image_size, image_size), Image.Resampling.BICUBIC))
    views = [view[0] for view in tta_views(pixels[None], "invariant")]
    oracle = np.asarray(Image.fromarray(pixels).convert("L"), int)
    assert all(np.abs(views[0][..., channel].astype(int) - oracle).max() <= 1 for channel in range(3))
    x = pixels.astype(np.float64)
    expected = (x - x.mean((0, 1))) / (x.std((0, 1)) + 1) * TARGET_STD + TARGET_MEAN
    assert np.abs(views[1] - np.clip(expected, 0, 255)).max() <= 1
    middle = tta_views(pixels[None], "crop-color")[2][0]
    assert np.abs(views[2][..., 0] - (middle @ np.array(LUMINANCE))).max() <= 1
    for upright, turned in zip(views[2:4], views[4:], strict=True):
        assert np.array_equal(np.rot90(upright), turned)
    # another source: warmer, brighter, with less contrast
    other = np.round(x * (0.8, 0.7, 0.6) + (40, 30, 20)).astype(np.uint8)
    far = tta_views(other[None], "invariant")
    near = [np.abs(view[0].astype(int) - mine).max() for view, mine in zip(far, views, strict=True)]
    assert max(near[1::2]) <= 8 < np.abs(other.astype(int) - pixels).max()


COUNTS = {"none": 1, "flip": 2, "crop-color": 4, "invariant": 6, "d4": 8, "all": 32}


@pytest.mark.parametrize("policy", get_args(TTAPolicy))
def test_each_policy_has_its_number_of_different_views(policy):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 17, 17, 3), np.uint8)
    views = tta_views(pixels, policy)
    assert len(views) == view_count(policy) == COUNTS[policy]
    assert all(view.shape == pixels.shape and view.dtype == np.uint8 for view in views)
    assert len({np.ascontiguousarray(view).tobytes() for view in views}) == COUNTS[policy]


@pytest.mark.parametrize("policy", get_args(TTAPolicy))
def test_exported_graphs_transform_images_alike(policy):
    """PyTorch's `interpolate`, `mean` and `pow` are the oracle of the NumPy transforms."""
    from nevus.exporting.tta_module import tta_views as torch_views

    noise = np.random.default_rng(7).integers(0, 256, (2, 8, 8, 3), np.uint8)
    smooth = [np.asarray(Image.fromarray(one).resize((192, 192), Image.Resampling.BICUBIC)) for one in noise]
    pixels = np.stack(smooth)
    for mine, theirs in zip(tta_views(pixels, policy), torch_views(torch.from_numpy(pixels), policy), strict=True):
        different = mine != theirs.numpy()
        assert different.mean() < 1e-3
        assert np.abs(mine.astype(int) - theirs.numpy()).max() <= 1


def test_a_classifier_averages_over_the_views_asked_for_or_those_of_its_bundle(picture, tmp_path):
    image = picture(32, 32)
    bundle = small_bundle(tmp_path / "none")
    p = Classifier(bundle, tta="d4").predict_proba([image, image.transpose(method=0)])  # flipped
    np.testing.assert_allclose(p[0], p[1], atol=1e-5)
    with pytest.raises(NevusError, match="no policy 'five'"):
        Classifier(bundle, tta="five")
    four = load_bundle(small_bundle(tmp_path / "four", tta="crop-color").folder)
    assert four.tta == Classifier(four).tta == "crop-color"
    asked, default = (Classifier(four, tta=tta).predict_proba([image]) for tta in ("crop-color", None))
    np.testing.assert_array_equal(asked, default)
    np.testing.assert_allclose(Classifier(bundle, tta="crop-color").predict_proba([image]), asked, atol=1e-6)
    assert not np.allclose(Classifier(four, tta="none").predict_proba([image]), asked, atol=1e-6)


@pytest.mark.parametrize("policy", get_args(TTAPolicy))
def test_the_stack_holds_the_output_of_each_view(policy):
    pixels = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    n = COUNTS[policy]
    every = split_views(TTAStack(Corner(), policy)(pixels), policy)
    assert every.shape == (n, 3, 2)
    assert np.allclose(every.mean(0), with_tta(Corner(), policy)(pixels), atol=1e-4)
    for place, view in enumerate(tta_views(pixels, policy)):
        assert np.array_equal(every[place], Corner()(view))


def test_an_unknown_policy_is_refused():
    with pytest.raises(NevusError, match="Choose one of none, flip"):
        tta_views(np.zeros((1, 8, 8, 3), np.uint8), "five")
