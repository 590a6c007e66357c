"""The page in a real browser, over an engine whose model writes HTML; and what it shows, without a browser."""

import shutil
import threading

import numpy as np
import pytest

from vqathinker_verl.frames import FrameSpec, VideoError, decode
from vqathinker_verl.inference.engines import Answer
from vqathinker_verl.inference.ui import build_page, look_at, plain, reasoning_of, serve

NASTY = "<think>Sharp <img src=x onerror=\"document.title='owned'\"> & <b>bold</b></think><answer>3.42</answer>"


class NastyEngine:
    frames = FrameSpec(num_frames=5, max_pixels=84 * 112)

    def generate(self, requests, *, samples=1):
        yield from (Answer((NASTY,)) for _ in requests)


def test_the_frames_shown_are_the_frames_asked_about(clips):
    frames, score, reasoning = look_at(NastyEngine(), clips[0])
    video = decode(clips[0], NastyEngine.frames)
    np.testing.assert_array_equal(np.stack([frame for frame, _ in frames]), video.frames.transpose(0, 2, 3, 1))
    assert [caption for _, caption in frames] == [f"{index / video.fps:.2f} s" for index in video.indices]
    assert score == "3.42"
    assert reasoning == "Sharp <img src=x onerror=\"document.title='owned'\"> & <b>bold</b>"


def test_no_score_is_said_and_never_made_up(clips):
    class Mute(NastyEngine):
        def generate(self, requests, *, samples=1):
            yield Answer(("I cannot say. 3.00",))

    _, score, reasoning = look_at(Mute(), clips[0])
    assert score.startswith("none")
    assert reasoning == "I cannot say. 3.00"
    assert reasoning_of("") == ""


def test_a_broken_video_is_an_error_without_markup_or_server_paths(tmp_path):
    path = tmp_path / "<b>x.mp4"
    path.write_bytes(b"junk")
    with pytest.raises(VideoError) as caught:
        look_at(NastyEngine(), path)
    message = plain(caught.value, str(path))
    assert message.startswith("&lt;b&gt;x.mp4: cannot be decoded")
    assert str(tmp_path) not in message


@pytest.fixture(scope="module")
def address():
    import socket

    pytest.importorskip("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = build_page(NastyEngine(), "<i>model</i>")
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


@pytest.mark.e2e
def test_in_a_browser_a_dropped_video_gets_frames_score_and_reasoning(address, browser, clips):
    import json
    import time
    import urllib.request

    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    def wait(condition):
        return WebDriverWait(browser, 60, ignored_exceptions=[StaleElementReferenceException]).until(condition)

    def find(selector):
        return browser.find_elements("css selector", selector)

    for _ in range(100):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            break
        except OSError:
            time.sleep(0.1)
    browser.get(address)
    wait(lambda _: find("#video input[type=file]"))[0].send_keys(str(clips[0]))
    wait(lambda _: find("#video video"))
    find("#rate")[0].click()
    score = wait(lambda _: next((e for e in find("#score textarea, #score input") if e.get_property("value")), None))
    assert score.get_property("value") == "3.42"
    assert find("#reasoning textarea")[0].get_property("value") == reasoning_of(NASTY)
    assert len(wait(lambda _: len(images := find("#frames img")) == 5 and images)) == 5
    assert browser.title == "VQAThinker"  # the model's script did not run
    assert find("#reasoning img, #reasoning b") == []

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
