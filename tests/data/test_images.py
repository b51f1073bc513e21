import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from nevus.data.images import Limits, decode
from nevus.errors import ImageError


def rgb(image):
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".jpg"])
def test_each_format_gives_its_pixels(tmp_path, picture, suffix):
    path = tmp_path / f"a{suffix}"
    exact = {".webp": {"lossless": True}, ".jpg": {"quality": 95}}.get(suffix, {})
    picture().save(path, **exact)
    found = decode(path)
    assert found.dtype == np.uint8
    assert found.shape == (30, 40, 3)
    assert np.abs(found.astype(int) - rgb(picture())).max() <= (20 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "RGBA"])
def test_modes_become_rgb(tmp_path, picture, mode):
    image = picture().convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    assert np.array_equal(decode(path), rgb(image))


def test_cmyk_jpeg_is_not_inverted(tmp_path, picture):
    path = tmp_path / "a.jpg"
    picture().convert("CMYK").save(path, quality=98)
    assert np.abs(decode(path).astype(int) - rgb(picture())).mean() < 4


def test_alpha_is_laid_over_white(tmp_path):
    array = np.zeros((20, 20, 4), np.uint8)
    array[..., 0], array[..., 3] = 200, 128
    Image.fromarray(array).save(tmp_path / "a.png")
    expected = np.array([200 * 128 + 255 * 127, 255 * 127, 255 * 127]) / 255
    assert np.abs(decode(tmp_path / "a.png")[0, 0] - expected).max() <= 1


def test_transparent_palette_is_laid_over_white(tmp_path):
    image = Image.new("P", (20, 20), 0)
    image.putpalette([10, 20, 30] + [0] * 765)
    image.save(tmp_path / "a.png", transparency=0)
    assert (decode(tmp_path / "a.png") == 255).all()


def test_16_bit_gray_is_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).save(tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        assert np.abs(decode(tmp_path / name)[..., 0] - values / 257).max() <= 0.51


def test_16_bit_rgb_png(tmp_path):
    """Written by hand, since Pillow writes none."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    values = np.linspace(0, 65535, 20 * 20 * 3).astype(">u2").reshape(20, 60)
    raw = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    expected = values.astype(float).reshape(20, 20, 3) / 257
    assert np.abs(decode(tmp_path / "a.png") - expected).max() <= 1


def test_exif_orientation_is_applied(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    picture().save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "a.png"), np.rot90(rgb(picture()), -1))


def swapped_profile() -> bytes:
    """sRGB with red's and blue's primaries exchanged: a file in which they stand the other way round."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    places = {bytes(profile[p : p + 4]): p for p in range(132, 132 + 12 * count, 12)}
    red, blue = places[b"rXYZ"], places[b"bXYZ"]
    profile[red + 4 : red + 12], profile[blue + 4 : blue + 12] = (
        profile[blue + 4 : blue + 12],
        profile[red + 4 : red + 12],
    )
    return bytes(profile)


def test_icc_profile_is_applied(tmp_path, picture):
    picture().save(tmp_path / "a.png", icc_profile=swapped_profile())
    assert np.abs(decode(tmp_path / "a.png").astype(int) - rgb(picture())[..., ::-1]).max() <= 2


def test_a_damaged_icc_profile_is_passed_over(tmp_path, picture):
    picture().save(tmp_path / "a.png", icc_profile=b"nonsense")
    assert np.array_equal(decode(tmp_path / "a.png"), rgb(picture()))


def test_arrays_and_pil_images(picture):
    assert np.array_equal(decode(rgb(picture())), rgb(picture()))
    assert np.array_equal(decode(picture()), rgb(picture()))
    with pytest.raises(ImageError, match="dtype float64"):
        decode(np.zeros((20, 20, 3)))


def saved(image, path, **how):
    image.save(path, **how)
    return path.read_bytes()


def test_bad_files_get_one_sentence(tmp_path, picture):
    png = saved(picture(400, 300), tmp_path / "good.png")
    jpg = saved(picture(400, 300), tmp_path / "good.jpg")
    frames = [picture(seed=i) for i in range(3)]
    cases = {
        "missing.jpg": (None, "does not exist"),
        "zero.jpg": (b"", "is empty"),
        "text.jpg": (b"this is a text\n" * 50, "is no JPEG, PNG"),
        "short.png": (png[: len(png) // 2], "is damaged"),
        "short.jpg": (jpg[: len(jpg) // 2], "is damaged"),
        "ended.jpg": (jpg[: len(jpg) // 2] + b"\xff\xd9", "is damaged .its data end before the last block"),
        "tiny.png": (saved(Image.new("RGB", (1, 1)), tmp_path / "t.png"), "1 x 1 pixels"),
        "moving.webp": (
            saved(frames[0], tmp_path / "m.webp", save_all=True, append_images=frames[1:]),
            "animated",
        ),
        "pages.tif": (saved(frames[0], tmp_path / "m.tif", save_all=True, append_images=frames[1:]), "animated"),
        "vector.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no JPEG, PNG"),
    }
    for name, (content, words) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=words) as caught:
            decode(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_on_its_header(tmp_path):
    """20,000 x 20,000 white pixels take 60 kB as PNG and 1.2 GB decoded."""
    Image.new("1", (20_000, 20_000), 1).save(tmp_path / "bomb.png")
    with pytest.raises(ImageError, match=r"bomb.png.: it has more than 89,478,485 pixels"):
        decode(tmp_path / "bomb.png")
    Image.new("1", (2000, 2000), 1).save(tmp_path / "large.png")
    with pytest.raises(ImageError, match=r"2,000 x 2,000 pixels, more than 1,000"):
        decode(tmp_path / "large.png", Limits(pixels=1000))


def test_a_large_file_is_not_read(tmp_path, picture):
    picture().save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="more than 100 bytes"):
        decode(tmp_path / "a.png", Limits(bytes=100))


def test_a_tiff_that_points_to_nowhere(tmp_path, picture):
    """The offset of the next page leads out of the file: whoever counts the pages follows it."""
    picture().save(tmp_path / "a.tif")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    first = struct.unpack_from("<I", content, 4)[0]
    entries = struct.unpack_from("<H", content, first)[0]
    for offset in (0xFFFFFFF0, len(content) - 3, 1, first + 1):
        struct.pack_into("<I", content, first + 2 + 12 * entries, offset)
        (tmp_path / "b.tif").write_bytes(content)
        try:
            decode(tmp_path / "b.tif")
        except ImageError as error:
            assert "b.tif" in str(error)


@pytest.mark.parametrize("source", [None, 5, b"bytes", ["list"]])
def test_what_is_no_image_at_all(source):
    with pytest.raises(ImageError, match="is no image"):
        decode(source)


def test_paths_that_no_file_can_have(tmp_path):
    with pytest.raises(ImageError):
        decode(tmp_path / ("x" * 300 + ".jpg"))
    with pytest.raises(ImageError, match="is no path"):
        decode("a\0b.jpg")


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(ImageError, match="is a folder"):
        decode(tmp_path)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "TIFF", "BMP"]),
    edits=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=12),
    cut=st.integers(0, 4000),
)
def test_hostile_bytes_give_pixels_or_an_image_error(tmp_path_factory, kind, edits, cut):
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for place, value in edits:
        content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "hostile"
    path.write_bytes(bytes(content[: max(1, len(content) - cut % len(content))]))
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd tags
        try:
            found = decode(path)
        except ImageError as error:
            assert "\n" not in str(error)
        else:
            assert found.dtype == np.uint8
            assert found.ndim == 3
