import pytest

from nevus.data.readers.unlabeled import LABEL, read_unlabeled
from nevus.errors import NevusError


def test_every_image_below_a_folder_and_every_row_of_a_table(class_folders, tmp_path):
    folder = class_folders({"a": 3, "deep/er": 2})
    first, second = (path.relative_to(tmp_path) for path in sorted((folder / "a").iterdir())[:2])
    (tmp_path / "listed.csv").write_text(f"image\n{first}\n{second}\n")
    found = read_unlabeled([folder, tmp_path / "listed.csv"])
    assert len(found) == 5  # what both name is taken once
    assert set(found.table["label"]) == {LABEL}
    assert set(found.table["split"]) == {"train"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(NevusError, match="holds no images"):
        read_unlabeled([tmp_path / "empty"])


def test_a_folder_named_test_is_told(class_folders, tmp_path, capsys):
    folder = class_folders({"train/a": 3, "test/a": 2})
    assert len(read_unlabeled([folder])) == 5
    assert "2 of the images" in capsys.readouterr().err
    read_unlabeled([folder / "train", folder / "test"])  # both are asked for by name
    assert not capsys.readouterr().err
