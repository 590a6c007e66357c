"""`vqathinker prepare` as a user calls it."""

import csv
import json
import shutil
import time

import pyarrow.parquet as pq
import pytest
from helpers.data import data_file
from PIL import Image

from vqathinker_verl.cli.main import main
from vqathinker_verl.data import probing

av = pytest.importorskip("av")
np = pytest.importorskip("numpy")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Six real clips in a folder."""
    root = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for number in range(6):
        with av.open(str(root / f"{number}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for _ in range(8):
                picture = rng.integers(0, 255, (48, 64, 3), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    return root


def write_csv(path, rows):
    path.write_text("video,mos\n" + "".join(f"{video},{mos}\n" for video, mos in rows))
    return path


def prepare(labels, output, root, *more):
    arguments = [labels, "--video-root", root, "--dataset", "demo", "--scale", 0, 100, "--output", output, *more]
    return main(["prepare", *map(str, arguments)])


GOOD = [(f"{number}.mp4", 20 * number) for number in range(6)]


class TestImages:
    @pytest.fixture
    def mixed(self, videos, tmp_path):
        """Two videos, and an image of every kind; the first one lies on its side."""
        root = tmp_path / "mixed"
        root.mkdir()
        for name in ("0.mp4", "1.mp4"):
            shutil.copy(videos / name, root)
        image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
        exif = image.getexif()
        exif[274] = 6
        image.save(root / "a.jpg", exif=exif)
        for name in ("b.PNG", "c.webp", "d.bmp", "e.tif", "f.jpeg"):
            image.save(root / name)
        return root

    def test_rows_of_images_and_videos(self, mixed, tmp_path):
        names = sorted(path.name for path in mixed.iterdir())
        labels = write_csv(tmp_path / "train.csv", [(name, 10 * number) for number, name in enumerate(names)])
        assert prepare(labels, tmp_path / "t.parquet", mixed) == 0
        rows = {row["extra_info"]["video"]: row for row in pq.read_table(tmp_path / "t.parquet").to_pylist()}
        assert sorted(rows) == names
        for name, row in rows.items():
            info = row["extra_info"]
            kind = "video" if name.endswith(".mp4") else "image"
            content = row["prompt"][0]["content"]
            assert content.startswith(f"<video>You are doing the {kind} quality assessment task.")
            assert f"the quality of this {kind}?" in content
            assert row["videos"] == [{"video": str(mixed / name)}]
            size = (64, 48) if name == "a.jpg" else (48, 64)
            assert (info["height"], info["width"], info["total_frames"]) == (*size, 8 if kind == "video" else 1)
            assert info["fps"] == (25.0 if kind == "video" else 1.0)

    def test_a_question_of_ones_own_stays_as_it_is(self, mixed, tmp_path):
        labels = write_csv(tmp_path / "train.csv", [("0.mp4", 10), ("a.jpg", 20)])
        assert prepare(labels, tmp_path / "t.parquet", mixed, "--no-probe", "--prompt", "How good is this video?") == 0
        rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
        assert {row["prompt"][0]["content"] for row in rows} == {"<video>How good is this video?"}

    def test_a_broken_image_and_an_animation_go_to_quarantine(self, mixed, tmp_path, capsys):
        (mixed / "b.PNG").write_bytes((mixed / "b.PNG").read_bytes()[:500])
        pictures = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
        pictures[0].save(mixed / "c.webp", save_all=True, append_images=pictures[1:])
        labels = write_csv(tmp_path / "train.csv", [("a.jpg", 10), ("b.PNG", 20), ("c.webp", 30)])
        assert prepare(labels, tmp_path / "t.parquet", mixed) == 1
        with (tmp_path / "t.quarantine.csv").open() as file:
            reasons = {row["video"]: row["reason"] for row in csv.DictReader(file)}
        assert "b.PNG: cannot be decoded" in reasons["b.PNG"]
        assert "an animation of 2 pictures" in reasons["c.webp"]


class TestGoodLabels:
    def test_the_row_that_verl_reads(self, videos, tmp_path, monkeypatch, capsys):
        labels = write_csv(tmp_path / "train.csv", GOOD)
        monkeypatch.chdir(videos.parent)
        assert prepare(labels, tmp_path / "train.parquet", videos.name) == 0
        row = pq.read_table(tmp_path / "train.parquet").to_pylist()[3]
        prompt = row.pop("prompt")
        assert prompt[0]["role"] == "user"
        assert prompt[0]["content"].startswith("<video>You are doing the video quality assessment task.")
        path = str(videos / "3.mp4")  # absolute, though the root was given relative to the working directory
        assert row == {
            "data_source": "demo",
            "videos": [{"video": path}],
            "ability": "video_quality",
            "reward_model": {"style": "rule", "ground_truth": pytest.approx(3.4)},
            "extra_info": {
                "index": 3,
                "split": "train",
                "video": "3.mp4",
                "path": path,
                "mos_raw": 60.0,
                "mos_min": 0.0,
                "mos_max": 100.0,
                "video_id": "demo/3.mp4",
                "total_frames": 8,
                "fps": 25.0,
                "height": 48,
                "width": 64,
            },
        }
        assert not (tmp_path / "train.quarantine.csv").exists()
        assert (tmp_path / "train.mos.png").read_bytes().startswith(b"\x89PNG")
        table = capsys.readouterr().out
        assert "demo     train  6     0        0         0-100  0-100    3.000" in table

    def test_verl_builds_its_messages_from_it(self, videos, tmp_path):
        dataset_module = pytest.importorskip("verl.utils.dataset.rl_dataset")
        prepare(write_csv(tmp_path / "l.csv", GOOD), tmp_path / "l.parquet", videos)
        row = pq.read_table(tmp_path / "l.parquet").to_pylist()[0]
        dataset = object.__new__(dataset_module.RLHFDataset)
        dataset.image_key, dataset.video_key, dataset.audio_key, dataset.processor = (
            "images",
            "videos",
            "audios",
            object(),
        )
        (message,) = dataset._build_messages(row, key="prompt")
        assert message["content"][0] == {"type": "video", "video": str(videos / "0.mp4")}
        assert message["content"][1]["type"] == "text"
        assert "<video>" not in message["content"][1]["text"]

    def test_videos_stored_as_bytes_have_no_video_root(self, tmp_path, capsys):
        labels = data_file("labels/forms/video_bytes.parquet")
        call = ("prepare", str(labels), "--video-column", "video", "--mos-column", "mos", "--scale", "1", "5")
        call += ("--dataset", "mine", "--output", str(tmp_path / "o.parquet"))
        assert main([*call, "--video-root", str(tmp_path)]) == 2
        assert "stored as bytes" in (error := capsys.readouterr().err)
        assert "leave out --video-root" in error
        assert main([*call]) == 0

    def test_equal_input_gives_equal_bytes(self, videos, tmp_path):
        labels = write_csv(tmp_path / "l.csv", GOOD)
        outputs = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            more = ("--holdout", 0.34, "--holdout-output", tmp_path / name / "val.parquet", "--seed", 3)
            assert prepare(labels, tmp_path / name / "t.parquet", videos, *more) == 0
            outputs.append([(tmp_path / name / f).read_bytes() for f in ("t.parquet", "val.parquet", "t.mos.png")])
        assert outputs[0] == outputs[1]

    def test_with_and_without_probing_have_one_schema(self, videos, tmp_path):
        labels = write_csv(tmp_path / "l.csv", GOOD)
        prepare(labels, tmp_path / "a.parquet", videos)
        prepare(labels, tmp_path / "b.parquet", videos, "--no-probe")
        assert pq.read_schema(tmp_path / "a.parquet") == pq.read_schema(tmp_path / "b.parquet")
        assert pq.read_table(tmp_path / "b.parquet").to_pylist()[0]["extra_info"]["height"] is None

    def test_another_prompt(self, videos, tmp_path):
        prepare(write_csv(tmp_path / "l.csv", GOOD), tmp_path / "l.parquet", videos, "--prompt", "How good?")
        assert pq.read_table(tmp_path / "l.parquet").to_pylist()[0]["prompt"][0]["content"] == "<video>How good?"


BAD = [("none.mp4", 1), ("../x.mp4", 2), ("1.mp4", "nan"), ("2.mp4", 101), ("0.mp4", 5), ("broken.mp4", 3)]


class TestFaults:
    @pytest.fixture
    def root(self, videos, tmp_path):
        root = tmp_path / "root"
        root.mkdir()
        for path in videos.iterdir():
            shutil.copy(path, root)
        (root / "broken.mp4").write_text("not a video")
        return root

    def test_quarantined_rows_and_exit_code(self, root, tmp_path, capsys):
        labels = write_csv(tmp_path / "l.csv", [("0.mp4", 50), *BAD, ("5.mp4", 60)])
        assert prepare(labels, tmp_path / "l.parquet", root) == 1
        rows = pq.read_table(tmp_path / "l.parquet").to_pylist()
        assert [row["extra_info"]["video"] for row in rows] == ["0.mp4", "5.mp4"]
        assert [row["extra_info"]["index"] for row in rows] == [0, 1]
        with (tmp_path / "l.quarantine.csv").open() as file:
            rejected = {row["video"]: row["reason"] for row in csv.DictReader(file)}
        assert set(rejected) == {video for video, _ in BAD}
        assert "no such file" in rejected["none.mp4"]
        assert "cannot be decoded" in rejected["broken.mp4"]
        assert "the same video as in l.csv: line 2" in rejected["0.mp4"]
        assert "6 rows were left out" in capsys.readouterr().out

    def test_a_cell_of_any_length_is_listed_so_that_it_can_be_read(self, root, tmp_path, capsys):
        labels = write_csv(tmp_path / "l.csv", [("x" * 120_000, 50)])
        assert prepare(labels, tmp_path / "l.parquet", root) == 2
        assert len(capsys.readouterr().err) < 5000
        with (tmp_path / "l.quarantine.csv").open() as file:
            (row,) = csv.DictReader(file)
        assert row["video"] == "x" * 2000 + "... (120000 characters)"

    def test_a_clean_run_removes_the_old_quarantine(self, root, tmp_path):
        prepare(write_csv(tmp_path / "l.csv", [("0.mp4", 50), ("none.mp4", 1)]), tmp_path / "l.parquet", root)
        assert (tmp_path / "l.quarantine.csv").exists()
        assert prepare(write_csv(tmp_path / "l.csv", [("0.mp4", 50)]), tmp_path / "l.parquet", root) == 0
        assert not (tmp_path / "l.quarantine.csv").exists()

    @pytest.mark.parametrize("bad", BAD)
    def test_strict_stops_and_writes_nothing(self, root, tmp_path, capsys, bad):
        labels = write_csv(tmp_path / "l.csv", [("0.mp4", 50), bad])
        assert prepare(labels, tmp_path / "out" / "l.parquet", root, "--strict") == 2
        assert "l.csv: line 3" in capsys.readouterr().err
        assert not (tmp_path / "out" / "l.parquet").exists()

    def test_nothing_left(self, root, tmp_path, capsys):
        assert prepare(write_csv(tmp_path / "l.csv", [("none.mp4", 1)]), tmp_path / "l.parquet", root) == 2
        assert "all 1 rows were rejected" in capsys.readouterr().err
        assert (tmp_path / "l.quarantine.csv").exists()

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["absent.csv", "--output", "o.parquet"], "no such file"),
            (["--output", "o.parquet"], "--label-sets"),
            (["l.csv", "--output", "o.parquet"], "--dataset"),
            (["l.csv", "--dataset", "x", "--output", "o.parquet"], "--scale"),
            (["l.csv", "--dataset", "x", "--scale", "5", "1", "--video-root", ".", "--output", "o.parquet"], "scale"),
            (["l.csv", "--dataset", "x", "--scale", "1", "5", "--output", "o.parquet"], "--video-root"),
            (
                ["l.csv", "--dataset", "x", "--scale", "1", "5", "--video-root", "no", "--output", "o.parquet"],
                "not a folder",
            ),
            (["l.csv", "--dataset", "x", "--holdout", "0.1", "--output", "o.parquet"], "--holdout-output"),
            (["l.scores", "--dataset", "x", "--output", "o.parquet"], "--format"),
        ],
    )
    def test_wrong_call_is_one_clear_line(self, tmp_path, monkeypatch, capsys, arguments, complaint):
        monkeypatch.chdir(tmp_path)
        write_csv(tmp_path / "l.csv", [("a.mp4", 3)])
        write_csv(tmp_path / "l.scores", [("a.mp4", 3)])
        assert main(["prepare", *arguments]) == 2
        error = capsys.readouterr().err
        assert complaint in error
        assert error.count("\n") <= 2  # the second one is a command line to copy
        assert not (tmp_path / "o.parquet").exists()

    def test_a_failed_write_leaves_the_old_file(self, videos, tmp_path, monkeypatch):
        labels, output = write_csv(tmp_path / "l.csv", GOOD), tmp_path / "l.parquet"
        prepare(labels, output, videos)
        before = output.read_bytes()
        monkeypatch.setattr(pq, "write_table", lambda table, path, **_: path.write_bytes(b"half") and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(labels, output, videos)
        assert output.read_bytes() == before
        assert not list(tmp_path.glob(".*.partial"))


class TestSplits:
    def test_sources_stay_together(self, videos, tmp_path):
        labels = tmp_path / "l.csv"
        labels.write_text("video,mos,scene\n" + "".join(f"{n}.mp4,{n},{'ab'[n // 3]}\n" for n in range(6)))
        more = ("--holdout", 0.5, "--holdout-output", tmp_path / "v.parquet", "--source-column", "scene")
        assert prepare(labels, tmp_path / "t.parquet", videos, *more) == 0
        sides = []
        for name, split in (("t", "train"), ("v", "val")):
            rows = pq.read_table(tmp_path / f"{name}.parquet").to_pylist()
            assert {row["extra_info"]["split"] for row in rows} == {split}
            sides.append({row["extra_info"]["video"] for row in rows})
        assert sorted(map(sorted, sides)) == [["0.mp4", "1.mp4", "2.mp4"], ["3.mp4", "4.mp4", "5.mp4"]]

    def test_videos_of_the_test_set_are_kept_out(self, videos, tmp_path):
        prepare(write_csv(tmp_path / "test.csv", GOOD[:2]), tmp_path / "test.parquet", videos, "--split", "test")
        labels = write_csv(tmp_path / "all.csv", GOOD)
        code = prepare(labels, tmp_path / "train.parquet", videos, "--exclude", tmp_path / "test.parquet")
        assert code == 1
        assert "the same video as in test.parquet" in (tmp_path / "train.quarantine.csv").read_text()
        videos_left = [r["extra_info"]["video"] for r in pq.read_table(tmp_path / "train.parquet").to_pylist()]
        assert videos_left == [video for video, _ in GOOD[2:]]

    def test_several_datasets_in_one_set(self, videos, tmp_path, capsys):
        write_csv(tmp_path / "a.csv", GOOD[:3])
        conversation = [{"from": "human", "value": "?"}, {"from": "gpt", "value": 2.5}]
        row = {"id": 0, "dataset_name": "talk", "image": ["4.mp4"], "conversations": conversation}
        (tmp_path / "b.jsonl").write_text(json.dumps(row))
        sets = [
            {"labels": "a.csv", "dataset": "one", "scale": [0, 100], "video_root": str(videos)},
            {"labels": "b.jsonl", "video_root": str(videos)},
            {"labels": "a.csv", "dataset": "two", "scale": [0, 100], "video_root": str(videos)},
        ]
        (tmp_path / "sets.json").write_text(json.dumps(sets))
        # The third set's videos are the first's: one video may not have two MOS.
        assert (
            main(["prepare", "--label-sets", str(tmp_path / "sets.json"), "--output", str(tmp_path / "o.parquet")]) == 1
        )
        rows = pq.read_table(tmp_path / "o.parquet").to_pylist()
        assert [row["data_source"] for row in rows] == ["one"] * 3 + ["talk"]
        assert rows[3]["reward_model"]["ground_truth"] == 2.5
        assert rows[3]["extra_info"]["mos_min"] == 1
        assert "two" in capsys.readouterr().out

    def test_options_that_sets_would_ignore_are_refused(self, tmp_path, capsys):
        (tmp_path / "sets.json").write_text('[{"labels": "a.csv"}]')
        arguments = [
            "--label-sets",
            tmp_path / "sets.json",
            "--output",
            tmp_path / "o.parquet",
            "--source-pattern",
            "(x)",
        ]
        assert main(["prepare", *map(str, arguments)]) == 2
        assert "--source-pattern has no effect with --label-sets" in capsys.readouterr().err

    def test_missing_files_are_counted_in_their_split(self, videos, tmp_path, capsys):
        rows = [(f"absent_{number}.mp4", number) for number in range(10)]
        more = ("--holdout", 0.3, "--holdout-output", tmp_path / "v.parquet", "--allow-missing")
        assert prepare(write_csv(tmp_path / "l.csv", rows), tmp_path / "t.parquet", videos, *more) == 0
        out = capsys.readouterr().out
        assert "demo     train  7     7        0" in out
        assert "demo     val    3     3        0" in out

    def test_sets_with_an_unknown_field(self, tmp_path, capsys):
        (tmp_path / "sets.json").write_text('[{"labels": "a.csv", "datset": "x"}]')
        assert (
            main(["prepare", "--label-sets", str(tmp_path / "sets.json"), "--output", str(tmp_path / "o.parquet")]) == 2
        )
        assert "set 1: unknown field 'datset'" in capsys.readouterr().err


class TestProbing:
    def test_resumes_where_it_was_interrupted(self, videos, tmp_path, monkeypatch):
        labels, output = write_csv(tmp_path / "l.csv", GOOD), tmp_path / "l.parquet"
        probe, opened = probing.probe, []

        def interrupted(path, **options):
            opened.append(path)
            if len(opened) == 4:
                raise KeyboardInterrupt
            return probe(path, **options)

        monkeypatch.setattr(probing, "probe", interrupted)
        assert prepare(labels, output, videos, "--workers", 1) == 130
        assert not output.exists()
        monkeypatch.setattr(probing, "probe", lambda path, **options: opened.append(path) or probe(path, **options))
        del opened[:]
        assert prepare(labels, output, videos, "--workers", 1) == 0
        assert len(opened) == 3
        heights = [row["extra_info"]["height"] for row in pq.read_table(output).to_pylist()]
        assert heights == [48] * 6

    def test_a_changed_file_and_a_cut_journal_are_opened_again(self, videos, tmp_path, monkeypatch):
        root = tmp_path / "root"
        root.mkdir()
        for path in videos.iterdir():
            (root / path.name).write_bytes(path.read_bytes())
        labels, output = write_csv(tmp_path / "l.csv", GOOD), tmp_path / "l.parquet"
        prepare(labels, output, root)
        journal = tmp_path / ".l.parquet.probed.jsonl"
        journal.write_text(journal.read_text()[:-10])
        cut = len(journal.read_text().splitlines())
        assert cut == 6
        changed = root / json.loads(journal.read_text().splitlines()[0])[1][0]
        changed.write_bytes(changed.read_bytes() + b"\0")
        opened = []
        probe = probing.probe
        monkeypatch.setattr(probing, "probe", lambda path, **options: opened.append(path) or probe(path, **options))
        assert prepare(labels, output, root) == 0
        assert len(opened) == 2
        assert str(changed) in opened

    def test_a_journal_of_an_earlier_rule_of_counting_is_not_believed(self, videos, tmp_path):
        """Earlier versions counted what a trimmed clip hides."""
        labels, output = write_csv(tmp_path / "l.csv", GOOD), tmp_path / "l.parquet"
        prepare(labels, output, videos)
        journal = tmp_path / ".l.parquet.probed.jsonl"
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        frames = {row["extra_info"]["total_frames"] for row in pq.read_table(output).to_pylist()}
        journal.write_text(
            "".join(json.dumps([key, 7777, *others]) + "\n" for _, key, _, *others in lines)
            + "".join(json.dumps(["another rule", key, 7777, *others]) + "\n" for _, key, _, *others in lines)
        )
        prepare(labels, output, videos)
        rows = pq.read_table(output).to_pylist()
        assert {row["extra_info"]["total_frames"] for row in rows} == frames


@pytest.mark.e2e
class TestScaleOfTheJob:
    def test_ten_benchmarks_in_one_file(self, tmp_path, capsys):
        folder = data_file("labels")
        sets = [{"labels": str(path)} for path in sorted(folder.glob("*.json"))]
        (tmp_path / "sets.json").write_text(json.dumps(sets))
        arguments = [
            "--label-sets",
            str(tmp_path / "sets.json"),
            "--output",
            str(tmp_path / "o.parquet"),
            "--allow-missing",
        ]
        assert main(["prepare", *arguments]) == 0
        table = pq.read_table(tmp_path / "o.parquet")
        rows = table.to_pylist()
        assert len(rows) == 357 + 1200 + 585 + 600 + 3573 + 7182 + 839 + 1200 + 480 + 1020
        assert len({row["extra_info"]["video_id"] for row in rows}) == len(rows)
        assert all(1 <= row["reward_model"]["ground_truth"] <= 5 for row in rows)
        assert len({row["data_source"] for row in rows}) == 10
        out = capsys.readouterr().out
        assert "Waterloo-IVC-4K  train  1200  1200     0         0-100   0.74-97.59   3.187" in out

    def test_28000_rows_in_a_minute(self, tmp_path):
        root = tmp_path / "videos"
        root.mkdir()
        for number in range(28_000):
            (root / f"{number}.mp4").write_bytes(b"x")
        labels = write_csv(tmp_path / "l.csv", [(f"{number}.mp4", number % 101) for number in range(28_000)])
        start = time.monotonic()
        assert prepare(labels, tmp_path / "l.parquet", root, "--no-probe") == 0
        assert time.monotonic() - start < 60


class TestMissingOptions:
    """All that a table does not say, in one message, with a call that works."""

    def call(self, tmp_path, monkeypatch, capsys, text, *arguments):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "ratings.csv").write_text(text)
        assert main(["prepare", "ratings.csv", "--output", "o.parquet", *arguments]) == 2
        message, command = capsys.readouterr().err.splitlines()
        return message, command.strip()

    def test_columns_and_scale_are_guessed(self, videos, tmp_path, monkeypatch, capsys):
        rows = "".join(f"{number}.mp4,{1.5 * number + 1},20\n" for number in range(6))
        text = "filename,score,raters\n" + rows
        message, command = self.call(tmp_path, monkeypatch, capsys, text)
        assert message.startswith(
            "vqathinker prepare: ratings.csv: --video-column, --mos-column, --dataset, --video-root, --scale needed"
        )
        assert command == (
            "vqathinker prepare ratings.csv --video-column filename --mos-column score --dataset ratings "
            "--video-root FOLDER --scale 0 10 --output o.parquet"
        )
        words = command.replace("FOLDER", str(videos)).split()
        assert main(words[1:]) == 0
        assert len(pq.read_table(tmp_path / "o.parquet")) == 6

    def test_only_what_is_missing_is_named(self, videos, tmp_path, monkeypatch, capsys):
        given = ["--dataset", "mine", "--video-root", str(videos)]
        message, command = self.call(tmp_path, monkeypatch, capsys, "video,mos\n0.mp4,50\n1.mp4,88\n", *given)
        assert "ratings.csv: --scale needed" in message
        assert "--dataset mine" in command
        assert "--scale 0 100" in command

    def test_what_cannot_be_guessed_is_left_open(self, tmp_path, monkeypatch, capsys):
        _, command = self.call(tmp_path, monkeypatch, capsys, "a,b,c\nx,1,2\n")
        assert "--video-column COLUMN --mos-column COLUMN" in command
        assert "--scale LOWEST HIGHEST" in command

    def test_videos_beside_the_labels_need_no_root(self, videos, tmp_path):
        labels = write_csv(videos / "labels.csv", GOOD)
        given = ["--dataset", "d", "--scale", "0", "100", "--output", str(tmp_path / "o.parquet")]
        assert main(["prepare", str(labels), *given]) == 0


class TestScale:
    def test_mos_that_use_little_of_it_are_a_warning(self, videos, tmp_path, capsys):
        labels = write_csv(tmp_path / "l.csv", [(f"{number}.mp4", 0.96 + 1.7 * number) for number in range(6)])
        assert prepare(labels, tmp_path / "o.parquet", videos) == 0
        said = capsys.readouterr().err
        assert "warning: demo: MOS from 0.96 to 9.46 use 8 % of the scale 0 to 100; did you mean --scale 0 10?" in said

    def test_a_quarter_of_it_is_enough(self, videos, tmp_path, capsys):
        labels = write_csv(tmp_path / "l.csv", [(f"{number}.mp4", 5 * number) for number in range(6)])
        assert prepare(labels, tmp_path / "o.parquet", videos) == 0
        assert "warning" not in capsys.readouterr().err

    def test_without_a_better_scale_none_is_proposed(self, videos, tmp_path, capsys):
        labels = write_csv(tmp_path / "l.csv", [(f"{number}.mp4", 90 + number) for number in range(6)])
        assert prepare(labels, tmp_path / "o.parquet", videos) == 0
        said = capsys.readouterr().err
        assert "use 5 % of the scale 0 to 100\n" in said

    def test_the_wrong_way_round(self, tmp_path, capsys):
        labels = write_csv(tmp_path / "l.csv", GOOD)
        arguments = ["--dataset", "d", "--scale", "10", "0", "--output", str(tmp_path / "o.parquet")]
        assert main(["prepare", str(labels), *arguments]) == 2
        assert "--scale 10 0: expected the lowest MOS possible, then the highest" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--output", "--holdout-output"])
def test_the_output_name_must_end_in_parquet(tmp_path, capsys, option):
    labels = write_csv(tmp_path / "l.csv", GOOD)
    arguments = ["--dataset", "d", "--scale", "0", "10", "--holdout", "0.5", "--holdout-output", "v.parquet"]
    assert main(["prepare", str(labels), *arguments, "--output", "o.parquet", option, str(tmp_path / "x.csv")]) == 2
    assert f"{option} {tmp_path}/x.csv: expected a name that ends in .parquet" in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()
