import math
from dataclasses import replace

import pytest
from helpers.browser import browser
from helpers.evaluation_files import benchmark, noisy, predictions

from vqathinker_verl.demo.clips import make_split
from vqathinker_verl.evaluation.outcome import Outcome
from vqathinker_verl.evaluation.records import Benchmark, Label
from vqathinker_verl.evaluation.report import write_html
from vqathinker_verl.evaluation.results import Settings, evaluate_model

__all__ = ["browser"]

SETTINGS = Settings(num_resamples=20)
HOSTILE = (
    "<think>Sharp & <b>clear</b>.</think><script>document.title = 'run by the response'</script>"
    "<img src=x onerror=\"document.title = 'run by the response'\"><answer>9</answer>"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A page about ten clips, one answer of which is hostile and without a score, under a hostile name."""
    folder = tmp_path_factory.mktemp("report")
    clips = make_split("val", 10, 0, folder, lambda: None)
    mos, pred = noisy(10)
    labels = [
        Label(f"made/{clip.video}", clip.video, float(m), str(folder / "videos" / clip.video))
        for clip, m in zip(clips, mos, strict=True)
    ]
    labels[9] = replace(labels[9], path=str(folder / "absent.mp4"))
    said = [replace(p, responses=("<think>ok</think><answer>3.00</answer>",)) for p in predictions(pred)]
    said[0] = replace(said[0], responses=(HOSTILE,))
    said[1] = replace(said[1], pred_mos=math.nan, responses=(HOSTILE,))
    model = evaluate_model("<script>m</script>", [Benchmark("made", tuple(labels))], {"made": said}, SETTINGS)
    write_html(Outcome([model], SETTINGS), folder / "report.html", num_worst=9)
    return folder


def test_the_page_is_one_file_with_everything_escaped(folder):
    page = (folder / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;document.title" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert page.count("data:image/jpeg;base64,") == 9  # 8 of the 9 scored clips, and the one without a score
    assert page.count("data:image/svg+xml;base64,") == 1
    assert f"No frames: no video at {folder / 'absent.mp4'}" in page
    assert "Videos without a score" in page


def test_the_same_outcome_makes_the_same_page(tmp_path):
    mos, pred = noisy(600)
    model = evaluate_model("m", [benchmark(mos)], {"made": predictions(pred)}, SETTINGS)
    for name in ("a.html", "b.html"):
        write_html(Outcome([model], SETTINGS), tmp_path / name, num_worst=2)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.html").stat().st_size < 200_000  # many points are one picture


def test_a_page_about_nothing(tmp_path):
    model = evaluate_model("m", [benchmark([1.0, 2.0])], {"made": [None, None]}, SETTINGS)
    write_html(Outcome([model], SETTINGS), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "no video has a score" in page
    assert "2 of 2 labelled videos have no prediction" in page


def open_at(browser, page, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get(page.as_uri())


def test_a_response_with_a_script_is_shown_and_not_run(folder, browser):
    page = (folder / "report.html").read_text()
    # Without the page's own policy too: the escape alone must hold.
    policy = page[page.index("<meta http-equiv") : page.index("<title>")]
    (folder / "unguarded.html").write_text(page.replace(policy, ""))
    for name in ("report.html", "unguarded.html"):
        open_at(browser, folder / name, 1400)
        assert browser.title.startswith("Video quality evaluation: <script>m</script>")
        assert browser.find_elements("tag name", "script") == []
        shown = [element.text for element in browser.find_elements("class name", "response")]
        assert shown.count(HOSTILE) == 2


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_fits_and_its_pictures_are_drawn(folder, browser, width):
    open_at(browser, folder / "report.html", width)
    # Pictures below the window wait for it.
    browser.execute_script("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    browser.set_script_timeout(20)
    sizes = browser.execute_async_script(
        "const done = arguments[0]; const images = [...document.images];"
        "Promise.all(images.map(image => image.decode())).then("
        "() => done(images.map(image => image.naturalWidth)), fault => done(String(fault)))"
    )
    assert len(sizes) == 10
    assert all(size > 100 for size in sizes)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
