import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

import nevus
from nevus.errors import ImageError, NevusError


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


def test_a_table_goes_on_past_a_bad_image(classifier, picture, tmp_path):
    (tmp_path / "bad.jpg").write_text("text")
    table = classifier.predict_frame([picture(), tmp_path / "bad.jpg"])
    assert list(table.columns) == ["image", "label", "p_benign", "p_malignant", "error", "decision", "set", "flag"]
    assert table["label"].isna().tolist() == [False, True]
    assert "bad.jpg" in table["error"][1]


def test_a_call_ranks_classes_as_a_pipeline_does(classifier, picture):
    one, two = classifier(picture()), classifier([picture(), picture(seed=1)])
    assert one == two[0]
    assert {entry["label"] for entry in one} == set(classifier.classes)
    assert one[0]["score"] >= one[1]["score"]
    assert sum(entry["score"] for entry in one) == pytest.approx(1)


def test_a_saved_copy_predicts_the_same(classifier, picture, tmp_path):
    classifier.save(tmp_path / "copy")
    assert np.array_equal(nevus.load(tmp_path / "copy").predict_proba(picture()), classifier.predict_proba(picture()))
    with pytest.raises(NevusError, match="exists already"):
        classifier.save(tmp_path / "copy")


def test_it_can_be_pickled_after_a_prediction(classifier, picture):
    expected = classifier.predict_proba(picture())
    assert np.array_equal(pickle.loads(pickle.dumps(classifier)).predict_proba(picture()), expected)


def test_bundles_of_the_hub_are_loaded_by_address(bundle_folder, monkeypatch, picture, tmp_path):
    """Against a stand-in with the layout that huggingface_hub's cache has."""
    import huggingface_hub

    snapshot = tmp_path / "models--owner--name" / "snapshots" / "0123"
    shutil.copytree(bundle_folder, snapshot)
    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name: asked.append(name) or str(snapshot))
    p = nevus.load("hf://owner/name").predict_proba(picture())
    assert asked == ["owner/name"]
    assert np.array_equal(p, nevus.load(bundle_folder).predict_proba(picture()))
    with pytest.raises(NevusError, match="it is no OWNER/NAME"):
        nevus.load("hf://name")

    def refused(_):
        raise OSError("404 Client Error\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refused)
    with pytest.raises(NevusError, match="Cannot download hf://owner/name: 404 Client Error. Check"):
        nevus.load("hf://owner/name")


def test_a_bundle_is_uploaded_without_its_log(bundle_folder, monkeypatch):
    import huggingface_hub

    calls = {}
    monkeypatch.setattr(huggingface_hub, "create_repo", lambda name, **more: calls.update(name=name, **more))
    monkeypatch.setattr(huggingface_hub, "upload_folder", lambda **more: calls.update(more) or "https://hub/owner/name")
    assert nevus.push_to_hub(bundle_folder, "owner/name") == "https://hub/owner/name"
    assert calls["private"] is True
    assert calls["repo_id"] == "owner/name"
    assert calls["ignore_patterns"] == ["test_log.jsonl"]


def test_the_public_names_are_there():
    for name in nevus.__all__:
        assert getattr(nevus, name) is not None
    assert set(nevus.__all__) <= set(dir(nevus))
    with pytest.raises(AttributeError):
        _ = nevus.nothing
