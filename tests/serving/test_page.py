"""The page in headless Chromium: from a dropped file to the result, and what goes wrong on the way."""

import base64
import shutil
import signal
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright
from tests.serving.conftest import start

from nevus.phantoms.dataset import PhantomConfig, write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; scripts/debian-packages installs it")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def builtin(tmp_path_factory):
    """The service with the built-in classifier."""
    running = start(tmp_path_factory.mktemp("builtin"), "malignant-benign")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def lesion(tmp_path_factory):
    """The path of a synthetic lesion."""
    folder = tmp_path_factory.mktemp("lesion") / "set"
    write(PhantomConfig(n=2, image_size=256, seed=2), folder, workers=1)
    return next(
        path for path in sorted(folder.rglob("*")) if path.suffix in (".jpg", ".png") and "sheet" not in path.name
    )


@pytest.fixture
def opened(browser):
    """Open a page; JavaScript errors and requests to other hosts are failures."""
    contexts, problems = [], []

    def make(url, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("console", lambda message: problems.append(f"console: {message.text}") if blames(message) else None)
        page.on("request", lambda request: problems.append(request.url) if is_foreign(request.url, url) else None)
        page.goto(url)
        return page

    def blames(message):  # the browser itself notes every answer that is no success
        return message.type == "error" and "Failed to load resource" not in message.text

    def is_foreign(requested, url):
        return not requested.startswith((url, "blob:", "data:"))

    yield make
    for context in contexts:
        context.close()
    assert problems == []


def transfer_of(page, path):
    """Make what the browser hands over when a file is dropped or pasted."""
    content = base64.b64encode(path.read_bytes()).decode()
    return page.evaluate_handle(
        """([content, name, type]) => {
            const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0)), transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type }));
            return transfer;
        }""",
        [content, path.name, "image/png" if path.suffix == ".png" else "image/jpeg"],
    )


def drop(page, path):
    """Drop a file onto the page."""
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer_of(page, path)})


def check_accessibility(page):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_from_a_dropped_file_to_the_result(opened, builtin, lesion, width, scheme):
    page = opened(builtin.url, viewport={"width": width, "height": 800}, color_scheme=scheme)
    check_accessibility(page)
    drop(page, lesion)
    result = page.locator(".result")
    expect(result.locator(".heat")).to_be_visible()
    identifier = result.locator(".id").inner_text()
    assert page.locator("#rows td").last.inner_text() == identifier
    recorded = httpx.get(f"{builtin.url}/v1/predictions/{identifier}").json()
    expect(result.locator(".outcome")).to_have_text(recorded["outcome"])
    expect(result.locator(".decision")).to_have_text(recorded["decision"])
    assert f"malignant {recorded['probabilities']['malignant']:.3f}" in result.locator(".probabilities").inner_text()
    slider = result.locator("input[type=range]")
    slider.fill("0")
    assert result.locator(".heat").evaluate("e => e.style.opacity") == "0"
    assert recorded["outcome"] in page.locator("#status").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.get_by_text("Research use only").first.is_visible()
    check_accessibility(page)


def test_an_image_is_pasted(opened, builtin, lesion):
    page = opened(builtin.url)
    transfer = transfer_of(page, lesion)
    page.evaluate(
        "data => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }))", transfer
    )
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.locator(".result .heat")).to_be_visible()


def test_words_come_before_numbers(opened, builtin, tmp_path):
    """A black image: cannot judge is the first thing that is read, and the number is marked as not to be used."""
    from PIL import Image

    Image.new("RGB", (200, 200)).save(tmp_path / "black.png")
    page = opened(builtin.url)
    page.set_input_files("#files", tmp_path / "black.png")
    expect(page.locator(".result .outcome")).to_have_text("Cannot judge. The image is blank.")
    expect(page.locator(".result .meaning")).to_contain_text("Do not use them")
    text = page.locator(".result").inner_text()
    assert text.index("Cannot judge") < text.index("0.")


def test_a_bad_file_and_a_good_one(opened, builtin, lesion, tmp_path):
    (tmp_path / "notes.jpg").write_text("no image")
    page = opened(builtin.url)
    page.set_input_files("#files", [tmp_path / "notes.jpg", lesion])
    expect(page.locator("#rows tr")).to_have_count(2)
    bad = page.locator(".result", has_text="notes.jpg")
    expect(bad.locator(".outcome")).to_contain_text("Cannot judge. Cannot read the image: it is no JPEG")
    with page.expect_download() as download:
        page.click("#csv")
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0] == "image,label,p_benign,p_malignant,error,decision,set,flag,id"
    assert len(lines) == 3


def test_a_tiff_gets_a_preview_and_a_sensitivity_can_be_chosen(opened, builtin, lesion, tmp_path):
    from PIL import Image

    with Image.open(lesion) as image:
        image.save(tmp_path / "scan.tif")
    page = opened(builtin.url)
    page.select_option("#sensitivity", "0.8")
    page.set_input_files("#files", tmp_path / "scan.tif")
    expect(page.locator(".result .photo")).to_be_visible()
    identifier = page.locator(".result .id").inner_text()
    from nevus.register.register import Register

    assert Register(builtin.database).get(identifier).sensitivity == 0.8


def test_a_slow_network(opened, builtin, lesion):
    page = opened(builtin.url)
    session = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 200, "downloadThroughput": 50_000, "uploadThroughput": 30_000}
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", slow)
    # the page itself notes what it shows: a look from outside can come too late on a busy machine
    page.evaluate(
        """() => {
            window.shown = [];
            const note = () => document.querySelectorAll(".result .outcome").forEach(
                e => { if (window.shown.at(-1) !== e.textContent) window.shown.push(e.textContent); });
            new MutationObserver(note).observe(document.body, { childList: true, subtree: true, characterData: true });
        }"""
    )
    page.set_input_files("#files", lesion)
    expect(page.locator("#rows tr")).to_have_count(1)
    shown = [text for text in page.evaluate("window.shown") if text]
    assert shown[:2] == ["Sending", "Predicting"], shown
    assert shown[-1] == page.locator(".result .outcome").inner_text()


def test_a_server_that_dies_meanwhile(opened, bundle_folder, lesion, tmp_path):
    running = start(tmp_path, bundle_folder)
    page = opened(running.url)
    page.set_input_files("#files", lesion)
    expect(page.locator("#rows tr")).to_have_count(1)
    running.stop(signal.SIGKILL)
    page.set_input_files("#files", lesion)
    second = page.locator(".result").first
    expect(second.locator(".outcome")).to_have_text("No prediction. The server cannot be reached.")
    expect(page.locator("#rows tr")).to_have_count(1)  # the first result is still there
    again = start(tmp_path, bundle_folder, port=int(running.url.rpartition(":")[2]))
    second.get_by_role("button", name="Send again").click()
    expect(page.locator("#rows tr")).to_have_count(2)
    again.stop()


def test_the_token_is_asked_for(opened, bundle_folder, lesion, tmp_path):
    running = start(tmp_path, bundle_folder, NEVUS_TOKEN="correct horse battery")
    page = opened(running.url)
    page.set_input_files("#files", lesion)
    page.get_by_label("Access token").fill("correct horse battery")
    page.get_by_role("button", name="Use token").click()
    page.get_by_role("button", name="Send again").click()
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.locator(".result .heat")).to_be_visible()
    running.stop()


def test_the_keyboard_is_enough(opened, builtin):
    page = opened(builtin.url)
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert reached[:3] == ["files", "camera", "sensitivity"]
    assert "SUMMARY" in reached
