import pytest
import torch
from torch.nn import functional as F

from nevus.errors import NevusError
from nevus.models.checkpoint import save_backbone
from nevus.models.extra_architectures import Uncounted
from nevus.models.model import build_backbone
from nevus.models.registry import backbone_spec
from nevus.models.weights import load_pretrained

OTHERS = {"vgg16-base": 512, "resnet50-half": 1024, "inception-v3-keras": 2048, "bit-r26x0.5-bn": 1024}


@pytest.mark.parametrize("name", OTHERS)
def test_a_network_its_features_and_its_file(name, tmp_path):
    x = torch.randn(1, 3, 96, 96)
    backbone = build_backbone(name, classes=0, seed=1).eval()
    with torch.no_grad():
        features = backbone(x)
    assert features.shape == (1, OTHERS[name])
    save_backbone(backbone, tmp_path / "model.safetensors", {"architecture": name, "license": "MIT"}, half=False)
    made, said = load_pretrained(name, classes=3, weights=str(tmp_path / "model.safetensors"))
    assert "MIT" in said
    with torch.no_grad():
        assert (made.eval()(x) == 0).all()  # the head is zero
        made.reset_classifier(0)
        assert torch.allclose(made.eval()(x), features, atol=1e-5)
    with pytest.raises(NevusError, match="does not fit the network"):
        load_pretrained("bit-r26x0.5", classes=2, weights=str(tmp_path / "model.safetensors"))


def test_means_that_count_no_padding():
    x = torch.rand(2, 3, 7, 5)
    expected = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    inside = Uncounted()(F.avg_pool2d(x, 3, 1, 1))
    assert torch.allclose(inside, expected, atol=1e-6)


def test_the_variant_with_batch_normalization_differs_in_its_norms_alone():
    plain, batch = build_backbone("bit-r26x0.5", classes=0), build_backbone("bit-r26x0.5-bn", classes=0)
    shapes = {key: value.shape for key, value in plain.state_dict().items()}
    theirs = {
        key: value.shape
        for key, value in batch.state_dict().items()
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }
    assert shapes == theirs
    assert not any(type(module).__name__ == "StdConv2d" for module in batch.modules())
    assert backbone_spec("bit-r26x0.5-bn").image_size == 128
