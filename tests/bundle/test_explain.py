import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, Occlusion
from tests.helpers import small_bundle

import nevus
from nevus.bundle.explain import GRID, class_weights, enlarged, explain
from nevus.data.preprocess import resize_square
from nevus.errors import NevusError
from nevus.models.label_groups import LabelGroups
from nevus.runtime.tta import tta_views, untransform

POLICIES = ("none", "flip", "crop-color", "invariant", "d4", "all")
GROUPS = LabelGroups.parse(["benign=a,b", "malignant=c"], ["a", "b", "c"], ["b=0.2"])


def images(n=3, size=80, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (n, 10, 10, 3), dtype=np.uint8)
    return list(np.kron(small, np.ones((1, size // 10, size // 10, 1), np.uint8)))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("pooling", ["avg", "stats"])
def test_the_map_adds_up_to_the_difference_of_the_logits(tmp_path, policy, pooling):
    bundle = small_bundle(tmp_path / "b", tta=policy, feature_stages=2, pooling=pooling)
    classifier = nevus.load(bundle.folder)
    bias = bundle.load_network().head.bias.detach().numpy()
    for one in explain(classifier, images()):
        logits = one.prediction.logits
        assert one.method == "exact"
        assert one.margin == pytest.approx(logits[1] - logits[0], abs=1e-4)
        # What no pixel adds is the difference of the biases, and the constant inside a standard deviation's root.
        tolerance = 1e-4 if pooling == "avg" else 1e-2
        # Logits are sums in float32, of which the sixth digit depends on the processor.
        assert one.map.sum() == pytest.approx(one.margin - (bias[1] - bias[0]), rel=1e-6, abs=tolerance)


def test_a_group_of_labels_leaves_the_entropy_of_its_shares(tmp_path):
    bundle = small_bundle(tmp_path / "b", label_groups=GROUPS, classes=("benign", "malignant"), feature_stages=1)
    network = bundle.load_network()
    bias, prior = network.head.bias.detach().numpy(), np.log(GROUPS.class_prior)
    for one in explain(nevus.load(bundle.folder), images()):
        with torch.inference_mode():
            square = torch.tensor(resize_square(one.prediction.image, bundle.spec.image_size))
            fine = network(square.permute(2, 0, 1)[None].float() / 127.5 - 1).numpy()
        weights = class_weights(fine.astype(np.float64), GROUPS)[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -np.where(weights > 0, weights * np.log(weights), 0).sum(1)
        rest = (weights * (bias + prior)).sum(1) + entropy
        assert one.constant == pytest.approx(rest[1] - rest[0], abs=2e-3)
        assert weights.sum(1) == pytest.approx([1, 1])


def test_the_map_of_the_last_stage_is_grad_cam(tmp_path):
    """Oracle: captum's Grad-CAM without its ReLU, which is exact for average pooling and a linear head."""
    bundle = small_bundle(tmp_path / "b", feature_stages=0)
    network = bundle.load_network()
    (one,) = explain(nevus.load(bundle.folder), images(1))
    square = np.asarray(resize_square(images(1)[0], bundle.spec.image_size))
    x = torch.tensor(square).permute(2, 0, 1)[None].float() / 127.5 - 1
    cam = LayerGradCam(network, network.features.backbone.norm)
    maps = [cam.attribute(x, target=k, relu_attributions=False).detach().numpy()[0, 0] for k in (1, 0)]
    assert one.map == pytest.approx(enlarged((maps[0] - maps[1]).astype(np.float64), bundle.spec.image_size), abs=1e-4)


def test_occlusion_is_that_of_captum(tmp_path):
    bundle = small_bundle(tmp_path / "b", image_size=48)
    (bundle.folder / "model.onnx").unlink()  # no graph, so no evidence maps
    classifier = nevus.Classifier(bundle, engine="torch")
    image = images(1, 48 // 10 * 10)[0]
    (one,) = explain(classifier, [image])
    assert one.method == "occlusion"
    square = np.asarray(resize_square(image, 48))
    x = torch.tensor(square).permute(2, 0, 1)[None].float()
    mean = torch.from_numpy(square.mean((0, 1)).round()).view(1, 3, 1, 1).expand(1, 3, 48, 48).float()

    def margin(pixels):
        logits = classifier.engine(pixels.permute(0, 2, 3, 1).numpy().astype(np.uint8))
        return torch.from_numpy(logits[:, 1] - logits[:, 0])

    window = (3, 48 // GRID, 48 // GRID)
    oracle = Occlusion(margin).attribute(x, sliding_window_shapes=window, strides=window, baselines=mean)
    assert one.map == pytest.approx(oracle[0, 0].numpy(), abs=1e-3)


def test_a_map_changes_when_the_weights_do(tmp_path):
    """The sanity check of Adebayo et al. 2018: a map of random weights is another one."""
    maps = []
    for seed in (5, 6):
        bundle = small_bundle(tmp_path / str(seed), seed=seed, feature_stages=2)
        maps.append(next(explain(nevus.load(bundle.folder), images(1))).map.ravel())
    assert abs(np.corrcoef(maps)[0, 1]) < 0.8


@pytest.mark.parametrize("policy", POLICIES)
def test_a_map_is_moved_back_to_where_its_pixels_come_from(policy):
    """Each view of an image with one bright block has its maximum there again, and no mass is lost."""
    size = 40
    image = np.full((1, size, size, 3), 40, np.uint8)
    image[0, 8:14, 24:32] = 255
    views = tta_views(image, policy)
    back = untransform([view.astype(np.float64).mean(3) for view in views], policy)
    for view, one in zip(views, back, strict=True):
        assert one.sum() == pytest.approx(view.astype(np.float64).mean(3).sum(), rel=1e-9)
        weight = np.maximum(one[0] - np.quantile(one[0], 0.9), 0)
        center = [(weight.sum(axis) * np.arange(size)).sum() / weight.sum() for axis in (1, 0)]
        assert center == pytest.approx([10.5, 27.5], abs=1.5)


def test_an_unknown_class_is_refused_and_a_bad_image_goes_on(tmp_path):
    classifier = nevus.load(small_bundle(tmp_path / "b").folder)
    with pytest.raises(NevusError, match="the classes are"):
        next(explain(classifier, images(1), "nothing"))
    (tmp_path / "bad.jpg").write_text("no image")
    first, second = explain(classifier, [tmp_path / "bad.jpg", images(1)[0]])
    assert "bad.jpg" in first.prediction.error
    assert second.map.shape == (classifier.bundle.spec.image_size,) * 2
    assert second.overlay(images(1)[0]).size == (80, 80)


@pytest.mark.parametrize("policy", ["none", "invariant"])
def test_predictions_of_explanations_are_those_of_the_classifier(tmp_path, policy):
    bundle = small_bundle(tmp_path / "b", tta=policy, feature_stages=2)
    (tmp_path / "bad.jpg").write_text("no image")
    classifier, given = nevus.load(bundle.folder), [*images(10), tmp_path / "bad.jpg", *images(2, seed=1)]
    found = [one.prediction for one in explain(classifier, given)]
    for one, other in zip(found, classifier.stream(given), strict=True):
        assert (one.error, one.decision, one.flag, one.kind) == (other.error, other.decision, other.flag, other.kind)
        if one.error is None:
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    assert found[10].error is not None
