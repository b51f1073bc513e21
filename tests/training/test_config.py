import dataclasses

import pytest

from nevus.errors import NevusError
from nevus.training.config import DatasetStats, TrainConfig, learning_rate, override_names
from nevus.training.overrides import make_config
from nevus.training.presets import PRESETS, best, hyperrule, paper

SMALL = DatasetStats(2241, 224 * 224, 128)


def published_rate(step, size, base=0.003):
    """The BiT authors' schedule, written from its description: None once it is over."""
    supports = (
        [100, 200, 300, 400, 500]
        if size < 20_000
        else [500, 3000, 6000, 9000, 10_000]
        if size < 500_000
        else [500, 6000, 12_000, 18_000, 20_000]
    )
    if step < supports[0]:
        return base * step / supports[0]
    if step >= supports[-1]:
        return None
    for support in supports[1:]:
        if support < step:
            base = base / 10
    return base


@pytest.mark.parametrize("size", [1000, 19_999, 20_000, 499_999, 500_000])
def test_hyperrule_is_the_published_one(size):
    config = hyperrule(DatasetStats(size, 600 * 450, 128))
    assert published_rate(config.steps - 1, size) is not None
    assert published_rate(config.steps, size) is None
    for step in range(config.steps):
        assert learning_rate(config, step) == pytest.approx(published_rate(step, size)), step
    assert config.mixup == (0.0 if size < 20_000 else 0.1)
    assert (config.resize_size, config.image_size) == (512, 480)
    assert (config.momentum, config.weight_decay, config.nesterov) == (0.9, 0.0, False)
    assert config.crop_scale[0] * config.resize_size == pytest.approx(config.image_size)


def test_hyperrule_of_small_images_and_another_batch():
    small = hyperrule(DatasetStats(500, 95 * 96, 128))
    assert (small.resize_size, small.image_size) == (160, 128)
    assert hyperrule(DatasetStats(500, 96 * 96, 128)).image_size == 480
    config = hyperrule(SMALL, batch_size=128)
    assert config.lr == pytest.approx(0.003 / 4)
    assert (config.warmup_steps, config.lr_milestones, config.steps) == (400, (800, 1200, 1600), 2000)


def test_the_paper_s_preset():
    config = paper(SMALL)
    assert (config.steps, config.batch_size, config.lr, config.image_size) == (500, 512, 0.03, 224)
    assert (config.lr_milestones, config.eval_interval, config.weight_decay) == ((200, 300, 400), 10, 0)
    assert learning_rate(config, 0) == 0.03
    assert learning_rate(config, 200) == 0.03
    assert learning_rate(config, 201) == pytest.approx(0.003)
    assert learning_rate(config, 499) == pytest.approx(0.00003)
    assert paper(SMALL, batch_size=64).lr == pytest.approx(0.03 / 8)
    assert paper(SMALL, batch_size=64).lr_milestones == (1600, 2400, 3200)


def test_best_is_the_measured_recipe():
    """The flags of the measured run: 12 epochs, lr 0.03, 160 px, four stages with statistics, eight views."""
    config = make_config("best", SMALL)
    assert (config.tuning, config.lr, config.image_size, config.resize_size) == ("lp-ft", 0.03, 160, 200)
    assert (config.feature_stages, config.pooling, config.tta) == (4, "stats", "d4")
    assert config.steps == round(2241 / 32 * 12)
    assert (config.checkpoint, config.class_weights) == ("best", "none")


def test_best_suits_other_data_and_networks():
    tiny = best(DatasetStats(170, 1e5, 128))
    assert tiny.steps == 300
    seven = best(DatasetStats(6761, 1e5, 128, imbalance=58, classes=7))
    assert (seven.class_weights, seven.checkpoint) == ("balanced", "last")
    assert seven.steps == round(6761 / 32 * 6)
    large = best(DatasetStats(2241, 1e5, 224, parameters=928_000_000))
    assert (large.image_size, large.micro_batch_size, large.lr) == (224, 8, 0.01)
    assert best(DatasetStats(2241, 1e5, 224, stages=0)).pooling == "avg"


def test_cosine_rises_and_falls():
    config = best(SMALL)
    rates = [learning_rate(config, step) for step in range(config.steps)]
    top = rates.index(max(rates))
    assert top == config.warmup_steps
    assert max(rates) == pytest.approx(config.lr)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.01 * config.lr


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("tuning", ["linear-probe", "full", "lp-ft"])
def test_epochs_set_the_length(name, tuning):
    short = make_config(name, SMALL, {"batch_size": 64, "tuning": tuning}, epochs=2)
    assert short.steps == pytest.approx(2 * SMALL.images / 64, abs=1)
    assert (short.tuning, short.preset) == (tuning, name)
    assert all(milestone < short.steps for milestone in short.lr_milestones)


def test_every_field_can_be_overridden():
    assert set(override_names()) == {f.name for f in dataclasses.fields(TrainConfig)} - {"preset"}
    config = make_config("best", SMALL, {"lr": 0.5, "mixup": "0.3", "rot90": "false", "crop_scale": "0.5,1"})
    assert (config.lr, config.mixup, config.rot90, config.crop_scale) == (0.5, 0.3, False, (0.5, 1.0))
    other = make_config("hyperrule", SMALL, {"image_size": "96"})
    assert (other.image_size, other.resize_size) == (96, 102)


def test_steps_scale_the_whole_schedule():
    short = make_config("hyperrule", SMALL, {"steps": 50, "batch_size": 64})
    assert (short.steps, short.warmup_steps, short.lr_milestones) == (50, 10, (20, 30, 40))
    assert short.lr == pytest.approx(0.003 / 8)
    with pytest.raises(NevusError, match="Give one"):
        make_config("best", SMALL, {"steps": 50}, epochs=3)
    for epochs in (float("nan"), -1.0, 0.0, float("inf")):
        with pytest.raises(NevusError, match="Correct --epochs"):
            make_config("best", SMALL, epochs=epochs)
    for name in PRESETS:
        assert make_config(name, SMALL, {"steps": 1}).warmup_steps == 0


@pytest.mark.parametrize(
    "override",
    [
        {"lr": 0.0},
        {"batch_size": 0},
        {"crop_scale": (0.5, 1.5)},
        {"momentum": 1.0},
        {"image_size": 8},
        {"mixup": -1.0},
        {"clip_grad_norm": float("nan")},
        {"image_size": 10**6},
    ],
)
def test_values_out_of_range_name_their_field(override):
    with pytest.raises(NevusError, match=f"correct {next(iter(override))}"):
        make_config("best", SMALL, override)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"learning_rate": 1}, "no such field"),
        ({"batchsize": 1}, "Did you mean batch_size"),
        ({"lr": "three"}, "Cannot set lr=three: give a number"),
        ({"steps": 1.5}, "give a whole number"),
        ({"rot90": "maybe"}, "give true or false"),
        ({"tta": "five"}, "choose one of none, flip"),
        ({"crop_scale": "0.5"}, "give 2 numbers"),
        ({"preset": "fast"}, "no such field"),
        ({"probe_on": "tta-mean"}, "has no effect with tuning=lp-ft"),
        ({"augmented_copies": 1}, "has no effect with tuning=lp-ft"),
    ],
)
def test_wrong_overrides_are_one_sentence(override, words):
    with pytest.raises(NevusError, match=words) as caught:
        make_config("best", SMALL, override)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_is_refused():
    with pytest.raises(NevusError, match="Choose one of best, fast, paper, hyperrule"):
        make_config("default", SMALL)


def test_a_probe_on_whole_images_records_no_augmentation():
    for name in PRESETS:
        config = make_config(name, SMALL, {"tuning": "linear-probe"})
        assert config.resize_size == config.image_size
        assert (config.crop_scale, config.hflip, config.rot90, config.brightness) == ((1, 1), False, False, 0)
        moving = make_config(name, SMALL, {"tuning": "linear-probe", "augmented_copies": 1})
        assert moving.resize_size > moving.image_size


@pytest.mark.parametrize(
    "override", [{"brightness": 0.3}, {"crop_scale": (0.5, 1.0)}, {"resize_size": 150}, {"rot90": True}]
)
def test_augmentation_without_copies_is_refused_for_a_probe(override):
    with pytest.raises(NevusError, match="has no effect with tuning=linear-probe. Set augmented_copies"):
        make_config("fast", SMALL, override)
    assert make_config("fast", SMALL, {**override, "augmented_copies": 1}).augmented_copies == 1


def test_a_step_of_a_linear_probe_repeats_no_image_unless_asked():
    few, many = (make_config("fast", DatasetStats(n, 128 * 128, 128)) for n in (40, 5000))
    assert (few.batch_size, few.steps) == (40, 1000)
    assert (many.batch_size, many.steps) == (512, 1000)
    asked = make_config("fast", DatasetStats(40, 128 * 128, 128), {"batch_size": 256})
    assert (asked.batch_size, asked.steps) == (256, 2000)


@pytest.mark.parametrize(
    ("images", "overrides", "expected"),
    [
        (1999, {}, (1000, 3.0, 1e-4)),
        (2000, {}, (625, 6.0, 3e-5)),
        (3200, {}, (1000, 6.0, 3e-5)),
        (9000, {}, (1000, 6.0, 3e-5)),
        (2000, {"batch_size": 64}, (5000, 6.0, 3e-5)),
    ],
)
def test_a_linear_probe_on_many_images_is_less_regularized_and_at_most_160_epochs_long(images, overrides, expected):
    config = make_config("fast", DatasetStats(images, 128 * 128, 128), overrides)
    assert (config.steps, config.lr, config.weight_decay) == expected


def test_the_length_that_is_asked_for_replaces_the_most_epochs():
    assert make_config("fast", DatasetStats(2048, 128 * 128, 128), epochs=200).steps == 800


@pytest.mark.parametrize(("tta", "probe_on"), [("none", "image"), ("flip", "image"), ("invariant", "tta-mean")])
def test_a_probe_for_views_that_look_different_is_trained_on_their_mean(tta, probe_on):
    assert make_config("fast", SMALL, {"tta": tta}).probe_on == probe_on
    assert make_config("fast", SMALL, {"tta": tta, "probe_on": "views"}).probe_on == "views"
