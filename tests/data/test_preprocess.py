import numpy as np
import torch
from PIL import Image

from nevus.data.cache import Cache
from nevus.data.decoded import decode_dataset
from nevus.data.preprocess import Preprocess
from nevus.data.readers.dispatch import read
from nevus.data.transforms import Augment, normalize


def test_tensor_is_in_minus_one_to_one():
    pixels = np.array([0, 255, 127], np.uint8).reshape(1, 1, 3, 1).repeat(3, 3)
    x = normalize(pixels, Preprocess(3))
    assert x.shape == (1, 3, 1, 3)
    assert torch.allclose(x[0, 0, 0], torch.tensor([-1.0, 1.0, 2 * 127 / 255 - 1]))


def test_mean_and_std_are_by_channel():
    x = normalize(np.full((1, 1, 1, 3), 255, np.uint8), Preprocess(1, (0.1, 0.2, 0.3), (1.0, 2.0, 4.0)))
    assert torch.allclose(x.flatten(), torch.tensor([0.9, 0.4, 0.175]))


def test_the_whole_image_is_squeezed(picture):
    found = Preprocess(24).pixels(picture(60, 20))
    assert np.array_equal(found, np.asarray(picture(60, 20).resize((24, 24), Image.Resampling.BILINEAR)))


def test_bad_images_are_left_out_and_told(class_folders, capsys):
    folder = class_folders({"a": 3, "b": 3})
    (folder / "a" / "001.png").write_bytes(b"broken")
    found = decode_dataset(read(folder), 16, Cache())
    assert len(found.manifest) == len(found.pixels) == 5
    assert "001.png" in found.faults[0]
    assert "1 of 6 images cannot be used" in capsys.readouterr().err


def batch(n=6, image_size=20):
    return np.random.default_rng(0).integers(0, 256, (n, image_size, image_size, 3), dtype=np.uint8)


def test_bit_s_crop_is_a_window_of_the_image():
    pixels = batch()
    views = Augment(16, (0.8, 0.8), hflip=False)(pixels, np.random.default_rng(1))
    for image, view in zip(pixels, views, strict=True):
        windows = [image[t : t + 16, left : left + 16] for t in range(5) for left in range(5)]
        assert any(np.array_equal(view, window) for window in windows)


def test_mirror_is_random_and_turns_reach_all_eight_positions():
    pixels = batch(1, 16)
    augment = Augment(16, (1.0, 1.0), hflip=True, rot90=True)
    rng = np.random.default_rng(0)
    seen = {augment(pixels, rng)[0].tobytes() for _ in range(200)}
    eight = {np.rot90(m, k).tobytes() for k in range(4) for m in (pixels[0], pixels[0][:, ::-1])}
    assert seen == eight
    plain = Augment(16, (1.0, 1.0), hflip=True)
    kept = [np.array_equal(plain(pixels, rng)[0], pixels[0]) for _ in range(400)]
    assert 0.4 < np.mean(kept) < 0.6


def test_views_depend_on_the_generator_alone():
    augment = Augment(16, (0.5, 1.0), rot90=True, brightness=0.2, contrast=0.2, saturation=0.2)
    one = augment(batch(), np.random.default_rng(4))
    torch.manual_seed(1)
    assert np.array_equal(one, augment(batch(), np.random.default_rng(4)))
    assert not np.array_equal(one, augment(batch(), np.random.default_rng(5)))
    assert one.shape == (6, 16, 16, 3)


def test_color_changes_stay_in_their_bounds():
    gray = np.full((200, 16, 16, 3), 100, np.uint8)
    views = Augment(16, (1.0, 1.0), brightness=0.2)(gray, np.random.default_rng(0))
    means = views.mean((1, 2, 3))
    assert means.min() >= 79
    assert means.max() <= 121
    assert means.std() > 5


def test_another_light_is_as_strong_as_asked_for():
    gray = np.full((200, 17, 17, 3), 100, np.uint8)
    views = Augment(17, (1.0, 1.0), illumination=0.2)(gray, np.random.default_rng(0)).astype(float)
    assert np.allclose(views[:, 8, 8], 100, atol=1)  # the middle stays
    opposite = views[:, 0, 0] + views[:, -1, -1]
    assert np.allclose(opposite, 200, atol=2)
    assert views.min() >= 79
    assert views.max() <= 121
    dark = Augment(17, (1.0, 1.0), vignette=0.5)(gray, np.random.default_rng(0)).astype(float)
    assert np.allclose(dark[:, 8, 8], 100, atol=1)
    assert np.allclose(dark[:, 0, 0], dark[:, -1, -1], atol=1)
    assert 49 <= dark[:, 0, 0].min() < 55
    assert (dark[:, 0, 0] <= 100).all()


def test_blur_takes_detail_from_half_of_the_views_and_compression_from_its_share():
    pixels = np.repeat(batch(1, 32), 200, 0)
    blurred = Augment(32, (1.0, 1.0), hflip=False, blur=0.05)(pixels, np.random.default_rng(0)).astype(float)
    same = (blurred == pixels).all((1, 2, 3))
    assert 0.4 < same.mean() < 0.62
    assert blurred[~same].std((1, 2, 3)).mean() < 0.9 * pixels[0].std()
    through = Augment(32, (1.0, 1.0), hflip=False, jpeg_prob=0.3)(pixels, np.random.default_rng(0))
    assert 0.2 < 1 - (through == pixels).all((1, 2, 3)).mean() < 0.4


def test_hue_turns_colors_and_leaves_gray():
    red = np.full((50, 16, 16, 3), (200, 60, 60), np.uint8)
    views = Augment(16, (1.0, 1.0), hue=0.1)(red, np.random.default_rng(0))
    assert len(np.unique(views.reshape(50, -1), axis=0)) > 20
    assert np.abs(views.max((1, 2, 3)).astype(int) - 200).max() <= 2
    gray = np.full((5, 16, 16, 3), 120, np.uint8)
    assert np.abs(Augment(16, (1.0, 1.0), hue=0.1)(gray, np.random.default_rng(0)).astype(int) - 120).max() <= 1


def test_new_kinds_of_change_leave_the_draws_of_the_old_ones_alone():
    pixels = batch()
    old = np.random.default_rng(3).random((6, 8))
    assert np.array_equal(Augment(16).sample_params(6, np.random.default_rng(3))[:, :8], old)
    plain = Augment(16, (0.5, 1.0), brightness=0.2)(pixels, np.random.default_rng(3))
    assert plain.shape == (6, 16, 16, 3)
