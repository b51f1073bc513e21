"""Networks: the backbone by name, and the classifier on it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from nevus.errors import NevusError
from nevus.models.bit import bit
from nevus.models.extra_architectures import OTHERS
from nevus.models.multi_stage import GroupedLogits, MultiStageFeatures, stage_info
from nevus.models.registry import BackboneSpec, backbone_spec
from nevus.models.spec import ModelSpec
from nevus.models.timm_library import timm


class ImageClassifier(nn.Module):
    """Pooled features of a backbone with a linear head, which is zero until a training sets it.

    Attributes:
        features: float (n, 3, h, w) to features (n, width).
        head: features to logits of the fine classes (n, fine classes).
        groups: logits of the fine classes to those of the classes; the identity without label groups.

    """

    def __init__(self, backbone: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.features = MultiStageFeatures(backbone, spec.feature_stages, spec.pooling)
        self.head = nn.Linear(self.features.width, len(spec.fine_classes))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.groups: nn.Module = GroupedLogits(spec.label_groups) if spec.label_groups else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map float (n, 3, h, w) to logits of the fine classes, which the loss is computed on."""
        return torch.as_tensor(self.head(self.features(x)))

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return logits of the classes, pooled features, and the evidence maps.

        An evidence map, (n, fine classes, h, w), is what each position of a feature map adds to the logits of the fine
        classes: its head's weights times the position's share of the pooled features. All of them and the head's bias
        add up to these logits, since pooling and head are linear in the shares (Zhou et al. 2016, *Learning Deep
        Features for Discriminative Localization*, equation 1, for several stages).
        """
        features, maps = self.features.forward_with_maps(x)
        return torch.as_tensor(self.groups(self.head(features))), features, self.evidence(maps)

    def evidence(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the evidence maps of feature maps; none where features are pooled in another way than by a mean."""
        found, start = [], 0
        for share in self.features.shares(maps) if maps and maps[-1].ndim == 4 else []:
            weight = self.head.weight[:, start : start + share.shape[1]]
            found.append(torch.nn.functional.conv2d(share, weight[:, :, None, None]))
            start += share.shape[1]
        return found if start == self.features.width else []


def build_model(spec: ModelSpec, backbone: nn.Module | None = None) -> ImageClassifier:
    """Make the network of a specification.

    Args:
        spec: everything that the network is.
        backbone: with its weights, as `nevus.models.weights.load_pretrained` gives it; random weights by default.

    Raises:
        NevusError: there is no such backbone, or it has fewer stages.

    """
    return ImageClassifier(build_backbone(spec.backbone) if backbone is None else backbone, spec)


def build_backbone(name: str, *, classes: int = 0, seed: int = 0) -> nn.Module:
    """Make the network of a backbone with random weights.

    Args:
        name: of the backbone.
        classes: 0 for the backbone alone, float (n, 3, h, w) to features (n, features); else the outputs of a
            zero-initialized linear head on it, as pre-training needs it.
        seed: of the random weights.

    Raises:
        NevusError: there is no backbone of that name.

    """
    architecture = backbone_spec(name).architecture
    if architecture.startswith("bit-"):
        network: nn.Module = bit(architecture, classes=classes, seed=seed)
        return network
    return _foreign(architecture.removeprefix("timm/"), classes, seed)


def _foreign(model: str, classes: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network: nn.Module = (
                OTHERS[model]() if model in OTHERS else timm.create_model(model, pretrained=False, num_classes=0)
            )
        except (RuntimeError, OSError, ValueError) as error:  # hf-hub: asks the hub for its description
            raise NevusError(
                f"Cannot make the network {model}: {str(error).splitlines()[0]}. Check its name and the connection."
            ) from None
        if classes:
            network.reset_classifier(classes)  # type: ignore[operator]
    if classes:
        for parameter in classifier_head(network).parameters():
            nn.init.zeros_(parameter)
    return network


def stage_count(spec: BackboneSpec) -> int:
    """Return how many stages of a backbone can be used as features; 0 if it exposes none."""
    with torch.device("meta"):  # a network without memory
        network = build_backbone(spec.name)
    return len(stage_info(network)) if hasattr(network, "forward_intermediates") else 0


def classifier_head(whole: nn.Module) -> nn.Module:
    """The linear head of a network.

    Raises:
        NevusError: its head is not one linear layer, so that it cannot be set from features.

    """
    head = whole.get_classifier()  # type: ignore[operator]
    if isinstance(head, nn.Linear) or (isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1)):
        return head
    raise NevusError(
        f"Cannot use this backbone: the head of {type(whole).__name__} is no single linear layer. Choose another one."
    )


def without_head(whole: nn.Module) -> nn.Module:
    """A copy of a network without its head: float (n, 3, h, w) -> features (n, features)."""
    backbone = copy.deepcopy(whole)
    backbone.reset_classifier(0)  # type: ignore[operator]
    return backbone
