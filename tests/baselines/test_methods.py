import pytest

from nevus.baselines.learners import LEARNERS
from nevus.baselines.methods import METHODS, is_network, method_spec, resolve_method
from nevus.errors import NevusError
from nevus.models.checkpoint import save_backbone
from nevus.models.model import build_backbone
from nevus.models.registry import backbone_spec


def test_every_system_is_a_network_or_a_learner():
    for name, one in METHODS.items():
        assert is_network(name) == bool(one.backbone)
        assert (name in LEARNERS) != bool(one.backbone)
        if one.official:
            assert backbone_spec(one.official).architecture == one.backbone
            assert backbone_spec(one.official).origin == "hub"
    assert next(iter(METHODS)) == "bit"
    with pytest.raises(NevusError, match="Cannot use the method 'forest'"):
        method_spec("forest")


def test_nothing_is_random_unless_it_is_asked_for(tmp_path):
    assert resolve_method(method_spec("bit"), "auto") == ("auto", "auto")
    assert resolve_method(method_spec("bit"), "auto", "bit-r26x0.5-generic") == ("bit-r26x0.5-generic", "auto")
    for name in ("vgg16", "resnet50", "bit-bn"):
        with pytest.raises(NevusError, match=f"Cannot use {name}: its pretrained weights are not on this machine"):
            resolve_method(method_spec(name), "auto")
    assert resolve_method(method_spec("vgg16"), "random") == ("timm/vgg16", "random")
    assert resolve_method(method_spec("bit"), "random") == ("bit-r26x0.5", "random")
    path = tmp_path / "model.safetensors"
    save_backbone(build_backbone("vgg16-base", classes=0), path, {"architecture": "vgg16-base"})
    assert resolve_method(method_spec("vgg16"), str(path)) == ("vgg16-base", str(path))
    save_backbone(build_backbone("bit-r26x0.5", classes=0), path, {})
    assert resolve_method(method_spec("vgg16"), str(path)) == ("timm/vgg16", str(path))
    save_backbone(build_backbone("resnet50-half", classes=0), path, {"architecture": "resnet50-half"})
    with pytest.raises(NevusError, match="for vgg16: it has the weights of resnet50-half"):
        resolve_method(method_spec("vgg16"), str(path))
    save_backbone(build_backbone("bit-r26x0.5", classes=0), path, {"architecture": "bit-r26x0.5"})
    assert resolve_method(method_spec("bit"), str(path)) == ("bit-r26x0.5", str(path))
