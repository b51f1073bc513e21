"""Networks beside BiT and timm's own, for which real weights can be had without a hub."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nevus.models.timm_library import Bottleneck, ClassifierHead, ResNet, timm


def vgg16_base() -> nn.Module:
    """Build the convolutions of VGG16 (Simonyan and Zisserman 2015) with average pooling: (n, 3, h, w) to (n, 512).

    The fully connected layers, nine tenths of its weights, are specific to the classes that they were trained on.
    """
    made: nn.Module = timm.create_model("vgg16", num_classes=0)
    made.pre_logits = nn.Identity()
    made.head = ClassifierHead(512, 0, pool_type="avg")
    made.head_hidden_size = 512  # type: ignore[assignment]
    return made


def resnet50_half() -> nn.Module:
    """ResNet-50 of half width as Yahoo's open_nsfw has it: float (n, 3, h, w) to (n, 1024).

    The first, Caffe's form of the network (He et al. 2016): the stride is on a block's first convolution, not on
    its 3x3; the max-pool pads below and to the right only.
    """
    made = ResNet(Bottleneck, (3, 4, 6, 3), num_classes=0, channels=(32, 64, 128, 256))
    made.maxpool = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2))  # behind a ReLU: no value is below 0
    for stage in (made.layer2, made.layer3, made.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return cast(nn.Module, made)


class Uncounted(nn.Module):
    """Makes of a 3x3 mean that counts the padding one that does not."""

    def forward(self, x: Tensor) -> Tensor:
        """Float (n, c, h, w), the same shape."""
        share = F.avg_pool2d(torch.ones_like(x[:1, :1]), 3, 1, 1)
        return x / share


def inception_v3_keras() -> nn.Module:
    """Inception V3 (Szegedy et al. 2016) as Keras has it: float (n, 3, h, w) to (n, 2048).

    timm's, but that the means over 3x3 pixels within its blocks do not count the padding.
    """
    made = timm.create_model("inception_v3", num_classes=0)
    for block in made.children():
        # The two blocks that halve the resolution have no mean.
        if hasattr(block, "branch_pool"):
            block.branch_pool = nn.Sequential(Uncounted(), block.branch_pool)
    return cast(nn.Module, made)


OTHERS: dict[str, Callable[[], nn.Module]] = {
    "vgg16-base": vgg16_base,
    "resnet50-half": resnet50_half,
    "inception-v3-keras": inception_v3_keras,
}
"""By architecture: each makes the network without a head, with random weights."""
