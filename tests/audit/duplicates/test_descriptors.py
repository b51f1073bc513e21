import numpy as np
import pytest
from PIL import Image

from nevus.audit.duplicates.alignment import _compared, laid
from nevus.audit.duplicates.candidates import back
from nevus.audit.duplicates.descriptors import (
    MOST,
    SIDE,
    TURNS,
    fingerprint,
    grey,
    key_points,
    lit,
    look_at,
    turned,
)


def laid_out(pixels, turn):
    """The oracle: NumPy moves the pixels."""
    swap, across, down = turn
    pixels = pixels.swapaxes(0, 1) if swap else pixels
    pixels = pixels[:, ::-1] if across else pixels
    return np.ascontiguousarray(pixels[::-1] if down else pixels)


@pytest.fixture(scope="module")
def pixels(lesions):
    path = sorted((lesions / "train").rglob("*.jpg"))[0]
    return np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE)))


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_fingerprint_is_that_of_the_turned_image(pixels, turn):
    there = fingerprint(laid_out(pixels, turn))
    assert np.allclose(turned(fingerprint(pixels)[None], turn)[0], there, atol=2e-3)
    assert np.allclose(turned(there[None], back(turn))[0], fingerprint(pixels), atol=2e-3)


@pytest.mark.parametrize("turn", TURNS)
def test_a_warp_lays_an_image_as_numpy_does(pixels, turn):
    found = _compared(grey(pixels), grey(laid_out(pixels, turn)), laid(turn), 0)
    assert found.similarity == pytest.approx(1, abs=1e-4)
    assert found.overlap > 0.98


def test_eight_ways_and_each_has_its_way_back(pixels):
    images = {laid_out(pixels, turn).tobytes() for turn in TURNS}
    assert len(images) == 8
    for turn in TURNS:
        assert np.array_equal(laid_out(laid_out(pixels, turn), back(turn)), pixels)


def test_a_fingerprint_has_length_one_and_ignores_brightness(pixels):
    plain, bright = fingerprint(pixels), fingerprint((pixels * 0.6 + 20).astype(np.uint8))
    assert np.linalg.norm(plain) == pytest.approx(1)
    assert plain @ bright > 0.98
    assert np.isfinite(fingerprint(np.full((SIDE, SIDE, 3), 7, np.uint8))).all()


def test_key_points_are_the_strongest_and_none_on_black(pixels):
    places, descriptors = key_points(pixels)
    assert 10 < len(places) <= MOST
    assert places.shape[1] == 2
    assert descriptors.shape == (len(places), 128)
    y, x = np.indices((SIDE, SIDE)) - 63.5
    vignette = np.where((np.hypot(x, y) < 58)[..., None], pixels, 0).astype(np.uint8)
    seen = lit(grey(vignette))
    assert 0.4 < seen.mean() < 0.8
    there, _ = key_points(vignette)
    assert len(there)
    assert all(seen[round(float(v)), round(float(u))] for u, v in there)


def test_a_dark_lesion_in_the_middle_is_no_black_border(pixels):
    dark = np.full((SIDE, SIDE), 200, np.uint8)
    dark[40:80, 40:80] = 10
    assert lit(dark).all()


def test_images_without_anything_to_see(squares_of, tmp_path):
    flat = [np.full((SIDE, SIDE, 3), value, np.uint8) for value in (0, 90, 255)]
    looks = look_at(squares_of(flat), tmp_path)
    assert looks.counts.tolist() == [0, 0, 0]
    assert len(set(looks.digests)) == 3
