"""The form of a network for the features of many images, against the network itself."""

import copy

import cv2
import numpy as np
import pytest
import torch

from nevus.data.preprocess import Preprocess
from nevus.models.bulk_features import BulkFeatures, CenteredGroupNorm
from nevus.models.model import build_model
from nevus.models.spec import ModelSpec
from nevus.models.timm_library import GroupNormAct
from nevus.models.weights import load_pretrained
from nevus.runtime.feature_engine import openvino_model
from nevus.runtime.openvino_engine import Compiled, cpu_has_bf16

SIDE = 64
BACKBONE = "bit-r26x0.5-dermoscopy"


@pytest.fixture(scope="module")
def features():
    spec = ModelSpec("bit-r26x0.5", ("benign", "malignant"), image_size=SIDE, feature_stages=4, pooling="stats")
    return build_model(spec).features.eval()


@pytest.mark.parametrize(("channels", "mean"), [(32, 0.0), (128, 0.0), (128, 20.0)])
def test_the_norm_is_timm_s(channels, mean):
    rng = torch.Generator().manual_seed(0)
    norm = GroupNormAct(channels, 32).eval()
    torch.nn.init.normal_(norm.weight, generator=rng)
    torch.nn.init.normal_(norm.bias, generator=rng)
    x = torch.randn(2, channels, 5, 7, generator=rng) + mean
    with torch.inference_mode():
        assert torch.allclose(CenteredGroupNorm(norm)(x), norm(x), atol=1e-4)


def test_the_norm_of_an_empty_image_is_its_bias():
    norm = GroupNormAct(64, 32, apply_act=False).eval()
    torch.nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(0))
    x = torch.full((1, 64, 4, 4), 300.0)
    with torch.inference_mode():
        assert torch.allclose(CenteredGroupNorm(norm)(x), norm.bias.view(1, -1, 1, 1).expand(x.shape), atol=1e-3)


def test_features_are_equal_up_to_rounding_and_the_network_is_left_alone(features):
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double()
    exact = copy.deepcopy(features).double()
    with torch.inference_mode():
        before = exact(x)
        bulk = BulkFeatures(exact)
        assert torch.allclose(bulk(x), before, atol=1e-6)
        assert torch.equal(exact(x), before)
    assert not any(isinstance(module, GroupNormAct) for module in bulk.modules())
    assert any(isinstance(module, GroupNormAct) for module in exact.modules())


@pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU does not compute in bfloat16")
def test_bfloat16_costs_features_little_more_than_without_this_form():
    spec = ModelSpec(BACKBONE, ("benign", "malignant"), image_size=SIDE, feature_stages=4, pooling="stats")
    network = build_model(spec, load_pretrained(BACKBONE)[0]).features.eval()
    rng = np.random.default_rng(0)
    pixels = np.stack([cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), (SIDE, SIDE)) for _ in range(32)])

    def outputs(net, bf16):
        return Compiled(openvino_model(net, Preprocess(SIDE)), bf16=bf16)(pixels)

    exact = outputs(network, False)
    plain, bulk = (
        np.median(np.abs(outputs(net, True) - exact).mean(0) / (exact.std(0) + 1e-6))
        for net in (network, BulkFeatures(network))
    )
    assert 0 < bulk < 2.5 * plain
