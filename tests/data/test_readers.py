import json
import sys
import zipfile

import numpy as np
import pytest
from scipy.io import savemat

from vqathinker_verl.data.readers import read_annotations, read_conversations, read_table, with_sources
from vqathinker_verl.data.records import LabelError, RawLabel
from vqathinker_verl.data.tables import read_rows


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


class TestAnnotations:
    def test_reads_ids_and_scores(self, tmp_path):
        path = write(
            tmp_path / "a.json", '{"annotations": [{"image_id": "x.mp4", "ann_type": "score", "score": "62.4"}]}'
        )
        assert read_annotations(path, "set") == [RawLabel("a.json: annotation 1", "x.mp4", "62.4", "set")]

    @pytest.mark.parametrize("text", ["", "[" * 100_000, "[1]", '{"annotation": []}', '{"annotations": [3]}'])
    def test_another_form_is_named(self, tmp_path, text):
        with pytest.raises(LabelError, match=r"a\.json"):
            read_annotations(write(tmp_path / "a.json", text), "set")

    def test_a_field_missing_is_left_to_the_checks(self, tmp_path):
        path = write(tmp_path / "a.json", '{"annotations": [{"image_id": "x.mp4"}]}')
        assert read_annotations(path, "set")[0].mos == ""


ROW = {
    "id": 0,
    "dataset_name": "LSVQ",
    "image": ["yfcc-batch6/4134.mp4"],
    "conversations": [{"from": "human", "value": "How good?"}, {"from": "gpt", "value": 2.611842}],
}


class TestConversations:
    def test_reads_video_and_mos(self, tmp_path):
        path = write(tmp_path / "c.jsonl", json.dumps(ROW) + "\n\n" + json.dumps(ROW))
        labels = read_conversations(path, None)
        assert labels[0] == RawLabel("c.jsonl: line 1", "yfcc-batch6/4134.mp4", "2.611842", "LSVQ")
        assert labels[1].where == "c.jsonl: line 3"
        assert read_conversations(path, "mine")[0].dataset == "mine"

    @pytest.mark.parametrize(
        "change",
        [
            {"image": ["a.mp4", "b.mp4"]},
            {"conversations": [{"from": "human", "value": "?"}]},
            {"conversations": 3},
            {"dataset_name": None},
            {"dataset_name": 3},
            {"dataset_name": "a\ud800"},
            {"dataset_name": "\x1b[2J"},
        ],
    )
    def test_names_the_line(self, tmp_path, change):
        path = write(tmp_path / "c.jsonl", json.dumps(ROW) + "\n" + json.dumps({**ROW, **change}))
        with pytest.raises(LabelError, match=r"c\.jsonl: line 2"):
            read_conversations(path, None)


class TestTable:
    def test_columns_by_name(self, tmp_path):
        path = write(tmp_path / "t.csv", "mos,id,scene\n3.5,77,park\n")
        labels = read_table(path, "set", "id", "mos", video_pattern="{scene}/{id}.mp4", source_column="scene")
        assert labels == [RawLabel("t.csv: line 2", "park/77.mp4", "3.5", "set", "park")]

    def test_byte_order_mark_tabs_and_blank_lines(self, tmp_path):
        path = tmp_path / "t.tsv"
        path.write_bytes("\ufeffvideo\tmos\r\na b.mp4\t1\r\n\r\n".encode())
        assert read_table(path, "set", "video", "mos") == [RawLabel("t.tsv: line 2", "a b.mp4", "1", "set")]

    def test_quoted_cells_and_short_rows(self, tmp_path):
        path = write(tmp_path / "t.csv", 'video,mos\n"a,b.mp4",1\nc.mp4\n')
        assert [(label.video, label.mos) for label in read_table(path, "set", "video", "mos")] == [
            ("a,b.mp4", "1"),
            ("c.mp4", ""),
        ]

    def test_missing_column_lists_those_there(self, tmp_path):
        path = write(tmp_path / "t.csv", "name,score\na.mp4,1\n")
        with pytest.raises(LabelError, match=r"t\.csv: no column 'video'; its columns are 'name', 'score'"):
            read_table(path, "set", "video", "score")

    def test_pattern_that_does_not_fit(self, tmp_path):
        path = write(tmp_path / "t.csv", "video,mos\na,1\n")
        with pytest.raises(LabelError, match="pattern"):
            read_table(path, "set", "video", "mos", video_pattern="{scene}.mp4")

    def test_not_text(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_bytes(b"video,mos\n\x81\xfe,1\n")
        with pytest.raises(LabelError, match="UTF-8 text; pass --encoding"):
            read_table(path, "set", "video", "mos")

    def test_matlab_cells(self, tmp_path):
        path = tmp_path / "data.mat"
        names = np.array([["A001.mp4"], ["B002.mp4"]], dtype=object)
        savemat(path, {"video_list": names, "mos": np.array([[80.2], [59.4]]), "version": 3})
        rows = [(label.video, float(label.mos)) for label in read_table(path, "set", "video_list", "mos")]
        assert rows == [("A001.mp4", 80.2), ("B002.mp4", 59.4)]

    def test_transposed(self, tmp_path):
        path = write(tmp_path / "t.csv", "File Names,a,b\nMOS,1,2\nstd,0,0\n")
        rows = [row for _, row in read_rows(path, transposed=True)]
        assert rows == [{"File Names": "a", "MOS": "1", "std": "0"}, {"File Names": "b", "MOS": "2", "std": "0"}]

    def test_transposed_and_ragged(self, tmp_path):
        with pytest.raises(LabelError, match="differ in length"):
            read_rows(write(tmp_path / "t.csv", "File Names,a,b\nMOS,1\n"), transposed=True)

    def test_damaged_workbook(self, tmp_path):
        (tmp_path / "t.xlsx").write_bytes(b"PK\x03\x04")
        with pytest.raises(LabelError, match=r"t\.xlsx: cannot be read as a workbook"):
            read_rows(tmp_path / "t.xlsx")

    def test_workbook_without_openpyxl_says_what_to_do(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "openpyxl", None)
        with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as file:
            file.writestr("xl/workbook.xml", "<workbook/>")
        with pytest.raises(LabelError, match="save the sheet as CSV"):
            read_rows(tmp_path / "t.xlsx")


LABELS = [RawLabel("w", "park_crf20.mp4", "3", "set"), RawLabel("w", "sea_crf20.mp4", "3", "set")]


class TestDamagedMatlabFile:
    def test_is_named_with_its_reason(self, tmp_path):
        path = tmp_path / "t.mat"
        path.write_bytes(b"no MATLAB file" * 100)
        with pytest.raises(LabelError, match=r"t\.mat: cannot be read as a MATLAB file \(.+\); save its labels as CSV"):
            read_rows(path)

    def test_one_that_kills_its_reader_is_named_with_the_signal(self, tmp_path, monkeypatch):
        """scipy's reader can; here it is told to."""
        killer = tmp_path / "python"
        killer.write_text("#!/bin/sh\nkill -SEGV $$\n")
        killer.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(killer))
        with pytest.raises(LabelError, match=r"t\.mat: .*killed the reading process, SIGSEGV"):
            read_rows(tmp_path / "t.mat")


class TestSources:
    def test_first_group_of_the_pattern(self):
        assert [label.source for label in with_sources(LABELS, r"^([^_]+)_")] == ["park", "sea"]

    @pytest.mark.parametrize(("pattern", "complaint"), [("(", "regular"), ("park", "group"), ("(river)", "park_crf20")])
    def test_faults(self, pattern, complaint):
        with pytest.raises(LabelError, match=complaint):
            with_sources(LABELS, pattern)
