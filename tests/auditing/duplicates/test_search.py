import numpy as np
import pytest
from PIL import Image
from tests.auditing.conftest import EDITS

from nevus.auditing.duplicates import search as pairs_module
from nevus.auditing.duplicates.alignment import Alignment
from nevus.auditing.duplicates.search import find_pairs, kind_of
from nevus.auditing.duplicates.thresholds import Thresholds, default_thresholds
from nevus.data.perceptual_hash import AUDIT_IMAGE_SIZE
from nevus.data.readers.dispatch import read
from nevus.phantoms.dataset import PhantomConfig, write


def square(image):
    return np.asarray(image.convert("RGB").resize((AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def pictures(lesions):
    return [Image.open(path).convert("RGB") for path in sorted(lesions.rglob("*/*.jpg"))]


@pytest.mark.parametrize("edit", EDITS)
def test_edited_copies_are_found_and_nothing_else(pictures, squares_of, edit):
    images = [square(picture) for picture in pictures] + [square(EDITS[edit](p)) for p in pictures[:12]]
    found = find_pairs(squares_of(images))
    pairs = set(zip(found["a"], found["b"], strict=True))
    wanted = {(row, 36 + row) for row in range(12)}
    assert len(wanted & pairs) >= 11
    assert len(pairs - wanted) <= 1
    assert found["similarity"].between(-1, 1.0001).all()


def test_what_is_found_does_not_depend_on_the_order(pictures, squares_of):
    images = [square(picture) for picture in pictures]
    images += [square(edit(pictures[n])) for n, edit in enumerate(EDITS.values())] + [images[0], images[0]]
    order = np.random.default_rng(0).permutation(len(images))
    plain, mixed = find_pairs(squares_of(images)), find_pairs(squares_of([images[row] for row in order]))

    def as_content(table, rows):
        content = [images[row].tobytes() for row in rows]
        return sorted(
            (*sorted((hash(content[a]), hash(content[b]))), kind, similarity)
            for a, b, kind, similarity in zip(table["a"], table["b"], table["kind"], table["similarity"], strict=True)
        )

    assert as_content(plain, range(len(images))) == as_content(mixed, order)
    assert len(plain) >= 10


def test_equal_pictures_are_paired_with_the_first(pictures, squares_of):
    images = [square(picture) for picture in pictures[:5]]
    found = find_pairs(squares_of([images[0], images[1], images[0], images[2], images[0]]))
    exact = found[found["kind"] == "exact_duplicate"]
    assert set(zip(exact["a"], exact["b"], strict=True)) == {(0, 2), (0, 4)}
    assert (exact["similarity"] == 1).all()


def test_several_pictures_of_one_lesion(tmp_path, squares_of):
    write(PhantomConfig(n=60, image_size=160, seed=2, repeats=0.5), tmp_path / "set", workers=1)
    data = read(tmp_path / "set")
    found = find_pairs(squares_of([square(Image.open(path)) for path in data.paths]))
    groups = data.table["group"].to_numpy()
    right = groups[found["a"]] == groups[found["b"]]
    repeats = sum(n * (n - 1) // 2 for n in data.table["group"].value_counts())
    assert repeats > 10
    assert right.sum() > repeats / 2
    assert right.mean() > 0.9


@pytest.mark.parametrize("n", [1, 2])
def test_few_images_and_images_without_key_points(squares_of, n):
    assert find_pairs(
        squares_of([np.full((AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE, 3), 9 * v, np.uint8) for v in range(n)])
    ).empty


def test_temporary_files_are_deleted(pictures, squares_of, tmp_path, monkeypatch):
    monkeypatch.setattr(pairs_module, "cache_folder", lambda name: tmp_path / "cache")
    find_pairs(squares_of([square(picture) for picture in pictures[:3]]))
    assert list((tmp_path / "cache").iterdir()) == []


def test_kinds():
    at = Thresholds(near_duplicate=0.8, overlap=0.5, matches=6, same_lesion=0.4, measured={})
    assert kind_of(Alignment(0.85, 0.9, 0), at) == "near_duplicate"
    assert kind_of(Alignment(0.85, 0.3, 0), at) is None
    assert kind_of(Alignment(0.85, 0.3, 6), at) == "near_duplicate"
    assert kind_of(Alignment(0.5, 0.3, 6), at) == "same_lesion"
    assert kind_of(Alignment(0.5, 0.3, 5), at) is None
    assert kind_of(Alignment(0.3, 0.9, 60), at) is None


def test_the_thresholds_come_with_what_was_measured_at_them():
    measured = default_thresholds().measured
    assert measured["recall_of_all_edits"]["value"] > 0.95
    assert measured["precision"]["value"] > 0.95
    assert set(measured["recall_of_edits"]) >= {"mirrored", "turned by 90 degrees", "squeezed to a square of 224"}
    assert "%" in measured["summary"]
