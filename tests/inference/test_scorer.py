"""`VideoScorer` on the tiny model, beside the command that must give the same scores."""

import json
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
import torch

from vqathinker_verl import VideoScorer
from vqathinker_verl.cli.main import main
from vqathinker_verl.frames import decode
from vqathinker_verl.inference.comparison import preference_prob, rank
from vqathinker_verl.inference.engines.frame_array import FrameArray
from vqathinker_verl.inference.predictions import Prediction

OPTIONS = {"num_frames": 2, "max_pixels": 3136, "max_tokens": 4, "thinking": False}
ARGUMENTS = ["--backend", "transformers", "--num-frames", "2", "--max-pixels", "3136", "--max-tokens", "4"]


@pytest.fixture(scope="module")
def scorer(tiny_model):
    with VideoScorer(tiny_model, engine="transformers", scoring="expectation", **OPTIONS) as opened:
        yield opened


def command(capfd, name, tiny_model, *args):
    code = main([name, *map(str, args), "--model", str(tiny_model), *ARGUMENTS, "--no-thinking"])
    return code, *capfd.readouterr()


def test_it_gives_the_scores_of_the_command(scorer, tiny_model, clips, capfd):
    code, out, _ = command(capfd, "score", tiny_model, *clips, "--scoring", "expectation")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    found = scorer(clips)
    assert found.dtype == np.float64
    assert found.tolist() == [line["pred_mos"] for line in lines]
    assert scorer(clips[1]) == lines[1]["pred_mos"]
    assert isinstance(scorer(str(clips[1])), float)
    assert [scorer.score(clips[0]).spread, scorer.score(clips[0]).response] == [
        lines[0]["pred_mos_std"],
        lines[0]["response"],
    ]
    assert 0 < lines[0]["legal_mass"] < 1


def test_a_folder_and_a_broken_video(scorer, clips, tmp_path):
    (tmp_path / "b.mp4").write_bytes(clips[0].read_bytes())
    (tmp_path / "a.mp4").write_bytes(b"junk")
    with pytest.warns(UserWarning, match=r"a\.mp4: cannot be decoded"):
        first, second = scorer(tmp_path)
    assert np.isnan(first)
    assert second == scorer(clips[0])
    broken, fine = scorer.score([tmp_path / "a.mp4", clips[0]])
    assert "cannot be decoded" in broken.error
    assert np.isnan(broken.score)
    assert fine.error is None


def test_frames_in_memory_are_scored_as_their_file_is(scorer, clips):
    with av.open(str(clips[0])) as container:
        fps = float(container.streams.video[0].average_rate)
        frames = np.stack([frame.to_ndarray(format="rgb24").transpose(2, 0, 1) for frame in container.decode(video=0)])
    in_file = decode(clips[0], scorer._engine.frames)
    shown = FrameArray(frames, fps).decoded(scorer._engine.frames)
    np.testing.assert_array_equal(shown.frames, in_file.frames)
    np.testing.assert_array_equal(shown.indices, in_file.indices)
    assert scorer(frames, fps=fps) == scorer(clips[0])
    assert scorer([torch.from_numpy(frames), clips[1]], fps=fps).tolist() == scorer(clips[:2]).tolist()
    with pytest.raises(ValueError, match="pass fps"):
        scorer(frames)
    with pytest.warns(UserWarning, match="expected uint8 RGB frames"):
        assert np.isnan(scorer(frames.transpose(0, 2, 3, 1), fps=fps))


def test_a_stream_gives_the_records_one_by_one_also_of_frames_decoded_ahead(scorer, clips):
    broken = clips[0].with_name("missing.mp4")
    expected = [one.as_json() for one in scorer.score([*clips, broken])]
    stream = scorer.stream([*clips, broken])
    assert next(stream).as_json() == expected[0]
    assert [one.as_json() for one in stream] == expected[1:]
    with ThreadPoolExecutor(1) as decoder:
        ahead = [decoder.submit(scorer.decode, video) for video in [*clips, broken]]
        assert [one.as_json() for one in scorer.stream([*clips, broken], ahead)] == expected
        # What is shown is what was decoded.
        swapped = list(scorer.stream(clips[:2], [ahead[1], ahead[0]]))
    assert [one.score for one in swapped] == [expected[1]["pred_mos"], expected[0]["pred_mos"]]


def test_wrong_options_are_refused(tiny_model):
    with pytest.raises(ValueError, match="takes the likeliest reasoning"):
        VideoScorer(tiny_model, engine="transformers", scoring="expectation", num_samples=4)
    with pytest.raises(ValueError, match="scoring: expected one of greedy, mean, expectation, got 'best'"):
        VideoScorer(tiny_model, engine="transformers", scoring="best")
    with pytest.raises(ValueError, match="a number of samples above 1"):
        VideoScorer(tiny_model, engine="transformers", scoring="mean")


def test_swapping_gives_the_opposite_probability(scorer, clips):
    forward, backward = scorer.compare(clips[0], clips[1]), scorer.compare(clips[1], clips[0])
    assert 0 < forward < 1
    assert forward + backward == pytest.approx(1.0, abs=1e-12)
    assert scorer.compare(clips[0], clips[0]) == 0.5
    first, second = scorer.score(clips[:2])
    assert (forward > 0.5) == (first.score > second.score)


def made(name, score, std):
    return Prediction("", name, score, pred_mos_std=std)


def test_thurstone_by_hand():
    # Phi(1 / sqrt(0.36 + 0.64)) = Phi(1) = 0.841345
    assert preference_prob(made("a", 4.0, 0.6), made("b", 3.0, 0.8)) == pytest.approx(0.841345, abs=1e-5)
    assert np.isnan(preference_prob(made("a", np.nan, np.nan), made("b", 3.0, 0.8)))


def test_a_ranking_marks_what_cannot_be_told_apart():
    places = rank([made("low", 1.5, 0.2), made("top", 4.1, 0.3), made("next", 4.0, 0.3), made("none", np.nan, np.nan)])
    assert [(place.rank, place.prediction.video_id, place.unclear) for place in places] == [
        (1, "top", ("next",)),
        (2, "next", ("top",)),
        (3, "low", ()),
    ]
    assert [place.unclear for place in rank([made("a", 4.1, 0.3), made("b", 4.0, 0.3)], min_prob=0.55)] == [(), ()]
    with pytest.raises(ValueError, match=r"min_prob: .* got 0.2"):
        rank([], min_prob=0.2)


def test_the_command_compares_two_and_ranks_more(scorer, tiny_model, clips, capfd):
    code, out, _ = command(capfd, "compare", tiny_model, clips[0], clips[1])
    assert code == 0
    probability = scorer.compare(clips[0], clips[1])
    better = clips[0] if probability >= 0.5 else clips[1]
    assert out.startswith(f"{better.name} is better than")
    assert f"with probability {max(probability, 1 - probability):.2f}" in out
    code, out, _ = command(capfd, "compare", tiny_model, *clips, "--format", "json")
    assert code == 0
    found = json.loads(out)
    assert found["pairs"][0]["preference_prob"] == pytest.approx(probability, abs=1e-9)
    scores = [place["pred_mos"] for place in found["ranking"]]
    assert scores == sorted(scores, reverse=True)
    assert command(capfd, "compare", tiny_model, clips[0])[0] == 2
    code, _, err = command(capfd, "compare", tiny_model, clips[0], clips[1], "--scoring", "greedy")
    assert (code, "gives no probabilities" in err) == (2, True)
