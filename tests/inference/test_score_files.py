"""Scores as CSV and as a page, with file names and responses that mean harm; and how far a long command is."""

import base64
import contextlib
import csv
import io
import json
import math
import re

import pytest
from helpers.browser import browser

from vqathinker_verl.cli.main import main
from vqathinker_verl.evaluation.predictions import read_predictions
from vqathinker_verl.inference import progress
from vqathinker_verl.inference.predictions import Prediction
from vqathinker_verl.inference.progress import Progress
from vqathinker_verl.inference.score_csv import COLUMNS, write_csv
from vqathinker_verl.inference.score_page import MAX_REASONING_CHARACTERS, write_page

__all__ = ["browser"]

HOSTILE = (
    "<think>Sharp & <b>clear</b>.<script>document.title = 'run'</script>"
    "<img src=x onerror=\"document.title = 'run'\"></think><answer>9</answer>"
)
NAMES = ["=cmd|' /C calc'!A0.mp4", "+1.mp4", "-1.mp4", "@SUM(A1).mp4", 'a,"b"\n.mp4', "плохо 质量.mp4"]


def prediction(name, score=3.0, response="<think>Sharp.</think><answer>3.00</answer>", **more):
    return Prediction("", name, score, (response,), **more)


def rows_of(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_no_cell_of_the_table_is_a_formula(tmp_path):
    path = tmp_path / "scores.csv"
    reasoning = ["=HYPERLINK(1)", "\t=1", "\r=1", "@x", "-x", "plain"]
    lines = [
        prediction(name, score, f"<think>{text}</think><answer>3.00</answer>", path=name)
        for name, text, score in zip(NAMES, reasoning, (1.5, 2, 3, 4, math.nan, 4.25), strict=True)
    ]
    write_csv([*lines, Prediction("", "gone.mp4", math.nan, error="=gone.mp4: no such file")], path)
    rows = rows_of(path)
    assert tuple(rows[0]) == COLUMNS
    assert [row["video_id"] for row in rows] == [f"'{name}" for name in NAMES[:4]] + [*NAMES[4:], "gone.mp4"]
    assert not [cell for row in rows for cell in row.values() if cell[:1] and cell[:1] in "=+-@\t\r"]
    assert [row["pred_mos"] for row in rows] == ["1.5", "2", "3", "4", "", "4.25", ""]
    assert rows[5]["reasoning"] == "plain"


def test_evaluate_reads_the_table(tmp_path):
    path = tmp_path / "scores.csv"
    lines = [prediction("a.mp4", 3.25, pred_mos_std=0.5, pred_mos_raw=3.0, path="/clips/a.mp4")]
    write_csv([*lines, prediction("质量.mp4", math.nan)], path)
    first, second = read_predictions(path)
    assert (first.video_id, first.pred_mos, first.pred_mos_raw, first.path) == ("a.mp4", 3.25, 3.0, "/clips/a.mp4")
    assert second.video_id == "质量.mp4"
    assert math.isnan(second.pred_mos)


def test_a_name_that_is_no_utf_8_is_written(tmp_path):
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    write_csv([prediction(name)], tmp_path / "scores.csv")
    write_page([prediction(name, error="gone")], {}, tmp_path / "scores.html", model="m")
    for file in ("scores.csv", "scores.html"):
        assert "caf\\udce9.mp4" in (tmp_path / file).read_text(encoding="utf-8-sig")


@pytest.fixture(scope="module")
def page(tmp_path_factory, clips):
    """Three clips of which one has a hostile name and answer, one no score, and a broken file."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "broken.mp4").write_bytes(b"junk")
    nasty = "<img src=x onerror=\"document.title='run'\">.mp4"
    lines = [
        prediction("b.mp4", 4.5),
        prediction(nasty, 1.25, HOSTILE),
        prediction("a.mp4", math.nan, "x" * (MAX_REASONING_CHARACTERS + 7)),
        prediction("broken.mp4", 2.5),
        Prediction("", "gone.mp4", math.nan, error="gone.mp4: <i>no such file</i>"),
    ]
    videos = dict(zip(("b.mp4", nasty, "a.mp4"), clips, strict=True)) | {"broken.mp4": folder / "broken.mp4"}
    write_page(lines, videos, folder / "scores.html", model="<script>m</script>", notes=["a <b>note</b>"])
    return folder / "scores.html"


def test_the_page_is_one_file_with_everything_escaped(page):
    text = page.read_text()
    assert text.count("<script") == 1
    assert "<script>m" not in text
    assert not re.search(r"<img src=[^\"]", text)
    assert "<b>" not in text
    assert "<i>" not in text
    assert "://" not in text
    pictures = re.findall(r"data:image/jpeg;base64,[^\"]+", text)
    assert len(pictures) == 3
    assert max(map(len, pictures)) < 12_000  # a page of 1,000 clips stays below 12 MB
    assert f"({MAX_REASONING_CHARACTERS + 7} characters in all)" in text
    assert "broken.mp4: cannot be decoded" in text
    assert "a &lt;b&gt;note&lt;/b&gt;" in text


def test_a_browser_sorts_the_page_and_runs_nothing_of_a_response(page, browser):
    browser.get(page.as_uri())
    assert browser.title == "Video quality: <script>m</script>"

    def names():
        return [cell.text for cell in browser.find_elements("css selector", "td.name")]

    given = names()
    browser.find_elements("css selector", "th button")[1].click()
    assert names() == [given[1], "broken.mp4", "b.mp4", "a.mp4", "gone.mp4"]  # without a score last
    browser.find_elements("css selector", "th button")[1].click()
    assert names() == ["b.mp4", "broken.mp4", given[1], "a.mp4", "gone.mp4"]
    browser.find_elements("css selector", "th button")[0].click()
    assert [name for name in names() if not name.startswith("<")] == ["a.mp4", "b.mp4", "broken.mp4", "gone.mp4"]
    assert browser.title == "Video quality: <script>m</script>"
    assert HOSTILE.partition("</think>")[0].removeprefix("<think>") in browser.find_element("tag name", "body").text
    # A script that came in from outside is refused by the page's policy, even without the escape.
    marked = page.read_text().replace("<h1>", "<script>document.title = 'run'</script><h1>")
    (page.parent / "unescaped.html").write_text(marked)
    browser.get((page.parent / "unescaped.html").as_uri())
    assert browser.title == "Video quality: <script>m</script>"


SMALL = ["--backend", "transformers", "--num-frames", "2", "--max-pixels", "3136", "--max-tokens", "4", "--no-thinking"]


def test_the_command_writes_both_also_of_what_was_scored_before(clips, tiny_model, tmp_path, capfd):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name, clip in zip(("=1.mp4", "b.mp4"), clips, strict=False):
        (videos / name).write_bytes(clip.read_bytes())
    (videos / "c.mp4").write_bytes(b"junk")
    output, table, page = (tmp_path / name for name in ("p.jsonl", "p.csv", "p.html"))
    call = ["score", str(videos), "--model", str(tiny_model), *SMALL, "--scoring", "expectation", "--csv", str(table)]
    call += ["--html", str(page), "--output", str(output)]
    for _ in range(2):
        assert main(call) == 1
        said = capfd.readouterr()
        assert said.out == ""
        assert f"predictions in {output}, {table}, {page}" in said.err
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        rows = rows_of(table)
        assert [row["video_id"] for row in rows] == ["'=1.mp4", "b.mp4", "c.mp4"]
        assert [float(row["pred_mos"]) for row in rows[:2]] == [line["pred_mos"] for line in lines[:2]]
        assert "cannot be decoded" in rows[2]["error"]
        assert page.read_text().count("data:image/jpeg;base64,") == 2
        table.unlink()
        page.unlink()
    assert main([*call, "--csv", str(output)]) == 2
    assert "--output, --csv and --html: expected different files" in capfd.readouterr().err


def test_a_log_gets_a_line_every_half_minute_with_the_rate_and_the_time_left():
    now = [0.0]
    log = io.StringIO()
    with Progress(1000, done=100, file=log, clock=lambda: now[0]) as shown:
        for _ in range(300):
            now[0] += 0.5
            shown.update()
    lines = log.getvalue().splitlines()
    # 900 to do at two a second: after a minute 120 are done, 220 with those of the earlier start.
    assert lines[1] == "vqathinker: 220 of 1000 videos, 2 videos/s, 06:30 left"
    assert len(lines) == 150 / progress.LOG_SECONDS + 1
    assert lines[-1] == "vqathinker: 300 videos in 02:30, 2 videos/s"


def test_a_few_videos_need_no_rate_and_a_failure_gets_none():
    log = io.StringIO()
    with Progress(2, file=log) as shown:
        shown.update()
    with contextlib.suppress(KeyError), Progress(20, file=log) as shown:
        for _ in range(10):
            shown.update()
        raise KeyError
    assert shown.done == 10
    assert log.getvalue() == ""


def test_a_terminal_gets_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    with Progress(10, done=3, unit="question", desc="asked", file=terminal) as shown:
        for _ in range(7):
            shown.update()
    assert re.search(r"asked: +30%.*3/10 \[", terminal.getvalue())


def test_a_still_image_has_a_picture_too(tmp_path):
    from PIL import Image

    Image.new("RGB", (640, 320), (200, 40, 40)).save(tmp_path / "a.png")
    write_page([prediction("a.png")], {"a.png": tmp_path / "a.png"}, tmp_path / "scores.html", model="m")
    (address,) = re.findall(r"data:image/jpeg;base64,([^\"]+)", (tmp_path / "scores.html").read_text())
    assert Image.open(io.BytesIO(base64.b64decode(address))).size == (160, 80)
