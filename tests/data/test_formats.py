"""Image files as phones, cameras and other programs write them."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from nevus.data import images as images_module
from nevus.data.images import SUFFIXES, decode, named_as_image
from nevus.data.jpeg import _end_of_image, is_truncated
from nevus.errors import ImageError


def exif(*entries, order="<"):
    """Return EXIF data with one directory; each entry is tag, type, count and value as bytes."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    body, data = struct.pack(order + "H", len(entries)), b""
    start = 8 + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        if len(value) <= 4:
            body += struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0")
        else:
            body += struct.pack(order + "HHII", tag, kind, count, start + len(data))
            data += value
    return b"Exif\0\0" + head + struct.pack(order + "I", 8) + body + b"\0\0\0\0" + data


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("suffix", "name"), [(".gif", "GIF"), (".jp2", "JPEG2000"), (".avif", "AVIF"), (".jfif", "JPEG"), (".jpe", "JPEG")]
)
def test_further_formats_are_read(tmp_path, picture, suffix, name):
    path = tmp_path / f"a{suffix}"
    image = picture(64, 48)
    image.save(path, name, **({"quality": 100} if name == "AVIF" else {}))
    with Image.open(path) as opened:
        expected = np.asarray(opened.convert("RGB"))
    assert named_as_image(path)
    assert np.array_equal(decode(path), expected)


def test_heic_is_read_by_pi_heif(tmp_path, picture):
    pillow_heif = pytest.importorskip("pi_heif", reason="pi-heif is not installed")
    # pi-heif only reads. An AVIF file has the same container, and its brand decides who reads it.
    assert hasattr(pillow_heif, "register_heif_opener")
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    with pytest.raises(ImageError, match=r"a\.heic': it is"):
        decode(path)


def test_without_pi_heif_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(images_module, "_heif_opener", lambda: False)
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(ImageError, match=r'pip install "nevus\[heic\]"'):
        decode(path)
    assert {".heic", ".heif"} <= SUFFIXES


def test_of_an_animated_gif_the_first_frame_is_used(tmp_path, picture):
    frames = [picture(seed=number).convert("P") for number in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(tmp_path / "a.gif"), np.asarray(frames[0].convert("RGB")))


ODD_TAGS = {
    "resolution as text": (0x011A, 2, 8, b"72 dpi..."),
    "a count beyond the file": (0x010F, 2, 4_000_000_000, b"\xff\xff\xff\x7f"),
    "an unknown type": (0x011B, 99, 1, b"\1\0\0\0"),
    "a rational without denominator": (0x011A, 5, 1, bytes(8)),
    "a GPS directory that is a number": (0x8825, 3, 1, b"\7\0"),
    "a text that is no text": (0x013B, 3, 9, bytes(18)),
}


@pytest.mark.parametrize("odd", ODD_TAGS.values(), ids=ODD_TAGS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_only_the_orientation_of_exif_data_is_read(tmp_path, picture, odd, orientation):
    image = picture(40, 32)
    plain = jpeg(image)
    (tmp_path / "a.jpg").write_bytes(jpeg(image, exif=exif((0x0112, 3, 1, struct.pack("<H", orientation)), odd)))
    pixels = np.asarray(Image.open(io.BytesIO(plain)))
    expected = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: np.rot90(pixels, -1)[:, ::-1].transpose(1, 0, 2)[::-1, ::-1].transpose(1, 0, 2)[:, ::-1],
        8: np.rot90(pixels),
    }
    expected[7] = pixels[::-1, ::-1].transpose(1, 0, 2)
    assert np.array_equal(decode(tmp_path / "a.jpg"), expected[orientation])


@pytest.mark.parametrize(
    "data", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12", b"x" * 50]
)
def test_damaged_exif_data_do_not_decide_whether_pixels_are_usable(tmp_path, picture, data):
    image = picture(40, 32)
    (tmp_path / "a.jpg").write_bytes(jpeg(image, exif=data))
    assert decode(tmp_path / "a.jpg").shape == (32, 40, 3)


def test_orientation_in_the_other_byte_order_and_as_a_long(tmp_path, picture):
    image = picture(40, 32)
    entry = (0x0112, 4, 1, struct.pack(">I", 6))
    (tmp_path / "a.jpg").write_bytes(jpeg(image, exif=exif(entry, order=">")))
    assert decode(tmp_path / "a.jpg").shape == (40, 32, 3)


@pytest.mark.parametrize(
    ("progressive", "share"), [(False, 0.3), (False, 0.5), (False, 0.9), (True, 0.1), (True, 0.3), (True, 0.5)]
)
def test_a_jpeg_whose_end_is_lost_is_damaged(tmp_path, picture, progressive, share):
    content = jpeg(picture(400, 304), progressive=progressive)
    (tmp_path / "a.jpg").write_bytes(content)
    assert decode(tmp_path / "a.jpg").shape == (304, 400, 3)
    (tmp_path / "a.jpg").write_bytes(content[: int(len(content) * share)] + b"\xff\xd9")
    with pytest.raises(ImageError, match=r"a\.jpg': it is damaged"):
        decode(tmp_path / "a.jpg")


def test_a_progressive_jpeg_without_its_last_bits_is_used(tmp_path, picture):
    content = jpeg(picture(400, 304), progressive=True)
    (tmp_path / "a.jpg").write_bytes(content)
    whole = decode(tmp_path / "a.jpg").astype(int)
    (tmp_path / "a.jpg").write_bytes(content[: int(len(content) * 0.9)] + b"\xff\xd9")
    difference = np.abs(decode(tmp_path / "a.jpg") - whole)
    assert 0 < difference.mean() < 2
    with Image.open(io.BytesIO(content)) as image:  # as much as another compression changes
        image.save(tmp_path / "b.jpg", quality=75)
    assert difference.mean() < np.abs(decode(tmp_path / "b.jpg") - whole).mean()


SOF2 = b"\xff\xc2\x00\x11\x08\x00\x10\x00\x10\x03" + bytes([1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1])


def scan(components, first, final, bits):
    """Return a scan without data: Ah and Al are the four bits each of `bits`."""
    inner = bytes([len(components), *(b for c in components for b in (c, 0)), first, final, bits])
    return b"\xff\xda" + struct.pack(">H", len(inner) + 2) + inner


@pytest.mark.parametrize(
    ("scans", "only_last_bits"),
    [
        ([((1, 2, 3), 0, 0, 0), ((1,), 1, 63, 1), ((2,), 1, 63, 0), ((3,), 1, 63, 0), ((1,), 1, 63, 0x10)], True),
        ([((1, 2, 3), 0, 0, 0), ((1,), 1, 63, 1), ((1,), 1, 63, 0x10)], False),  # no colors yet
        ([((1, 2, 3), 0, 0, 0), ((1,), 1, 5, 1), ((2,), 1, 63, 0), ((3,), 1, 63, 0), ((1,), 1, 5, 0x10)], False),
        ([((1, 2, 3), 0, 0, 0), ((1,), 1, 63, 2), ((2,), 1, 63, 0), ((3,), 1, 63, 0), ((1,), 1, 63, 0x21)], False),
        ([((1, 2, 3), 0, 0, 1), ((1,), 1, 63, 0), ((2,), 1, 63, 2), ((3,), 1, 63, 0), ((1, 2, 3), 0, 0, 0x10)], False),
        ([], False),
    ],
)
def test_only_last_bits_are_missing_where_all_others_were_sent(scans, only_last_bits):
    content = b"\xff\xd8" + SOF2 + b"".join(scan(*one) for one in scans) + b"\xff\xd9"
    assert _end_of_image(content) == (len(content) - 2, only_last_bits)


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (128, 128, 128)])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_jpeg_with_a_flat_border_is_whole(tmp_path, picture, color, subsampling):
    image = Image.new("RGB", (160, 160), color)
    image.paste(picture(80, 80), (30, 30))
    for name, options in (
        ("plain", {}),
        ("restarts", {"restart_marker_rows": 1}),
        ("progressive", {"progressive": True}),
    ):
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(image, subsampling=subsampling, **options) + b"trailing bytes")
        assert decode(tmp_path / f"{name}.jpg").shape == (160, 160, 3)


def test_hostile_markers_end_the_search_for_the_end():
    pixels = np.zeros((16, 16, 3), np.uint8)
    for content in (b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xff\xff\xff\xff", b"\xff\xd8\xff\xe0\0\0" * 9):
        assert not is_truncated(content, pixels, False)


def test_12_bits_are_scaled_by_the_range_that_the_file_states(tmp_path):
    values = np.linspace(0, 4095, 400).reshape(20, 20).astype(np.uint16)
    expected = np.round(values / 4095 * 255)
    Image.fromarray(values).save(tmp_path / "stated.tif", tiffinfo={281: 4095})
    assert np.abs(decode(tmp_path / "stated.tif")[..., 0] - expected).max() <= 1
    Image.fromarray(values).save(tmp_path / "silent.tif")
    assert np.abs(decode(tmp_path / "silent.tif")[..., 0] - values / 65535 * 255).max() <= 1
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    png = buffer.getvalue()
    chunk = b"sBIT" + bytes([12])
    import zlib

    stated = png[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]
    (tmp_path / "stated.png").write_bytes(stated)
    assert np.abs(decode(tmp_path / "stated.png")[..., 0] - expected).max() <= 1
    # Samples that a writer has scaled to 16 bits, as the standard says, are beyond the stated range.
    Image.fromarray(values << 4).save(buffer := io.BytesIO(), "PNG")
    png = buffer.getvalue()
    (tmp_path / "scaled.png").write_bytes(
        png[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]
    )
    assert np.abs(decode(tmp_path / "scaled.png")[..., 0] - expected).max() <= 1
