"""The DICOM node with pynetdicom's client, and with DCMTK as a foreign peer."""

import re
import shutil
import subprocess
import threading
import time

import httpx
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pynetdicom import AE, evt
from pynetdicom.sop_class import EnhancedSRStorage, SecondaryCaptureImageStorage, Verification
from tests.serving.conftest import start
from tests.serving.dicom_files import photograph

from nevus.errors import NevusError
from nevus.register.register import Register
from nevus.serving.dicom import DERMOSCOPIC, Peer


@pytest.fixture
def node(bundle_folder, tmp_path):
    """A service that receives DICOM and leaves the results in a folder."""

    def make(*flags):
        running = start(tmp_path, bundle_folder, "--dicom-port", "0", "--dicom-out", str(tmp_path / "results"), *flags)
        started.append(running)
        return running, int(re.search(r"DICOM: NEVUS@127.0.0.1:(\d+)", (tmp_path / "serve.log").read_text())[1])

    started = []
    yield make
    for running in started:
        running.stop()


def store(port, path, title="CLINIC"):
    """Send one file by pynetdicom's client; returns the status."""
    data = dcmread(path)
    ae = AE(ae_title=title)
    ae.add_requested_context(data.SOPClassUID, data.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", port, ae_title="NEVUS")
    assert association.is_established
    status = association.send_c_store(path)
    association.release()
    return status.Status


@pytest.fixture
def image(picture, tmp_path):
    path = tmp_path / "image.dcm"
    path.write_bytes(photograph(picture(120, 90), sop_class=DERMOSCOPIC))
    return path


def test_an_image_gives_a_report_and_a_heat_map(node, image, tmp_path):
    running, port = node()
    assert store(port, image) == 0x0000
    source = dcmread(image)
    report, capture = sorted(
        (dcmread(path) for path in (tmp_path / "results").glob("*.dcm")), key=lambda d: d.SeriesNumber
    )
    table = Register(running.database).frame()
    assert list(table["client"]) == ["dicom:CLINIC"]
    row = table.iloc[0]
    assert report.SOPClassUID == EnhancedSRStorage
    assert capture.SOPClassUID == SecondaryCaptureImageStorage
    for result in (report, capture):
        assert result.StudyInstanceUID == source.StudyInstanceUID
        assert result.SeriesInstanceUID != source.SeriesInstanceUID
        assert result.PatientID == "17"
        assert "research use only" in result.SeriesDescription
    text = str(report)
    assert str(source.SOPInstanceUID) in text
    for name, p in row["probabilities"].items():
        assert f"Probability of {name}" in text
        assert f"{p:.4f}"[:5] in text
    assert row["decision"] in text
    assert [item.TextValue for item in report.ContentSequence if "TextValue" in item][-1].startswith(
        "Research use only"
    )
    assert row["id"] in capture.ImageComments
    pixels = capture.pixel_array
    assert pixels.shape[1] == 320  # wide enough for the caption
    assert len(set(map(tuple, pixels[:90].reshape(-1, 3).tolist()))) > 10
    assert httpx.get(f"{running.url}/v1/predictions/{row['id']}/preview.jpg").status_code == 200


def test_the_objects_are_valid_for_highdicom(node, image, tmp_path):
    import highdicom as hd

    _, port = node()
    store(port, image)
    (path,) = [path for path in (tmp_path / "results").glob("*.dcm") if dcmread(path).Modality == "SR"]
    report = hd.sr.srread(path)
    (group,) = report.content.get_image_measurement_groups()
    assert len(group.get_measurements()) == 2
    assert sum(one.value for one in group.get_measurements()) == pytest.approx(1, abs=1e-5)


def test_a_jpeg_and_echo_and_a_broken_image(node, picture, tmp_path):
    _, port = node()
    compressed, broken = tmp_path / "jpeg.dcm", tmp_path / "broken.dcm"
    compressed.write_bytes(photograph(picture(64, 64), jpeg=True))
    content = dcmread(compressed)
    content["PixelData"].is_undefined_length = True
    content.PixelData = encapsulate([b"no JPEG!"])
    content.save_as(broken)
    assert store(port, compressed) == 0x0000
    assert store(port, broken) == 0xC000
    ae = AE()
    ae.add_requested_context(Verification)
    association = ae.associate("127.0.0.1", port, ae_title="NEVUS")
    assert association.send_c_echo().Status == 0
    association.release()
    assert store(port, compressed) == 0x0000


def test_only_named_senders(node, image):
    _, port = node("--dicom-allow", "CLINIC")
    assert store(port, image) == 0x0000
    ae = AE(ae_title="OTHER")
    ae.add_requested_context(Verification)
    assert not ae.associate("127.0.0.1", port, ae_title="NEVUS").is_established


def test_results_wait_for_a_node_that_is_away(node, image, tmp_path):
    received = []
    ae = AE(ae_title="PACS")
    for sop_class in (EnhancedSRStorage, SecondaryCaptureImageStorage):
        ae.add_supported_context(sop_class)

    def keep(event):
        received.append(event.dataset.Modality)
        return 0x0000

    first = ae.start_server(("127.0.0.1", 0), block=False)
    peer_port = first.server_address[1]
    first.shutdown()
    _, port = node("--dicom-node", f"PACS@127.0.0.1:{peer_port}")
    assert store(port, image) == 0x0000
    folder = tmp_path / "results"
    assert len(list(folder.glob("*.dcm"))) == 2
    (folder / "mine.dcm").write_bytes(image.read_bytes())
    server = ae.start_server(("127.0.0.1", peer_port), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    try:
        assert store(port, image) == 0x0000
        until = time.monotonic() + 15
        while list(folder.glob("nevus-*.dcm")) and time.monotonic() < until:
            time.sleep(0.05)
        assert sorted(received) == ["OT", "OT", "SR", "SR"]
        assert [path.name for path in folder.glob("*.dcm")] == ["mine.dcm"]  # other files are not sent
    finally:
        server.shutdown()


def test_several_senders_at_once(node, picture, tmp_path):
    running, port = node()
    statuses = []
    for number in range(6):
        (tmp_path / f"{number}.dcm").write_bytes(photograph(picture(50, 40, number)))
    threads = [
        threading.Thread(target=lambda n=number: statuses.append(store(port, tmp_path / f"{n}.dcm")))
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 6
    assert len(Register(running.database).frame()) == 6


def test_dcmtk_as_a_foreign_peer(node, image, tmp_path):
    for program in ("storescu", "dcmdump", "dsrdump"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} of DCMTK is not installed; scripts/debian-packages installs it")
    _, port = node()
    sent = subprocess.run(
        ["storescu", "--required", "-aet", "DCMTK", "-aec", "NEVUS", "127.0.0.1", str(port), str(image)],
        capture_output=True,
        text=True,
    )
    assert sent.returncode == 0, sent.stderr
    until = time.monotonic() + 10
    while len(list((tmp_path / "results").glob("*.dcm"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    for path in (tmp_path / "results").glob("*.dcm"):
        dumped = subprocess.run(["dcmdump", "+P", "Modality", str(path)], capture_output=True, text=True)
        assert dumped.returncode == 0, dumped.stderr
        assert "[SR]" in dumped.stdout or "[OT]" in dumped.stdout
        if "[SR]" in dumped.stdout:
            rendered = subprocess.run(["dsrdump", str(path)], capture_output=True, text=True)
            assert rendered.returncode == 0, rendered.stderr
            assert "Probability of malignant" in rendered.stdout


@pytest.mark.parametrize("text", ["", "A@", "A@b", "A@b:0", "A@b:70000", "@b:1", "A" * 17 + "@b:1", "A@b:c"])
def test_wrong_nodes(text):
    with pytest.raises(NevusError, match="AET@HOST:PORT"):
        Peer.parse(text)


def test_a_node():
    assert Peer.parse("PACS@[::1]:104") == Peer("PACS", "::1", 104)


def test_the_caption_fits(picture):
    from nevus.serving.dicom_objects import captioned

    page = captioned(picture(500, 300), "Not sure: benign or malignant. The classifier cannot exclude either. " * 2)
    assert page.shape == (384, 500, 3)
    assert Image.fromarray(page[300:]).convert("L").getextrema()[0] < 50
