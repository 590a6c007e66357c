"""Labels in the forms in which people have them, each with its right values."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.data import data_file
from PIL import Image
from scipy.io import savemat

from vqathinker_verl.data.checks import check_labels
from vqathinker_verl.data.records import LabelError
from vqathinker_verl.data.registry import load_registry
from vqathinker_verl.data.sources import LabelSource, load
from vqathinker_verl.frames import probe


def read(path, *, guesses=None, video_dir=None, registry=None, **options):
    """(video, MOS as stated) of each label."""
    options = {"dataset": "d", "scale": (0.0, 100.0)} | options
    labels, _ = load(LabelSource(path, **options), registry or {}, guesses=guesses, video_dir=video_dir)
    return [(label.video, float(label.mos)) for label in labels]


def case(name):
    return data_file(f"labels/forms/{name}")


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


class TestHandedCases:
    def test_headerless(self):
        assert read(case("headerless.txt"), columns="video,_,_,mos") == [
            ("Video/A001.mp4", 81.2),
            ("Video/A002.mp4", 55.3),
            ("Video/A003.mp4", 72.1),
            ("Video/A004.mp4", 33.4),
        ]

    @pytest.mark.parametrize("columns", [{}, {"video_column": "Video/A001.mp4", "mos_column": "81.2"}])
    def test_a_data_row_is_no_header(self, columns):
        with pytest.raises(LabelError, match=r"Video/A001.mp4, 10.0, 30.0, 81.2.*--columns video,_,_,mos"):
            read(case("headerless.txt"), **columns)

    def test_matlab_with_an_index(self):
        found = read(case("with_index.mat"), video_column="video_names", mos_column="scores")
        assert found == [("900001.mp4", 1.5), ("900002.mp4", 2.5), ("900003.mp4", 3.5), ("900004.mp4", 4.5)]

    def test_list_of_objects(self):
        expected = [("set/0001.mp4", 1.4), ("set/0002.mp4", 3.0), ("set/0003.mp4", 4.6)]
        assert read(case("list_of_objects.json")) == expected
        assert read(case("list_of_objects.json"), video_column="image", mos_column="gt_score") == expected

    def test_lines_of_objects(self):
        expected = [("set/0001.mp4", 18.0), ("set/0002.mp4", 50.0), ("set/0003.mp4", 82.0)]
        assert read(case("lines_of_objects.jsonl")) == expected
        assert read(case("lines_of_objects.jsonl"), levels=True) == expected

    def test_semicolons_and_decimal_commas(self):
        guesses = []
        found = read(case("semicolons.csv"), guesses=guesses)
        assert found == [("a\\0001.mp4", 3.45), ("b\\0001.mp4", 2.1), ("UP.MP4", 4.0)]
        assert guesses == ["delimiter semicolon (--delimiter)", "decimal comma (--decimal)"]

    def test_dmos_asks_for_a_direction(self):
        with pytest.raises(LabelError, match="pass --lower-is-better, or --higher-is-better"):
            read(case("dmos.csv"), mos_column="dmos")

    @pytest.mark.parametrize(("lower", "mos"), [(True, 5 - 4 * 0.63806), (False, 1 + 4 * 0.63806)])
    def test_dmos(self, lower, mos):
        source = LabelSource(case("dmos.csv"), "d", scale=(0.0, 100.0), mos_column="dmos", lower_is_better=lower)
        labels, scale = load(source, {})
        records, rejects, _ = check_labels(labels, scale, None, allow_missing=True)
        assert (len(records), rejects) == (30, [])
        assert records[0].mos == pytest.approx(mos)
        assert records[0].mos_raw == 63.806

    def test_parquet_with_bytes(self, tmp_path):
        ((name, mos),) = read(case("video_bytes.parquet"), video_dir=tmp_path)
        data = pq.read_table(case("video_bytes.parquet")).to_pylist()[0]["video"]["bytes"]
        assert mos == 3.2
        assert name.endswith(".mp4")
        assert (tmp_path / name).read_bytes() == data
        assert [path.name for path in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif"])
    def test_parquet_with_bytes_of_images(self, tmp_path, suffix):
        """The suffix comes from the bytes, as it decides how the file is read."""
        file = io.BytesIO()
        Image.new("RGB", (8, 6)).save(file, Image.registered_extensions()[suffix])
        row = {"image": {"bytes": file.getvalue(), "path": None}, "mos": 2.5}
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "l.parquet")
        ((name, mos),) = read(tmp_path / "l.parquet", video_dir=tmp_path / "v", video_column="image", mos_column="mos")
        assert (mos, Path(name).suffix) == (2.5, suffix)
        assert probe(tmp_path / "v" / name).width == 8


class TestMoreTables:
    @pytest.mark.parametrize(
        ("text", "encoding", "guess"),
        [
            ("video\tmos\nä.mp4\t3,5\n", "utf-16", "encoding utf-16"),
            ("video,mos\nä.mp4,3.5\n", "cp1252", "encoding cp1252"),
            ("video|mos\nä.mp4|3.5\n", "utf-8", "delimiter pipe"),
            ('"video","mos"\n"ä.mp4","3,5"\n', "utf-8", "decimal comma"),
        ],
    )
    def test_guesses_are_reported(self, tmp_path, text, encoding, guess):
        guesses = []
        assert read(write(tmp_path / "t.csv", text, encoding), guesses=guesses) == [("ä.mp4", 3.5)]
        assert any(line.startswith(guess) for line in guesses)

    def test_spaces_without_a_header(self, tmp_path):
        path = write(tmp_path / "t.txt", "a.mp4  3.5\nb.mp4  4\n")
        assert read(path, columns="video,mos") == [("a.mp4", 3.5), ("b.mp4", 4.0)]

    def test_given_encoding(self, tmp_path):
        path = write(tmp_path / "t.csv", "video,mos\n视频.mp4,3\n", "gb18030")
        assert read(path, encoding="gb18030") == [("视频.mp4", 3.0)]

    def test_sheet(self, tmp_path):
        import openpyxl

        book = openpyxl.Workbook()
        book.active.append(["nothing"])
        sheet = book.create_sheet("MOS")
        sheet.append(["video", "mos"])
        sheet.append(["a.mp4", 3.5])
        book.save(tmp_path / "t.xlsx")
        assert read(tmp_path / "t.xlsx", sheet="MOS") == [("a.mp4", 3.5)]

    def test_fields_of_a_matlab_struct(self, tmp_path):
        names = np.array(["a.mp4", "b.mp4"], dtype=object)
        savemat(tmp_path / "t.mat", {"data": {"name": names, "mos": [1.0, 2.0]}, "ref": np.zeros((9, 9))})
        expected = [("a.mp4", 1.0), ("b.mp4", 2.0)]
        assert read(tmp_path / "t.mat", video_column="data.name", mos_column="data.mos") == expected
        assert read(tmp_path / "t.mat", video_column="name") == expected

    def test_shards(self, tmp_path):
        for number in range(2):
            table = pa.table({"video": [f"{number}.mp4"], "mos": [float(number)]})
            pq.write_table(table, tmp_path / f"train-{number:05}.parquet")
        assert read(tmp_path) == [("0.mp4", 0.0), ("1.mp4", 1.0)]

    def test_parquet_files_in_the_folder_of_a_known_dataset(self, tmp_path):
        write(tmp_path / "KoNViD_1k_mos.csv", "flickr_id,MOS\n1,2.5\n")
        pq.write_table(pa.table({"video": ["x.mp4"], "mos": [4.0]}), tmp_path / "prepared.parquet")
        assert read(tmp_path, dataset="KoNViD-1k", registry=load_registry()) == [("1.mp4", 2.5)]
        assert read(tmp_path, dataset="mine", registry=load_registry()) == [("x.mp4", 4.0)]


class TestMoreObjects:
    @pytest.mark.parametrize(
        "entry",
        [
            {"messages": [{"role": "user", "content": "<video>Rate."}], "videos": ["a.mp4"], "solution": "2.5"},
            {"dataset_name": "x", "image": ["a.mp4"], "conversations": [{"from": "gpt", "value": 2.5}]},
            {"image_id": "a.mp4", "score": "2.5"},
            {"video": "a.mp4", "mos": 2.5},
        ],
    )
    def test_known_forms(self, tmp_path, entry):
        assert read(write(tmp_path / "l.jsonl", json.dumps(entry) + "\n")) == [("a.mp4", 2.5)]
        assert read(write(tmp_path / "l.json", json.dumps({"version": 1, "items": [entry]}))) == [("a.mp4", 2.5)]

    def test_dotted_paths_and_lists(self, tmp_path):
        path = write(tmp_path / "l.json", json.dumps([{"clip": [{"file": "a.mp4"}], "human": {"mean": [2.5, 0.1]}}]))
        assert read(path, video_column="clip.file", mos_column="human.mean") == [("a.mp4", 2.5)]
        with pytest.raises(LabelError, match="--video-column and --mos-column"):
            read(path)

    def test_an_answer_about_several_videos(self, tmp_path):
        entry = {"image": ["a.mp4", "b.mp4"], "conversations": [{"from": "gpt", "value": "2.5"}]}
        path = write(tmp_path / "l.jsonl", json.dumps(entry))
        with pytest.raises(LabelError, match=r"2 videos in 'image'.*--video-column image reads the first"):
            read(path)
        assert read(path, video_column="image") == [("a.mp4", 2.5)]

    def test_level_words_only_when_asked(self, tmp_path):
        entry = {"video": "a.mp4", "conversations": [{"from": "gpt", "value": "excellent"}]}
        path = write(tmp_path / "l.jsonl", json.dumps(entry))
        with pytest.raises(LabelError, match="--levels"):
            read(path)
        assert read(path, levels=True, scale=None) == [("a.mp4", 5.0)]
