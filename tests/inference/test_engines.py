"""The transformers engine on the tiny model; the server engine against a server that keeps what it was sent."""

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqathinker_verl.frames import FrameSpec, decode
from vqathinker_verl.inference.engines import EngineError, Request, Sampling, open_engine
from vqathinker_verl.inference.engines.prompting import decode_ahead, request_seed
from vqathinker_verl.inference.engines.vllm_engine import longest_request
from vqathinker_verl.prompts import QUALITY_PROMPT

FRAMES = FrameSpec(num_frames=4, max_pixels=56 * 56)
GREEDY = Sampling(max_tokens=6)
MISSING = Path("/no/such/video.mp4")


@pytest.fixture(scope="module")
def engine(tiny_model):
    return open_engine(str(tiny_model), backend="transformers", frames=FRAMES, sampling=GREEDY)


def with_sampling(engine, **changed):
    """The same loaded model under another sampling."""
    import copy

    twin = copy.copy(engine)
    twin.sampling = Sampling(max_tokens=6, **changed)
    return twin


def texts(engine, requests, **options):
    return [answer.responses for answer in engine.generate(requests, **options)]


def test_the_same_input_gives_the_same_response_in_any_company(engine, clips):
    requests = [Request(clip, QUALITY_PROMPT) for clip in clips]
    together = texts(engine, requests)
    assert all(len(responses) == 1 and responses[0] for responses in together)
    assert texts(engine, requests[::-1]) == together[::-1]
    assert [texts(engine, [request])[0] for request in requests] == together


def test_a_broken_video_is_an_answer_with_its_reason(engine, clips, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"junk")
    answers = list(engine.generate([Request(path, "Q") for path in (clips[0], broken, MISSING, clips[1])]))
    assert [answer.error is None for answer in answers] == [True, False, False, True]
    assert str(broken) in answers[1].error
    assert str(MISSING) in answers[2].error
    assert answers[1].responses == ()


def test_samples_are_of_the_seed_and_the_content_alone(engine, clips, tmp_path):
    drawing = with_sampling(engine, temperature=1.0)
    requests = [Request(clip, QUALITY_PROMPT) for clip in clips]
    first = texts(drawing, requests, samples=3)
    assert [len(set(responses)) for responses in first] == [3, 3, 3]
    assert texts(drawing, requests[1:2], samples=3) == first[1:2]
    renamed = tmp_path / "another name.mp4"
    renamed.write_bytes(clips[1].read_bytes())
    assert texts(drawing, [Request(renamed, QUALITY_PROMPT)], samples=3) == first[1:2]
    assert texts(with_sampling(engine, temperature=1.0, seed=1), requests[:1], samples=3) != first[:1]


def test_equal_samples_are_not_drawn(engine, clips):
    with pytest.raises(ValueError, match="2 samples at temperature 0 would all be equal"):
        engine.generate([Request(clips[0], "Q")], samples=2)


def test_without_thinking_the_response_begins_with_the_answer(tiny_model, clips):
    engine = open_engine(
        str(tiny_model), backend="transformers", frames=FRAMES, sampling=GREEDY, answer_prefix="<answer>"
    )
    ((response,),) = texts(engine, [Request(clips[0], QUALITY_PROMPT)])
    assert response.startswith("<answer>")
    assert len(response) > len("<answer>")


def test_the_models_own_drawing_rules_do_not_count(engine, clips):
    """Qwen's generation_config.json penalises repetitions; verl's rollouts do not, and scoring must not."""
    request = [Request(clips[0], QUALITY_PROMPT)]
    before = texts(engine, request)
    engine.model.generation_config.repetition_penalty = 50.0
    try:
        assert texts(engine, request) == before
    finally:
        engine.model.generation_config.repetition_penalty = 1.0


def test_what_cannot_be_opened_is_named(tmp_path, tiny_model):
    with pytest.raises(ValueError, match=r"no config\.json in this folder"):
        open_engine(str(tmp_path), backend="transformers")
    with pytest.raises(ValueError, match="backend: expected one of"):
        open_engine(str(tiny_model), backend="tgi")
    with pytest.raises(ValueError, match="do not go together"):
        open_engine(str(tiny_model), backend="server")
    with pytest.raises(ValueError, match="do not go together"):
        open_engine(str(tiny_model), backend="vllm", server="http://localhost:1")


@pytest.mark.parametrize(
    "options", [{"max_tokens": 0}, {"temperature": -1}, {"top_p": 0}, {"temperature": float("nan")}]
)
def test_sampling_out_of_range_is_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Sampling(**options)


def test_no_more_videos_are_decoded_ahead_than_asked_for(clips, monkeypatch):
    from vqathinker_verl.inference.engines import prompting

    begun = []

    def count(path, spec, **options):
        begun.append(path)
        return decode(path, spec, **options)

    monkeypatch.setattr(prompting, "decode", count)
    requests = [Request(clip, "Q") for clip in [*clips, *clips, *clips]]
    results = decode_ahead(requests, FRAMES, ahead=2)
    next(results)
    assert len(begun) <= 3
    assert [request for request, _ in results] == requests[1:]
    begun.clear()
    list(decode_ahead([Request(clips[0], "Q"), Request(clips[0], "R")], FRAMES, ahead=2))
    assert len(begun) == 1  # two questions about one video


def test_a_requests_seed_is_of_its_content(clips):
    video, other = decode(clips[0], FRAMES), decode(clips[1], FRAMES)
    seeds = {request_seed(0, "Q", video), request_seed(1, "Q", video), request_seed(0, "R", video)}
    seeds.add(request_seed(0, "Q", other))
    assert len(seeds) == 4
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert request_seed(0, "Q", decode(clips[0], FRAMES)) == request_seed(0, "Q", video)


def test_the_longest_request_holds_the_frames_and_the_response():
    assert longest_request(FrameSpec(12, max_pixels=313600), 2048, 10**6) > 6 * 400 + 2048
    assert longest_request(FrameSpec(5, size=(56, 56)), 10, 10**6) == 3 * (4 + 16) + 2048 + 10
    assert longest_request(FrameSpec(12, max_pixels=313600), 2048, 512) == 512
    assert longest_request(FrameSpec(12), 2048, 4096) == 4096


@pytest.fixture
def server():
    """An OpenAI-compatible server that keeps its requests, and refuses prompts that say so."""
    kept = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply(200, {"object": "list", "data": [{"id": "served", "object": "model", "root": "/models/x"}]})

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            kept.append(asked)
            if asked["messages"][0]["content"][1]["text"] == "too long":
                return self.reply(400, {"error": {"message": "the prompt is too long"}})
            choices = [
                {"index": k, "finish_reason": "stop", "message": {"role": "assistant", "content": f"3.{k}0</answer>"}}
                for k in range(asked["n"])
            ]
            return self.reply(200, {"id": "1", "object": "chat.completion", "choices": choices, "model": "served"})

        def reply(self, status, body):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}", kept
    httpd.shutdown()
    httpd.server_close()


def test_the_server_gets_the_frames_without_loss_and_all_that_decides(server, clips):
    url, kept = server
    engine = open_engine("served", server=url, frames=FRAMES, sampling=Sampling(9, 0.5, 0.9), answer_prefix="<answer>")
    (answer,) = engine.generate([Request(clips[0], "Q")], samples=2)
    assert answer.responses == ("<answer>3.00</answer>", "<answer>3.10</answer>")
    (asked,) = kept
    video = decode(clips[0], FRAMES)
    sent = asked["messages"][0]["content"][0]["video_url"]["url"].removeprefix("data:video/jpeg;base64,")
    frames = [np.asarray(Image.open(io.BytesIO(base64.b64decode(part)))) for part in sent.split(",")]
    np.testing.assert_array_equal(np.stack(frames), video.frames.transpose(0, 2, 3, 1))
    assert asked["media_io_kwargs"]["video"]["frames_indices"] == video.indices.tolist()
    assert asked["media_io_kwargs"]["video"]["do_sample_frames"] is False
    assert (asked["model"], asked["n"], asked["max_tokens"]) == ("served", 2, 9)
    assert (asked["temperature"], asked["top_p"], asked["repetition_penalty"]) == (0.5, 0.9, 1.0)
    assert asked["messages"][1] == {"role": "assistant", "content": "<answer>"}
    assert asked["continue_final_message"] is True


def test_what_a_server_refuses_costs_one_video_and_a_dead_server_all(server, clips):
    url, _ = server
    engine = open_engine("/models/x", server=f"{url}/v1", frames=FRAMES)  # also by the folder it was loaded from
    answers = list(engine.generate([Request(clips[0], "too long"), Request(MISSING, "Q"), Request(clips[1], "Q")]))
    assert "clip_0.mp4: the server refuses it" in answers[0].error
    assert "the prompt is too long" in answers[0].error
    assert str(MISSING) in answers[1].error
    assert answers[2].responses == ("3.00</answer>",)
    with pytest.raises(EngineError, match="it serves served"):
        open_engine("another", server=url)
    with pytest.raises(EngineError, match="no OpenAI-compatible server answers there"):
        open_engine("served", server="http://127.0.0.1:9")
