import numpy as np
import pytest
import torch

from nevus.errors import NevusError
from nevus.models.model import build_backbone, build_model
from nevus.models.multi_stage import MultiStageFeatures
from nevus.models.spec import ModelSpec

NAMES = ["bit-r26x0.5", "timm/resnet18", "timm/tf_efficientnet_lite0"]


@pytest.mark.parametrize("name", NAMES)
def test_features_are_the_means_of_the_last_stages_and_the_backbone_s_own(name):
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
def test_statistics_pooling_matches_numpy(name):
    backbone = build_backbone(name, classes=0, seed=1).eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seen = []
    info = backbone.feature_info if isinstance(backbone.feature_info, list) else backbone.feature_info.info
    for stage in info[-2:]:
        backbone.get_submodule(stage["module"]).register_forward_hook(lambda _m, _i, out: seen.append(out.numpy()))
    with torch.inference_mode():
        features_of = MultiStageFeatures(backbone, 2, "stats")
        found = features_of(x).numpy()
        own = MultiStageFeatures(backbone, 0)(x).numpy()
    expected = [f(stage, axis=(2, 3)) for stage in seen[:2] for f in (np.mean, np.std, np.max)]
    assert found.shape == (2, features_of.width)
    np.testing.assert_allclose(found, np.concatenate([*expected, own], 1), atol=2e-3)


def test_statistics_of_a_single_pixel_have_finite_gradients():
    net = build_model(ModelSpec("bit-r26x0.5", ("a", "b"), 1, "stats"))
    torch.nn.init.ones_(net.head.weight)
    net(torch.randn(2, 3, 32, 32)).sum().backward()  # the last stage is one pixel wide
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_more_stages_than_the_network_has_are_refused():
    with pytest.raises(NevusError, match="6 feature stages: the network has 5"):
        MultiStageFeatures(build_backbone("bit-r26x0.5", classes=0), 6)
    with pytest.raises(NevusError, match="exposes none"):
        MultiStageFeatures(torch.nn.Linear(3, 2), 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_width_is_that_of_the_output(name):
    for stages in (0, 2, 4):
        network = build_model(ModelSpec(name, ("a", "b", "c"), stages)).eval()
        with torch.inference_mode():
            assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
            logits, features, evidence = network.outputs(torch.zeros(1, 3, 64, 64))
        assert (logits.shape, features.shape) == ((1, 3), (1, network.features.width))
        assert {tuple(one.shape[:2]) for one in evidence} <= {(1, 3)}
        assert len(evidence) in (0, stages + 1)
        assert network.head.weight.count_nonzero() == 0
