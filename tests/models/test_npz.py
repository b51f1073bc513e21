import numpy as np
import pytest
import torch
from benchmarks.peers import their_name

from nevus.errors import NevusError
from nevus.models.bit import bit
from nevus.models.npz import authors_name, load_into, read_npz, timm_name, write_npz


def random_bit(name, classes, seed=0):
    """Every weight random, norms and head too, so that no mix-up can hide."""
    net = bit(name, classes=classes, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    for key, value in net.state_dict().items():
        if "norm" in key:
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif "head" in key:
            value.copy_(torch.randn(value.shape, generator=generator) * 0.05)
    return net


@pytest.mark.parametrize(("name", "depths"), [("bit-r50x1", [3, 4, 6, 3]), ("bit-r101x3", [3, 4, 23, 3])])
def test_logits_equal_those_of_transformers(name, depths):
    if name == "bit-r101x3":
        psutil = pytest.importorskip("psutil")
        if psutil.virtual_memory().available < 6e9:
            pytest.skip("R101x3 twice takes 6 GB of memory")
    transformers = pytest.importorskip("transformers")
    ours = random_bit(name, 7)
    width = int(name[-1])
    sizes = [width * size for size in (256, 512, 1024, 2048)]
    config = transformers.BitConfig(depths=depths, hidden_sizes=sizes, embedding_size=64 * width, num_labels=7)
    theirs = transformers.BitForImageClassification(config).eval()
    weights = {their_name(k): v.flatten(1) if k == "head.fc.weight" else v for k, v in ours.state_dict().items()}
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not missing
    assert not unexpected
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        a, b = ours(x), theirs(x).logits
    assert a.abs().max() > 0.05
    assert (a - b).abs().max() < 1e-4 * max(1.0, float(a.abs().max()))


def test_round_trip(tmp_path):
    net = random_bit("bit-r26x0.5", 5)
    write_npz(net.state_dict(), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file["resnet/root_block/standardized_conv2d/kernel"].shape == (7, 7, 3, 32)
        assert file["resnet/head/conv2d/kernel"].shape == (1, 1, 1024, 5)
        assert "resnet/block1/unit01/a/proj/standardized_conv2d/kernel" in file.files
    again = read_npz(tmp_path / "a.npz")
    assert all(torch.equal(again[k], v) for k, v in net.state_dict().items())
    assert len(again) == len(net.state_dict())


def test_numbered_suffixes_and_a_missing_prefix(tmp_path):
    net = random_bit("bit-r26x0.5", 5)
    write_npz(net.state_dict(), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        odd = {}
        for i, name in enumerate(file.files):
            new = name.removeprefix("resnet/").replace("standardized_conv2d", f"standardized_conv2d_{i}")
            odd[new] = file[name]
    np.savez(tmp_path / "b.npz", **odd, global_step=np.array(3))
    again = read_npz(tmp_path / "b.npz")
    assert all(torch.equal(again[k], v) for k, v in net.state_dict().items())


def test_names_go_both_ways():
    for key in bit("bit-r101x1", classes=2).state_dict():
        assert timm_name(authors_name(key)) == key
    assert timm_name("resnet/block1/unit01/d/what") is None
    assert timm_name("opt/step") is None


def test_the_upstream_head_is_dropped_or_kept():
    upstream = random_bit("bit-r26x0.5", 50, seed=1).state_dict()
    task = bit("bit-r26x0.5", classes=2, seed=2)
    load_into(task, upstream, "up", head=False)
    assert torch.equal(task.stem.conv.weight, upstream["stem.conv.weight"])
    assert not task.head.fc.weight.any()
    same = bit("bit-r26x0.5", classes=50)
    load_into(same, upstream, "up", head=True)
    assert torch.equal(same.head.fc.weight, upstream["head.fc.weight"])
    with pytest.raises(NevusError, match="up: it does not fit the network"):
        load_into(task, upstream, "up", head=True)
    with pytest.raises(NevusError, match="does not fit"):
        load_into(bit("bit-r50x0.5", classes=2), upstream, "up", head=False)


def test_files_that_are_no_bit_are_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"text")
    with pytest.raises(NevusError, match=r"a.npz': it is no .npz file"):
        read_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=np.zeros(3))
    with pytest.raises(NevusError, match="it has no BiT"):
        read_npz(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", allow_pickle=True, **{"resnet/group_norm/gamma": np.array([{}], dtype=object)})
    with pytest.raises(NevusError, match="as .npz: Object arrays"):
        read_npz(tmp_path / "c.npz")
    write_npz(random_bit("bit-r26x0.5", 2).state_dict(), tmp_path / "d.npz")
    (tmp_path / "d.npz").write_bytes((tmp_path / "d.npz").read_bytes()[:-5000])
    with pytest.raises(NevusError, match="as .npz: File is not a zip"):
        read_npz(tmp_path / "d.npz")
