import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqathinker_verl.data.checks import check_labels
from vqathinker_verl.data.readers import with_sources
from vqathinker_verl.data.records import LabelError, RawLabel, Record
from vqathinker_verl.data.scale import map_mos
from vqathinker_verl.data.splits import hold_out, versions_apart


def label(video, mos="50", dataset="set", source=None):
    return RawLabel("row of " + video, video, mos, dataset, source)


class TestMapMos:
    def test_by_hand(self):
        assert map_mos(0, (0, 100)) == 1
        assert map_mos(100, (0, 100)) == 5
        assert map_mos(62.5, (0, 100)) == 3.5
        # KoNViD-1k's annotations are twenty times the MOS: 62.4 is 3.12, not 1 + 4 x 0.624 = 3.496
        assert map_mos(62.4, (20, 100)) == pytest.approx(3.12)

    @given(st.floats(0, 1), st.floats(-1000, 1000), st.floats(0.1, 1000))
    def test_stays_inside_and_can_be_undone(self, share, low, width):
        mos = min(low + share * width, low + width)
        mapped = map_mos(mos, (low, low + width))
        assert 1 <= mapped <= 5 + 1e-9
        assert low + (mapped - 1) / 4 * width == pytest.approx(mos, abs=1e-6)

    @pytest.mark.parametrize("mos", [-0.01, 100.01, math.nan, math.inf])
    def test_outside(self, mos):
        with pytest.raises(ValueError, match="between 0 and 100"):
            map_mos(mos, (0, 100))

    @pytest.mark.parametrize("scale", [(5, 1), (1, 1), (0, math.inf), (math.nan, 1)])
    def test_no_scale(self, scale):
        with pytest.raises(ValueError, match="expected a scale"):
            map_mos(1, scale)


class TestCheckLabels:
    @pytest.fixture
    def root(self, tmp_path):
        root = tmp_path / "videos"
        (root / "sub").mkdir(parents=True)
        for name in ("a.mp4", "b.mp4", "sub/a.mp4"):
            (root / name).write_bytes(b"x")
        (root / "empty.mp4").touch()
        (tmp_path / "outside.mp4").write_bytes(b"x")
        return root

    def check(self, root, *labels, **options):
        return check_labels(labels, (0, 100), root, **options)

    def test_good_rows_keep_their_order(self, root):
        records, rejects, missing = self.check(root, label("b.mp4", "10"), label("sub/a.mp4", "20"), label("a.mp4"))
        assert [record.video_id for record in records] == ["set/b.mp4", "set/sub/a.mp4", "set/a.mp4"]
        assert records[1].path == str(root / "sub" / "a.mp4")
        assert records[0].mos_raw == 10
        assert rejects == []
        assert missing == set()

    @pytest.mark.parametrize(
        ("video", "mos", "reason"),
        [
            ("a.mp4", "", "no MOS"),
            ("a.mp4", "good", "no number"),
            ("a.mp4", "nan", "not finite"),
            ("a.mp4", "-inf", "not finite"),
            ("a.mp4", "100.5", "between 0 and 100"),
            ("a.mp4", "-1", "between 0 and 100"),
            ("", "50", "no video"),
            ("c.mp4", "50", "no such file"),
            ("empty.mp4", "50", "empty"),
            ("sub", "50", "not a regular file"),
            ("../outside.mp4", "50", "leaves the video root"),
            ("sub/../../outside.mp4", "50", "leaves the video root"),
            ("/etc/passwd", "50", "leaves the video root"),
            (".", "50", "leaves the video root"),
            ("a\0.mp4", "50", "zero byte"),
            ("a\ud800.mp4", "50", "no valid text"),
        ],
    )
    def test_each_fault_has_its_reason(self, root, video, mos, reason):
        records, rejects, _ = self.check(root, label(video, mos), label("b.mp4"))
        assert [record.video for record in records] == ["b.mp4"]
        assert len(rejects) == 1
        assert reason in rejects[0].reason

    @pytest.mark.parametrize(("stated", "on_disk"), [("\u00e9.mp4", "e\u0301.mp4"), ("e\u0301.mp4", "\u00e9.mp4")])
    def test_other_unicode_form_on_disk(self, tmp_path, stated, on_disk):
        (tmp_path / on_disk).write_bytes(b"x")
        (record,), rejects, _ = check_labels([RawLabel("w", stated, "3", "d")], (1.0, 5.0), tmp_path)
        assert (record.path, rejects) == (str(tmp_path / on_disk), [])

    def test_one_video_under_several_spellings(self, root):
        same = [
            label("a.mp4"),
            label("./a.mp4"),
            label("sub/../a.mp4"),
            label("sub\\..\\a.mp4"),
            label(str(root / "a.mp4")),
        ]
        records, rejects, _ = self.check(root, *same)
        assert len(records) == 1
        assert all(reject.reason == "the same video as in row of a.mp4" for reject in rejects)
        assert len(rejects) == 4

    def test_one_video_in_two_datasets(self, root):
        records, rejects, _ = self.check(root, label("a.mp4"), label("a.mp4", dataset="other"))
        assert len(records) == len(rejects) == 1

    def test_videos_of_other_sets(self, root):
        _, rejects, _ = self.check(root, label("a.mp4"), taken={"set/a.mp4": "train.parquet"})
        assert rejects[0].reason == "the same video as in train.parquet"

    def test_a_rejected_row_does_not_block_a_good_one(self, root):
        records, rejects, _ = self.check(root, label("a.mp4", "bad"), label("a.mp4", "50"))
        assert len(records) == len(rejects) == 1

    @pytest.fixture
    def linked(self, root):
        outside = root.parent / "elsewhere"
        outside.mkdir()
        (outside / "x.mp4").write_bytes(b"x")
        (root / "file.mp4").symlink_to(outside / "x.mp4")
        (root / "folder").symlink_to(outside)
        (root / "twice").symlink_to("folder")
        (root / "up").symlink_to("..")
        (root / "broken.mp4").symlink_to(outside / "absent.mp4")
        (root / "inside.mp4").symlink_to("sub/a.mp4")
        return root

    OUT_BY_LINK = ("file.mp4", "folder/x.mp4", "twice/x.mp4", "up/outside.mp4", "up/elsewhere/x.mp4", "broken.mp4")

    @pytest.mark.parametrize("video", OUT_BY_LINK)
    def test_a_link_out_of_the_root_is_refused(self, linked, video):
        for spelling in (video, f"./sub/../{video}", str(linked / video)):
            records, (reject,), _ = self.check(linked, label(spelling), label("a.mp4"), allow_missing=True)
            assert [record.video for record in records] == ["a.mp4"]
            assert "leaves the video root by a symbolic link" in reject.reason
            assert "--follow-links" in reject.reason

    def test_links_that_stay_inside_and_a_root_that_is_a_link(self, linked):
        root = linked.parent / "link to root"
        root.symlink_to(linked)
        records, rejects, _ = self.check(root, label("inside.mp4"), label("a.mp4"))
        assert (len(records), rejects) == (2, [])

    def test_links_are_followed_when_asked(self, linked):
        records, rejects, _ = self.check(linked, *map(label, self.OUT_BY_LINK[:4]), follow_links=True)
        assert (len(records), rejects) == (4, [])

    def test_missing_files_are_counted(self, root):
        records, _, missing = self.check(root, label("a.mp4"), label("c.mp4"), allow_missing=True)
        assert len(records) == 2
        assert missing == {"set/c.mp4"}
        records, _, missing = self.check(None, label("a.mp4"), label("c.mp4"), allow_missing=True)
        assert missing == {"set/a.mp4", "set/c.mp4"}
        assert records[0].path == "a.mp4"


class TestHoldOut:
    def records(self, count=100, per_source=1, dataset="set"):
        return [
            Record(
                label(f"{n}.mp4", dataset=dataset),
                f"{n}.mp4",
                f"/v/{dataset}/{n}.mp4",
                3.0,
                (1.0, 5.0),
                f"s{n // per_source}",
            )
            for n in range(count)
        ]

    @given(st.integers(0, 1000), st.floats(0.05, 0.95), st.sampled_from([1, 3, 7]))
    def test_no_source_on_both_sides_and_nothing_lost(self, seed, share, per_source):
        records = self.records(per_source=per_source)
        kept, held = hold_out(records, share, seed)
        assert not {r.source for r in kept} & {r.source for r in held}
        assert sorted(r.video for r in kept + held) == sorted(r.video for r in records)
        assert abs(len(held) - share * 100) <= per_source

    def test_same_seed_same_choice_in_any_order(self):
        records = self.records()
        held = {r.video for r in hold_out(records, 0.2, 7)[1]}
        assert held == {r.video for r in hold_out(records[::-1], 0.2, 7)[1]}
        assert held != {r.video for r in hold_out(records, 0.2, 8)[1]}

    @pytest.mark.parametrize(
        "form",
        ["v/{s}_crf{n}.mp4", "{s}_CRF_{n}_ss_00.mkv", "{s}_pa{n}.mp4", "{s}_{n}40p_a.mp4", "{s}_{n}", "{s}-{n}.mp4"],
    )
    def test_versions_of_a_source_are_warned_of_and_kept_together(self, form):
        labels = [label(form.format(s=f"scene{s}x", n=n)) for s in range(5) for n in range(1, 4)]
        (warning,) = versions_apart(*hold_out(self.of(labels), 0.3, 0))
        assert labels[0].video.partition("scene")[0] + "scene" in warning
        pattern = warning.partition("--source-pattern '")[2].removesuffix("'")
        kept, held = hold_out(self.of(with_sources(labels, pattern)), 0.3, 0)
        assert not {r.video.partition("x")[0] for r in kept} & {r.video.partition("x")[0] for r in held}
        assert versions_apart(kept, held) == []

    @pytest.mark.parametrize("form", ["clip_{n:03}.mp4", "yfcc-batch6/{n}.mp4", "{n}.mp4", "A{n:03}.mp4"])
    def test_numbers_of_videos_are_no_versions(self, form):
        records = self.of([label(form.format(n=n)) for n in range(50)])
        assert versions_apart(*hold_out(records, 0.3, 0)) == []

    def of(self, labels):
        return [Record(one, one.video, one.video, 3.0, (1.0, 5.0), one.source or one.video) for one in labels]

    def test_each_dataset_gives_its_share(self):
        records = self.records(50, dataset="a") + self.records(100, dataset="b")
        held = Counter(r.label.dataset for r in hold_out(records, 0.2, 0)[1])
        assert held == {"a": 10, "b": 20}

    @pytest.mark.parametrize("share", [0, 1, -0.5, 0.001])
    def test_a_share_that_leaves_a_side_empty(self, share):
        with pytest.raises(LabelError, match="holdout"):
            hold_out(self.records(), share, 0)
