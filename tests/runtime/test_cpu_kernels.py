import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from timm.layers import GroupNormAct, StdConv2d
from torch import nn

from nevus.models.bit import bit
from nevus.models.reparameterize import fold_weight_standardization
from nevus.runtime.cpu_kernels import openmp as pool
from nevus.runtime.cpu_kernels.group_norm import CPUGroupNorm
from nevus.runtime.cpu_kernels.patch import use_cpu_kernels
from nevus.runtime.cpu_kernels.weight_standardization import CPUStdConv2d

pytestmark = pytest.mark.skipif(not pool.available(), reason="PyTorch has no OpenMP library that kernels could use")
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}


def channels_last(*shape, dtype=torch.float32, seed=0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return x.contiguous(memory_format=torch.channels_last)


def close(found, expected, dtype):
    found, expected = found.detach().double(), expected.detach()
    return float((found - expected).norm() / (expected.norm() + 1)) < TOLERANCE[dtype]


def modules(kind, *sizes, **options):
    plain = kind(*sizes, **options)
    for p in plain.parameters():
        nn.init.normal_(p, generator=torch.Generator().manual_seed(7))
    holder = nn.Sequential(plain)
    assert use_cpu_kernels(holder)
    assert isinstance(holder[0], CPUGroupNorm | CPUStdConv2d)
    return plain, holder[0]


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 5),
    groups=st.sampled_from([1, 2, 8]),
    width=st.integers(1, 5),
    height=st.integers(1, 6),
    across=st.integers(1, 5),
    relu=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_group_norm_is_torch_s_in_float64(n, groups, width, height, across, relu, dtype):
    assume(width * height * across > 1)
    channels = groups * width
    norm, quick = modules(GroupNormAct, channels, groups, apply_act=relu)
    x = (channels_last(n, channels, height, across, dtype=dtype) * 3 + 1).requires_grad_()
    y = quick(x)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    gradient = channels_last(n, channels, height, across, dtype=dtype, seed=1)
    found = torch.autograd.grad(y, (x, quick.weight, quick.bias), gradient)

    wide = x.detach().double().requires_grad_()
    weight, bias = (p.detach().double().requires_grad_() for p in (norm.weight, norm.bias))
    z = F.group_norm(wide, groups, weight, bias, norm.eps)
    # Where rounding decides on which side of the kink a value is, take the side that it was seen on.
    z = z * (y.detach() > 0) if relu else z
    expected = torch.autograd.grad(z, (wide, weight, bias), gradient.double())
    assert close(y, z, dtype)
    # A group of nearly equal values has a gradient that is a difference of large numbers.
    scale = max(1.0, float((1 / wide.detach().reshape(n, groups, -1).std(-1, correction=0).clamp_min(1e-3)).max()))
    assert float((found[0].double() - expected[0]).abs().max()) < 20 * scale * TOLERANCE[dtype]
    for f, e in zip(found[1:], expected[1:], strict=True):
        assert float((f.double() - e).abs().max()) < 20 * scale * TOLERANCE[dtype] * n


def test_group_norm_keeps_what_is_no_number():
    _, quick = modules(GroupNormAct, 8, 2)
    x = channels_last(2, 8, 3, 3)
    x[1, 0, 0, 0] = torch.nan
    y = quick(x)
    assert y[0].isfinite().all()
    assert y[1, :4].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", [(3, 20, 3, 1), (64, 32, 1, 1), (40, 24, 1, 2), (8, 16, 3, 2)])
@pytest.mark.parametrize("image_size", [2, 9])
def test_standardized_convolution_is_timm_s_in_float64(sizes, image_size, dtype):
    into, out, kernel, stride = sizes
    conv, quick = modules(StdConv2d, into, out, kernel, stride=stride, eps=1e-8)
    conv.to(memory_format=torch.channels_last)
    x = channels_last(2, into, image_size, image_size, dtype=dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = quick(x)
    assert y.dtype == dtype
    gradient = channels_last(*y.shape, dtype=dtype, seed=1)
    found = torch.autograd.grad(y, (x, quick.weight), gradient)
    wide = x.detach().double().requires_grad_()
    exact = StdConv2d(into, out, kernel, stride=stride, eps=1e-8).double()
    exact.weight.data = conv.weight.detach().double()
    expected = torch.autograd.grad(exact(wide), (wide, exact.weight), gradient.double())
    assert close(y, exact(wide).detach(), dtype)
    for f, e in zip(found, expected, strict=True):
        assert close(f, e, dtype)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_whole_network_gives_the_same_outputs_and_gradients(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        plain, quick = (bit("bit-r26x0.5", classes=3, seed=1) for _ in range(2))
        for net in (plain, quick):
            nn.init.normal_(net.get_classifier().weight, generator=torch.Generator().manual_seed(2))
        quick.to(memory_format=torch.channels_last)
        held = dict(quick.named_parameters())
        assert use_cpu_kernels(quick)
        assert dict(quick.named_parameters()).keys() == held.keys()
        assert all(p is held[name] for name, p in quick.named_parameters())
        x = channels_last(4, 3, 64, 64)
        logits = plain(x.double().float()), quick(x)
        assert torch.allclose(*logits, rtol=1e-3, atol=1e-3)
        for y in logits:
            y.logsumexp(1).sum().backward()
        # Rounding moves a few values over ReLU's kink, in timm's two layouts as well: the direction is compared.
        found, expected = (torch.cat([p.grad.flatten() for p in net.parameters()]) for net in (quick, plain))
        assert float(F.cosine_similarity(found, expected, dim=0)) > 0.999
        assert float(found.norm() / expected.norm()) == pytest.approx(1, abs=0.01)
        with torch.inference_mode():
            assert torch.allclose(fold_weight_standardization(quick)(x), logits[0], rtol=1e-3, atol=1e-3)
    finally:
        torch.set_num_threads(before)


def test_numbers_of_other_kinds_go_the_usual_way():
    norm, quick = modules(GroupNormAct, 8, 2)
    x = channels_last(2, 8, 3, 3)
    assert torch.equal(quick.double()(x.double()), norm(x.double()))
    empty = norm.float()(x[:0])
    assert quick.float()(x[:0]).shape == empty.shape
    conv, fast = modules(StdConv2d, 4, 8, 3)
    assert torch.equal(fast.double()(x[:, :4].double()), conv(x[:, :4].double()))


def test_networks_of_other_kinds_are_left_alone():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU())
    kinds = [type(m) for m in net]
    assert not use_cpu_kernels(net)
    assert [type(m) for m in net] == kinds


def test_where_no_pool_is_found_networks_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(pool, "_parallel", lambda: None)
    net = bit("bit-r26x0.5")
    assert not use_cpu_kernels(net)
    assert not any(isinstance(m, CPUGroupNorm | CPUStdConv2d) for m in net.modules())


def test_every_piece_is_taken_once_whatever_the_number_of_threads():
    norm, quick = modules(GroupNormAct, 32, 32, apply_act=False)
    x = channels_last(100, 32, 2, 3)
    expected = norm(x)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 4, 7):
            torch.set_num_threads(threads)
            for _ in range(20):
                np.testing.assert_allclose(quick(x).detach(), expected.detach(), atol=1e-4)
    finally:
        torch.set_num_threads(before)
