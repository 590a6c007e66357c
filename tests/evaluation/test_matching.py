from pathlib import Path

import pytest
from helpers.data import data_file
from helpers.evaluation_files import write_labels

from vqathinker_verl.data.output import write_parquet
from vqathinker_verl.data.records import RawLabel, Record
from vqathinker_verl.data.registry import load_registry
from vqathinker_verl.data.sources import LabelSource, load
from vqathinker_verl.evaluation.benchmarks import labels_of_predictions, match, read_benchmarks, with_videos_under
from vqathinker_verl.evaluation.records import Benchmark, EvaluationError, Label, Prediction

ONE = Benchmark("one", (Label("one/a.mp4", "a.mp4", 3.0, "/x/a.mp4"), Label("one/b.mp4", "b.mp4", 4.0)))
TWO = Benchmark("two", (Label("two/a.mp4", "a.mp4", 2.0),))


def said(video_id, **more):
    return Prediction("p: 1", video_id, 3.0, **more)


@pytest.mark.parametrize(
    "prediction", [said("one/a.mp4"), said("/x/a.mp4"), said("a.mp4", benchmark="one"), said("?", path="/x/a.mp4")]
)
def test_a_video_is_named_by_id_path_or_relative_path(prediction):
    found, unlabelled = match([prediction], [ONE, TWO])
    assert found == {"one": [prediction, None], "two": [None]}
    assert unlabelled == []


@pytest.mark.parametrize("name", ["one\\a\u00e9.mp4", "./one/ae\u0301.mp4", "one//.\\a\u00e9.mp4"])
def test_one_spelling_of_a_name(name):
    for written, other in ((name, "one/a\u00e9.mp4"), ("one/a\u00e9.mp4", name)):
        benchmark = Benchmark("one", (Label(written, written, 3.0),))
        assert match([said(other)], [benchmark])[1] == []
    with pytest.raises(EvaluationError, match="has a prediction already"):
        match([said(name), said("one/a\u00e9.mp4")], [benchmark])


@pytest.mark.parametrize("name", ["one/b", "b.MKV", "./b.yuv"])
def test_suffixes_are_ignored_only_when_asked(name):
    assert match([said(name)], [ONE])[1] == [said(name)]
    found, unlabelled = match([said(name), said("one/a.mp4")], [ONE], ignore_suffix=True)
    assert ([p.video_id for p in found["one"]], unlabelled) == (["one/a.mp4", name], [])
    two = Benchmark("one", (Label("one/b.mp4", "b.mp4", 3.0), Label("one/b.avi", "b.avi", 4.0)))
    assert match([said("b.avi")], [two], ignore_suffix=True)[0] == {"one": [None, said("b.avi")]}
    with pytest.raises(EvaluationError, match="fits 2 videos of one; expected one"):
        match([said("b")], [two], ignore_suffix=True)


@pytest.mark.parametrize(
    "name", ["12.mp4", "orig_12_540_5s.mp4", "KoNViD_1k_videos/12.mp4", "KoNViD-1k/KoNViD_1k_videos/orig_12_540_5s.mp4"]
)
@pytest.mark.parametrize("label", ["12.mp4", "orig_12_540_5s.mp4"])
def test_both_naming_schemes_of_konvid(tmp_path, name, label):
    path = write_labels(tmp_path / "labels.csv", {label: 2, "13.mp4": 3})
    found = read_benchmarks([LabelSource(path, dataset="KoNViD-1k")], load_registry())
    assert match([said(name)], found) == ({"KoNViD-1k": [said(name), None]}, [])


def test_nothing_is_guessed():
    other = said("elsewhere/b.mp4")
    assert match([other], [ONE, TWO])[1] == [other]
    with pytest.raises(EvaluationError, match=r"a\.mp4 fits videos of one and two; choose one with BENCHMARK=FILE"):
        match([said("a.mp4")], [ONE, TWO])
    with pytest.raises(EvaluationError, match=r"b\.mp4 has a prediction already"):
        match([said("b.mp4"), said("one/b.mp4")], [ONE, TWO])


def test_the_parquet_of_prepare(tmp_path):
    records = [
        Record(RawLabel("w", "a.mp4", "75", "one"), "a.mp4", "/x/a.mp4", 75.0, (0.0, 100.0), "a.mp4"),
        Record(RawLabel("w", "a.mp4", "3", "two"), "a.mp4", "/y/a.mp4", 3.0, (1.0, 5.0), "a.mp4"),
    ]
    write_parquet(tmp_path / "val.parquet", records, "val", "q")
    one, two = read_benchmarks([LabelSource(tmp_path / "val.parquet")], {})
    # Options that other label files of the same call need change nothing.
    assert read_benchmarks([LabelSource(tmp_path / "val.parquet", dataset="x", scale=(0.0, 9.0))], {}) == [one, two]
    assert one == Benchmark("one", (Label("one/a.mp4", "a.mp4", 4.0, "/x/a.mp4"),))
    assert two.labels[0].mos == 3.0
    with pytest.raises(EvaluationError, match=r"one/a\.mp4 is labelled twice"):
        read_benchmarks([LabelSource(tmp_path / "val.parquet")] * 2, {})


def test_label_files_are_mapped_to_the_scale_of_predictions(tmp_path):
    path = write_labels(tmp_path / "labels.csv", {"a.mp4": 0, "b.mp4": 100})
    source = LabelSource(path, dataset="mine", scale=(0.0, 100.0))
    (found,) = read_benchmarks([source], {})
    assert [label.mos for label in found.labels] == [1.0, 5.0]
    assert found.labels[0].video_id == "mine/a.mp4"
    assert with_videos_under(found, Path("/v")).labels[0].path == "/v/a.mp4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,mos\na.mp4,3\nb.mp4,\n", r"labels.csv: line 3: 'b.mp4': no MOS; expected a number \(1 faulty labels"),
        ("video,mos\na.mp4,3\na.mp4,4\n", "the same video as in"),
        ("video,mos\na.mp4,7\n", "expected a MOS between 1 and 5, got 7"),
        ("video,score\na.mp4,3\n", "no column 'mos'"),
    ],
)
def test_a_faulty_label_stops(tmp_path, text, message):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(EvaluationError, match=message):
        read_benchmarks([LabelSource(path, dataset="mine", scale=(1.0, 5.0))], {})


def test_parquet_of_others_with_videos_as_bytes(tmp_path):
    source = LabelSource(data_file("labels/forms/video_bytes.parquet"), dataset="d", scale=(0.0, 4.0))
    written, _ = load(source, {}, video_dir=tmp_path)
    (found,) = read_benchmarks([source], {})
    assert [(label.video, label.mos) for label in found.labels] == [(written[0].video, pytest.approx(4.2))]
    with pytest.raises(EvaluationError, match="pass --dataset NAME"):
        read_benchmarks([LabelSource(source.labels)], {})


def test_what_is_no_parquet_of_prepare(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"no")
    with pytest.raises(EvaluationError, match="expected a parquet file of `vqathinker prepare`"):
        read_benchmarks([LabelSource(tmp_path / "x.parquet")], {})


def test_labels_beside_the_predictions():
    (found,) = labels_of_predictions([said("a", mos=2.0, benchmark="one"), said("b", mos=3.0, benchmark="one")])
    assert found == Benchmark("one", (Label("a", "a", 2.0), Label("b", "b", 3.0)))
    with pytest.raises(EvaluationError, match="the prediction has no mos; pass --labels FILE"):
        labels_of_predictions([said("a")])


def test_all_ten_benchmark_files_are_read_completely():
    names = data_file("labels/LIVE-VQC_total_ds_score.json").parent.glob("*.json")
    found = read_benchmarks([LabelSource(path) for path in names], load_registry())
    assert (
        sum(len(benchmark.labels) for benchmark in found)
        == 7182 + 3573 + 1200 + 585 + 1020 + 600 + 357 + 480 + 1200 + 839
    )
