"""Each public data set by its published layout, made tiny."""

import numpy as np
import pytest
from PIL import Image

from nevus.data.readers.dispatch import ARCHIVES, DataConfig, read
from nevus.data.splits import SplitConfig, with_splits
from nevus.errors import NevusError


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(abs(hash(path.name)) % 2**32)
    Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(path)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def ham10000(d):
    rows = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for i, dx in enumerate(["nv", "nv", "mel", "bkl", "bcc", "akiec", "vasc", "df"]):
        rows.append(f"HAM_{i // 2},ISIC_{i},{dx},histo,{'' if i == 3 else 50 + i},male,back")
        image(d / f"HAM10000_images_part_{1 + i % 2}" / f"ISIC_{i}.jpg")
    text(d / "HAM10000_metadata.csv", "\n".join(rows))


def isic2016(d):
    text(d / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv", "ISIC_0,benign\nISIC_1,malignant\n")
    text(d / "ISBI2016_ISIC_Part3_Test_GroundTruth.csv", "ISIC_2,0.0\nISIC_3,1.0\n")
    for i in range(4):
        image(d / f"ISBI2016_ISIC_Part3_{'Training' if i < 2 else 'Test'}_Data" / f"ISIC_{i}.jpg")


def isic2017(d):
    head = "image_id,melanoma,seborrheic_keratosis\n"
    text(d / "ISIC-2017_Training_Part3_GroundTruth.csv", head + "ISIC_0,1.0,0.0\nISIC_1,0.0,1.0\nISIC_2,0.0,0.0\n")
    text(d / "ISIC-2017_Test_v2_Part3_GroundTruth.csv", head + "ISIC_3,0.0,0.0\n")
    for i in range(4):
        image(d / f"ISIC-2017_{'Training' if i < 3 else 'Test_v2'}_Data" / f"ISIC_{i}.jpg")
    # segmentation masks of the same folder are no images of the table
    image(d / "ISIC-2017_Training_Part1_GroundTruth" / "ISIC_0_segmentation.png")


def isic2018(d):
    head = "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n"
    text(
        d / "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv",
        head + "ISIC_0,1.0,0.0,0.0,0.0,0.0,0.0,0.0\nISIC_1,0.0,1.0,0.0,0.0,0.0,0.0,0.0\n",
    )
    text(
        d / "ISIC2018_Task3_Training_LesionGroupings.csv",
        "image,lesion_id,diagnosis_confirm_type\nISIC_0,HAM_7,histopathology\nISIC_1,HAM_7,histopathology\n",
    )
    for i in range(2):
        image(d / "ISIC2018_Task3_Training_Input" / f"ISIC_{i}.jpg")


def isic2019(d):
    head = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\n"
    rows = "ISIC_0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0\nISIC_1_downsampled,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\n"
    text(d / "ISIC_2019_Training_GroundTruth.csv", head + rows)
    text(
        d / "ISIC_2019_Training_Metadata.csv",
        "image,age_approx,anatom_site_general,lesion_id,sex\nISIC_0,55.0,head/neck,BCN_1,female\n"
        "ISIC_1_downsampled,,,,\n",
    )
    for name in ("ISIC_0", "ISIC_1_downsampled"):
        image(d / "ISIC_2019_Training_Input/ISIC_2019_Training_Input" / f"{name}.jpg")


def isic2020(d):
    text(
        d / "train.csv",
        "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target\n"
        "ISIC_0,IP_1,male,45.0,torso,unknown,benign,0\nISIC_1,IP_1,male,45.0,torso,melanoma,malignant,1\n",
    )
    for i in range(2):
        image(d / "jpeg" / "train" / f"ISIC_{i}.jpg")


def isic2024(d):
    text(
        d / "train-metadata.csv",
        "isic_id,target,patient_id,age_approx,sex,anatom_site_general,image_type,lesion_id\n"
        "ISIC_0,0,IP_9,60.0,male,posterior torso,TBP tile: close-up,\n"
        "ISIC_1,1,IP_8,61.0,female,head/neck,TBP tile: close-up,IL_3\n",
    )
    for i in range(2):
        image(d / "train-image" / "image" / f"ISIC_{i}.jpg")


def isic_archive(d):
    text(
        d / "metadata.csv",
        "isic_id,attribution,age_approx,diagnosis_1,diagnosis_3,sex,fitzpatrick_skin_type,lesion_id,image_type\n"
        'ISIC_0,"Clinic, a",45,Benign,Nevus,male,II,IL_1,dermoscopic\n'
        "ISIC_1,b,50,Malignant,Melanoma,male,,IL_2,dermoscopic\n"
        "ISIC_2,b,50,Indeterminate,,male,,IL_3,dermoscopic\n",
    )
    for i in range(3):
        image(d / f"ISIC_{i}.jpg")


def pad_ufes_20(d):
    head = "patient_id,lesion_id,age,gender,fitspatrick,region,diagnostic,img_id,biopsed\n"
    text(
        d / "metadata.csv",
        head + "PAT_1,10,8,FEMALE,2.0,ARM,NEV,PAT_1_10_1.png,False\nPAT_2,11,80,,,FACE,BCC,PAT_2_11_2.png,True\n",
    )
    image(d / "imgs_part_1" / "PAT_1_10_1.png")
    image(d / "imgs_part_2" / "PAT_2_11_2.png")


def fitzpatrick17k(d):
    text(
        d / "fitzpatrick17k.csv",
        "md5hash,fitzpatrick_scale,fitzpatrick_centaur,label,nine_partition_label,three_partition_label\n"
        "aa11,3,3,psoriasis,inflammatory,non-neoplastic\nbb22,-1,1,melanoma,malignant melanoma,malignant\n"
        "cc33,6,6,epidermal nevus,benign epidermal,benign\n",
    )
    for name in ("aa11", "bb22", "cc33"):
        image(d / "data" / "finalfitz17k" / f"{name}.jpg")


def derm7pt(d):
    text(
        d / "meta" / "meta.csv",
        "case_num,diagnosis,seven_point_score,location,sex,clinic,derm\n"
        "1,clark nevus,2,back,female,NEL/Nel1.jpg,NEL/Nel2.jpg\n"
        "2,melanoma (in situ),4,arm,male,NEL/Nel3.jpg,NEL/Nel4.jpg\n",
    )
    text(d / "meta" / "train_indexes.csv", "indexes\n0\n")
    text(d / "meta" / "test_indexes.csv", "indexes\n1\n")
    for i in range(1, 5):
        image(d / "images" / "NEL" / f"Nel{i}.jpg")


def ph2(d):
    text(
        d / "PH2_dataset.txt",
        "||   Name ||  Histological Diagnosis || Clinical Diagnosis ||  Asymmetry ||\n"
        "|| IMD003 ||            ||  0 || 0 ||\n|| IMD009 || Melanoma ||  2 || 2 ||\n|| IMD010 || ||  1 || 1 ||\n",
    )
    for name in ("IMD003", "IMD009", "IMD010"):
        folder = d / "PH2 Dataset images" / name
        image(folder / f"{name}_Dermoscopic_Image" / f"{name}.bmp")
        image(folder / f"{name}_lesion" / f"{name}_lesion.bmp")


MADE = {
    "ham10000": (ham10000, 8, {"nv": 2, "mel": 1, "bkl": 1, "bcc": 1, "akiec": 1, "vasc": 1, "df": 1}, 3),
    "isic2016": (isic2016, 4, {"benign": 2, "malignant": 2}, 2),
    "isic2017": (isic2017, 4, {"melanoma": 1, "seborrheic_keratosis": 1, "nevus": 2}, 1),
    "isic2018": (isic2018, 2, {"mel": 1, "nv": 1}, 1),
    "isic2019": (isic2019, 2, {"scc": 1, "nv": 1}, 1),
    "isic2020": (isic2020, 2, {"benign": 1, "malignant": 1}, 1),
    "isic2024": (isic2024, 2, {"benign": 1, "malignant": 1}, 1),
    "isic-archive": (isic_archive, 2, {"benign": 1, "malignant": 1}, 1),
    "pad-ufes-20": (pad_ufes_20, 2, {"nev": 1, "bcc": 1}, 1),
    "fitzpatrick17k": (fitzpatrick17k, 3, {"non-neoplastic": 1, "malignant": 1, "benign": 1}, 1),
    "derm7pt": (derm7pt, 4, {"nevus": 2, "melanoma": 2}, 2),
    "ph2": (ph2, 3, {"nevus": 1, "melanoma": 1, "atypical nevus": 1}, 1),
}


def test_every_archive_is_tested():
    assert set(MADE) == set(ARCHIVES)


@pytest.mark.parametrize("name", MADE)
def test_it_is_recognized_and_read(tmp_path, name):
    make, n, labels, malignant = MADE[name]
    make(tmp_path)
    assert [a for a in ARCHIVES if ARCHIVES[a].recognize(tmp_path)] == [name]
    manifest = read(tmp_path)
    assert manifest.name == name
    assert set(manifest.table["source"]) == {name}
    assert len(manifest) == n
    assert manifest.table["label"].value_counts().to_dict() == labels
    assert all(path.is_file() for path in manifest.paths)
    for task in (
        read(tmp_path, DataConfig(task="malignant")),
        read(tmp_path, DataConfig(layout=name, task="malignant")),
    ):
        assert (task.table["label"] == "malignant").sum() == malignant
        if name != "fitzpatrick17k":
            assert set(task.table["label"]) == {"benign", "malignant"}


def columns(make, tmp_path, *names, **config):
    make(tmp_path)
    table = read(tmp_path, DataConfig(**config)).table
    return [table[name].astype(object).where(table[name].notna(), None).tolist() for name in names]


def test_groups_and_known_columns(tmp_path):
    group, age = columns(ham10000, tmp_path / "ham", "group", "age_approx")
    assert group[:3] == ["ham10000:HAM_0", "ham10000:HAM_0", "ham10000:HAM_1"]
    assert age[2:5] == [52, None, 54]
    assert columns(isic2018, tmp_path / "18", "group") == [["isic2018:HAM_7"] * 2]
    assert columns(isic2020, tmp_path / "20", "group") == [["isic2020:IP_1"] * 2]
    group, age = columns(isic2019, tmp_path / "19", "group", "age_approx")
    assert group[0] == "isic2019:BCN_1"
    assert group[1].endswith("ISIC_1_downsampled.jpg")
    assert age == [55, None]
    skin, group, confirm = columns(
        pad_ufes_20, tmp_path / "pad", "fitzpatrick_skin_type", "group", "diagnosis_confirm_type"
    )
    assert skin == ["II", None]
    assert group == ["pad-ufes-20:PAT_1", "pad-ufes-20:PAT_2"]
    assert confirm == ["clinical consensus", "histopathology"]
    assert columns(fitzpatrick17k, tmp_path / "fitz", "fitzpatrick_skin_type") == [["III", None, "VI"]]


def test_splits_of_the_publishers(tmp_path):
    assert columns(isic2016, tmp_path / "16", "split") == [["test", "test", "train", "train"]]
    split, group, kind = columns(derm7pt, tmp_path / "7", "split", "group", "image_type")
    assert split == ["train", "test", "train", "test"]
    assert group == ["derm7pt:1", "derm7pt:2"] * 2
    assert kind == ["dermoscopic"] * 2 + ["clinical"] * 2


def test_task_nevi(tmp_path):
    ham10000(tmp_path / "ham")
    found = read(tmp_path / "ham", DataConfig(task="nevi"))
    assert found.classes == ("nv", "mel")
    assert len(found) == 3
    isic2020(tmp_path / "20")
    with pytest.raises(NevusError, match="does not distinguish nevi from melanomas"):
        read(tmp_path / "20", DataConfig(task="nevi"))


def test_the_diagnosis_is_kept_beside_the_task(tmp_path):
    ham10000(tmp_path)
    table = read(tmp_path, DataConfig(task="malignant")).table
    assert table["diagnosis"].tolist()[2] == "mel"


def test_a_missing_image_is_told(tmp_path):
    ham10000(tmp_path)
    (tmp_path / "HAM10000_images_part_1" / "ISIC_2.jpg").unlink()
    with pytest.raises(NevusError, match="its table lists the image ISIC_2, which is not there"):
        read(tmp_path)


def test_by_name_and_by_no_name(tmp_path, class_folders):
    folder = class_folders({"a": 2, "b": 2})
    with pytest.raises(NevusError, match="Cannot use --layout ham: there is none"):
        read(folder, DataConfig(layout="ham"))
    with pytest.raises(NevusError, match="as ham10000: its table is missing"):
        read(folder, DataConfig(layout="ham10000"))
    with pytest.raises(NevusError, match="it has the layout of no public data set"):
        read(folder, DataConfig(task="nevi"))
    text(folder / "train.csv", "image_name,benign_malignant\n")
    assert read(folder, DataConfig(layout="none")).classes == ("a", "b")


def test_several_sets_keep_source_and_groups_apart(tmp_path, class_folders):
    isic2020(tmp_path / "one")
    isic2024(tmp_path / "two")
    both = read([tmp_path / "one", tmp_path / "two"])
    assert set(both.table["source"]) == {"isic2020", "isic2024"}
    assert both.name == "isic2020 + isic2024"
    assert all(path.is_file() for path in both.paths)
    assert both.table["group"].nunique() == 3
    with pytest.raises(NevusError, match="is in two. Give each set once"):
        read([tmp_path / "one", tmp_path / "one"])
    with_test = read([tmp_path / "one", class_folders({"benign": 30, "malignant": 30}, "x/test").parent])
    assert with_test.counts().loc["train"].sum() == 2


def test_real_ham10000_and_isic2017(real):
    ham = read(real / "ham10000")
    assert ham.table["label"].value_counts().to_dict() == {
        "nv": 6705,
        "mel": 1113,
        "bkl": 1099,
        "bcc": 514,
        "akiec": 327,
        "vasc": 142,
        "df": 115,
    }
    assert ham.table["lesion_id"].nunique() == 7470
    assert ham.table["group"].nunique() == 7401  # 132 of the ids are of 63 lesions
    split = with_splits(ham, SplitConfig()).table
    assert split.groupby("group")["split"].nunique().max() == 1
    counts = read(real / "isic2017").counts()
    assert counts.loc["test"].to_dict() == {"melanoma": 117, "nevus": 393, "seborrheic_keratosis": 90}
