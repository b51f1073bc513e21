import numpy as np
import pytest
from PIL import Image

import nevus
from nevus.errors import ImageError


@pytest.fixture(scope="module")
def classifier(bundle_folder):
    return nevus.load(bundle_folder)


def test_paths_images_and_arrays_agree(classifier, tmp_path, picture):
    image = picture(50, 40)
    image.save(tmp_path / "a.png")
    array = np.asarray(image)
    expected = classifier.predict_proba(tmp_path / "a.png")
    assert expected.shape == (1, 2)
    assert expected.sum() == pytest.approx(1)
    for given in (str(tmp_path / "a.png"), [tmp_path / "a.png"], image, [image], array, [array], array[None]):
        assert np.array_equal(classifier.predict_proba(given), expected)


def test_batches_do_not_matter(classifier, picture):
    images = [picture(40, 40, seed) for seed in range(9)]
    alone = np.concatenate([classifier.predict_proba(image) for image in images])
    world = classifier.predict_proba(images)
    assert np.allclose(alone, world, atol=1e-5)
    small = np.stack([p.probabilities for p in classifier.stream(images, batch=2)])
    assert np.allclose(small, world, atol=1e-5)
    assert np.ptp(world[:, 1]) > 0.001
    assert classifier.predict(images) == [classifier.classes[i] for i in world.argmax(1)]


def test_a_bad_image_is_an_error_or_a_row(classifier, picture, tmp_path):
    (tmp_path / "bad.jpg").write_text("text")
    with pytest.raises(ImageError, match="bad.jpg"):
        classifier.predict_proba([picture(), tmp_path / "bad.jpg"])
    found = list(classifier.stream([tmp_path / "bad.jpg", picture(), tmp_path / "bad.jpg"]))
    assert [p.error is None for p in found] == [False, True, False]
    assert found[0].probabilities is None


def test_nothing_gives_nothing(classifier):
    assert classifier.predict_proba([]).shape == (0, 2)


def test_a_stream_is_lazy(classifier):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield Image.new("RGB", (20, 20))

    stream = classifier.stream(endless(), batch=4)
    for _ in range(20):
        next(stream)
    stream.close()
    assert len(taken) < 120


def test_the_public_names_are_there():
    for name in nevus.__all__:
        assert getattr(nevus, name) is not None
    assert set(nevus.__all__) <= set(dir(nevus))
    with pytest.raises(AttributeError):
        _ = nevus.nothing
