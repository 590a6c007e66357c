"""Still images through the scoring engines: alone, beside videos, in memory, and on each architecture."""

import base64
import io
import json

import numpy as np
import pytest
from helpers.tiny_models import SIDE, save_tiny
from PIL import Image

from vqathinker_verl import VideoScorer
from vqathinker_verl.cli.main import main
from vqathinker_verl.frames import FrameSpec, decode
from vqathinker_verl.inference.engines import Request, Sampling, open_engine
from vqathinker_verl.inference.engines.frame_array import FrameArray
from vqathinker_verl.inference.engines.prompting import Prompting
from vqathinker_verl.inference.engines.server_engine import ServerEngine, frames_url
from vqathinker_verl.inference.scoring import find_videos
from vqathinker_verl.prompts import IMAGE_QUALITY_PROMPT, QUALITY_PROMPT, question_about

FRAMES = FrameSpec(4, max_pixels=56 * 56)
OPTIONS = {"num_frames": 4, "max_pixels": 3136, "max_tokens": 4, "thinking": False}
ARGUMENTS = ["--backend", "transformers", "--num-frames", "4", "--max-pixels", "3136", "--max-tokens", "4"]
IMAGE_FRAMES = {"qwen2_5_vl": 2, "qwen3_vl": 2, "internvl": 1}


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 255, (84, 112, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def mixed(clips, tmp_path_factory):
    """A folder of two videos and two images."""
    folder = tmp_path_factory.mktemp("mixed")
    for number, clip in enumerate(clips[:2]):
        (folder / f"{number}.mp4").write_bytes(clip.read_bytes())
        Image.fromarray(picture(number)).save(folder / f"{number}.png")
    return folder


class TestTheQuestion:
    def test_it_says_what_it_is_about(self, mixed):
        assert IMAGE_QUALITY_PROMPT.startswith("You are doing the image quality assessment task.")
        assert "the quality of this image?" in IMAGE_QUALITY_PROMPT
        assert "video" not in IMAGE_QUALITY_PROMPT
        for path in sorted(mixed.iterdir()):
            expected = IMAGE_QUALITY_PROMPT if path.suffix == ".png" else QUALITY_PROMPT
            # A model that was validated on images alone is exported with their question.
            assert Request(path, QUALITY_PROMPT).prompt == Request(path, IMAGE_QUALITY_PROMPT).prompt == expected

    def test_one_of_the_users_own_is_left_alone(self, mixed):
        assert Request(mixed / "0.png", "Is this video good?").prompt == "Is this video good?"
        assert question_about("", image=True) == ""

    def test_a_single_frame_in_memory_is_an_image(self):
        frames = np.zeros((2, 3, 8, 8), np.uint8)
        assert Request(FrameArray(frames[:1], 1.0), QUALITY_PROMPT).prompt == IMAGE_QUALITY_PROMPT
        assert Request(FrameArray(frames, 1.0), QUALITY_PROMPT).prompt == QUALITY_PROMPT


@pytest.mark.parametrize("architecture", SIDE, scope="class")
class TestArchitectures:
    @pytest.fixture(scope="class")
    def model(self, architecture, tmp_path_factory):
        folder = tmp_path_factory.mktemp("model") / architecture
        save_tiny(architecture, folder)
        return str(folder)

    def test_images_and_videos_in_any_company(self, architecture, model, mixed):
        frames = FrameSpec(4, size=(SIDE[architecture],) * 2)
        engine = open_engine(model, backend="transformers", frames=frames, sampling=Sampling(max_tokens=6))
        assert engine.frames.image_frames == IMAGE_FRAMES[architecture]
        requests = [Request(path, QUALITY_PROMPT) for path in sorted(mixed.iterdir())]
        together = [answer.responses for answer in engine.generate(requests)]
        assert all(len(responses) == 1 and responses[0] for responses in together)
        assert [next(engine.generate([one])).responses for one in requests] == together

    def test_the_prompt_has_one_temporal_patch(self, architecture, model, mixed):
        prompting = Prompting(model, FrameSpec(4, size=(SIDE[architecture],) * 2))
        token = "<IMG_CONTEXT>" if architecture == "internvl" else "<|video_pad|>"
        token_id = prompting.processor.tokenizer.convert_tokens_to_ids(token)
        of_image, of_video = (
            int((prompting.features("Q", decode(path, prompting.frames))["input_ids"] == token_id).sum())
            for path in (mixed / "0.png", mixed / "0.mp4")
        )
        assert of_image > 0
        assert of_video == of_image * 4 // IMAGE_FRAMES[architecture]


def test_the_expectation_of_an_image(tiny_model, mixed):
    """`VideoScorer`, the command and frames in memory agree."""
    with VideoScorer(tiny_model, engine="transformers", scoring="expectation", **OPTIONS) as scorer:
        scores = scorer(mixed)
        assert list(find_videos([mixed])) == ["0.mp4", "0.png", "1.mp4", "1.png"]
        assert np.isfinite(scores).all()
        assert scorer(mixed / "1.png") == scores[3]
        in_memory = picture(1).transpose(2, 0, 1)[None]
        assert scorer(in_memory) == scores[3]
        assert scorer([in_memory, mixed / "0.mp4"]).tolist() == [scores[3], scores[0]]
        assert [one.num_frames for one in scorer.score(mixed)] == [4, 2, 4, 2]
        assert scorer.score(in_memory).num_frames == 2
        assert 0 < scorer.compare(mixed / "0.png", mixed / "0.mp4") < 1


def test_score_a_folder(tiny_model, mixed, capfd, tmp_path):
    output = tmp_path / "scores.jsonl"
    command = ["score", str(mixed), "--model", str(tiny_model), *ARGUMENTS, "--output", str(output)]
    assert main(command) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines() if "video_id" in line]
    assert [(row["video_id"], row["frames"], row["error"]) for row in rows] == [
        ("0.mp4", 4, None), ("0.png", 2, None), ("1.mp4", 4, None), ("1.png", 2, None),
    ]  # fmt: skip
    assert "4 of 4 videos answered" in capfd.readouterr().err


def test_evaluate_asks_about_images(tiny_model, mixed, tmp_path, capfd):
    labels = tmp_path / "labels.csv"
    labels.write_text("video,mos\n0.mp4,1.5\n0.png,2.5\n1.mp4,3.5\n1.png,4.5\n")
    command = ["evaluate", "--model", str(tiny_model), *ARGUMENTS, "--no-thinking", "--labels", str(labels)]
    command += ["--dataset", "mine", "--scale", "1", "5", "--video-root", str(mixed), "--bootstrap-samples", "10"]
    assert main([*command, "--scoring", "expectation", "--output-dir", str(tmp_path / "report")]) in (0, 1)
    rows = [json.loads(line) for line in (tmp_path / "report" / "predictions.jsonl").read_text().splitlines()]
    frames = {row["video_id"]: row["frames"] for row in rows if "video_id" in row}
    assert frames == {"mine/0.mp4": 4, "mine/0.png": 2, "mine/1.mp4": 4, "mine/1.png": 2}
    (benchmark,) = json.loads((tmp_path / "report" / "evaluation.json").read_text())["models"][0]["benchmarks"]
    assert benchmark["num_scored"] == 4
    assert (tmp_path / "report" / "report.html").stat().st_size > 0


def test_a_server_is_sent_the_picture_as_often_as_it_is_shown(tiny_model, mixed):
    """What reaches a server; vLLM itself is asked in test_vllm_engines.py."""
    prompting = Prompting(str(tiny_model), FRAMES)
    engine = object.__new__(ServerEngine)  # its __init__ asks a server which models it has
    engine.model, engine.answer_prefix, engine.system = "m", "", ""
    engine.times, engine.sampling = prompting.times, Sampling()
    video = decode(mixed / "0.png", prompting.frames)
    arguments = engine.arguments("Q", video, 1)
    expected = {
        "num_frames": -1,
        "fps": 1.0,
        "frames_indices": [0, 0],
        "total_num_frames": 2,  # vLLM wants at least as many as are sent
        "do_sample_frames": False,
    }
    assert arguments["extra_body"]["media_io_kwargs"]["video"] == expected
    parts = frames_url(video).removeprefix("data:video/jpeg;base64,").split(",")
    frames = [np.asarray(Image.open(io.BytesIO(base64.b64decode(part)))) for part in parts]
    np.testing.assert_array_equal(np.stack(frames), video.frames.transpose(0, 2, 3, 1))
