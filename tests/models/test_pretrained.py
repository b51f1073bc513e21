import json

import pytest
import torch

from nevus._io import sha256_file
from nevus.cli.main import main
from nevus.errors import NevusError
from nevus.models import registry, weights
from nevus.models.cached import on_this_machine
from nevus.models.checkpoint import read_backbone, save_backbone
from nevus.models.model import build_backbone
from nevus.models.registry import BACKBONES, PRETRAINED, BackboneSpec, default_backbone, is_permissive
from nevus.models.weights import license_of_weights, load_pretrained


@pytest.fixture
def two(tmp_path, monkeypatch):
    """A package with two backbones: one for any purpose, one for research."""
    shelf = tmp_path / "shipped"
    shelf.mkdir()
    for seed, name in enumerate(("free", "research")):
        save_backbone(build_backbone("bit-r26x0.5", classes=0, seed=seed), shelf / f"{name}.safetensors", {})
    specs = {
        name: BackboneSpec(
            name,
            "bit-r26x0.5",
            128,
            "builtin",
            f"{name}.safetensors",
            license,
            "a test",
            digest=sha256_file(shelf / f"{name}.safetensors"),
        )
        for name, license in (("free", "Apache-2.0"), ("research", "CC BY-NC 4.0"))
    }
    named = {**specs, **{k: v for k, v in BACKBONES.items() if v.origin != "builtin"}}
    monkeypatch.setattr(registry, "BACKBONES", named)
    monkeypatch.setattr(weights, "BACKBONES", named)
    monkeypatch.setattr(weights, "PRETRAINED", shelf)
    return specs


def nothing_here(_):
    return False


def test_auto_takes_what_the_machine_can_carry_and_says_so(two):
    name, why = default_backbone(gpu=False, here=nothing_here)
    assert name == "research"
    assert "CC BY-NC 4.0" in why
    assert default_backbone(gpu=False, here=nothing_here, permissive=True)[0] == "free"
    assert default_backbone(gpu=True, here=lambda spec: spec.name == "bit-m-r50x1")[0] == "bit-m-r50x1"
    name, why = default_backbone(gpu=True, here=nothing_here)
    assert name == "research"
    assert "nevus models --download bit-m-r50x1" in why


def test_weights_of_the_package_are_loaded_and_named(two):
    assert on_this_machine(two["free"])
    net, said = load_pretrained("free", classes=2)
    start = build_backbone("bit-r26x0.5", classes=2, seed=0).state_dict()
    assert torch.equal(net.state_dict()["stem.conv.weight"], start["stem.conv.weight"].half().float())
    assert "Apache-2.0" in said
    assert "sha256:" in said


def test_a_damaged_file_of_the_package_is_told(two):
    path = weights.PRETRAINED / "free.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # still a file of weights
    path.write_bytes(content)
    with pytest.raises(NevusError, match="not what came with nevus"):
        load_pretrained("free", classes=2)


def test_weights_of_another_trunk_by_its_name(two):
    net, said = load_pretrained("bit-r26x0.5", classes=2, weights="research")
    same, _ = load_pretrained("research", classes=2)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), same.parameters(), strict=True))
    assert "CC BY-NC" in said
    with pytest.raises(NevusError, match="has no weights for bit-r50x1"):
        load_pretrained("bit-r50x1", classes=2, weights="research")
    with pytest.raises(NevusError, match="has no weights for bit-r26x0.5"):
        load_pretrained("free", classes=2, weights="bit-r26x0.5")


def test_the_license_of_weights(two, tmp_path):
    file = tmp_path / "own.safetensors"
    save_backbone(build_backbone("bit-r26x0.5", classes=0), file, {"license": "MIT; CC BY-NC 4.0"})
    found = [license_of_weights(two["free"], given) for given in ("auto", "random", "research", str(file), "gone")]
    assert found == ["Apache-2.0", None, "CC BY-NC 4.0", "MIT; CC BY-NC 4.0", ""]
    assert is_permissive("MIT; Apache-2.0")
    assert not is_permissive("MIT; CC BY-NC 4.0")
    assert not is_permissive("")


def test_license_permissive_refuses_others(two, phantoms, tmp_path, capsys):
    words = ["train", str(phantoms), "--out", str(tmp_path / "run"), "--permissive-only"]
    assert main([*words, "--backbone", "research"]) == 2
    assert "CC BY-NC 4.0, which --permissive-only excludes" in capsys.readouterr().err
    other = weights.PRETRAINED / "research.safetensors"  # which does not say what it is under
    assert main([*words, "--backbone", "bit-r26x0.5", "--weights", str(other)]) == 2
    assert "not known, which --permissive-only excludes" in capsys.readouterr().err
    assert (
        main([*words, "--tuning", "linear-probe", "--set", "image_size=32", "--epochs", "1", "--no-check-duplicates"])
        == 0
    )
    assert "auto takes free" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["backbone"] == "free"


def test_what_the_package_ships_is_whole_and_says_what_it_is():
    """Each file is listed with the license and digest that it has, and nothing else lies there."""
    listed = json.loads(PRETRAINED.joinpath("backbones.json").read_text())
    assert {one["file"] for one in listed.values()} == {
        path.name for path in PRETRAINED.iterdir() if path.name.endswith(".safetensors")
    }
    for name, one in listed.items():
        _, about = read_backbone(PRETRAINED / one["file"])
        assert about["license"] == one["license"]
        assert about["architecture"] == one["architecture"] == BACKBONES[name].architecture
        assert sha256_file(PRETRAINED / one["file"]) == one["digest"]
        assert BACKBONES[name].origin == "builtin"
