import numpy as np
import pytest
import torch
from timm.layers import StdConv2d
from torch import nn

from nevus.errors import NevusError
from nevus.models.bit import bit
from nevus.models.model import build_backbone, without_head
from nevus.models.registry import BACKBONES, BackboneSpec, feature_width, parameter_count
from nevus.models.reparameterize import fold_weight_standardization, standardized


@pytest.mark.parametrize(
    ("name", "millions"),
    [("bit-r50x1", 23.500352), ("bit-r50x3", 211.17), ("bit-r101x1", 42.49)],
)
def test_backbone_parameters_are_the_published_ones(name, millions):
    with torch.device("meta"):
        count = sum(p.numel() for p in bit(name).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.005)
    if name == "bit-r50x1":
        assert count == 23_500_352


@pytest.mark.long
@pytest.mark.parametrize(("name", "millions"), [("bit-r101x3", 381.79), ("bit-r152x2", 232.24), ("bit-r152x4", 928.34)])
def test_large_backbone_parameters(name, millions):
    with torch.device("meta"):
        assert sum(p.numel() for p in bit(name).parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize("name", ["bit-r26x0.5", "bit-r26x1", "bit-r50x0.5", "bit-m-r50x1"])
def test_features_have_the_width_that_the_registry_says(name):
    out = build_backbone(name, classes=0)(torch.zeros(2, 3, 64, 64))
    assert out.shape == (2, feature_width(BACKBONES[name]))


def stem_by_hand(x, net):
    """The stem as published: 7x7/2 with padding 3, zero padding of 1, 3x3/2 max-pool without padding."""
    conv = net.stem.conv
    weight = standardized(conv.weight, 1e-8)
    y = nn.functional.conv2d(x, weight, stride=2, padding=3)
    return nn.functional.max_pool2d(nn.functional.pad(y, (1, 1, 1, 1)), 3, 2)


def test_stem_pads_with_zeros_before_the_pool():
    net = bit("bit-r26x0.5").eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = net.stem(x)
        assert torch.allclose(found, stem_by_hand(x, net), atol=1e-5)
        # A pool that pads by itself (with minus infinity) is not the same: this must tell them apart.
        y = nn.functional.conv2d(x, standardized(net.stem.conv.weight, 1e-8), stride=2, padding=3)
        assert (nn.functional.max_pool2d(y, 3, 2, padding=1) - found).abs().max() > 0.01


def test_projection_takes_the_preactivated_input_and_the_stride_is_on_the_3x3():
    block = bit("bit-r26x0.5").stages[1].blocks[0].eval()
    assert block.conv1.stride == (1, 1)
    assert block.conv2.stride == (2, 2)
    x = torch.randn(1, 128, 8, 8)
    with torch.inference_mode():
        before = block.norm1(x)
        out = block.conv3(block.norm3(block.conv2(block.norm2(block.conv1(before)))))
        assert torch.allclose(block(x), out + block.downsample(before), atol=1e-5)


def test_weight_standardization_against_the_formula():
    weight = torch.randn(4, 3, 5, 5, dtype=torch.float64) * 3 + 1
    expected = np.stack([(w - w.mean()) / np.sqrt(w.var() + 1e-8) for w in weight.numpy()])
    assert np.allclose(standardized(weight, 1e-8).numpy(), expected, atol=1e-12)
    conv = StdConv2d(3, 4, 5, eps=1e-8).double()
    conv.weight.data = weight
    x = torch.randn(1, 3, 9, 9, dtype=torch.float64)
    assert torch.allclose(conv(x), nn.functional.conv2d(x, torch.from_numpy(expected), padding=conv.padding))


@pytest.mark.parametrize("name", ["bit-r26x0.5", "bit-r50x1"])
def test_folding_is_exact(name):
    net = build_backbone(name, classes=3, seed=1)
    nn.init.normal_(net.get_classifier().weight, std=0.05)
    x = torch.rand(2, 3, 96, 96) * 2 - 1
    plain = fold_weight_standardization(net)
    assert not any(isinstance(m, StdConv2d) for m in plain.modules())
    assert any(isinstance(m, StdConv2d) for m in net.modules())
    with torch.inference_mode():
        was, now = net.eval()(x), plain(x)
    assert was.abs().max() > 0.1
    assert (was.softmax(1) - now.softmax(1)).abs().max() < 1e-5
    # float32 rounds over 50 layers; in float64 nothing but the folding could differ
    with torch.inference_mode():
        exact, wide = net.double()(x.double()), fold_weight_standardization(net.double())(x.double())
    assert (exact - wide).abs().max() < 1e-9


def test_head_starts_at_zero_and_the_seed_decides_the_rest():
    one, same, other = (build_backbone("bit-r26x0.5", classes=2, seed=s) for s in (1, 1, 2))
    assert not one.get_classifier().weight.any()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.stem.conv.weight, other.stem.conv.weight)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    bit("bit-r26x0.5", seed=9)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("name", ["bit-r26x0.3", "bit-r18x1", "bit-r50", "resnet50", "bit-r50x9"])
def test_unknown_names_are_told(name):
    with pytest.raises(NevusError, match="is no BiT"):
        bit(name)
    with pytest.raises(NevusError, match="there is no backbone"):
        build_backbone(name, classes=0)


def test_the_trunk_does_not_depend_on_the_number_of_classes():
    backbones = [without_head(build_backbone("bit-r26x0.5", classes=k, seed=4)).state_dict() for k in (0, 2, 7)]
    for other in backbones[1:]:
        assert list(other) == list(backbones[0])
        assert all(torch.equal(other[key], backbones[0][key]) for key in other)


@pytest.mark.parametrize("name", ["bit-r26x0.5", "bit-r26x1", "bit-r50x0.5", "bit-r26x0.5-bn", "bit-r101x1"])
def test_parameters_are_counted_without_a_network(name):
    with torch.device("meta"):
        expected = sum(p.numel() for p in bit(name).parameters())
    assert parameter_count(BackboneSpec(name, name, 128)) == expected
