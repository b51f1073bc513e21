import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import set_pixel_data
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from nevus.data.images import Limits, decode, size_of
from nevus.data.readers.class_folders import read_folder
from nevus.errors import ImageError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def colors(picture):
    return np.asarray(picture().convert("RGB"))


def dataset(pixels, kind="RGB", bits=8, syntax=ExplicitVRLittleEndian, **values):
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.77.1.4")
    made.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    made.SOPClassUID, made.SOPInstanceUID = UID("1.2.840.10008.5.1.4.1.1.77.1.4"), UID("1.2.3")
    if pixels is not None:
        set_pixel_data(made, np.ascontiguousarray(pixels), kind, bits, generate_instance_uid=False)
    made.file_meta.TransferSyntaxUID = syntax
    for name, value in values.items():
        setattr(made, name, value)
    return made


def written(path, made):
    made.save_as(path, enforce_file_format=True)
    return path


def test_rgb(tmp_path, picture):
    path = written(tmp_path / "a.dcm", dataset(colors(picture)))
    assert np.array_equal(decode(path), colors(picture))
    assert size_of(path) == (40, 30)


def test_colors_by_plane(tmp_path, picture):
    made = dataset(colors(picture))
    made.PixelData = np.ascontiguousarray(colors(picture).transpose(2, 0, 1)).tobytes()
    made.PlanarConfiguration = 1
    assert np.array_equal(decode(written(tmp_path / "a.dcm", made)), colors(picture))


def test_ybr_full(tmp_path, picture):
    ybr = np.asarray(picture().convert("RGB").convert("YCbCr"))
    found = decode(written(tmp_path / "a.dcm", dataset(ybr, "YBR_FULL")))
    assert np.abs(found.astype(int) - colors(picture)).max() <= 3


@pytest.mark.parametrize("sampling", [0, 1])
def test_jpeg_in_ybr(tmp_path, picture, sampling):
    file = io.BytesIO()
    picture().convert("RGB").save(file, "JPEG", quality=98, subsampling=sampling)
    made = dataset(colors(picture), syntax=JPEGBaseline8Bit)
    made.PhotometricInterpretation = "YBR_FULL_422" if sampling else "YBR_FULL"
    made.PixelData = encapsulate([file.getvalue()])
    made["PixelData"].is_undefined_length = True
    found = decode(written(tmp_path / "a.dcm", made))
    with Image.open(file) as plain:
        assert np.abs(found.astype(int) - np.asarray(plain.convert("RGB"))).max() <= 2


@pytest.mark.parametrize("bits", [8, 16])
def test_palette(tmp_path, bits):
    rng = np.random.default_rng(0)
    table = rng.integers(0, 256, (256, 3))
    index = rng.integers(0, 256, (20, 30), dtype=np.uint8)
    made = dataset(index, "MONOCHROME2")
    made.PhotometricInterpretation = "PALETTE COLOR"
    for channel, name in enumerate(("Red", "Green", "Blue")):
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [256, 0, bits])
        values = table[:, channel].astype(np.uint8) if bits == 8 else (table[:, channel] * 257).astype("<u2")
        setattr(made, f"{name}PaletteColorLookupTableData", values.tobytes())
    assert np.array_equal(decode(written(tmp_path / "a.dcm", made)), table[index])


def test_of_several_frames_the_first(tmp_path, picture):
    frames = np.stack([colors(picture), 255 - colors(picture), 0 * colors(picture)])
    made = dataset(frames, NumberOfFrames=3)
    assert np.array_equal(decode(written(tmp_path / "a.dcm", made)), frames[0])


def test_run_lengths(tmp_path, picture):
    made = dataset(colors(picture))
    made.compress(RLELossless, generate_instance_uid=False)
    assert np.array_equal(decode(written(tmp_path / "a.dcm", made)), colors(picture))


def test_gray_of_12_bits_over_its_range(tmp_path):
    values = np.linspace(0, 4095, 400).round().reshape(20, 20).astype(np.uint16)
    for kind in ("MONOCHROME2", "MONOCHROME1"):
        found = decode(written(tmp_path / "a.dcm", dataset(values, kind, 12)))[..., 0]
        expected = (values / 4095 * 255).round()
        assert np.array_equal(found, expected if kind == "MONOCHROME2" else 255 - expected)


def test_window_decides_what_is_black_and_white(tmp_path):
    values = np.linspace(0, 4095, 400).round().reshape(20, 20).astype(np.uint16)
    made = dataset(values, "MONOCHROME2", 12, WindowCenter=1000, WindowWidth=400, RescaleSlope=1, RescaleIntercept=0)
    found = decode(written(tmp_path / "a.dcm", made))[..., 0]
    assert (found[values < 800] == 0).all()
    assert (found[values > 1200] == 255).all()
    assert 118 <= np.median(found[(values > 950) & (values < 1050)]) <= 138


def test_16_bit_colors(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (20, 20, 3)).astype(np.uint16)
    assert np.array_equal(decode(written(tmp_path / "a.dcm", dataset(values, bits=16))), values >> 8)


def test_faults_in_one_sentence(tmp_path, picture):
    path = tmp_path / "a.dcm"

    def message(made):
        written(path, made)
        with pytest.raises(ImageError) as caught:
            decode(path, Limits(pixels=10_000))
        assert str(path) in str(caught.value)
        return str(caught.value)

    assert "without a picture" in message(dataset(None))
    huge = dataset(colors(picture))
    huge.Rows = huge.Columns = 60_000
    assert "over the limit of 10,000" in message(huge)
    assert "deflated as a whole" in message(dataset(colors(picture), syntax=DeflatedExplicitVRLittleEndian))
    short = dataset(colors(picture))
    short.PixelData = short.PixelData[:100]
    assert "damaged" in message(short)
    strange = dataset(colors(picture), syntax=MPEG2MPML)
    strange.PixelData = encapsulate([b"\xff\xd8" + bytes(100)])
    strange["PixelData"].is_undefined_length = True
    assert "compressed as MPEG2" in message(strange)
    cmyk = dataset(colors(picture)[..., 0], "MONOCHROME2")
    cmyk.PhotometricInterpretation = "CMYK"
    assert "CMYK" in message(cmyk)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 3000), st.lists(st.tuples(st.integers(132, 3000), st.integers(0, 255)), max_size=8))
def test_hostile_bytes_give_an_image_or_its_error(tmp_path, picture, cut, changes):
    path = tmp_path / "a.dcm"
    content = bytearray(written(path, dataset(colors(picture))).read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(content[: len(content) - cut])
    try:
        found = decode(path, Limits(pixels=10_000))
    except ImageError as error:
        assert str(path) in str(error)
    else:
        assert found.dtype == np.uint8
        assert found.ndim == 3


def test_folders_hold_dicom_files_with_and_without_suffix(tmp_path, picture):
    for label in ("benign", "malignant"):
        (tmp_path / label).mkdir()
        written(tmp_path / label / "IM0001", dataset(colors(picture)))
        written(tmp_path / label / "1.2.840.5", dataset(colors(picture)))
        written(tmp_path / label / "b.dcm", dataset(colors(picture)))
        (tmp_path / label / "README").write_text("no image")
        picture().save(tmp_path / label / "c.png")
    names = sorted(read_folder(tmp_path).table["image"])
    assert [n for n in names if n.startswith("benign")] == [
        "benign/1.2.840.5",
        "benign/IM0001",
        "benign/b.dcm",
        "benign/c.png",
    ]
