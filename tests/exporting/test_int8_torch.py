import numpy as np
import pytest
import torch
from timm.layers import Conv2dSame, StdConv2d
from torch import nn

from nevus.errors import NevusError
from nevus.exporting.int8_torch import LEVELS, Range, Rounded, round_to_8_bits


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2), (2, 6, 9, 9)),
        (nn.Conv2d(6, 8, 1, bias=False), (2, 6, 5, 5)),
        (Conv2dSame(6, 8, 3, stride=2), (2, 6, 8, 8)),
        (nn.Linear(6, 3), (4, 6)),
    ],
)
def test_a_layer_is_pytorch_s_fake_quantization(layer, shape):
    """Beyond the range that was seen, too: there it is cut off."""
    torch.manual_seed(0)
    x = 3 * torch.randn(shape) + 1
    seen = Range()
    seen.see(x)
    seen.see(x / 2)
    step = (seen.high - seen.low) / LEVELS
    zero = round(-seen.low / step)
    scale = layer.weight.detach().flatten(1).abs().amax(1) / 127
    whole = torch.fake_quantize_per_channel_affine(
        layer.weight.detach(), scale, torch.zeros(len(scale), dtype=torch.int32), 0, -127, 127
    )
    rounded = Rounded(layer, seen)
    assert rounded.weight.dtype == torch.int8
    layer.weight.data.copy_(whole)
    for given in (x, 2 * x):
        expected = layer(torch.fake_quantize_per_tensor_affine(given, step, zero, 0, LEVELS))
        assert torch.allclose(rounded(given), expected, atol=1e-4)


def test_all_zeros_and_one_sign_stay_finite():
    layer = nn.Linear(4, 2)
    layer.weight.data.zero_()
    assert torch.isfinite(Rounded(layer, Range())(torch.zeros(1, 4))).all()
    seen = Range()
    seen.see(torch.tensor([5.0, 6.0]))
    assert (seen.low, seen.high) == (0, 6)


class Small(nn.Module):
    def __init__(self, first):
        super().__init__()
        self.first, self.lent = first, nn.Linear(4, 4)
        self.last = nn.Linear(4, 2)

    def forward(self, pixels):
        x = self.first(pixels.permute(0, 3, 1, 2).float()).mean((2, 3))
        return self.last(nn.functional.linear(x, self.lent.weight))


def test_what_lends_its_weights_stays_as_it_is():
    net = Small(nn.Conv2d(3, 4, 3)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    with torch.no_grad():
        before = net(torch.from_numpy(pixels))
        round_to_8_bits(net, [pixels, pixels[:1]])
        after = net(torch.from_numpy(pixels))
    assert isinstance(net.first, Rounded)
    assert isinstance(net.last, Rounded)
    assert type(net.lent) is nn.Linear
    assert not net.lent._forward_pre_hooks
    assert 0 < (before - after).abs().max() < 0.05 * before.abs().max()


def test_what_standardizes_its_weights_at_each_call_is_refused():
    net = Small(StdConv2d(3, 4, 3)).eval()
    with pytest.raises(NevusError, match="--format onnx"):
        round_to_8_bits(net, [np.zeros((1, 8, 8, 3), np.uint8)])
    assert isinstance(net.last, nn.Linear)
