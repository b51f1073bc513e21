import json
import re

import pandas as pd
import pytest
from PIL import Image
from tests.auditing.conftest import EDITS

from nevus.bundle.bundle import load_bundle
from nevus.phantoms.dataset import PhantomConfig, write

SMALL = [
    "--set",
    "image_size=32",
    "--set",
    "resize_size=40",
    "--set",
    "steps=2",
    "--set",
    "batch_size=8",
    "--set",
    "warmup_steps=1",
    "--set",
    "eval_interval=2",
]


@pytest.fixture(scope="module")
def leaky(tmp_path_factory):
    """Phantoms of 144 pixels in class folders, without ids; four test images are copies of training images."""
    drawn, folder = tmp_path_factory.mktemp("drawn") / "set", tmp_path_factory.mktemp("leaky") / "set"
    write(PhantomConfig(n=60, image_size=144, seed=5, repeats=0, test=0.2), drawn, workers=1)
    for path in drawn.rglob("*/*/*.jpg"):
        there = folder / path.relative_to(drawn)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(path.read_bytes())
    for number, edit in enumerate(("compressed", "squeezed", "mirrored", "brighter")):
        label = ("benign", "malignant")[number % 2]
        source = sorted((folder / "train" / label).iterdir())[number]
        with Image.open(source) as image:
            EDITS[edit](image.convert("RGB")).save(folder / "test" / label / f"copy{number}.png")
    return folder


@pytest.fixture(scope="module")
def audited(leaky, tmp_path_factory):
    from nevus.cli.main import main

    out = tmp_path_factory.mktemp("audit") / "audit"
    assert main(["audit", str(leaky), "--out", str(out)]) == 0
    return out


def test_audit_writes_page_figures_and_table(leaky, audited):
    found = json.loads((audited / "audit.json").read_text())
    assert found["counts"]["groups_across_splits"] == 4
    assert found["counts"]["leaking_training_images"] == 4
    assert found["counts"]["images"] == 64
    assert {pair["kind"] for pair in found["pairs"]} <= {"near_duplicate", "same_lesion", "exact_duplicate"}
    views = {score["view"] for score in found["shortcuts"]}
    assert views == {"whole image", "border ring", "lesion masked out", "mean color", "file metadata", "source"}
    table = pd.read_parquet(audited / "manifest.parquet")
    assert len(table) == 64
    assert table["group"].nunique() == 60


def test_the_page_stands_alone_and_shows_pairs_side_by_side(audited):
    page = (audited / "audit.html").read_text()
    assert "Research use only" in page
    assert not re.findall(r'src="(?!data:)[^"]+"', page)
    # A thumbnail links to its image on this disk: nothing is fetched until it is clicked.
    links = set(re.findall(r'href="(?!data:)([^"]+)"', page))
    assert len(links) >= 8
    assert all((audited / link).is_file() for link in links)
    assert page.count('class="pair"') >= 4
    assert "Across splits: duplicates: 4" in page
    assert "144 x 144: 63" in page


def test_a_second_audit_into_the_same_folder_and_exit_status(nevus, leaky, tmp_path):
    folder = tmp_path / "set"
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for path in sorted((leaky / "train" / "benign").iterdir())[: 3 + (label == "b")]:
            (folder / label / f"{label}{path.name}").write_bytes(path.read_bytes())
    (folder / "a" / "bad.png").write_bytes(b"no image")
    status, out, _ = nevus("audit", folder, "--out", tmp_path / "audit")
    assert status == 3
    assert "3 groups with two labels" in out
    assert "bad.png" in out
    (folder / "a" / "bad.png").unlink()
    assert nevus("audit", folder, "--out", tmp_path / "audit")[0] == 0


def test_against_another_set(nevus, leaky, tmp_path):
    other = tmp_path / "other"
    (other / "images").mkdir(parents=True)
    rows = []
    for number, path in enumerate(sorted((leaky / "train" / "benign").iterdir())[:4]):
        with Image.open(path) as image:
            EDITS["reduced"](image).save(other / "images" / f"{number}.png")
        rows.append({"image": f"images/{number}.png", "label": "nv", "lesion_id": f"L{number // 2}"})
    pd.DataFrame(rows).to_csv(other / "manifest.csv", index=False)
    status, out, _ = nevus("audit", leaky, "--reference", other, "--out", tmp_path / "audit")
    assert status == 0
    assert re.search(r"pairs with references\W+[456]\b", out)
    table = pd.read_parquet(tmp_path / "audit" / "manifest.parquet")
    known = table["lesion_id"][table["lesion_id"] != ""]
    assert known.value_counts().to_dict() == {"L0": 3, "L1": 3}  # two each, and the copy of one
    assert (table.groupby("lesion_id")["group"].nunique().drop("") == 1).all()


def test_audit_by_a_trunk(nevus, leaky, tmp_path):
    status, _, _ = nevus(
        "audit", leaky, "--backbone", "bit-r26x0.5", "--weights", "random", "--out", tmp_path / "audit"
    )
    assert status == 0
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["backbone"] == "bit-r26x0.5"


def test_split_is_free_of_leaks(nevus, leaky, audited, tmp_path):
    for number, data in enumerate((leaky, audited / "manifest.parquet")):
        out = tmp_path / f"{number}.parquet"
        status, said, _ = nevus("split", data, "--out", out, "--test-fraction", "0.25", "--split-seed", "3")
        assert status == 0
        assert "60 groups, 0 leaks" in said
        table = pd.read_parquet(out)
        assert set(table["split"]) == {"train", "validation", "test"}
        assert table.groupby("group")["split"].nunique().max() == 1
        assert 10 <= (table["split"] == "test").sum() <= 22


def test_training_says_what_it_found_and_drops_it(nevus, leaky, tmp_path):
    status, _, said = nevus("train", leaky, "--out", tmp_path / "official", *SMALL)
    assert status == 0
    assert "training images with a lesion of the test split: 4; such test images: 4" in said
    assert "--drop-leaks" in said
    data = load_bundle(tmp_path / "official" / "bundle").provenance["data"]
    assert data["protocol"] == "official"
    assert data["audit"]["train"] == 4
    assert data["audit"]["dropped"] == 0
    status, _, said = nevus("train", leaky, "--out", tmp_path / "free", "--drop-leaks", *SMALL)
    assert "images excluded: 4" in said
    bundle = load_bundle(tmp_path / "free" / "bundle")
    assert bundle.provenance["data"]["protocol"] == "leak-free"
    assert bundle.provenance["data"]["audit"]["digest"] == data["audit"]["digest"]
    assert "leak-free" in (tmp_path / "free" / "bundle" / "README.md").read_text()
    used = pd.read_parquet(tmp_path / "free" / "manifest.parquet")
    assert len(used) == 60
    status, _, said = nevus(
        "evaluate", leaky, "--bundle", tmp_path / "official" / "bundle", "--out", tmp_path / "e", "--drop-leaks"
    )
    assert status == 0
    assert "share a lesion with a training image, and are excluded: 4" in said
    judged = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert judged["n"] == sum(1 for _ in (leaky / "test").rglob("*.jpg"))  # the copies are .png


def test_a_bundle_names_the_audit_that_it_was_trained_on(nevus, audited, tmp_path):
    status, _, _ = nevus("train", audited / "manifest.parquet", "--out", tmp_path / "run", *SMALL)
    assert status == 0
    there = json.loads((audited / "audit.json").read_text())["digest"]
    assert load_bundle(tmp_path / "run" / "bundle").provenance["data"]["audit"]["digest"] == there


def test_training_without_an_audit(nevus, leaky, tmp_path):
    status, _, said = nevus("train", leaky, "--out", tmp_path / "run", "--no-check-duplicates", *SMALL)
    assert status == 0
    assert "Duplicate check" not in said.replace(str(tmp_path), "")
    assert load_bundle(tmp_path / "run" / "bundle").provenance["data"]["audit"] is None


def test_no_corrected_split_of_an_unknown_set(nevus, leaky, tmp_path):
    for words in (["train", leaky, "--out", tmp_path / "run"], ["split", leaky, "--out", tmp_path / "a.csv"]):
        status, _, said = nevus(*words, "--use-corrected-split")
        assert status == 2
        assert "no corrected split of set comes with nevus" in said
