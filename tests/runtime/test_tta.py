from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nevus.bundle.bundle import Bundle, load_bundle, save_bundle
from nevus.bundle.classifier import Classifier
from nevus.data.preprocess import Preprocess
from nevus.errors import NevusError
from nevus.models.registry import build_backbone
from nevus.runtime.engines import TorchEngine
from nevus.runtime.tta import GRAY, MIDDLE, TTA_COUNTS, SKIN, SPREAD, TTAStack, TTAMean, with_tta, tta_views


class Corner:
    """The value of a corner, and where it is from: what eight views make of it can be told by hand."""

    preprocess = Preprocess(32)

    def __call__(self, pixels):
        return np.stack([pixels[:, 0, 0, 0], pixels[:, 0, 1, 0]], 1).astype(np.float32)


@pytest.fixture
def bundle():
    net = build_backbone("bit-r26x0.5", classes=2, seed=4)
    torch.nn.init.normal_(net.get_classifier().weight, std=0.1)
    about = {"data": {"counts": {"train": {"a": 1, "b": 1}}}}
    return Bundle("bit-r26x0.5", ("a", "b"), Preprocess(32), net.eval(), about, "none")


def test_every_corner_is_seen_twice_and_each_of_its_neighbors_once():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    seen = TTAMean(Corner(), 8)(pixels)
    gray = pixels[..., 0].astype(np.float64)
    corners = [gray[:, r, c] for r in (0, -1) for c in (0, -1)]
    beside = [gray[:, r, c] for r, c in ((0, 1), (1, 0), (0, -2), (1, -1), (-1, 1), (-2, 0), (-1, -2), (-2, -1))]
    np.testing.assert_allclose(seen[:, 0], np.mean(corners, 0))
    np.testing.assert_allclose(seen[:, 1], np.mean(beside, 0))


def test_it_does_not_matter_how_an_image_is_laid():
    net = build_backbone("bit-r26x0.5", classes=0, seed=3)
    one = TorchEngine(net, Preprocess(32))
    views = with_tta(one, 8)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    said = views(pixels)
    assert not np.allclose(one(pixels), one(np.ascontiguousarray(pixels[:, ::-1])), atol=1e-3)
    for laid in (pixels[:, ::-1], pixels[:, :, ::-1], pixels.swapaxes(1, 2), np.rot90(pixels, axes=(1, 2))):
        np.testing.assert_allclose(views(np.ascontiguousarray(laid)), said, rtol=1e-3, atol=1e-4)


def test_two_views_are_the_picture_and_its_mirror_image():
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    seen = [view.numpy() for view in tta_views(torch.from_numpy(pixels), 2)]
    assert np.array_equal(seen[0], pixels)
    assert all(
        np.array_equal(np.asarray(Image.fromarray(one).transpose(Image.Transpose.FLIP_LEFT_RIGHT)), other)
        for one, other in zip(pixels, seen[1], strict=True)
    )


def test_four_views_are_the_whole_and_its_middle_in_two_lights():
    side = 40
    smooth = Image.fromarray(np.random.default_rng(2).integers(0, 256, (5, 5, 3), np.uint8))
    pixels = np.array(smooth.resize((side, side), Image.Resampling.BICUBIC))
    whole, evened, middle, both = (view[0].numpy() for view in tta_views(torch.from_numpy(pixels)[None], 4))
    assert np.array_equal(whole, pixels)
    rim = (side - round(MIDDLE * side)) // 2
    oracle = smooth.resize((side, side), Image.Resampling.BICUBIC).crop((rim, rim, side - rim, side - rim))
    oracle = np.asarray(oracle.resize((side, side), Image.Resampling.BILINEAR))
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
    one, other = (tta_views(torch.from_numpy(p), 4)[1].int() for p in (pixels, warm))
    assert (one - other).abs().max() <= 4
    black = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    assert all(torch.equal(view, black) for view in tta_views(black, 32))


def test_six_views_are_gray_or_have_one_mean_and_spread_whatever_the_source():
    side = 24
    smooth = Image.fromarray(np.random.default_rng(5).integers(90, 160, (4, 4, 3), np.uint8))
    pixels = np.array(smooth.resize((side, side), Image.Resampling.BICUBIC))
    views = [view[0].numpy() for view in tta_views(torch.from_numpy(pixels)[None], 6)]
    oracle = np.asarray(Image.fromarray(pixels).convert("L"), int)
    assert all(np.abs(views[0][..., channel].astype(int) - oracle).max() <= 1 for channel in range(3))
    x = pixels.astype(np.float64)
    expected = (x - x.mean((0, 1))) / (x.std((0, 1)) + 1) * SPREAD + SKIN
    assert np.abs(views[1] - np.clip(expected, 0, 255)).max() <= 1
    middle = tta_views(torch.from_numpy(pixels)[None], 4)[2][0].numpy()
    assert np.abs(views[2][..., 0] - (middle @ np.array(GRAY))).max() <= 1
    for upright, turned in zip(views[2:4], views[4:], strict=True):
        assert np.array_equal(np.rot90(upright), turned)
    # another source: warmer, brighter, with less contrast
    other = np.round(x * (0.8, 0.7, 0.6) + (40, 30, 20)).astype(np.uint8)
    far = tta_views(torch.from_numpy(other)[None], 6)
    near = [np.abs(view[0].numpy().astype(int) - mine).max() for view, mine in zip(far, views, strict=True)]
    assert max(near[1::2]) <= 8 < np.abs(other.astype(int) - pixels).max()


@pytest.mark.parametrize("number", TTA_COUNTS)
def test_as_many_views_as_were_asked_for(number):
    pixels = torch.randint(0, 256, (2, 17, 17, 3), dtype=torch.uint8)
    seen = tta_views(pixels, number)
    assert len(seen) == number
    assert all(view.shape == pixels.shape and view.dtype == torch.uint8 for view in seen)
    assert len({view.contiguous().numpy().tobytes() for view in seen}) == number


def test_a_classifier_sees_as_many_views_as_asked_or_as_its_bundle_says(bundle, picture, tmp_path):
    image = picture(32, 32)
    p = Classifier(bundle, views=8).predict_proba([image, image.transpose(method=0)])  # mirrored
    np.testing.assert_allclose(p[0], p[1], atol=1e-5)
    with pytest.raises(NevusError, match="correct --views"):
        Classifier(bundle, views=3)
    four = load_bundle(save_bundle(replace(bundle, views=4), tmp_path / "four", "a card").folder)
    assert four.views == Classifier(four).views == 4
    asked, by_itself = (Classifier(four, views=n).predict_proba([image]) for n in (4, None))
    np.testing.assert_array_equal(asked, by_itself)
    np.testing.assert_allclose(Classifier(bundle, views=4).predict_proba([image]), asked, atol=1e-5)
    assert not np.allclose(Classifier(four, views=1).predict_proba([image]), asked, atol=1e-5)
    assert Classifier(load_bundle(save_bundle(bundle, tmp_path / "one", "a card").folder)).views == 1


@pytest.mark.parametrize("number", TTA_COUNTS)
def test_what_is_said_of_each_view_has_what_is_said_of_the_image_as_its_mean(number):
    pixels = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    every = TTAStack(Corner(), number)(pixels).reshape(3, number, 2)
    assert np.allclose(every.mean(1), with_tta(Corner(), number)(pixels), atol=1e-4)
    for place, view in enumerate(tta_views(torch.from_numpy(pixels), number)):
        assert np.array_equal(every[:, place], Corner()(view.numpy()))


def test_there_are_no_five_views():
    with pytest.raises(NevusError, match="correct --views"):
        tta_views(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), 5)


@pytest.mark.parametrize("views", [5, 4.0, True])
def test_a_bundle_with_another_number_of_views_does_not_fit_together(bundle, tmp_path, views):
    save_bundle(replace(bundle, views=views), tmp_path / "five", "a card")
    with pytest.raises(NevusError, match="no number of views"):
        load_bundle(tmp_path / "five")
