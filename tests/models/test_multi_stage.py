import numpy as np
import pytest
import torch

from nevus.errors import NevusError
from nevus.models.multi_stage import MultiStageFeatures, MultiStageClassifier
from nevus.models.registry import classifier_head, build_backbone, without_head

NAMES = ["bit-r26x0.5", "timm/resnet18", "timm/tf_efficientnet_lite0"]


@pytest.mark.parametrize("name", NAMES)
def test_the_taps_are_the_means_of_the_last_stages_and_the_trunk_s_own_features(name):
    backbone = build_backbone(name, classes=0, seed=1).eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seen = []
    info = backbone.feature_info if isinstance(backbone.feature_info, list) else backbone.feature_info.info
    for stage in info[-2:]:
        backbone.get_submodule(stage["module"]).register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.inference_mode():
        found = MultiStageFeatures(backbone, 2)(x)
        own = MultiStageFeatures(backbone, 0)(x)
    first, second = seen[:2]
    expected = torch.cat([first.mean((2, 3)), second.mean((2, 3)), own], 1)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_spread_is_what_numpy_says_of_each_stage(name):
    backbone = build_backbone(name, classes=0, seed=1).eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seen = []
    info = backbone.feature_info if isinstance(backbone.feature_info, list) else backbone.feature_info.info
    for stage in info[-2:]:
        backbone.get_submodule(stage["module"]).register_forward_hook(lambda _m, _i, out: seen.append(out.numpy()))
    with torch.inference_mode():
        tapped = MultiStageFeatures(backbone, 2, spread=True)
        found = tapped(x).numpy()
        own = MultiStageFeatures(backbone, 0)(x).numpy()
    expected = [f(stage, axis=(2, 3)) for stage in seen[:2] for f in (np.mean, np.std, np.max)]
    assert found.shape == (2, tapped.width)
    np.testing.assert_allclose(found, np.concatenate([*expected, own], 1), atol=2e-3)


def test_the_spread_of_a_single_pixel_can_be_trained_through():
    net = MultiStageClassifier(build_backbone("bit-r26x0.5", classes=0), 1, 2, spread=True)
    torch.nn.init.ones_(net.head.weight)
    net(torch.randn(2, 3, 32, 32)).sum().backward()  # the last stage is one pixel wide
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_the_spread_of_no_stages_is_refused():
    with pytest.raises(NevusError, match="--taps 4"):
        MultiStageFeatures(build_backbone("bit-r26x0.5", classes=0), 0, spread=True)


def test_more_taps_than_stages_are_refused():
    with pytest.raises(NevusError, match="5 stages and no 6"):
        MultiStageFeatures(build_backbone("bit-r26x0.5", classes=0), 6)
    with pytest.raises(NevusError, match="does not show its stages"):
        MultiStageFeatures(torch.nn.Linear(3, 2), 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_width_is_that_of_what_comes_out(name):
    for taps in (0, 2, 4):
        net = MultiStageClassifier(build_backbone(name, classes=0), taps, 3).eval()
        with torch.inference_mode():
            assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
            assert without_head(net)(torch.zeros(1, 3, 64, 64)).shape == (1, net.tapped.width)
        assert classifier_head(net).weight.count_nonzero() == 0
