import pytest
import torch

from nevus.errors import NevusError
from nevus.models.checkpoint import read_backbone, save_backbone
from nevus.models.model import build_backbone
from nevus.models.weights import load_pretrained


def test_a_trunk_comes_back_in_half_precision_without_its_head_and_says_what_it_is(tmp_path):
    net = build_backbone("bit-r26x0.5", classes=3, seed=4)
    path = tmp_path / "backbone.safetensors"
    save_backbone(net, path, {"architecture": "bit-r26x0.5", "license": "CC BY-NC 4.0"})
    weights, about = read_backbone(path)
    assert about["license"] == "CC BY-NC 4.0"
    own = net.state_dict()
    assert set(weights) == {key for key in own if not key.startswith("head.")}
    assert all(torch.equal(weights[key], own[key].half().float()) for key in weights)
    assert path.stat().st_size < 7.2e6

    made, said = load_pretrained("bit-r26x0.5", classes=2, weights=str(path))
    assert torch.equal(made.state_dict()["stem.conv.weight"], weights["stem.conv.weight"])
    assert torch.count_nonzero(made.state_dict()["head.fc.weight"]) == 0
    assert "CC BY-NC 4.0" in said


def test_a_damaged_file_and_weights_out_of_range_are_told(tmp_path):
    path = tmp_path / "backbone.safetensors"
    path.write_bytes(b"no safetensors at all")
    with pytest.raises(NevusError, match="is damaged"):
        read_backbone(path)
    net = build_backbone("bit-r26x0.5", classes=0)
    net.stem.conv.weight.data[0, 0, 0, 0] = 1e6
    with pytest.raises(NevusError, match="too large for half precision"):
        save_backbone(net, tmp_path / "big.safetensors", {})
    assert not (tmp_path / "big.safetensors").exists()
