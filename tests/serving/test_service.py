"""The API against the classifier itself, its limits, its records, and its end."""

import hashlib
import io
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest
from PIL import Image
from tests.serving.conftest import sent, start

import nevus
from nevus.register.register import Register


def test_predictions_are_those_of_the_classifier(server, bundle_folder, jpeg, tmp_path):
    contents = [jpeg(seed) for seed in range(5)]
    answer = server.post("/v1/predictions", files=sent(*contents, name="my image.jpg"))
    assert answer.status_code == 200
    found = answer.json()
    paths = []
    for number, content in enumerate(contents):
        paths.append(tmp_path / f"{number}.jpg")
        paths[-1].write_bytes(content)
    frame = nevus.load(bundle_folder).predict_frame(paths)
    assert len(found["predictions"]) == 5
    for one, (_, row) in zip(found["predictions"], frame.iterrows(), strict=True):
        assert one["probabilities"] == pytest.approx({c: row[f"p_{c}"] for c in ("benign", "malignant")}, abs=1e-5)
        assert [one["label"], one["decision"], "|".join(one["set"]), one["flag"]] == [
            row["label"],
            row["decision"],
            row["set"],
            row["flag"],
        ]
        assert one["image"] == "my image.jpg"
        assert one["error"] is None
    assert found["model"]["digest"] == nevus.load(bundle_folder).bundle.digest
    assert "Research use only" in found["disclaimer"]


def test_every_format_is_read(server, jpeg):
    files = {format: jpeg(1, format=format) for format in ("JPEG", "PNG", "TIFF", "WEBP")}
    one = server.post("/v1/predictions", files=sent(*files.values())).json()["predictions"]
    assert [each["error"] for each in one] == [None] * 4
    assert one[1]["probabilities"] == pytest.approx(one[2]["probabilities"], abs=1e-6)  # both are lossless


def test_a_photograph_of_a_phone_is_read(server, jpeg, tmp_path):
    """HEIC, as iPhones write it; a browser does not show it, so that it gets a preview."""
    if shutil.which("heif-enc") is None:
        pytest.skip("heif-enc is not installed; scripts/debian-packages installs it")
    (tmp_path / "photo.jpg").write_bytes(jpeg(1, size=(128, 96)))
    command = ["heif-enc", "-q", "90", str(tmp_path / "photo.jpg"), "-o", str(tmp_path / "photo.heic")]
    subprocess.run(command, check=True, capture_output=True)
    contents = [(tmp_path / name).read_bytes() for name in ("photo.heic", "photo.jpg")]
    heic = server.post("/v1/predictions", files=sent(contents[0])).json()["predictions"][0]
    assert heic["error"] is None
    preview = server.get(f"/v1/predictions/{heic['id']}/preview.jpg").content
    shown, original = (np.asarray(Image.open(io.BytesIO(one)), float) for one in (preview, contents[1]))
    assert np.abs(shown - original).mean() < 8  # the same picture, in gray levels, after two lossy formats


def test_a_file_that_cannot_be_read_is_an_entry(server, jpeg):
    whole = jpeg()
    contents = [b"no image", whole, b"", whole[: len(whole) // 2], b"<svg/>"]
    found = server.post("/v1/predictions", files=sent(*contents, name="../../etc/x\x07.jpg")).json()["predictions"]
    assert [one["error"] is None for one in found] == [False, True, False, False, False]
    assert found[0]["probabilities"] is None
    assert found[0]["decision"] is None
    assert found[0]["outcome"].startswith("Cannot judge.")


def test_a_prediction_its_heat_map_and_its_diagnosis(server, jpeg):
    one = server.post("/v1/predictions", files=sent(jpeg(3))).json()["predictions"][0]
    again = server.get(f"/v1/predictions/{one['id']}").json()
    assert again == {**one, "image": None}
    for background, mode in (("image", "RGB"), ("none", "RGBA")):
        answer = server.get(f"/v1/predictions/{one['id']}/heatmap.png?background={background}")
        assert answer.headers["content-type"] == "image/png"
        with Image.open(io.BytesIO(answer.content)) as image:
            assert image.mode == mode
            assert len(np.unique(np.asarray(image))) >= 4
    outcomes = [{"id": one["id"], "label": "malignant"}, {"id": "0" * 32, "label": "benign"}]
    outcomes.append({"id": one["id"], "label": "cat"})
    entered = server.post("/v1/outcomes", json={"outcomes": outcomes}).json()
    assert entered["accepted"] == 1
    assert [problem["id"] for problem in entered["problems"]] == ["0" * 32, one["id"]]
    table = Register(server.database).frame().set_index("id")
    assert table.loc[one["id"], "outcome"] == "malignant"


def test_unknown_ids(server):
    for path in ("", "/heatmap.png", "/preview.jpg"):
        assert server.get(f"/v1/predictions/{'0' * 32}{path}").status_code == 404
        assert server.get(f"/v1/predictions/..%2f{path}").status_code in (404, 422)


def test_a_format_that_browsers_do_not_show_has_a_preview(server, jpeg):
    tiff, usual = server.post("/v1/predictions", files=sent(jpeg(2, format="TIFF"), jpeg(2))).json()["predictions"]
    answer = server.get(f"/v1/predictions/{tiff['id']}/preview.jpg")
    assert answer.content.startswith(b"\xff\xd8\xff")
    assert server.get(f"/v1/predictions/{usual['id']}/preview.jpg").status_code == 404


def test_what_is_recorded(server, jpeg):
    content = jpeg(7)
    answer = server.post("/v1/predictions", files=sent(content, name="Jane Doe 1970.jpg")).json()
    row = Register(server.database).frame().set_index("id").loc[answer["predictions"][0]["id"]]
    assert row["image_digest"] == hashlib.sha256(content).hexdigest()
    assert row["model_digest"] == answer["model"]["digest"]
    assert row["client"] == "127.0.0.1"
    assert row["request_id"] == answer["request_id"]
    assert set(row["scores"]) == {"foreign", "photograph", "sharpness"}
    assert abs(row["time"].timestamp() - time.mktime(time.gmtime())) < 60
    raw = b"".join(path.read_bytes() for path in server.folder.glob("register.sqlite*"))
    assert b"Jane Doe" not in raw  # a file's name may name the patient


def test_headers_and_the_page(server):
    answer = server.get("/")
    assert "Research use only" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers
    for url in ("/static/app.js", "/static/style.css", "/static/icon.svg"):
        assert server.get(url).status_code == 200
    assert "access-control-allow-origin" not in server.get("/healthz", headers={"Origin": server.url}).headers
    assert server.get("/docs").status_code == 404


def test_other_hosts_and_sites_are_refused(server, jpeg):
    """Against DNS rebinding, and against forms of other pages in a browser of this machine."""
    wrong = ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"})
    for headers in (*wrong, {"Origin": "null"}):
        assert server.post("/v1/predictions", files=sent(jpeg()), headers=headers).status_code == 403
    assert server.get("/healthz", headers={"Host": "localhost"}).status_code == 200
    assert server.get("/healthz", headers={"Host": f"localhost:{server.url.rpartition(':')[2]}"}).status_code == 200


def test_wrong_requests_are_refused_in_one_sentence(server, jpeg):
    client = server
    cases = [
        (client.post("/v1/predictions"), 422),
        (
            client.post("/v1/predictions", content=b"--x", headers={"content-type": "multipart/form-data; boundary=x"}),
            422,
        ),
        (client.post("/v1/predictions", content=b"x", headers={"content-type": "multipart/form-data"}), 400),
        (client.post("/v1/predictions", files=sent(jpeg()), data={"sensitivity": "nan"}), 422),
        (client.post("/v1/predictions", files=sent(jpeg()), data={"sensitivity": "0.5"}), 422),
        (client.post("/v1/predictions", files=sent(*[jpeg()] * 40)), 413),
        (client.post("/v1/outcomes", content=b"{", headers={"content-type": "application/json"}), 422),
        (client.post("/v1/outcomes", json={"outcomes": []}), 422),
        (client.get("/v1/nothing"), 404),
        (client.delete("/v1/predictions"), 405),
    ]
    for answer, status in cases:
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert error
        assert "Traceback" not in error
        assert "site-packages" not in error


def test_decisions_at_a_chosen_sensitivity(tmp_path, jpeg):
    """A value that differs from a known one by rounding is that one."""
    running = start(tmp_path, "malignant-benign")
    try:
        for value, recorded in (("0.8", 0.8), ("0.900000000001", 0.9), ("0.95", 0.95)):
            answer = running.post("/v1/predictions", files=sent(jpeg()), data={"sensitivity": value})
            identifier = answer.json()["predictions"][0]["id"]
            register = Register(running.database)
            assert register.get(identifier).sensitivity == recorded
            register.close()
        answer = running.post("/v1/predictions", files=sent(jpeg()), data={"sensitivity": "0.99"})
        assert answer.status_code == 422
        assert "it has thresholds for 0.8, 0.9, 0.95, 0.98" in answer.json()["error"]
    finally:
        running.stop()


def test_names_are_not_recorded_and_control_characters_are_refused(server, jpeg):
    answer = server.post("/v1/predictions", files=sent(b"bad", name="Jane Doe.jpg")).json()["predictions"][0]
    assert answer["image"] == "Jane Doe.jpg"
    assert "Jane" not in answer["error"]
    assert "Jane" not in server.get(f"/v1/predictions/{answer['id']}").text
    good = server.post("/v1/predictions", files=sent(jpeg())).json()["predictions"][0]
    for outcome in ({"label": "benign\0"}, {"label": "benign", "confirmed_by": "\0"}):
        assert server.post("/v1/outcomes", json={"outcomes": [{"id": good["id"], **outcome}]}).status_code == 422


def test_odd_headers_are_refused(server):
    assert server.get("/healthz", headers={"Origin": "http://["}).status_code == 403
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert server.get("/", headers=link).status_code == 200  # a link to the page
    assert server.get("/v1/model", headers=link).status_code == 403
    large = {"outcomes": [{"id": "0" * 32, "label": "x" * 2_000_000}]}
    assert server.post("/v1/outcomes", json=large).status_code == 413


def test_concurrent_requests_give_what_single_ones_give(server, jpeg):
    contents = [jpeg(seed, size=(50 + seed, 40)) for seed in range(24)]
    alone = [server.post("/v1/predictions", files=sent(one)).json()["predictions"][0] for one in contents]
    found: dict[int, dict] = {}

    def ask(number):
        answer = httpx.post(f"{server.url}/v1/predictions", files=sent(contents[number]), timeout=60)
        found[number] = answer.json()["predictions"][0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, one in enumerate(alone):
        assert found[number]["probabilities"] == pytest.approx(one["probabilities"], abs=1e-5)
    sizes = httpx.get(f"{server.url}/metrics").text
    assert 'nevus_batch_images_bucket{le="1.0"}' in sizes
    assert 'route="/v1/predictions",status="200"' in sizes


def test_a_token_is_needed_on_other_addresses(bundle_folder, tmp_path, jpeg):
    command = [
        sys.executable,
        "-m",
        "nevus",
        "serve",
        "--bundle",
        str(bundle_folder),
        "--host",
        "0.0.0.0",
        "--port",
        "0",
    ]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "NEVUS_TOKEN": ""})
    assert refused.returncode == 2
    assert "without a token" in refused.stderr
    short = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "NEVUS_TOKEN": "x"})
    assert "at least 16" in short.stderr
    running = start(tmp_path, bundle_folder, NEVUS_TOKEN="correct horse battery")
    try:
        with running.client as client:
            assert client.get("/readyz").status_code == 200
            for headers in ({}, {"Authorization": "Bearer wrong horse battery"}, {"Authorization": "Bearer é"}):
                sends = {name: value.encode() for name, value in headers.items()}
                answer = client.post("/v1/predictions", files=sent(jpeg()), headers=sends)
                assert answer.status_code == 401
                assert client.get("/metrics", headers=sends).status_code == 401
                assert client.get("/v1/model", headers=sends).status_code == 401
            good = {"Authorization": "Bearer correct horse battery"}
            assert client.post("/v1/predictions", files=sent(jpeg()), headers=good).status_code == 200
            assert client.get("/").status_code == 200
    finally:
        running.stop()


def test_limits_of_size_number_and_time(bundle_folder, tmp_path, jpeg, picture):
    flags = ["--max-request-bytes", "60000", "--max-file-bytes", "20000", "--max-waiting", "1", "--max-pixels", "90000"]
    running = start(tmp_path, bundle_folder, *flags, "--request-timeout", "2")
    try:
        large = np.random.default_rng(0).bytes(30_000)
        one = httpx.post(f"{running.url}/v1/predictions", files=sent(large)).json()["predictions"][0]
        assert "20,000 bytes" in one["error"]
        whole = np.random.default_rng(0).bytes(100_000)
        assert httpx.post(f"{running.url}/v1/predictions", files=sent(whole)).status_code == 413

        def chunks():
            yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
            for _ in range(20):
                yield bytes(8000)

        kind = {"content-type": "multipart/form-data; boundary=x"}
        answer = httpx.post(f"{running.url}/v1/predictions", content=chunks(), headers=kind)  # no Content-Length
        assert answer.status_code == 413
        many = jpeg(size=(400, 300))
        assert (
            "pixels" in httpx.post(f"{running.url}/v1/predictions", files=sent(many)).json()["predictions"][0]["error"]
        )

        def slow():
            yield b"--x\r\n"
            time.sleep(4)

        began = time.monotonic()
        answers = []
        waiter = threading.Thread(
            target=lambda: answers.append(
                httpx.post(f"{running.url}/v1/predictions", content=slow(), headers=kind, timeout=9)
            )
        )
        waiter.start()
        time.sleep(0.7)
        busy = httpx.post(f"{running.url}/v1/predictions", files=sent(jpeg()))
        assert busy.status_code == 503
        assert busy.headers["retry-after"]
        waiter.join()
        assert answers[0].status_code == 503
        assert time.monotonic() - began < 8
        assert httpx.post(f"{running.url}/v1/predictions", files=sent(jpeg())).status_code == 200
    finally:
        running.stop()


def test_kept_images_have_their_digest_as_name(bundle_folder, tmp_path, jpeg):
    kept = tmp_path / "kept"
    running = start(tmp_path, bundle_folder, "--keep-images", str(kept))
    content = jpeg(5)
    one = httpx.post(f"{running.url}/v1/predictions", files=sent(content, name="../../x.sh")).json()["predictions"][0]
    running.stop()
    assert [path.name for path in kept.iterdir()] == [f"{hashlib.sha256(content).hexdigest()}.jpg"]
    running = start(tmp_path, bundle_folder, "--keep-images", str(kept))  # the image is no longer in memory
    assert httpx.get(f"{running.url}/v1/predictions/{one['id']}/heatmap.png").status_code == 200
    running.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_acknowledged_prediction_is_lost(bundle_folder, tmp_path, jpeg, number):
    """SIGTERM finishes what is under way; after SIGKILL the register has everything that was answered."""
    running = start(tmp_path, bundle_folder)
    acknowledged: list[str] = []
    failed: list[Exception] = []

    def ask(seed):
        with running.client as client:
            for step in range(200):
                try:
                    answer = client.post("/v1/predictions", files=sent(jpeg(seed * 1000 + step)))
                    acknowledged.append(answer.json()["predictions"][0]["id"])
                except (httpx.TransportError, ValueError, KeyError) as error:
                    failed.append(error)
                    return

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 30:
        time.sleep(0.01)
    status = running.stop(number)
    for thread in threads:
        thread.join()
    assert status == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    recorded = set(Register(running.database).frame()["id"])
    assert set(acknowledged) <= recorded
    with sqlite3.connect(tmp_path / "register.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    if number == signal.SIGTERM:
        assert len(recorded) == len(acknowledged)  # nothing was cut off between the record and its answer


def test_a_register_that_cannot_be_written_is_503(bundle_folder, tmp_path, jpeg):
    running = start(tmp_path, bundle_folder)
    with sqlite3.connect(tmp_path / "register.sqlite") as connection:
        connection.execute("DROP TABLE outcomes")
        connection.execute("DROP TABLE predictions")
    answer = httpx.post(f"{running.url}/v1/predictions", files=sent(jpeg()), timeout=30)
    assert answer.status_code == 503
    assert "register.sqlite" not in answer.text
    running.stop()


def test_the_service_starts_without_torch(tmp_path):
    """The process has no torch, and is ready within seconds."""
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in 'torch timm torchvision sklearn cv2 skimage pandas matplotlib'.split():\n"
        "            raise ImportError(name, name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from nevus.cli.main import main\n"
        "import threading, os, signal\n"
        "threading.Timer(4, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()\n"
        f"status = main(['serve', '--port', '0', '--database', "
        f"'sqlite:///{tmp_path}/r.sqlite'])\n"
        "sys.exit(status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "page: http://127.0.0.1:" in done.stderr


def test_wrong_flags_are_refused(bundle_folder, capsys, tmp_path):
    from nevus.cli.main import main

    common = ["serve", "--bundle", str(bundle_folder), "--database", f"sqlite:///{tmp_path}/r.sqlite"]
    for flags, message in (
        (["--database", "nonsense"], "is no URL of SQLite or PostgreSQL"),
        (["--database", "postgresql://nobody@127.0.0.1:1/none"], "Cannot open the register"),
        (["--port", "99999999"], "Cannot serve on 127.0.0.1"),
        (["--max-files", "0"], "must be above 0"),
        (["--prevalence", "2"], "not between 0 and 1"),
        (["--sensitivity", "0.5"], "has no threshold for it"),
        (["--token-file", str(tmp_path / "none")], "Cannot read --token-file"),
        (["--dicom-port", "0", "--dicom-node", "x"], "it is no AET@HOST:PORT"),
        (["--dicom-port", "0", "--dicom-title", "x" * 17], "needs 1 to 16"),
    ):
        assert main([*common, *flags]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
