import base64
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import save_file

from nevus.errors import NevusError
from nevus.models import weights
from nevus.models.bit import bit
from nevus.models.cached import cached_file, on_this_machine
from nevus.models.model import build_backbone
from nevus.models.npz import write_npz
from nevus.models.registry import BACKBONES, backbone_spec, is_permissive
from nevus.models.weights import download, fetch, load_pretrained


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NEVUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture
def server():
    """Serves `content`; breaks the connection after `breaks_after` bytes, as often as `breaks` says."""

    class State:
        content = bytes(range(256)) * 4000
        breaks, breaks_after = 0, 300_000
        ranges, md5 = True, None

        def __init__(self):
            self.asked = []

    state = State()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/missing":
                self.send_error(404)
                return
            span = self.headers.get("Range")
            state.asked.append(span)
            start = int(span.split("=")[1].rstrip("-")) if span and state.ranges else 0
            if start >= len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            digest = state.md5 or hashlib.md5(state.content).digest()
            self.send_header("x-goog-hash", "crc32c=AAAAAA==")
            self.send_header("x-goog-hash", "md5=" + base64.b64encode(digest).decode())
            self.end_headers()
            if state.breaks:
                state.breaks -= 1
                body = body[: state.breaks_after]
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        state.address = f"http://127.0.0.1:{made.server_port}"
        yield state
        made.shutdown()


def test_a_download_is_whole_and_its_digest_noted(server, tmp_path):
    fetch(f"{server.address}/a.npz", tmp_path / "new" / "a.npz")
    assert (tmp_path / "new" / "a.npz").read_bytes() == server.content
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.npz", "a.npz.sha256"]


def test_a_broken_connection_is_resumed_where_it_broke(server, tmp_path):
    server.breaks = 2
    fetch(f"{server.address}/a.npz", tmp_path / "a.npz", pause=0.01)
    assert (tmp_path / "a.npz").read_bytes() == server.content
    assert server.asked == [None, "bytes=300000-", "bytes=600000-"]


def test_what_an_earlier_process_left_is_used(server, tmp_path):
    (tmp_path / "a.npz.part").write_bytes(server.content[:1000])
    fetch(f"{server.address}/a.npz", tmp_path / "a.npz")
    assert server.asked == ["bytes=1000-"]
    assert (tmp_path / "a.npz").read_bytes() == server.content
    (tmp_path / "b.npz.part").write_bytes(server.content)
    fetch(f"{server.address}/b.npz", tmp_path / "b.npz")
    assert (tmp_path / "b.npz").read_bytes() == server.content


def test_a_server_that_cannot_resume_starts_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "a.npz.part").write_bytes(b"x" * 1000)
    fetch(f"{server.address}/a.npz", tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == server.content


def test_faults_of_the_download(server, tmp_path):
    with pytest.raises(NevusError, match="answers 404"):
        fetch(f"{server.address}/missing", tmp_path / "a.npz")
    server.md5 = b"0" * 16
    with pytest.raises(NevusError, match="came damaged"):
        fetch(f"{server.address}/a.npz", tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()
    with pytest.raises(NevusError, match="cannot be reached"):
        fetch("http://127.0.0.1:9/a.npz", tmp_path / "a.npz", tries=2, pause=0.01)


def test_offline_the_error_says_what_to_put_where(cache):
    with pytest.raises(NevusError) as caught:
        load_pretrained("bit-m-r50x1", classes=2)
    assert "nevus models --download bit-m-r50x1" in str(caught.value)
    assert "https://storage.googleapis.com/bit_models/BiT-M-R50x1.npz" in str(caught.value)
    assert str(cache / "weights" / "BiT-M-R50x1.npz") in str(caught.value)
    assert not on_this_machine(backbone_spec("bit-m-r50x1"))
    with pytest.raises(NevusError, match="has no weights to download"):
        download("bit-r26x0.5")


def random_upstream(classes=21_843 // 100):
    net = bit("bit-r50x1", classes=classes, seed=8)
    torch.nn.init.normal_(net.get_classifier().weight)
    return net.state_dict()


def test_cached_weights_are_loaded_without_their_head_and_checked(server, monkeypatch):
    spec = BACKBONES["bit-m-r50x1"]
    upstream = random_upstream()
    path = cached_file(spec)
    write_npz(upstream, path)
    server.content = path.read_bytes()
    path.unlink()
    monkeypatch.setitem(
        BACKBONES, spec.name, type(spec)(**{**vars(spec), "address": f"{server.address}/BiT-M-R50x1.npz"})
    )
    assert download("BiT-M-R50x1") == path
    asked = len(server.asked)
    assert download("bit-m-r50x1") == path
    assert len(server.asked) == asked
    net, sentence = load_pretrained("bit-m-r50x1", classes=2)
    assert torch.equal(net.norm.weight, upstream["norm.weight"])
    assert torch.equal(net.stages[3].blocks[2].conv3.weight, upstream["stages.3.blocks.2.conv3.weight"])
    assert not net.head.fc.weight.any()
    assert "ImageNet-21k" in sentence
    assert "Apache-2.0" in sentence
    assert on_this_machine(BACKBONES["bit-m-r50x1"])
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(NevusError, match="is not what was downloaded"):
        load_pretrained("bit-m-r50x1", classes=2)


def test_weights_from_a_path(tmp_path):
    source = build_backbone("bit-r26x0.5", classes=0, seed=11)
    write_npz(source.state_dict(), tmp_path / "a.npz")
    save_file(source.state_dict(), tmp_path / "a.safetensors")
    for name in ("a.npz", "a.safetensors"):
        net, sentence = load_pretrained("bit-r26x0.5", classes=3, weights=str(tmp_path / name))
        assert torch.equal(net.stem.conv.weight, source.stem.conv.weight)
        assert sentence.startswith(name)
        assert "sha256:" in sentence
    (tmp_path / "a.pth").write_bytes(b"pickle")
    with pytest.raises(NevusError, match="can hold pickled code"):
        load_pretrained("bit-r26x0.5", classes=3, weights=str(tmp_path / "a.pth"))
    with pytest.raises(NevusError, match="do not exist"):
        load_pretrained("bit-r26x0.5", classes=3, weights="nowhere.npz")
    with pytest.raises(NevusError, match="does not fit the network"):
        load_pretrained("bit-r50x1", classes=3, weights=str(tmp_path / "a.npz"))


def test_names_of_timm_and_the_hub():
    spec = backbone_spec("timm/resnet18.a1_in1k")
    assert (spec.origin, spec.image_size, spec.architecture) == ("hub", 224, "timm/resnet18")
    assert spec.mean == pytest.approx((0.485, 0.456, 0.406))
    with pytest.raises(NevusError, match="the weights of timm/resnet18.a1_in1k are not on this machine"):
        load_pretrained("timm/resnet18.a1_in1k", classes=2)
    with pytest.raises(NevusError, match="are not on this machine"):
        load_pretrained("hf-hub:someone/something", classes=2)
    with pytest.raises(NevusError, match="timm has no model"):
        backbone_spec("timm/nothing")
    with pytest.raises(NevusError, match="timm has no weights 'xyz'"):
        backbone_spec("timm/resnet18.xyz")
    net, sentence = load_pretrained("timm/resnet18", classes=2)
    assert sentence == "random"
    assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 2)
    assert not net.fc.weight.any()


def test_timm_s_tags_of_bit_are_trunks():
    spec = backbone_spec("timm/resnetv2_50x1_bit.goog_in21k")
    assert spec.license == "apache-2.0"
    assert is_permissive(spec.license)  # `--permissive-only` takes it
    assert spec.mean == (0.5, 0.5, 0.5)
    assert weights.on_this_machine(spec) is False


@pytest.mark.parametrize("name", ["timm/resnet18", "timm/efficientnet_b0"])
def test_a_trunk_of_timm_is_trained_saved_and_used(name, phantoms, tmp_path):
    import nevus
    from nevus.data.readers.dispatch import read
    from nevus.training.trainer import Trainer

    changes = {"image_size": 32, "batch_size": 8, "steps": 3, "warmup_steps": 1, "eval_interval": 2}
    Trainer(backbone=name, overrides=changes).fit(read(phantoms), tmp_path / "run")
    classifier = nevus.load(tmp_path / "run" / "bundle")
    assert classifier.bundle.spec.mean == pytest.approx((0.485, 0.456, 0.406))
    p = classifier.predict_proba(phantoms / "contact-sheet.jpg")
    assert p.sum() == pytest.approx(1)
