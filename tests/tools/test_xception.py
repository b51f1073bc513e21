"""The Xception of the teacher sklesion against Keras: the same architecture with random weights."""

import numpy as np
import pytest
import torch
from tools.xception import METADATA, read_xception


@pytest.fixture
def keras(monkeypatch):
    """Keras, with PyTorch for its computations."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras", reason="keras comes with nevus[test]")


def built(keras):
    """Build the layers of the package's config.json."""
    from keras import layers

    picture, known = layers.Input((254, 254, 3)), layers.Input((METADATA,))
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(1).normal((194, 139, 144), 37, (64, 8, 8, 3)))
    x = keras.applications.Xception(include_top=False, weights=None, input_shape=(254, 254, 3), pooling="avg")(
        normalization(picture)
    )
    second = layers.BatchNormalization()(layers.Dense(224, activation="relu")(known))
    first = layers.Dense(264, activation="relu")(layers.Dropout(0.3)(x))
    second = layers.Dense(64, activation="relu")(second)
    first, second = layers.BatchNormalization()(first), layers.BatchNormalization()(second)
    joined = layers.Dropout(0.2)(layers.Concatenate()([first, second]))
    joined = layers.BatchNormalization()(layers.Dense(32, activation="relu")(joined))
    return keras.Model([picture, known], layers.Dense(7, activation="softmax")(joined))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras's own, with NumPy 2
def test_a_converted_network_agrees_with_keras(keras, tmp_path):
    keras.utils.set_random_seed(0)
    model = built(keras)
    rng = np.random.default_rng(0)
    for layer in model.layers:  # of batch normalization, too: fresh statistics would hide an exchanged layer
        for part in getattr(layer, "layers", [layer]):
            if part.__class__.__name__ == "BatchNormalization":
                shape = part.get_weights()[0].shape
                ranges = ((0.5, 1.5), (-0.5, 0.5), (-0.1, 0.1), (0.2, 0.5))  # scale, shift, mean, variance
                part.set_weights([rng.uniform(*ends, shape).astype(np.float32) for ends in ranges])
    model.save_weights(tmp_path / "model.weights.h5")
    net, mean, variance = read_xception(tmp_path / "model.weights.h5")
    pixels = np.kron(rng.integers(0, 256, (2, 2, 2, 3)), np.ones((1, 127, 127, 1))).astype(np.float32)
    normalized = (pixels - mean.astype(np.float32)) / np.sqrt(variance).astype(np.float32)
    with torch.no_grad():
        ours = net(torch.from_numpy(normalized).permute(0, 3, 1, 2)).numpy()
    features = model.get_layer("xception")(normalized)
    theirs = (
        keras.ops.convert_to_numpy(features),
        keras.ops.convert_to_numpy(model([pixels, np.zeros((2, METADATA), np.float32)])),
    )
    assert np.ptp(theirs[0], axis=0).max() > 0.01 * np.abs(theirs[0]).max()  # the images differ
    assert np.allclose(ours[:, :-7], theirs[0], atol=1e-5 * np.abs(theirs[0]).max())
    assert np.allclose(ours[:, -7:], theirs[1], atol=1e-5)
    assert theirs[1].max() < 0.99
