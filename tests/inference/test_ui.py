"""The page in a real browser, over an engine whose model writes HTML; and what it shows, without a browser."""

import json
import os
import shutil
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vqathinker_verl.cli.main import main
from vqathinker_verl.frames import FrameSpec, VideoError, decode
from vqathinker_verl.inference.engines import Answer, ModelDefaults
from vqathinker_verl.inference.predictions import Prediction
from vqathinker_verl.inference.scoring import reasoning_of
from vqathinker_verl.inference.ui import build_page, error_card, score_card, score_one, serve

NASTY = "<think>Sharp <img src=x onerror=\"document.title='owned'\"> & <b>bold</b></think><answer>3.42</answer>"


class NastyEngine:
    """Answers with HTML; `spread` makes several answers with different scores."""

    frames = FrameSpec(num_frames=5, max_pixels=84 * 112)
    defaults = ModelDefaults()

    def __init__(self, spread=False):
        self.spread = spread

    def generate(self, requests, *, samples=1):
        for request in requests:
            scores = [3.42, 2.42, 4.42] if self.spread else [3.42]
            try:
                decode(request.video, self.frames)
            except VideoError as error:
                yield Answer((), str(error))
            else:
                yield Answer(tuple(NASTY.replace("3.42", f"{score}") for score in scores))


def test_the_frames_shown_are_the_frames_asked_about(clips):
    frames, line = score_one(NastyEngine(), clips[0])
    video = decode(clips[0], NastyEngine.frames)
    np.testing.assert_array_equal(np.stack([frame for frame, _ in frames]), video.frames.transpose(0, 2, 3, 1))
    assert [caption for _, caption in frames] == [f"{index / video.fps:.2f} s" for index in video.indices]
    assert line.pred_mos == 3.42
    assert reasoning_of(line.response) == "Sharp <img src=x onerror=\"document.title='owned'\"> & <b>bold</b>"


def test_an_image_is_shown_once(tmp_path):
    path = tmp_path / "a.png"
    picture = np.random.default_rng(0).integers(0, 255, (84, 112, 3), dtype=np.uint8)
    Image.fromarray(picture).save(path)
    ((frame, caption),), line = score_one(NastyEngine(), path)
    np.testing.assert_array_equal(frame, picture)
    assert caption == "the image"
    assert (line.pred_mos, line.num_frames) == (3.42, 1)


def test_the_page_takes_videos_and_images():
    gradio = pytest.importorskip("gradio")
    page = build_page(NastyEngine(), "m")
    files = [block for block in page.blocks.values() if isinstance(block, gradio.File)]
    assert [block.elem_id for block in files] == ["image", "image2"]
    assert {".jpg", ".png", ".webp", ".bmp", ".tif"} <= set(files[0].file_types)
    asked = [function.inputs[0].elem_id for function in page.fns.values() if function.name == "rate"]
    assert asked == ["video", "image", "video2", "image2"]


def test_the_card_shows_the_score_on_its_scale():
    line = {"video_id": "<b>a</b>.mp4", "pred_mos": 3.0, "samples": [2.0, 4.0, None], "pred_mos_std": 1.0}
    card = score_card(Prediction.from_json(line))
    assert ">3.00<" in card
    assert "± 1.00, mean of 2 answers" in card
    assert 'class="marker" style="left: 50.0%"' in card
    assert 'class="band" style="left: 25.0%; width: 50.0%"' in card
    assert "&lt;b&gt;a&lt;/b&gt;.mp4" in card
    assert "<b>" not in card
    assert "mean of" not in score_card(Prediction.from_json({"video_id": "a.mp4", "pred_mos": 5.0}))


def test_no_score_is_said_and_never_made_up():
    card = score_card(Prediction.from_json({"video_id": "a.mp4", "pred_mos": None}))
    assert "no score, the response holds no valid answer" in card
    assert "number" not in card
    assert reasoning_of("") == ""


def test_a_broken_video_is_an_error_without_markup(tmp_path):
    path = tmp_path / "<b>x.mp4"
    path.write_bytes(b"junk")
    with pytest.raises(VideoError) as caught:
        score_one(NastyEngine(), path)
    assert "&lt;b&gt;x.mp4: cannot be decoded" in error_card(str(caught.value))


def test_without_gradio_the_command_to_install_it_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["ui", "--model", "m"]) == 2
    said = capsys.readouterr().err
    assert said == "vqathinker ui: needs gradio; install it with: pip install 'vqathinker-verl[ui]'\n"


@pytest.fixture(scope="module")
def address():
    import socket

    pytest.importorskip("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = build_page(NastyEngine(spread=True), "<i>model</i>", samples=3)
    # The server lives in threads of its own; only waiting for an interrupt is left out.
    page.block_thread = lambda: None
    threading.Thread(target=serve, args=(page, "127.0.0.1", port), daemon=True).start()
    yield f"http://127.0.0.1:{port}/"
    page.close()


@pytest.fixture(scope="module")
def browser():
    selenium = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium and chromedriver on this machine")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for switch in ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "disable-background-networking"):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield driver
    driver.quit()


@pytest.fixture
def opened(address, browser):
    """The page in the browser, and what tests do with it: wait, find, drop a video, read a card."""
    import time
    import urllib.request

    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    def wait(condition):
        return WebDriverWait(browser, 60, ignored_exceptions=[StaleElementReferenceException]).until(condition)

    def find(selector):
        return browser.find_elements("css selector", selector)

    def drop(path, side=""):
        wait(lambda _: find(f"#video{side} input[type=file]"))[0].send_keys(str(path))

    def card(side=""):
        return "".join(element.text for element in find(f"#score{side}"))

    for _ in range(100):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            break
        except OSError:
            time.sleep(0.1)
    browser.get(address)
    return SimpleNamespace(wait=wait, find=find, drop=drop, card=card)


@pytest.mark.e2e
def test_in_a_browser_a_dropped_video_gets_frames_score_and_reasoning(address, browser, opened, clips):
    wait, find = opened.wait, opened.find
    opened.drop(clips[0])
    wait(lambda _: "3.42" in opened.card())
    assert "± 1.00, mean of 3 answers" in opened.card()
    assert "1 very poor" in opened.card()
    assert "clip_0.mp4" in opened.card()
    assert find("#reasoning textarea")[0].get_property("value") == reasoning_of(NASTY)
    assert len(wait(lambda _: len(images := find("#frames img")) == 5 and images)) == 5
    assert browser.title == "VQAThinker"  # the model's script did not run
    assert find("#reasoning img, #reasoning b") == []
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('main *')].filter(e => e.children.length == 0 && e.innerText)"
        ".map(e => [parseFloat(getComputedStyle(e).fontSize), e.innerText])"
    )
    assert max(sizes)[1] == "3.42"  # the largest text on the page

    for width in (400, 1400):  # nothing sticks out to the side
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        wide, visible = browser.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert wide <= visible
    requests = [json.loads(entry["message"])["message"]["params"] for entry in browser.get_log("performance")]
    urls = [request.get("request", {}).get("url", "") for request in requests]
    assert [url for url in urls if url.startswith("http") and not url.startswith(address)] == []


@pytest.mark.e2e
def test_in_a_browser_a_new_video_replaces_the_old_one_and_an_error_stays(browser, opened, clips, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"junk")
    opened.drop(clips[0])
    opened.wait(lambda _: "3.42" in opened.card())
    opened.wait(lambda _: opened.find("#video button[aria-label='Clear']"))[0].click()
    opened.wait(lambda _: "Drop a video" in opened.card())
    assert opened.find("#frames img") == []
    assert opened.find("#reasoning textarea")[0].get_property("value") == ""
    opened.drop(broken)
    opened.wait(lambda _: "broken.mp4: cannot be" in opened.card())
    time.sleep(11)  # longer than Gradio's own message about the player
    assert "broken.mp4: cannot be" in opened.card()
    assert "/tmp" not in opened.card()
    picture(browser, "error")


@pytest.mark.e2e
def test_in_a_browser_an_image_is_scored(browser, opened, tmp_path):
    Image.fromarray(np.zeros((84, 112, 3), np.uint8)).save(tmp_path / "still.png")
    tabs = opened.wait(lambda _: [tab for tab in opened.find("button[role=tab]") if tab.text == "Image"])
    tabs[0].click()
    opened.wait(lambda _: opened.find("#image input[type=file]"))[0].send_keys(str(tmp_path / "still.png"))
    opened.wait(lambda _: "3.42" in opened.card() and "still.png" in opened.card())
    assert len(opened.wait(lambda _: opened.find("#frames img"))) == 1
    (tmp_path / "broken.png").write_bytes(b"junk")
    opened.wait(lambda _: opened.find("#image button[aria-label='Clear']"))[0].click()
    opened.wait(lambda _: "Drop a video or an image" in opened.card())
    opened.wait(lambda _: opened.find("#image input[type=file]"))[0].send_keys(str(tmp_path / "broken.png"))
    opened.wait(lambda _: "broken.png: cannot be" in opened.card())
    picture(browser, "image")


@pytest.mark.e2e
def test_in_a_browser_two_videos_stand_side_by_side(browser, opened, clips):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1400, "height": 1100, "deviceScaleFactor": 1, "mobile": False}
    )
    opened.drop(clips[0])
    opened.find("#compare input")[0].click()
    opened.drop(clips[1], "2")
    opened.wait(lambda _: "clip_0.mp4" in opened.card() and "clip_1.mp4" in opened.card("2"))
    left, right = opened.find("#score")[0].rect, opened.find("#score2")[0].rect
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    opened.wait(lambda _: len(opened.find("#frames img")) == len(opened.find("#frames2 img")) == 5)
    picture(browser, "two")


def picture(browser, name):
    """Keep a picture of the page where VQATHINKER_PICTURES says."""
    if folder := os.environ.get("VQATHINKER_PICTURES"):
        browser.save_screenshot(f"{folder}/{name}.png")
