import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.auditing.conftest import EDITS

from nevus._io import sha256_file
from nevus.auditing.audit import audit
from nevus.auditing.contamination import (
    TrainingImages,
    available,
    find_overlap,
    training_images,
)
from nevus.auditing.lesion_groups import group_lesions
from nevus.cli.main import main
from nevus.data.perceptual_hash import (
    AUDIT_IMAGE_SIZE,
    DIHEDRAL_GROUP,
    dihedral,
    pack_bits,
    perceptual_hash,
    unpack_signs,
)
from nevus.data.preprocess import Preprocess
from nevus.errors import NevusError


def listing(paths, lesions=None):
    prints = np.stack([perceptual_hash(Preprocess(AUDIT_IMAGE_SIZE).pixels(path)) for path in paths])
    return TrainingImages(
        "teacher",
        pd.DataFrame(
            {
                "source": "elsewhere",
                "image": [f"x/{path.name}" for path in paths],
                "lesion_id": lesions or [""] * len(paths),
                "digest": [bytes.fromhex(sha256_file(path).removeprefix("sha256:"))[:16] for path in paths],
                "hash": pack_bits(prints),
            }
        ),
    )


@pytest.fixture
def asked(lesions, tmp_path, manifest_of):
    """A set with one image the same, one of the same id, one of the same lesion, copies of nine, and two others."""
    paths = sorted(lesions.rglob("*/*.jpg"))
    shown, new = paths[:20], paths[30:]
    named = tmp_path / "training_overlap" / "ISIC_0000007.jpg"
    named.parent.mkdir()
    shutil.copy(shown[1], named)
    folder = tmp_path / "asked" / "x"
    folder.mkdir(parents=True)
    rows = {"same.jpg": shown[0], "ISIC_0000007.png": new[0], "again.png": new[1], "a.png": new[2], "b.png": new[3]}
    for name, path in rows.items():
        if name.endswith("jpg"):
            shutil.copy(path, folder / name)
        else:
            Image.open(path).convert("RGB").save(folder / name)
    for number, (name, edit) in enumerate(EDITS.items()):
        edit(Image.open(shown[3 + number]).convert("RGB")).save(folder / f"{name}.png")
    files = sorted(folder.iterdir())
    lesion = ["L7" if path.name == "again.png" else "" for path in files]
    manifest = manifest_of([(path, "ab"[k % 2], "") for k, path in enumerate(files)], lesion_id=lesion)
    whole = [shown[0], named, *shown[2:]]
    return manifest, listing(whole, ["", "", "L7", *[""] * (len(whole) - 3)])


def test_what_was_taught_is_found_by_file_id_lesion_and_look(asked, cache):
    manifest, one = asked
    found = find_overlap(manifest, group_lesions(manifest, (), cache), [one])[0]
    names = [path.stem for path in manifest.paths]
    by = {names[row]: way for row, way in zip(found.found["row"], found.found["by"], strict=True)}
    assert by["same"] == "file"
    assert by["ISIC_0000007"] == "id"
    assert by["again"] == "lesion"
    assert not {"a", "b"} & set(by)
    copies = {name for name, way in by.items() if way == "hash"}
    # Rotated, reflected and re-encoded copies are found by their hash; images of another part of the skin are not.
    assert copies >= {"squeezed", "reduced", "mirrored", "turned", "upside-down", "compressed", "brighter"}
    assert f"{len(by)} of the 14 images of set are among the 20 images that teacher was trained on" in found.sentence(
        manifest
    )
    listed = found.as_dict(manifest)["found"]
    assert {"image": str(manifest.paths[names.index("same")]), "by": "file", "as": one.images["image"][0]} in listed


def test_a_set_of_other_lesions_is_said_to_be_new(asked, cache, lesions, manifest_of):
    _, one = asked
    others = manifest_of([(path, "ab"[k % 2], "") for k, path in enumerate(sorted(lesions.rglob("*/*.jpg"))[24:])])
    found = find_overlap(others, group_lesions(others, (), cache), [one])[0]
    assert found.found.empty
    assert found.sentence(others) == (
        "None of the 12 images of set is among the 20 images that teacher was trained on, by file, ISIC id, lesion "
        "id and perceptual hash."
    )


def test_a_hash_turns_with_its_picture(lesions):
    pixels = Preprocess(AUDIT_IMAGE_SIZE).pixels(sorted(lesions.rglob("*/*.jpg"))[0])
    mine = unpack_signs(pack_bits(perceptual_hash(pixels)[None]))
    assert mine.shape == (1, 143)
    assert set(np.unique(mine)) == {-1.0, 1.0}
    for turn in DIHEDRAL_GROUP:
        laid = pixels.transpose(1, 0, 2) if turn[0] else pixels
        laid = laid[:, ::-1] if turn[1] else laid
        laid = laid[::-1] if turn[2] else laid
        other = dihedral(perceptual_hash(np.ascontiguousarray(laid))[None], turn)
        back = (np.where(other >= 0, 1, -1) == mine).mean()
        if turn in ((False, False, False), (False, True, False), (True, False, False)):  # their own way back
            assert back > 0.97


def test_every_network_that_ships_has_a_list():
    assert {"bit-r26x0.5-generic", "bit-r26x0.5-dermoscopy", "malignant-benign", "lesion-7"} == set(available())
    for name in ("lesion-7", "malignant-benign"):
        assert [one.network for one in training_images(name)] == [name, "bit-r26x0.5-dermoscopy"]
    for name in available():
        assert training_images(name)[0].images["hash"].map(len).eq(18).all()
    with pytest.raises(NevusError, match="Choose one of"):
        training_images("nothing")


def test_the_audit_warns_of_what_was_taught(asked, cache):
    manifest, one = asked
    found = audit(manifest, cache=cache, lists=[one])
    assert any("was trained on" in warning for warning in found.warnings)
    assert found.as_dict()["training_overlap"][0]["listed"] == 20


def test_the_command_says_that_a_network_was_taught_on_none(lesions, tmp_path, capsys):
    assert (
        main(["audit", str(lesions), "--out", str(tmp_path / "out"), "--check-overlap-with", "bit-r26x0.5-dermoscopy"])
        == 0
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "None of the 36 images of set is among the 9,606 images that bit-r26x0.5-dermoscopy was trained on" in said
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "bit-r26x0.5-dermoscopy was trained on" in page
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["training_overlap"][0]["found"] == []


def test_a_missing_pyarrow_is_one_sentence_and_not_an_empty_result(monkeypatch):
    monkeypatch.setattr("nevus.bundle.training_overlap.importlib.util.find_spec", lambda name: None)
    with pytest.raises(NevusError, match="Cannot check the overlap with 'malignant-benign': pyarrow is missing"):
        training_images("malignant-benign")
