"""`vqathinker serve` with a real model: from the command line to an answer over HTTP, and its end by SIGTERM."""

import signal
import sys

import pytest
from helpers.scoring import clips
from helpers.service import received, start_service

from vqathinker_verl import VideoScorer

__all__ = ["clips", "start_service"]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

OPTIONS = ["--num-frames", "2", "--max-pixels", "3136", "--max-tokens", "4", "--no-thinking"]


@pytest.mark.parametrize("backend", ["transformers", "vllm"])
def test_the_command_scores_a_clip_and_ends_with_0(start_service, tiny_model, clips, backend):
    command = (sys.executable, "-m", "vqathinker_verl.cli", "serve", "--model", str(tiny_model), "--port", "0")
    arguments = [*OPTIONS, "--backend", backend, "--scoring", "expectation", "--video-root", str(clips[0].parent)]
    service = start_service(*arguments, command=command)
    status, record = received(service.send(clips[0].name))
    code, out, err, seconds = service.ended(signal.SIGTERM)
    assert (code, out) == (0, ""), err
    assert "Traceback" not in err
    assert seconds < 30
    with VideoScorer(
        tiny_model, engine=backend, scoring="expectation", num_frames=2, max_pixels=3136, max_tokens=4, thinking=False
    ) as scorer:
        offline = scorer.score(clips[0])
    assert status == 200
    assert (record["score"], record["response"]) == (pytest.approx(offline.score, abs=1e-5), offline.response)
