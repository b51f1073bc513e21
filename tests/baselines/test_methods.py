import pytest

from nevus.baselines.learners import LEARNERS
from nevus.baselines.methods import SYSTEMS, is_network, started, system
from nevus.errors import NevusError
from nevus.models.checkpoint import save_trunk
from nevus.models.registry import network, trunk_spec


def test_every_system_is_a_network_or_a_learner():
    for name, one in SYSTEMS.items():
        assert is_network(name) == bool(one.trunk)
        assert (name in LEARNERS) != bool(one.trunk)
        if one.official:
            assert trunk_spec(one.official).architecture == one.trunk
            assert trunk_spec(one.official).origin == "hub"
    assert next(iter(SYSTEMS)) == "bit"
    with pytest.raises(NevusError, match="there is no method 'forest'"):
        system("forest")


def test_nothing_is_random_unless_it_is_asked_for(tmp_path):
    assert started(system("bit"), "auto") == ("auto", "auto")
    assert started(system("bit"), "auto", "bit-r26x0.5-generic") == ("bit-r26x0.5-generic", "auto")
    for name in ("vgg16", "resnet50", "bit-bn"):
        with pytest.raises(NevusError, match=f"pretrained weights for {name} are not on this machine"):
            started(system(name), "auto")
    assert started(system("vgg16"), "random") == ("timm/vgg16", "random")
    assert started(system("bit"), "random") == ("bit-r26x0.5", "random")
    path = tmp_path / "weights.safetensors"
    save_trunk(network("vgg16-base", classes=0), path, {"architecture": "vgg16-base"})
    assert started(system("vgg16"), str(path)) == ("vgg16-base", str(path))
    save_trunk(network("bit-r26x0.5", classes=0), path, {})
    assert started(system("vgg16"), str(path)) == ("timm/vgg16", str(path))
    save_trunk(network("resnet50-half", classes=0), path, {"architecture": "resnet50-half"})
    with pytest.raises(NevusError, match="holds resnet50-half, which is no vgg16"):
        started(system("vgg16"), str(path))
    save_trunk(network("bit-r26x0.5", classes=0), path, {"architecture": "bit-r26x0.5"})
    assert started(system("bit"), str(path)) == ("bit-r26x0.5", str(path))
