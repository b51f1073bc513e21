import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import rotate

from nevus.models.handcrafted.abcd import abcd
from nevus.models.handcrafted.color import CHANNELS, channels, color_features
from nevus.models.handcrafted.features import (
    HANDCRAFTED_IMAGE_SIZE,
    abcd_score,
    feature_dict,
    feature_vector,
    mask_of,
    names,
)
from nevus.models.handcrafted.lesion import lesion_mask
from nevus.models.handcrafted.texture import texture_features

SKIN, BROWN, BLACK = (215, 170, 145), (110, 70, 50), (35, 30, 30)


def drawn(axes=(30, 30), color=BROWN, angle=0.0, more=()):
    """Skin with an ellipse of one color, and others in it: (center, axes, color)."""
    canvas = np.full((HANDCRAFTED_IMAGE_SIZE, HANDCRAFTED_IMAGE_SIZE, 3), SKIN, np.uint8)
    cv2.ellipse(canvas, (HANDCRAFTED_IMAGE_SIZE // 2, HANDCRAFTED_IMAGE_SIZE // 2), axes, angle, 0, 360, color, -1)
    for center, small, tone in more:
        cv2.ellipse(canvas, center, small, 0, 0, 360, tone, -1)
    return canvas


def test_the_lesion_is_where_it_was_drawn():
    for axes in ((30, 30), (45, 20), (12, 12)):
        truth = np.zeros((HANDCRAFTED_IMAGE_SIZE, HANDCRAFTED_IMAGE_SIZE), np.uint8)
        cv2.ellipse(truth, (HANDCRAFTED_IMAGE_SIZE // 2, HANDCRAFTED_IMAGE_SIZE // 2), axes, 0, 0, 360, 1, -1)
        mask = lesion_mask(drawn(axes))
        assert mask is not None
        overlap = (mask & (truth > 0)).sum() / (mask | (truth > 0)).sum()
        assert overlap > 0.9
    assert lesion_mask(np.full((HANDCRAFTED_IMAGE_SIZE, HANDCRAFTED_IMAGE_SIZE, 3), SKIN, np.uint8)) is None


def test_a_disc_is_symmetric_and_a_spot_in_its_corner_is_not():
    disc = abcd_score(drawn())
    assert (disc.asymmetry, disc.colors) == (0, 1)
    assert disc.measures["abcd:roundness"] > 0.85
    assert disc.measures["abcd:diameter"] == pytest.approx(61 / HANDCRAFTED_IMAGE_SIZE, rel=0.06)
    spotted = abcd_score(drawn(more=[((80, 80), (11, 11), BLACK)]))
    assert spotted.asymmetry > 0
    assert spotted.colors == 2
    assert spotted.score > disc.score
    assert abcd_score(drawn((45, 20))).measures["abcd:axes"] == pytest.approx(20 / 45, abs=0.06)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 359))
def test_asymmetry_follows_the_lesion_when_it_turns(angle):
    """About its own axes: an ellipse is symmetric however it lies."""
    assert abcd_score(drawn((45, 22), angle=float(angle))).asymmetry == 0


def test_a_sharp_border_is_abrupt_and_a_blurred_one_is_not():
    sharp, soft = drawn(), cv2.GaussianBlur(drawn(), (0, 0), 14)
    assert abcd_score(sharp).border == 8
    assert abcd_score(soft).border < 4


def test_the_score_is_the_rules():
    found = abcd_score(drawn(more=[((80, 80), (11, 11), BLACK)]))
    by_hand = 1.3 * found.asymmetry + 0.1 * found.border + 0.5 * found.colors + 0.5 * found.structures
    assert found.score == pytest.approx(by_hand)
    assert 1.0 <= found.score <= 8.9


def test_colors_against_their_definition():
    pixels = drawn()
    mask = mask_of(pixels)
    found = color_features(pixels, mask)
    values = channels(pixels)
    for k, channel in enumerate(CHANNELS):
        inside = values[..., k][mask].astype(float)
        assert found[f"color:{channel}:mean"] == pytest.approx(inside.mean(), abs=1e-4)
        assert found[f"color:{channel}:q50"] == pytest.approx(np.median(inside), abs=1e-4)
        above = inside.mean() - values[..., k][~mask].mean()
        assert found[f"color:{channel}:above_surroundings"] == pytest.approx(above, abs=1e-3)
    gray = channels(np.full((4, 4, 3), 128, np.uint8))
    assert gray[0, 0] == pytest.approx([53.585, 0, 0, 0, 128 / 255, 0, 0], abs=0.02)


def test_texture_tells_stripes_from_a_plain_field_and_is_blind_to_a_quarter_turn():
    plain = np.full((HANDCRAFTED_IMAGE_SIZE, HANDCRAFTED_IMAGE_SIZE, 3), 128, np.uint8)
    stripes = plain.copy()
    stripes[(np.arange(HANDCRAFTED_IMAGE_SIZE) // 3) % 2 == 0] = 90
    mask = np.ones((HANDCRAFTED_IMAGE_SIZE, HANDCRAFTED_IMAGE_SIZE), bool)
    flat, lined = texture_features(plain, mask), texture_features(stripes, mask)
    assert flat["glcm:1:contrast"] == 0
    assert lined["glcm:1:contrast"] > 1
    assert lined["gabor:0.16:range"] > 10 * flat["gabor:0.16:range"] + 1e-3
    turned = texture_features(rotate(stripes, 90), mask)
    for name, value in lined.items():
        if name.startswith(("glcm", "lbp")):
            assert turned[name] == pytest.approx(value, abs=0.05), name


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["noise", "one", "black", "white", "half"]))
def test_every_picture_has_finite_features_in_the_same_order(seed, kind):
    rng = np.random.default_rng(seed)
    pixels = {
        "noise": rng.integers(0, 256, (HANDCRAFTED_IMAGE_SIZE, HANDCRAFTED_IMAGE_SIZE, 3)),
        "one": np.full((HANDCRAFTED_IMAGE_SIZE, HANDCRAFTED_IMAGE_SIZE, 3), rng.integers(0, 256, 3)),
        "black": np.zeros((HANDCRAFTED_IMAGE_SIZE, HANDCRAFTED_IMAGE_SIZE, 3)),
        "white": np.full((HANDCRAFTED_IMAGE_SIZE, HANDCRAFTED_IMAGE_SIZE, 3), 255),
        "half": np.where(
            np.arange(HANDCRAFTED_IMAGE_SIZE)[:, None, None] < HANDCRAFTED_IMAGE_SIZE // 2,
            20,
            rng.integers(0, 256, (HANDCRAFTED_IMAGE_SIZE, HANDCRAFTED_IMAGE_SIZE, 3)),
        ),
    }[kind].astype(np.uint8)
    assert tuple(feature_dict(pixels)) == names()
    values = feature_vector(pixels)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert (feature_vector(pixels) == values).all()


def test_a_mask_of_one_pixel_has_features():
    mask = np.zeros((HANDCRAFTED_IMAGE_SIZE, HANDCRAFTED_IMAGE_SIZE), bool)
    mask[-1, -1] = True
    pixels = drawn()
    found = [*abcd(pixels, mask).measures.values(), *color_features(pixels, mask).values()]
    found += [*texture_features(pixels, mask).values()]
    assert np.isfinite(found).all()
