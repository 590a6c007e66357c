import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqathinker_verl.frames import FrameSpec, VideoInfo, segment_centres, video_tokens


def reference_centres(total_frames, num_frames):
    """The rule of docs/data.md, one frame at a time."""
    c = (total_frames - 1) / num_frames
    return [int(c / 2 + round(c * k)) for k in range(num_frames)]


class TestSegmentCentres:
    @given(st.integers(1, 5000), st.integers(1, 64))
    def test_the_formula_of_the_specification(self, total_frames, num_frames):
        centres = segment_centres(total_frames, num_frames)
        assert centres.tolist() == reference_centres(total_frames, num_frames)
        assert centres.dtype == np.int64
        assert centres.shape == (num_frames,)
        assert centres.min() >= 0
        assert centres.max() <= total_frames - 1
        assert (np.diff(centres) >= 0).all()

    def test_by_hand(self):
        # c = 299 / 6 = 49.8333; c / 2 = 24.9167; starts 0, 50, 100, 150 (149.5 rounds to even), 199, 249
        assert segment_centres(300, 6).tolist() == [24, 74, 124, 174, 223, 273]

    def test_halves_round_to_even(self):
        # c = 1.5: starts 0, 2 (1.5), 3, 4 (4.5); c / 2 = 0.75
        assert segment_centres(7, 4).tolist() == [0, 2, 3, 4]

    def test_fewer_frames_than_segments_repeats(self):
        assert segment_centres(1, 6).tolist() == [0] * 6
        assert len(segment_centres(3, 12)) == 12

    @pytest.mark.parametrize(("total_frames", "num_frames"), [(0, 6), (10, 0), (-1, 2)])
    def test_nothing_to_take(self, total_frames, num_frames):
        with pytest.raises(ValueError, match="expected at least 1"):
            segment_centres(total_frames, num_frames)


class TestTargetSize:
    def test_fixed_size_ignores_the_video(self):
        spec = FrameSpec(6, size=(448, 448))
        assert spec.target_size(1080, 1920) == (448, 448)
        assert spec.target_size(10, 4000) == (448, 448)

    @given(
        height=st.integers(28, 4320),
        width=st.integers(28, 4320),
        min_tokens=st.integers(1, 200),
        extra_tokens=st.integers(20, 2000),
        factor=st.sampled_from([28, 32]),
    )
    def test_budget_equals_qwens_smart_resize(self, height, width, min_tokens, extra_tokens, factor):
        vision_process = pytest.importorskip("qwen_vl_utils.vision_process")
        qwen2_vl = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl")
        low, high = min_tokens * factor**2, (min_tokens + extra_tokens) * factor**2
        ours = FrameSpec(6, min_pixels=low, max_pixels=high, factor=factor).target_size(height, width)
        assert ours == qwen2_vl.smart_resize(height, width, factor, low, high)
        theirs = tuple(vision_process.smart_resize(height, width, factor, low, high))
        # qwen_vl_utils lets a very flat frame shrink to a height of 0, transformers and we do not.
        assert ours == theirs or min(theirs) == 0

    def test_1080p_in_half_a_million_pixels(self):
        # 1080 x 1920 = 2,073,600; shrink = sqrt(4) = 2 for 518,400: 540 -> 532 = 19 x 28, 960 -> 952 = 34 x 28
        assert FrameSpec(6, max_pixels=518_400).target_size(1080, 1920) == (532, 952)

    def test_without_a_budget_only_rounds(self):
        assert FrameSpec(6).target_size(540, 960) == (532, 952)
        assert FrameSpec(6).target_size(3, 3) == (28, 28)

    def test_a_line_is_refused_as_qwen_refuses_it(self):
        with pytest.raises(ValueError, match="aspect ratio of at most 200"):
            FrameSpec(6, max_pixels=10**6).target_size(2, 500)


class TestFrameSpec:
    def test_is_a_key(self):
        assert {FrameSpec(6, size=[448, 448]): 1}[FrameSpec(6, size=(448, 448))] == 1
        assert FrameSpec(6) != FrameSpec(12)

    def test_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            FrameSpec(6).num_frames = 7

    @pytest.mark.parametrize(
        ("fields", "complaint"),
        [
            ({"num_frames": 0}, "num_frames"),
            ({"num_frames": 6, "size": (0, 448)}, "size"),
            ({"num_frames": 6, "size": (448, 448), "max_pixels": 1000}, "not both"),
            ({"num_frames": 6, "max_pixels": 0}, "max_pixels"),
            ({"num_frames": 6, "min_pixels": 2000, "max_pixels": 1000}, "min_pixels"),
            ({"num_frames": 6, "factor": 0}, "factor"),
        ],
    )
    def test_names_the_wrong_field(self, fields, complaint):
        with pytest.raises(ValueError, match=complaint):
            FrameSpec(**fields)


class TestVideoTokens:
    @pytest.mark.parametrize(("height", "width"), [(1080, 1920), (540, 960), (1920, 1080), (360, 640), (97, 131)])
    @pytest.mark.parametrize("num_frames", [6, 7, 12])
    def test_equals_what_the_processor_makes(self, height, width, num_frames):
        torch = pytest.importorskip("torch")
        processing = pytest.importorskip("transformers.models.qwen2_vl.video_processing_qwen2_vl")
        spec = FrameSpec(num_frames, min_pixels=4 * 28**2, max_pixels=120 * 28**2)
        frames = torch.zeros((num_frames, 3, *spec.target_size(height, width)), dtype=torch.uint8)
        processor = processing.Qwen2VLVideoProcessor(do_sample_frames=False, do_resize=False)
        grid = processor([frames], return_tensors="pt")["video_grid_thw"][0]
        tokens = video_tokens(VideoInfo("x.mp4", 300, 30.0, height, width), spec)
        assert tokens == int(grid.prod()) // 4

    def test_a_size_that_no_model_takes(self):
        with pytest.raises(ValueError, match="multiples of 28"):
            video_tokens(VideoInfo("x.mp4", 300, 30.0, 100, 100), FrameSpec(6, size=(450, 448)))

    def test_3500_rows_take_less_than_a_second(self):
        import time

        info, spec = VideoInfo("x.mp4", 300, 30.0, 1080, 1920), FrameSpec(6, max_pixels=500_000)
        start = time.perf_counter()
        for _ in range(3500):
            video_tokens(info, spec)
        assert time.perf_counter() - start < 1
