import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from nevus.auditing.duplicates.alignment import RATIO, _compared, _Picture, dihedral_warp, matching_points
from nevus.auditing.duplicates.candidates import inverse
from nevus.auditing.duplicates.descriptors import (
    MAX_KEYPOINTS,
    ImageDescriptors,
    describe_images,
    field_of_view_mask,
    key_points,
)
from nevus.data.perceptual_hash import AUDIT_IMAGE_SIZE, DIHEDRAL_GROUP, dihedral, gray, perceptual_hash


def laid_out(pixels, turn):
    """The oracle: NumPy moves the pixels."""
    swap, across, down = turn
    pixels = pixels.swapaxes(0, 1) if swap else pixels
    pixels = pixels[:, ::-1] if across else pixels
    return np.ascontiguousarray(pixels[::-1] if down else pixels)


@pytest.fixture(scope="module")
def pixels(lesions):
    path = sorted((lesions / "train").rglob("*.jpg"))[0]
    return np.asarray(Image.open(path).convert("RGB").resize((AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE)))


@pytest.mark.parametrize("turn", DIHEDRAL_GROUP)
def test_a_turned_fingerprint_is_that_of_the_turned_image(pixels, turn):
    there = perceptual_hash(laid_out(pixels, turn))
    assert np.allclose(dihedral(perceptual_hash(pixels)[None], turn)[0], there, atol=2e-3)
    assert np.allclose(dihedral(there[None], inverse(turn))[0], perceptual_hash(pixels), atol=2e-3)


@pytest.mark.parametrize("turn", DIHEDRAL_GROUP)
def test_a_warp_lays_an_image_as_numpy_does(pixels, turn):
    found = _compared(_Picture(pixels), _Picture(laid_out(pixels, turn)), dihedral_warp(turn), 0)
    assert found.similarity == pytest.approx(1, abs=1e-4)
    assert found.overlap > 0.98


def test_eight_ways_and_each_has_its_way_back(pixels):
    images = {laid_out(pixels, turn).tobytes() for turn in DIHEDRAL_GROUP}
    assert len(images) == 8
    for turn in DIHEDRAL_GROUP:
        assert np.array_equal(laid_out(laid_out(pixels, turn), inverse(turn)), pixels)


def test_a_fingerprint_has_length_one_and_ignores_brightness(pixels):
    plain, bright = perceptual_hash(pixels), perceptual_hash((pixels * 0.6 + 20).astype(np.uint8))
    assert np.linalg.norm(plain) == pytest.approx(1)
    assert plain @ bright > 0.98
    assert np.isfinite(perceptual_hash(np.full((AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE, 3), 7, np.uint8))).all()


def test_key_points_are_the_strongest_and_none_on_black(pixels):
    places, descriptors = key_points(pixels)
    assert 10 < len(places) <= MAX_KEYPOINTS
    assert places.shape[1] == 2
    assert descriptors.shape == (len(places), 128)
    y, x = np.indices((AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE)) - 63.5
    vignette = np.where((np.hypot(x, y) < 58)[..., None], pixels, 0).astype(np.uint8)
    seen = field_of_view_mask(gray(vignette))
    assert 0.4 < seen.mean() < 0.8
    there, _ = key_points(vignette)
    assert len(there)
    assert all(seen[round(float(v)), round(float(u))] for u, v in there)


def test_a_dark_lesion_in_the_middle_is_no_black_border(pixels):
    dark = np.full((AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE), 200, np.uint8)
    dark[40:80, 40:80] = 10
    assert field_of_view_mask(dark).all()


def test_images_without_anything_to_see(squares_of, tmp_path):
    flat = [np.full((AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE, 3), value, np.uint8) for value in (0, 90, 255)]
    described = describe_images(squares_of(flat), tmp_path)
    assert described.counts.tolist() == [0, 0, 0]
    assert len(set(described.digests)) == 3


def test_key_points_match_as_in_a_search_of_each_pair(squares_of, tmp_path):
    rng = np.random.default_rng(0)
    counts = [9, 1, 0, 20, 14]
    descriptors = rng.integers(0, 256, (5, MAX_KEYPOINTS, 128), dtype=np.uint8)
    descriptors[3, :9] = descriptors[0, 8::-1] // 4 * 4  # the same key points in another order
    places = rng.uniform(0, 128, (5, MAX_KEYPOINTS, 2)).astype(np.float32)
    flat = squares_of([np.zeros((AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE, 3), np.uint8)] * 5)
    described = ImageDescriptors(flat, [""] * 5, np.zeros((5, 143)), places, descriptors, np.array(counts))
    pairs = [(0, 3), (3, 0), (0, 1), (1, 0), (2, 3), (3, 2), (3, 4), (1, 2)]
    for (one, other), (here, there) in zip(pairs, matching_points(described, pairs), strict=True):
        expected = []
        if counts[one] > 1 and counts[other]:
            search = NearestNeighbors(n_neighbors=2).fit(descriptors[one, : counts[one]].astype(float))
            far, rows = search.kneighbors(descriptors[other, : counts[other]].astype(float))
            expected = [(rows[k, 0], k) for k in np.flatnonzero(far[:, 0] < RATIO * far[:, 1])]
        assert np.array_equal(here, [places[one, a] for a, _ in expected] or np.zeros((0, 2)))
        assert np.array_equal(there, [places[other, b] for _, b in expected] or np.zeros((0, 2)))
    assert len(matching_points(described, pairs)[0][0]) >= 9
