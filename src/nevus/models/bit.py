"""BiT: ResNet-v2 with group normalization and weight standardization, and its small variants."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from nevus.errors import NevusError
from nevus.models.registry import BIT_NAME, UNITS
from nevus.models.timm_library import BatchNormAct2d, ResNetV2, StdConv2d, create_conv2d


def bit(name: str, *, classes: int = 0, seed: int = 0) -> ResNetV2:
    """Make a BiT by name, as `bit-r50x1` or `bit-r26x0.5`, with random weights.

    The network is timm's ResNetV2: pre-activation bottlenecks with the stride on the 3x3, GroupNorm of 32
    groups, weight-standardized convolutions (eps 1e-8), and the stem `fixed`: 7x7/2 convolution, zero padding
    of 1, then a 3x3/2 max-pool without padding. A max-pool that pads by itself pads with minus infinity, and
    differs at every border where all values are negative.

    Args:
        name: depth 26, 50, 101 or 152, `x`, width factor (a multiple of 0.5, so that 32 groups divide every
            width). `-bn` behind it takes batch normalization and plain convolutions in place of group
            normalization and weight standardization, to compare with.
        classes: outputs of the linear head, zero-initialized as for transfer; 0 gives the backbone, which maps
            float (n, 3, h, w) in [-1, 1] to features (n, 2048 * width).
        seed: of the random weights. The global generator is left as it was.

    Raises:
        NevusError: the name is no BiT's.

    """
    match = BIT_NAME.fullmatch(name)
    if not match or int(match[1]) not in UNITS or float(match[2]) % 0.5 or not 0.5 <= float(match[2]) <= 4:
        raise NevusError(f"Cannot make '{name}': it is no BiT. Write bit-r<26|50|101|152>x<width>, as in bit-r26x0.5.")
    norm = {"norm_layer": BatchNormAct2d, "conv_layer": create_conv2d} if match[3] else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ResNetV2(
            UNITS[int(match[1])],
            num_classes=0,
            width_factor=float(match[2]),
            stem_type="fixed",
            **{"conv_layer": partial(StdConv2d, eps=1e-8), **norm},
        )
    if classes:
        # Added last, so that the backbone's random weights do not depend on the number of classes.
        network.reset_classifier(classes)
        head = network.get_classifier()
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    return network
