import json

import numpy as np
import pytest
from helpers.data import data_file
from scipy.io import savemat

from vqathinker_verl.data.checks import check_labels
from vqathinker_verl.data.folders import left_out, read_folder
from vqathinker_verl.data.records import LabelError, RawLabel
from vqathinker_verl.data.registry import load_registry
from vqathinker_verl.data.sources import LabelSource, load

# file -> dataset, scale, rows: from the papers (see docs/data.md) and the files' own extremes
BENCHMARKS = {
    "CGVDS_total_score.json": ("CGVDS", (1, 7), 357),
    "Konvid-1k_total_ds_score.json": ("KoNViD-1k", (20, 100), 1200),
    "LIVE-VQC_total_ds_score.json": ("LIVE-VQC", (0, 100), 585),
    "LIVE-YT-Gaming_total_score.json": ("LIVE-YT-Gaming", (0, 100), 600),
    "LSVQ_whole_test_1080p_ds_score.json": ("LSVQ-1080p", (0, 100), 3573),
    "LSVQ_whole_test_ds_score.json": ("LSVQ-test", (0, 100), 7182),
    "VDPVE_train_score.json": ("VDPVE", (0, 100), 839),
    "Waterloo_IVC_4K_total_score.json": ("Waterloo-IVC-4K", (0, 100), 1200),
    "live_hfr_total_score.json": ("LIVE-YT-HFR", (0, 100), 480),
    "youtube_ugc_total.json": ("YouTube-UGC", (1, 5), 1020),
}


@pytest.fixture(scope="module")
def registry():
    return load_registry()


class TestBenchmarkFiles:
    @pytest.mark.parametrize("name", BENCHMARKS)
    def test_dataset_scale_and_count(self, registry, name, caplog):
        labels, scale = load(LabelSource(data_file(f"labels/{name}")), registry)
        dataset, expected_scale, rows = BENCHMARKS[name]
        assert {label.dataset for label in labels} == {dataset}
        assert scale == expected_scale
        assert len(labels) == rows
        assert registry[dataset].annotations[name].videos == rows
        assert caplog.text == ""

    @pytest.mark.parametrize("name", BENCHMARKS)
    def test_every_value_lies_inside_the_scale(self, name):
        annotations = json.loads(data_file(f"labels/{name}").read_text())["annotations"]
        low, high = BENCHMARKS[name][1]
        assert all(low <= float(row["score"]) <= high for row in annotations)

    def test_konvid_is_twenty_times_the_published_mos(self):
        """The published extremes are 1.22 and 4.64."""
        annotations = json.loads(data_file("labels/Konvid-1k_total_ds_score.json").read_text())["annotations"]
        scores = [float(row["score"]) / 20 for row in annotations]
        assert (round(min(scores), 2), round(max(scores), 2)) == (1.22, 4.64)

    def test_cgvds_cannot_end_at_6(self):
        annotations = json.loads(data_file("labels/CGVDS_total_score.json").read_text())["annotations"]
        assert max(float(row["score"]) for row in annotations) > 6

    def test_a_shortened_file_is_reported(self, registry, tmp_path, caplog):
        path = tmp_path / "CGVDS_total_score.json"
        path.write_text('{"annotations": [{"image_id": "x.mp4", "score": "3"}]}')
        load(LabelSource(path), registry)
        assert "1 labels; the file is known to hold 357" in caplog.text


class TestScaleIsNeverGuessed:
    def test_unknown_dataset(self, registry, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text("video,mos\na.mp4,50\n")
        with pytest.raises(LabelError, match="--scale"):
            load(LabelSource(path, dataset="mine"), registry)
        assert load(LabelSource(path, dataset="mine", scale=(0, 100)), registry)[1] == (0, 100)
        assert load(LabelSource(path, dataset="LIVE-VQC"), registry)[1] == (0, 100)
        with pytest.raises(LabelError, match="--dataset"):
            load(LabelSource(path), registry)


ENTRY = {
    "scale": [1, 10],
    "citation": "Someone, Somewhere 2024",
    "annotations": {"mine.json": {"scale": [0, 1]}},
    "folder": {"labels": ["scores.csv"], "video": ["clip"], "mos": ["score"]},
}


class TestUserRegistry:
    def write(self, tmp_path, content):
        path = tmp_path / "registry.json"
        path.write_text(json.dumps(content))
        return path

    def test_adds_and_replaces(self, tmp_path):
        konvid = {"scale": [1, 5], "citation": "here", "videos": 3}
        registry = load_registry(self.write(tmp_path, {"Mine": ENTRY, "KoNViD-1k": konvid}))
        assert registry["Mine"].scale == (1, 10)
        assert registry["Mine"].annotations["mine.json"].scale == (0, 1)
        assert registry["KoNViD-1k"].citation == "here"
        assert "LIVE-VQC" in registry
        (tmp_path / "scores.csv").write_text("clip,score\nx,7\n")
        (tmp_path / "x.avi").touch()
        labels, scale = load(LabelSource(tmp_path, dataset="Mine"), registry)
        assert (labels[0].video, labels[0].mos, scale) == ("x.avi", "7", (1, 10))

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"scale": [5, 1]}, "Mine: scale"),
            ({"scale": "1-5"}, "Mine: scale"),
            ({"videos": "many"}, "Mine: videos"),
            ({"size": 3}, "Mine: unknown field 'size'"),
            ({"folder": {"labels": "scores.csv", "video": ["clip"], "mos": ["score"]}}, "Mine: folder: labels"),
            ({"folder": {"labels": ["scores.csv"]}}, "Mine: folder"),
            ({"annotations": {"mine.json": {}}}, r"mine\.json"),
            (
                {"annotations": {"mine.json": {"scal": [0, 1]}}},
                r"mine\.json: unknown field 'scal'; the fields",
            ),
            (
                {"folder": {**ENTRY["folder"], "subsets": {"t": {"colum": "x"}}}},
                "subsets: t: unknown field 'colum'",
            ),
            ({"videos": True}, "Mine: videos"),
            ({"scale": [1]}, "Mine: scale: item 2 is missing"),
            ({"scale": [1, float("inf")]}, r"Mine: scale: expected \[lowest, highest\]"),
            ({"video_names": ["a.mp4"]}, r"one \{id\}, got 'a\.mp4'"),
        ],
    )
    def test_names_the_wrong_field(self, tmp_path, change, complaint):
        with pytest.raises(LabelError, match=complaint):
            load_registry(self.write(tmp_path, {"Mine": {**ENTRY, **change}}))

    def test_not_json(self, tmp_path):
        path = tmp_path / "registry.json"
        path.write_text("{")
        with pytest.raises(LabelError, match=r"registry\.json"):
            load_registry(path)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


class TestFolders:
    """Each dataset's folder in small, as its authors lay it out."""

    def read(self, registry, folder, name, subset=None):
        return [(label.video, float(label.mos)) for label in read_folder(folder, registry[name], subset)]

    def lsvq(self, folder):
        (folder / "labels_train_test.csv").write_text(
            "name,height,mos,is_test\nyfcc-batch1/747,540,67.75,True\nia-batch2/a.b,540,50,False\n"
        )
        (folder / "labels_test_1080p.csv").write_text("name,height,mos\nyfcc-batch1/722,1080,78.8\n")
        touch(folder, "yfcc-batch1/747.mp4", "ia-batch2/a.b.mp4", "yfcc-batch1/722.mp4", "yfcc-batch9/747.mp4")

    def test_lsvq(self, registry, tmp_path):
        self.lsvq(tmp_path)
        assert self.read(registry, tmp_path, "LSVQ", "train") == [("ia-batch2/a.b.mp4", 50)]
        assert self.read(registry, tmp_path, "LSVQ", "test") == [("yfcc-batch1/747.mp4", 67.75)]
        assert self.read(registry, tmp_path, "LSVQ-test") == [("yfcc-batch1/747.mp4", 67.75)]
        assert self.read(registry, tmp_path, "LSVQ-1080p") == [("yfcc-batch1/722.mp4", 78.8)]
        assert len(self.read(registry, tmp_path, "LSVQ")) == 2
        with pytest.raises(LabelError, match="expected train or test"):
            self.read(registry, tmp_path, "LSVQ", "val")

    @pytest.mark.timeout(20)
    def test_links_that_lead_back_are_entered_once(self, registry, tmp_path):
        self.lsvq(tmp_path)
        for name in ("up", "again"):
            (tmp_path / "yfcc-batch1" / name).symlink_to(tmp_path, target_is_directory=True)
        assert self.read(registry, tmp_path, "LSVQ", "test") == [("yfcc-batch1/747.mp4", 67.75)]

    @pytest.mark.parametrize("name", ["12.mp4", "KoNViD_1k_videos/orig_12_540_5s.mp4"])
    @pytest.mark.parametrize("row", ["flickr_id,MOS\n12,3.5\n", "file_name,MOS\norig_12_540_5s.mp4,3.5\n"])
    def test_both_naming_schemes_of_konvid(self, registry, tmp_path, name, row):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / "KoNViD_1k_mos.csv").write_text(row)
        assert [label.video for label in read_folder(tmp_path, registry["KoNViD-1k"])] == [name]
        labels = [RawLabel("w", "12.mp4", "3.5", "KoNViD-1k")]  # as in the annotation file
        (record,), _, missing = check_labels(labels, (1.0, 5.0), tmp_path, registry=registry)
        assert (record.video, record.path, missing) == ("12.mp4", str(tmp_path / name), set())

    def test_files_left_out(self, registry, tmp_path):
        for name in ("12.MPG", "13.y4m", "14.webp", "15.yuv", ".hidden"):
            (tmp_path / name).write_bytes(b"x")
        (tmp_path / "KoNViD_1k_mos.csv").write_text("flickr_id,MOS\n12,3.5\n14,3\n")
        labels = read_folder(tmp_path, registry["KoNViD-1k"])
        assert [label.video for label in labels] == ["12.MPG", "14.webp"]
        assert left_out(tmp_path, labels) == (["13.y4m"], ["15.yuv", "KoNViD_1k_mos.csv"])

    def test_konvid(self, registry, tmp_path):
        touch(tmp_path, "KoNViD_1k_metadata/KoNViD_1k_attributes.csv", "KoNViD_1k_videos/3015323763.mp4")
        (tmp_path / "KoNViD_1k_metadata/KoNViD_1k_attributes.csv").write_text("flickr_id,b,MOS\n3015323763,1,3.12\n")
        assert self.read(registry, tmp_path, "KoNViD-1k") == [("KoNViD_1k_videos/3015323763.mp4", 3.12)]

    def test_live_vqc(self, registry, tmp_path):
        touch(tmp_path, "Video/A001.mp4", "Video/A002.mp4")
        names = np.array([["A001.mp4"], ["A002.mp4"]], dtype=object)
        savemat(tmp_path / "data.mat", {"video_list": names, "mos": np.array([[80.23], [59.5]])})
        assert self.read(registry, tmp_path, "LIVE-VQC") == [("Video/A001.mp4", 80.23), ("Video/A002.mp4", 59.5)]

    def test_youtube_ugc(self, registry, tmp_path):
        name = "original_videos_MOS_for_YouTube_UGC_dataset.csv"
        (tmp_path / name).write_text("vid,MOS full\nVlog_720P-4e3d,3.9\nVlog_720P-5f,2\n")
        touch(tmp_path, "h264/Vlog_720P-4e3d_crf_10_ss_00_t_20.0.mp4", "raw/Vlog_720P-5f.mkv")
        assert self.read(registry, tmp_path, "YouTube-UGC") == [
            ("h264/Vlog_720P-4e3d_crf_10_ss_00_t_20.0.mp4", 3.9),
            ("raw/Vlog_720P-5f.mkv", 2),
        ]

    def test_live_yt_gaming(self, registry, tmp_path):
        touch(tmp_path, "mp4/FIFA-005.mp4")
        names = np.array([["FIFA-005"], ["LOL-020"]], dtype=object)
        savemat(tmp_path / "LIVEYTGaming.mat", {"video_list": names, "MOS": np.array([[55.0], [60.0]])})
        assert self.read(registry, tmp_path, "LIVE-YT-Gaming") == [("mp4/FIFA-005.mp4", 55), ("LOL-020.mp4", 60)]

    def test_cgvds(self, registry, tmp_path):
        name = "Overwatch_30_30fps_640x480_30_300_h264_nvenc.mp4"
        touch(tmp_path, f"PVS/{name}")
        (tmp_path / "CGVDS_MOS.csv").write_text(f"Filename,MOS\n{name},2.09\n")
        assert self.read(registry, tmp_path, "CGVDS") == [(f"PVS/{name}", 2.09)]

    def test_waterloo(self, registry, tmp_path):
        (tmp_path / "scores.txt").write_text("HEVC, 1, 960x540, 1, 18.21\nVP9, 12, 2160p, 4, 80\n")
        touch(tmp_path, "HEVC/HEVC_01_960x540_1.mp4", "VP9/VP9_12_3840x2160_4.webm")
        assert self.read(registry, tmp_path, "Waterloo-IVC-4K") == [
            ("HEVC/HEVC_01_960x540_1.mp4", 18.21),
            ("VP9/VP9_12_3840x2160_4.webm", 80),
        ]

    def test_live_yt_hfr(self, registry, tmp_path):
        touch(tmp_path, "subjective_scores/subject_MOS.csv", "videos/1Runner/1Runner_crf_0_24fps.webm")
        (tmp_path / "subjective_scores/subject_MOS.csv").write_text(
            "File Names,1Runner_crf_0_24fps,pour_crf_0_24fps\nMOS,41.9,50\nSTD,1,2\n"
        )
        assert self.read(registry, tmp_path, "LIVE-YT-HFR") == [
            ("videos/1Runner/1Runner_crf_0_24fps.webm", 41.9),
            ("pour_crf_0_24fps.mp4", 50),
        ]

    def test_vdpve(self, registry, tmp_path):
        touch(tmp_path, "train/A0023_01.mp4")
        (tmp_path / "train_labels.txt").write_text("A0023_01.mp4,-1,-1,43.9\n")
        assert self.read(registry, tmp_path, "VDPVE") == [("train/A0023_01.mp4", 43.9)]

    @pytest.mark.parametrize("place", ["train/0239.mp4", "train_videos/0239.mp4", "KVQ_videos/train/0239.mp4"])
    def test_kvq(self, registry, tmp_path, place):
        touch(tmp_path, place)
        (tmp_path / "train_data.csv").write_text("filename,score\ntrain/0239.mp4,3.25\n")
        assert self.read(registry, tmp_path, "KVQ") == [(place, 3.25)]

    def test_kvq_does_not_confuse_training_and_validation(self, registry, tmp_path):
        touch(tmp_path, "train/0239.mp4", "val/0239.mp4")
        (tmp_path / "truth.csv").write_text("filename,score\nval/0239.mp4,2.5\n")
        assert self.read(registry, tmp_path, "KVQ") == [("val/0239.mp4", 2.5)]

    def test_two_videos_of_one_name(self, registry, tmp_path):
        touch(tmp_path, "a/1.mp4", "b/1.mp4")
        (tmp_path / "KoNViD_1k_mos.csv").write_text("flickr_id,mos\n1,3\n")
        with pytest.raises(LabelError, match=r"a/1\.mp4 and b/1\.mp4"):
            self.read(registry, tmp_path, "KoNViD-1k")

    def test_no_label_file_says_which_is_expected(self, registry, tmp_path):
        with pytest.raises(LabelError, match=r"KoNViD_1k_attributes\.csv or KoNViD_1k_mos\.csv"):
            self.read(registry, tmp_path, "KoNViD-1k")

    def test_no_column_says_which_are_there(self, registry, tmp_path):
        (tmp_path / "KoNViD_1k_mos.csv").write_text("id,score\n1,3\n")
        with pytest.raises(LabelError, match="flickr_id or file_name or video_name; its columns are id, score"):
            self.read(registry, tmp_path, "KoNViD-1k")

    def test_unknown_dataset_lists_the_known(self, registry, tmp_path):
        with pytest.raises(LabelError, match="KoNViD-1k"):
            load(LabelSource(tmp_path, dataset="Konvid"), registry)
