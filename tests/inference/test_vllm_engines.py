"""vLLM itself, offline and as a server, on the tiny model: what it is given, and the same answers as transformers."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqathinker_verl.frames import FrameSpec, decode
from vqathinker_verl.inference.engines import Request, Sampling, open_engine
from vqathinker_verl.inference.engines.prompting import Prompting
from vqathinker_verl.inference.engines.vllm_engine import CPU_ENVIRONMENT
from vqathinker_verl.prompts import QUALITY_PROMPT

pytestmark = pytest.mark.e2e

FRAMES = FrameSpec(4, max_pixels=56 * 56)
SAMPLING = Sampling(max_tokens=8)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def clips(clips, tmp_path_factory):
    """The clips, and a still image beside them."""
    path = tmp_path_factory.mktemp("image") / "still.png"
    Image.fromarray(np.random.default_rng(9).integers(0, 255, (84, 112, 3), dtype=np.uint8)).save(path)
    return [*clips, path]


@pytest.fixture(scope="module")
def expected(tiny_model, clips):
    """Responses of the transformers engine, in the form that JSON gives back."""
    engine = open_engine(str(tiny_model), backend="transformers", frames=FRAMES, sampling=SAMPLING)
    return [list(answer.responses) for answer in engine.generate([Request(clip, QUALITY_PROMPT) for clip in clips])]


@pytest.fixture(scope="module")
def offline(tiny_model, clips):
    probe = Path(__file__).with_name("vllm_probe.py")
    command = [sys.executable, str(probe), str(tiny_model), *map(str, clips)]
    done = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.PIPE, timeout=300, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_vllm_sees_the_token_ids_and_pixels_of_training(offline):
    in_vllm, ours = offline["token_ids"]
    assert in_vllm == ours
    in_vllm, ours = offline["pixels"]
    assert ours[0] in in_vllm


def test_vllm_places_the_tokens_where_the_transformers_engine_does(offline, tiny_model):
    engine = open_engine(str(tiny_model), backend="transformers", frames=FRAMES, sampling=SAMPLING)
    _, ids = offline["token_ids"]
    assert offline["second_per_grid_ts"] == [1.5]  # 4 frames of 3 s, two a patch
    grids = {name: torch.tensor(offline[name]) for name in ("video_grid_thw", "second_per_grid_ts")}
    positions, _ = engine.model.model.get_rope_index(torch.tensor([ids]), **grids)
    assert offline["positions"] == [positions[:, 0].tolist()]
    is_video = torch.tensor(ids) == engine.prompting.processor.video_token_id
    assert positions[0, 0, is_video].unique().diff().tolist() == [3]


def test_offline_answers_do_not_depend_on_the_batch(offline, expected):
    assert offline["alone"] == expected
    assert offline["together"] == [*expected, []]
    assert offline["backwards"] == expected
    assert offline["sampled"] == offline["sampled_alone"]
    assert all(len(set(responses)) > 1 for responses in offline["sampled"])


def test_more_samples_than_one_batch_holds(offline, clips):
    assert offline["many"] == [60] * len(clips)


@pytest.fixture(scope="module")
def expected_scores(tiny_model, clips):
    """The expected scores of the transformers engine, which another test compares with brute force."""
    options = {"frames": FRAMES, "sampling": SAMPLING, "answer_prefix": "<answer>"}
    engine = open_engine(str(tiny_model), backend="transformers", **options)
    answers = engine.generate([Request(clip, QUALITY_PROMPT) for clip in clips], expectation=True)
    return [answer.distribution.mean for answer in answers]


def test_the_expectation_offline_is_that_of_transformers(offline, expected_scores):
    assert offline["expectation"] == pytest.approx(expected_scores, abs=1e-5)


@pytest.fixture(scope="module")
def server(tiny_model, tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(tiny_model)]
    command += ["--port", str(port), "--dtype", "float32", "--enforce-eager", "--max-model-len", "512"]
    command += ["--skip-mm-profiling", "--limit-mm-per-prompt", '{"video": 1, "image": 0}']
    with log.open("wb") as file:
        environment = {**CPU_ENVIRONMENT, "VLLM_ENABLE_V1_MULTIPROCESSING": "1", **ENVIRONMENT}
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()[-2000:]
                time.sleep(1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


def whole_characters(responses):
    """Without a character that the last token only began: a server leaves it out."""
    return [text.rstrip("\ufffd") for text in responses]


def test_a_server_sees_the_same_and_answers_the_same(server, tiny_model, clips, expected):
    engine = open_engine(str(tiny_model), server=server, frames=FRAMES, sampling=SAMPLING)
    answers = list(engine.generate([Request(clip, QUALITY_PROMPT) for clip in clips]))
    assert [whole_characters(answer.responses) for answer in answers] == [whole_characters(one) for one in expected]
    video = decode(clips[0], engine.frames)
    arguments = engine.arguments(QUALITY_PROMPT, video, 1)
    arguments["extra_body"]["return_token_ids"] = True
    completion = engine.client.chat.completions.create(**arguments)
    features = Prompting(str(tiny_model), FRAMES).features(QUALITY_PROMPT, video)
    assert completion.prompt_token_ids == features["input_ids"][0].tolist()


def test_a_server_continues_from_the_answer_prefix(server, tiny_model, clips):
    options = {"frames": FRAMES, "sampling": SAMPLING, "answer_prefix": "<answer>"}
    requests = [Request(clip, QUALITY_PROMPT) for clip in clips]
    through_server = list(open_engine(str(tiny_model), server=server, **options).generate(requests))
    here = list(open_engine(str(tiny_model), backend="transformers", **options).generate(requests))
    assert [whole_characters(answer.responses) for answer in through_server] == [
        whole_characters(answer.responses) for answer in here
    ]


def test_the_expectation_of_a_server_is_that_of_transformers(server, tiny_model, clips, expected_scores):
    options = {"frames": FRAMES, "sampling": SAMPLING, "answer_prefix": "<answer>"}
    engine = open_engine(str(tiny_model), server=server, **options)
    answers = engine.generate([Request(clip, QUALITY_PROMPT) for clip in clips], expectation=True)
    assert [answer.distribution.mean for answer in answers] == pytest.approx(expected_scores, abs=1e-5)
