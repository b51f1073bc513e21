import dataclasses

import pytest

from nevus.errors import NevusError
from nevus.training.config import RECIPES, DatasetStats, TrainConfig, default, hyperrule, learning_rate, paper
from nevus.training.overrides import Overrides, changed, make_config

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
    recipe = hyperrule(DatasetStats(size, 600 * 450, 128))
    assert published_rate(recipe.steps - 1, size) is not None
    assert published_rate(recipe.steps, size) is None
    for step in range(recipe.steps):
        assert learning_rate(recipe, step) == pytest.approx(published_rate(step, size)), step
    assert recipe.mixup == (0.0 if size < 20_000 else 0.1)
    assert (recipe.resize, recipe.side) == (512, 480)
    assert (recipe.momentum, recipe.weight_decay, recipe.nesterov) == (0.9, 0.0, False)
    assert recipe.crop[0] * recipe.resize == pytest.approx(recipe.side)


def test_hyperrule_of_small_images_and_another_batch():
    assert (hyperrule(DatasetStats(500, 95 * 96, 128)).resize, hyperrule(DatasetStats(500, 95 * 96, 128)).side) == (160, 128)
    assert hyperrule(DatasetStats(500, 96 * 96, 128)).side == 480
    recipe = hyperrule(SMALL, batch=128)
    assert recipe.lr == pytest.approx(0.003 / 4)
    assert (recipe.warmup, recipe.decays, recipe.steps) == (400, (800, 1200, 1600), 2000)


def test_paper_s_recipe():
    recipe = paper(SMALL)
    assert (recipe.steps, recipe.batch, recipe.lr, recipe.side) == (500, 512, 0.03, 224)
    assert (recipe.decays, recipe.evaluate_every, recipe.weight_decay) == ((200, 300, 400), 10, 0)
    assert learning_rate(recipe, 0) == 0.03
    assert learning_rate(recipe, 200) == 0.03
    assert learning_rate(recipe, 201) == pytest.approx(0.003)
    assert learning_rate(recipe, 499) == pytest.approx(0.00003)
    assert paper(SMALL, batch=64).lr == pytest.approx(0.03 / 8)
    assert paper(SMALL, batch=64).decays == (1600, 2400, 3200)


def test_cosine_rises_and_falls():
    recipe = default(SMALL)
    rates = [learning_rate(recipe, step) for step in range(recipe.steps)]
    top = rates.index(max(rates))
    assert top == recipe.warmup
    assert max(rates) == pytest.approx(recipe.lr)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.01 * recipe.lr


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("mode", ["head", "full"])
def test_epochs_set_the_length(name, mode):
    short = make_config(name, SMALL, mode, epochs=2, changes=Overrides(batch=64))
    assert short.steps == pytest.approx(2 * SMALL.images / 64, abs=1)
    assert short.mode == mode
    assert short.name == name
    assert all(decay < short.steps for decay in short.decays)


def test_every_field_can_be_changed_and_is_recorded():
    fields = {f.name for f in dataclasses.fields(TrainConfig)} - {"name", "mode"}
    assert {f.name for f in dataclasses.fields(Overrides)} == fields
    changes = Overrides(lr=0.5, mixup=0.3, turns=False)
    recipe = make_config("default", SMALL, "full", changes=changes)
    assert (recipe.lr, recipe.mixup, recipe.turns) == (0.5, 0.3, False)
    assert changed(changes) == {"lr": 0.5, "mixup": 0.3, "turns": False}
    other = make_config("hyperrule", SMALL, "full", changes=Overrides(side=96))
    assert (other.side, other.resize) == (96, 102)


def test_steps_scale_the_whole_schedule():
    short = make_config("hyperrule", SMALL, "full", changes=Overrides(steps=50, batch=64))
    assert (short.steps, short.warmup, short.decays) == (50, 10, (20, 30, 40))
    assert short.lr == pytest.approx(0.003 / 8)
    with pytest.raises(NevusError, match="give one of them"):
        make_config("default", SMALL, "full", epochs=3, changes=Overrides(steps=50))
    for epochs in (float("nan"), -1.0, 0.0, float("inf")):
        with pytest.raises(NevusError, match="correct --epochs"):
            make_config("default", SMALL, "full", epochs=epochs)
    for name in RECIPES:
        assert make_config(name, SMALL, "full", changes=Overrides(steps=1)).warmup == 0


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.0},
        {"batch": 0},
        {"crop": (0.5, 1.5)},
        {"momentum": 1.0},
        {"side": 8},
        {"mixup": -1.0},
        {"clip": float("nan")},
        {"side": 10**6},
    ],
)
def test_values_that_make_no_sense_name_their_flag(change):
    with pytest.raises(NevusError, match=f"correct --{next(iter(change))}"):
        make_config("default", SMALL, "full", changes=Overrides(**change))
    with pytest.raises(NevusError, match="there is no recipe 'best'"):
        make_config("best", SMALL, "full")
