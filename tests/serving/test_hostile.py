"""Hostile files: none takes the service down, none gives another error than 503."""

import random

import httpx
import pytest
from tests.serving.conftest import sent, start

from nevus.phantoms.dataset import PhantomConfig, write

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP")


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Whole images in every format, a DICOM file among them."""
    import io

    from PIL import Image
    from tests.serving.dicom_files import photograph

    folder = tmp_path_factory.mktemp("originals")
    write(PhantomConfig(n=4, image_size=64, seed=1), folder / "set", workers=1)
    path = next((folder / "set").rglob("*.png"), None) or next((folder / "set").rglob("*.jpg"))
    found = []
    with Image.open(path) as image:
        for name in FORMATS:
            out = io.BytesIO()
            image.convert("RGB").save(out, format=name)
            found.append(out.getvalue())
        found.append(photograph(image.convert("RGB")))
    return found


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Change a file: bytes flipped, cut, repeated, or a number in it made huge."""
    data = bytearray(content)
    kind = rng.randrange(5)
    if kind == 0:
        return bytes(data[: rng.randrange(len(data))])
    for _ in range(rng.choice((1, 3, 10, 50))):
        place = rng.randrange(len(data))
        if kind == 1:
            data[place] = rng.randrange(256)
        elif kind == 2:
            data[place : place + 4] = b"\xff\xff\xff\xff"
        elif kind == 3:
            end = min(len(data), place + rng.randrange(1, 200))
            data[place:place] = data[place:end]
        else:
            del data[place : place + rng.randrange(1, 50)]
            if not data:
                return b""
    return bytes(data)


def bombard(server, originals, inputs: int, seed: int) -> int:
    """Send mutated files; return how many were still images."""
    rng, usable = random.Random(seed), 0
    with httpx.Client(base_url=server.url, timeout=90) as client:
        for start_at in range(0, inputs, 20):
            files = [mutated(rng.choice(originals), rng) for _ in range(min(20, inputs - start_at))]
            answer = client.post("/v1/predictions", files=sent(*files))
            assert answer.status_code in (200, 503), answer.text
            if answer.status_code == 200:
                found = answer.json()["predictions"]
                assert len(found) == len(files)
                usable += sum(one["error"] is None for one in found)
        whole = client.post("/v1/predictions", files=sent(*originals)).json()["predictions"]
        assert [one["error"] for one in whole] == [None] * len(originals)
    assert server.process.poll() is None
    return usable


def test_mutated_files(server, originals):
    assert 0 < bombard(server, originals, 500, seed=0) < 500


@pytest.mark.long
def test_many_mutated_files(server, originals):
    assert 0 < bombard(server, originals, 10_000, seed=1) < 10_000


def test_bombs(bundle_folder, tmp_path, jpeg):
    """Images whose header promises more than memory holds, and a decoder that is killed by its limit."""
    import io
    import struct
    import zlib

    from PIL import Image

    def png(width, height, data):
        def chunk(kind, body):
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")

    running = start(tmp_path, bundle_folder, "--decode-memory", str(400 * 2**20))
    try:
        large = io.BytesIO()
        Image.new("RGB", (7000, 7000)).save(large, format="PNG")  # 49 million pixels in 140 kB: within the pixel limit
        bombs = [png(100_000, 100_000, bytes(10**6)), png(2**31 - 1, 1, b""), png(6000, 6000, b""), large.getvalue()]
        for bomb in bombs:
            found = httpx.post(f"{running.url}/v1/predictions", files=sent(bomb, jpeg()), timeout=90).json()[
                "predictions"
            ]
            assert found[0]["error"]
            assert found[1]["error"] is None
    finally:
        running.stop()


def test_a_decoder_that_hangs_is_replaced(bundle_folder, tmp_path, jpeg):
    """The processes are stopped from outside; requests that met them are answered, later ones are predicted."""
    import os
    import signal

    import psutil

    running = start(tmp_path, bundle_folder, "--decode-timeout", "1")
    try:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for child in psutil.Process(running.process.pid).children():
                os.kill(child.pid, number)
            found = httpx.post(f"{running.url}/v1/predictions", files=sent(jpeg(), jpeg()), timeout=60).json()[
                "predictions"
            ]
            assert all("too much time or memory" in one["error"] for one in found)
            again = httpx.post(f"{running.url}/v1/predictions", files=sent(jpeg()), timeout=60).json()["predictions"]
            assert again[0]["error"] is None
        assert "nevus_decoder_restarts 4.0" in httpx.get(f"{running.url}/metrics").text
    finally:
        running.stop()


@pytest.mark.long
def test_memory_is_flat_over_many_requests(bundle_folder, tmp_path, jpeg):
    """10,000 requests; between the 2,000th and the last the memory of all processes grows by less than 5 %."""
    import psutil

    running = start(tmp_path, bundle_folder)
    parent = psutil.Process(running.process.pid)

    def memory() -> int:
        return sum(one.memory_info().rss for one in (parent, *parent.children()))

    contents = [jpeg(seed, size=(300 + seed, 200)) for seed in range(40)]
    early = 0
    try:
        with httpx.Client(base_url=running.url, timeout=60) as client:
            for number in range(10_000):
                assert client.post("/v1/predictions", files=sent(contents[number % 40])).status_code == 200
                if number == 2000:
                    early = memory()
        assert memory() < 1.05 * early
    finally:
        running.stop()
