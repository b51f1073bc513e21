import numpy as np
from PIL import Image, ImageDraw

from nevus.auditing.file_metadata import file_metadata
from nevus.data.cache import pixel_digest
from nevus.data.quality import image_issue


def test_facts_of_odd_files(picture, manifest_of, tmp_path):
    folder = tmp_path / "set" / "x"
    folder.mkdir(parents=True)
    lesion = picture(60, 40, 1)
    lesion.save(folder / "a.png")
    lesion.save(folder / "a.bmp")
    lesion.save(folder / "b.jpg", quality=90)
    lesion.save(folder / "c.jpg", quality=20)
    lesion.convert("L").save(folder / "gray.png")
    Image.new("RGB", (50, 50), (200, 150, 140)).save(folder / "flat.png")
    page = Image.new("RGB", (90, 120), "white")
    ImageDraw.Draw(page).text((5, 5), "referral\nletter", fill="black")
    page.save(folder / "letter.png")
    (folder / "cut.jpg").write_bytes((folder / "b.jpg").read_bytes()[:300])
    names = ["a.png", "a.bmp", "b.jpg", "c.jpg", "gray.png", "flat.png", "letter.png", "cut.jpg"]
    table = file_metadata(manifest_of([(folder / name, "x", "") for name in names])).set_index(np.array(names))
    assert table.loc["a.png", "digest"] == table.loc["a.bmp", "digest"]
    assert table.loc["b.jpg", "digest"] != table.loc["a.png", "digest"]
    assert table.loc["b.jpg", "tables"] != table.loc["c.jpg", "tables"] != ""
    assert table.loc["c.jpg", "coarseness"] > table.loc["b.jpg", "coarseness"] > 0
    assert (table.loc["a.png", ["width", "height"]] == [60, 40]).all()
    assert table["issue"].to_dict() == {
        "a.png": "",
        "a.bmp": "",
        "b.jpg": "",
        "c.jpg": "",
        "gray.png": "no color",
        "flat.png": "nearly uniform",
        "letter.png": "a document or a drawing: mostly white",
        "cut.jpg": table.loc["cut.jpg", "issue"],
    }
    assert "cut.jpg': it is damaged" in table.loc["cut.jpg", "issue"]
    assert table.loc["cut.jpg", "digest"] == ""


def test_a_pixel_digest_knows_the_shape():
    flat = np.arange(48, dtype=np.uint8)
    assert pixel_digest(flat.reshape(2, 8, 3)) != pixel_digest(flat.reshape(8, 2, 3))
    assert pixel_digest(flat.reshape(4, 4, 3)[:, ::-1]) != pixel_digest(flat.reshape(4, 4, 3))


def test_lesions_are_not_odd(lesions):
    paths = sorted(lesions.rglob("*/*.jpg"))
    assert len(paths) == 36
    assert all(
        image_issue(np.asarray(Image.open(path).convert("RGB"))) == "" for path in paths if path.parent.name != "set"
    )
