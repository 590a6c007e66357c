"""The HTTP service: paths, uploads, limits and the queue over a scorer without a model; then over a real one.

`Written` stands in for `VideoScorer` where the model does not matter. A video is a file that holds its score as text.
"""

import asyncio
import io
import json
import math
import threading
from contextlib import asynccontextmanager
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.exceptions import HTTPException

from vqathinker_verl import VideoScorer
from vqathinker_verl.inference.engines import EngineError
from vqathinker_verl.inference.engines.frame_array import FrameArray
from vqathinker_verl.inference.predictions import Prediction
from vqathinker_verl.inference.service.app import NO_SCORE, create_app
from vqathinker_verl.inference.service.settings import ServiceSettings
from vqathinker_verl.inference.service.videos import _under_a_root

FACTS = {"model": {"name": "/somewhere/model"}, "server": "http://inside", "prompt": "How good?", "samples": 1}
OPTIONS = {"num_frames": 2, "max_pixels": 3136, "max_tokens": 4, "thinking": False}


class Written:
    """Scores a file by the number in it; frames by their mean. Words in it are faults; the gate holds the scoring."""

    settings = SimpleNamespace(model="outputs/model", as_json=lambda: FACTS)

    def __init__(self):
        self.batches = []
        self.scored = []
        self.files = []
        self.gate = threading.Event()
        self.gate.set()

    def decode(self, source):
        return source

    def stream(self, sources, decoded):
        assert [frames.result() for frames in decoded] == sources
        assert self.gate.wait(60)
        self.batches.append(len(sources))
        for source in sources:
            if isinstance(source, FrameArray):
                yield Prediction("", source.name, float(np.mean(source.frames)), ("frames",))
                continue
            self.files.append(source)
            said = source.read_text()
            self.scored.append(said)
            if said == "explode":
                raise RuntimeError("internal matters")
            if said == "dead":
                raise EngineError("the model stopped answering")
            if said == "broken":
                yield Prediction("", str(source), math.nan, error=f"{source}: cannot be decoded")
            elif said == "babble":
                yield Prediction("", str(source), math.nan, ("no number",))
            else:
                yield Prediction("", str(source), float(said), (f"<answer>{said}</answer>",), path=str(source))


@pytest.fixture
def scorer():
    return Written()


@pytest.fixture
def root(tmp_path):
    """A root with videos, and files outside it."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    for name, said in (("a", "3.25"), ("sub/b", "4.5"), ("broken", "broken"), ("babble", "babble"), ("dead", "dead")):
        (root / f"{name}.mp4").write_text(said)
    (tmp_path / "secret.mp4").write_text("1.5")
    (tmp_path / "root2").mkdir()  # its name begins with that of the root
    (tmp_path / "root2" / "c.mp4").write_text("2.5")
    (root / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (root / "folder_out").symlink_to(tmp_path)
    (root / "in.mp4").symlink_to(root / "a.mp4")
    (root / "circle.mp4").symlink_to(root / "circle.mp4")
    return root


@asynccontextmanager
async def served(scorer, **settings):
    """A client of the running app; `client.app` is the app."""
    app = create_app(scorer, ServiceSettings(**settings))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service", timeout=60) as client,
    ):
        client.app = app
        yield client


def ask(scorer, *requests, **settings):
    """The answers to requests that are sent one after the other: each a dict of arguments of `post`."""

    async def send():
        async with served(scorer, **settings) as client:
            return [await client.post("/score", **request) for request in requests]

    return asyncio.run(send())


def upload(said, name="a.mp4"):
    return {"files": {"file": (name, said.encode())}}


def npy(frames):
    file = io.BytesIO()
    np.save(file, frames)
    return file.getvalue()


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def test_the_answer_has_score_response_model_and_settings(scorer, root):
    (answer,) = ask(scorer, {"json": {"video": "sub/b.mp4"}}, video_roots=(root,))
    assert answer.status_code == 200
    assert answer.json() == {
        "video": "sub/b.mp4",
        "score": 4.5,
        "spread": None,
        "response": "<answer>4.5</answer>",
        "frames": None,
        "error": None,
        "model": "outputs/model",
        "settings": {"prompt": "How good?", "samples": 1},  # neither folder nor server
    }


def test_no_score_and_a_broken_video_are_null_with_a_reason(scorer, root):
    babble, broken = ask(
        scorer, {"json": {"video": "babble.mp4"}}, {"json": {"video": "broken.mp4"}}, video_roots=(root,)
    )
    assert (babble.status_code, babble.json()["score"], babble.json()["error"]) == (200, None, NO_SCORE)
    assert babble.json()["response"] == "no number"
    # The folder that the videos lie in is not told.
    assert (broken.status_code, broken.json()["error"]) == (422, "broken.mp4: cannot be decoded")
    assert (broken.json()["score"], broken.json()["response"]) == (None, None)


@pytest.mark.parametrize(
    ("video", "status"),
    [
        ("a.mp4", 200),
        ("./sub/../a.mp4", 200),
        ("{root}/sub/b.mp4", 200),
        ("in.mp4", 200),
        ("../secret.mp4", 403),
        ("../nothing.mp4", 403),  # whether the file exists is not revealed
        ("{root}/../secret.mp4", 403),
        ("{root}2/c.mp4", 403),
        ("/etc/passwd", 403),
        ("out.mp4", 403),
        ("folder_out/secret.mp4", 403),
        ("~/a.mp4", 404),
        ("missing.mp4", 404),
        ("sub", 404),
        ("a.mp4/x.mp4", 404),
        ("http://127.0.0.1/a.mp4", 422),
        ("file:///etc/passwd", 422),
        ("data:video/mp4;base64,AAAA", 422),
        ("", 422),
        ("a\0.mp4", 422),
        ("\ud800.mp4", 422),
    ],
)
def test_paths_stay_under_the_root(scorer, root, video, status):
    name = video.replace("{root}", str(root))
    # httpx cannot encode a lone surrogate, JSON's \u can.
    content, headers = json.dumps({"video": name}).encode(), {"content-type": "application/json"}
    (answer,) = ask(scorer, {"content": content, "headers": headers}, video_roots=(root,))
    assert answer.status_code == status, answer.text
    assert (answer.json()["error"] is None) == (status == 200)
    assert len(scorer.scored) == (status == 200)


@given(
    st.lists(st.sampled_from(["..", ".", "", "sub", "a.mp4", "b.mp4", "in.mp4", "out.mp4", "folder_out", "root",
                              "secret.mp4", "~", "%2e%2e", "\\\\..", "/"]), max_size=6)
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_no_spelling_of_a_path_leaves_the_root(root, parts):
    try:
        outcome = _under_a_root("/".join(parts), (root,)).source.read_text()
    except HTTPException as error:
        outcome = error.status_code
    assert outcome in ("3.25", "4.5", 403, 404, 422)  # what is in the root's files, or refused


def test_names_that_the_system_refuses_are_no_fault_of_the_service(scorer, root):
    requests = [{"json": {"video": name}} for name in ("circle.mp4", "x" * 5000)]
    for answer in ask(scorer, *requests, video_roots=(root,)):
        assert answer.status_code in (403, 404)


def test_of_several_roots_the_first_that_has_the_file_counts(scorer, root):
    other = root.parent / "root2"
    answers = ask(
        scorer, {"json": {"video": "a.mp4"}}, {"json": {"video": "c.mp4"}}, {"json": {"video": f"{other}/c.mp4"}},
        {"json": {"video": "d.mp4"}}, video_roots=(root, other),
    )  # fmt: skip
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404]
    assert scorer.scored == ["3.25", "2.5", "2.5"]


def test_without_a_root_the_option_is_named(scorer, root):
    (answer,) = ask(scorer, {"json": {"video": str(root / "a.mp4")}})
    assert answer.status_code == 403
    assert "--video-root" in answer.json()["error"]


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 422, "not valid JSON"),
        ({"content": b"[" * 60000, "headers": {"content-type": "application/json"}}, 422, "not valid JSON"),
        ({"json": ["a.mp4"]}, 422, "other fields"),
        ({"json": {"video": 3}}, 422, "other fields"),
        ({"json": {"video": "a.mp4", "prompt": "?"}}, 422, "other fields"),
        ({"json": {"video": "a" * 70000}}, 413, "longer than 65536 bytes"),
        ({"content": b"3.25"}, 415, "content type missing"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 400, "multipart"),
        ({"data": {"file": "3.25"}}, 415, "x-www-form-urlencoded"),
        ({"files": {"film": ("a.mp4", b"3.25")}}, 422, "no uploaded video"),
        ({**upload("3.25"), "data": {"fps": "25"}}, 422, "'fps' that does not belong"),
        (upload("3.25", "a.txt"), 415, "a.txt: expected a file name with the suffix of a video"),
        (upload("3.25", "a.npy"), 415, "suffix of a video"),
        (upload("3.25", "mp4"), 415, "suffix of a video"),
        ({"files": [("file", ("a.mp4", b"1")), ("file", ("b.mp4", b"2"))]}, 400, "Too many files"),
    ],
)
def test_other_bodies_are_refused_and_say_what_is_expected(scorer, root, request_, status, said):
    (answer,) = ask(scorer, request_, video_roots=(root,))
    assert (answer.status_code, scorer.scored) == (status, []), answer.text
    assert said in answer.json()["error"]


def test_an_upload_is_scored_under_its_name_and_deleted(scorer):
    fine, broken = ask(scorer, upload("2.75", "../../x/Clip.MP4"), upload("broken", "b.webm"))
    assert (fine.status_code, fine.json()["video"], fine.json()["score"]) == (200, "Clip.MP4", 2.75)
    assert broken.json()["error"] == "b.webm: cannot be decoded"
    assert [file.suffix for file in scorer.files] == [".mp4", ".webm"]
    for file in scorer.files:
        assert not file.exists()
        assert not file.parent.exists()


def test_a_body_that_is_too_large_is_refused_while_it_is_read(scorer):
    sent = 0

    async def pieces():
        nonlocal sent
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        for piece in [head, *[b"x" * 100_000] * 50, b"\r\n--b--\r\n"]:
            sent += len(piece)
            yield piece

    headers = {"content-type": "multipart/form-data; boundary=b"}
    declared, chunked = ask(scorer, upload("x" * 1_000_001), {"content": pieces(), "headers": headers}, max_upload_mb=1)
    for answer in (declared, chunked):
        assert answer.status_code == 413
        assert "1000000 bytes" in answer.json()["error"]
    assert "content-length" not in chunked.request.headers
    assert sent < 2_000_000
    assert scorer.scored == []


def test_frames_are_mapped_and_never_unpickled(scorer, tmp_path):
    frames = np.arange(4 * 3 * 8 * 8, dtype=np.uint8).reshape(4, 3, 8, 8)

    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("owned").touch, ())

    pickled = npy(np.array([Trap()], dtype=object))

    def sent(data, fps="25", name="f.npy"):
        return {"files": {"frames": (name, data)}, "data": {"fps": fps} if fps is not None else {}}

    answers = ask(
        scorer, sent(npy(frames)), sent(pickled), sent(npy(frames)[:-1]), sent(b"junk"), sent(b""),
        sent(npy(frames), fps=None), sent(npy(frames), fps="fast"), sent(npy(frames), name="f.mp4"),
        sent(npy(frames[:1]), fps=None),
    )  # fmt: skip
    assert [answer.status_code for answer in answers] == [200, 422, 422, 422, 422, 422, 422, 415, 200]
    assert all("expected the field fps" in answer.json()["error"] for answer in answers[5:7])
    assert answers[8].json()["score"] == frames[:1].mean()  # a still image
    assert answers[0].json()["score"] == frames.mean()
    assert answers[0].json()["video"] == "f.npy"
    assert all("f.npy: no array" in answer.json()["error"] for answer in answers[1:5])
    assert not (tmp_path / "owned").exists()


def test_sixty_four_at_once_get_their_own_answers_in_batches(scorer):
    said = [f"{1 + number / 16:.4f}" for number in range(64)]
    said[7], said[20], said[40] = "broken", "babble", "explode"

    async def send():
        async with served(scorer, batch_size=16, batch_wait_seconds=0.2, max_queue=64) as client:
            posts = [client.post("/score", **upload(text, f"{place}.mp4")) for place, text in enumerate(said)]
            answers = await asyncio.gather(*posts)
            return answers, (await client.get("/metrics")).text

    answers, metrics = asyncio.run(send())
    statuses = {7: 422, 40: 500}
    for place, (text, answer) in enumerate(zip(said, answers, strict=True)):
        assert answer.status_code == statuses.get(place, 200)
        if place != 40:
            assert answer.json()["video"] == f"{place}.mp4"
        if place not in (7, 20, 40):
            assert answer.json()["score"] == float(text)
    assert "internal matters" not in answers[40].text
    assert scorer.batches[0] == 16
    assert max(scorer.batches) == 16
    assert sorted(set(scorer.scored)) == sorted(said)
    assert 'vqathinker_requests_total{status="200"} 62.0' in metrics
    assert 'vqathinker_requests_total{status="500"} 1.0' in metrics
    assert "vqathinker_queue_length 0.0" in metrics
    assert "vqathinker_request_seconds_count 64.0" in metrics
    assert "vqathinker_batch_size_sum 64.0" in metrics


def test_results_are_handed_back_one_by_one():
    class Stepwise(Written):
        def stream(self, *videos):
            for place, prediction in enumerate(super().stream(*videos)):
                if place == 1:
                    assert answered.wait(30)  # the first answer arrives while the second is being scored
                yield prediction

    answered = threading.Event()

    async def send():
        async with served(Stepwise(), batch_wait_seconds=0.5) as client:
            first = asyncio.create_task(client.post("/score", **upload("1.5")))
            await asyncio.sleep(0.05)
            second = asyncio.create_task(client.post("/score", **upload("2.5")))
            assert (await first).json()["score"] == 1.5
            assert not second.done()
            answered.set()
            assert (await second).json()["score"] == 2.5

    asyncio.run(send())


def test_a_full_queue_is_429_at_once(scorer):
    async def send():
        async with served(scorer, max_queue=2, batch_size=1, batch_wait_seconds=0) as client:
            service = client.app.state.service
            scorer.gate.clear()
            first = asyncio.create_task(client.post("/score", **upload("1.5")))
            await until(lambda: service.queue_length == 0 and service.scoring)
            waiting = [asyncio.create_task(client.post("/score", **upload(text))) for text in ("2.5", "3.5")]
            await until(lambda: service.queue_length == 2)
            refused = await client.post("/score", **upload("4.5"))
            scorer.gate.set()
            return refused, [await task for task in (first, *waiting)]

    refused, answers = asyncio.run(send())
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert "2 requests are waiting" in refused.json()["error"]
    assert [answer.json()["score"] for answer in answers] == [1.5, 2.5, 3.5]
    assert scorer.scored == ["1.5", "2.5", "3.5"]


def test_a_request_that_takes_too_long_is_408_and_leaves_the_queue(scorer):
    async def send():
        async with served(scorer, timeout_seconds=0.5, batch_size=1) as client:
            scorer.gate.clear()
            late = await asyncio.gather(*(client.post("/score", **upload(text)) for text in ("1.5", "2.5")))
            assert client.app.state.service.queue_length == 0
            scorer.gate.set()
            return late, await client.post("/score", **upload("3.5"))

    late, after = asyncio.run(send())
    assert [answer.status_code for answer in late] == [408, 408]
    assert "0.5 s (--timeout)" in late[0].json()["error"]
    assert after.json()["score"] == 3.5
    assert scorer.scored[-1] == "3.5"
    assert "2.5" not in scorer.scored  # it was waiting


def test_an_upload_that_never_ends_is_408(scorer):
    async def dribble():
        yield b"--b\r\n"
        await asyncio.sleep(30)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    (answer,) = ask(scorer, {"content": dribble(), "headers": headers}, timeout_seconds=0.2)
    assert answer.status_code == 408


class Caller:
    """Asks for a video straight through ASGI, where a disconnect can be sent."""

    def __init__(self, app, video):
        self.messages = asyncio.Queue()
        self.messages.put_nowait({"type": "http.request", "body": json.dumps({"video": video}).encode()})
        self.sent = []
        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/score", "headers": headers, "query_string": b""}
        self.task = asyncio.create_task(app(scope, self.messages.get, self.keep))

    async def keep(self, message):
        self.sent.append(message)

    async def leave(self):
        self.messages.put_nowait({"type": "http.disconnect"})
        await self.task


def test_a_caller_that_is_gone_is_not_scored(scorer, root):
    async def send():
        async with served(scorer, batch_size=1, video_roots=(root,)) as client:
            service = client.app.state.service
            scorer.gate.clear()
            first = asyncio.create_task(client.post("/score", **upload("1.5")))
            await until(lambda: service.scoring)
            caller = Caller(client.app, "a.mp4")
            await until(lambda: service.queue_length == 1)
            await caller.leave()
            assert service.queue_length == 0
            scorer.gate.set()
            await first
            await client.post("/score", **upload("2.5"))
            return caller.sent, (await client.get("/metrics")).text

    sent, metrics = asyncio.run(send())
    assert scorer.scored == ["1.5", "2.5"]
    assert sent[0]["status"] == 499
    assert 'vqathinker_requests_total{status="499"} 1.0' in metrics


def test_a_caller_that_leaves_its_batch_does_not_end_the_batch(root):
    """While both decoders are busy with the others: what is to be decoded for it must not vanish."""

    class Slow(Written):
        def decode(self, source):
            assert decoding.wait(30)
            return source

    scorer, decoding = Slow(), threading.Event()

    async def send():
        async with served(scorer, batch_wait_seconds=0.3, video_roots=(root,)) as client:
            posts = [asyncio.create_task(client.post("/score", **upload(text))) for text in ("1.5", "2.5")]
            await until(lambda: client.app.state.service.queue_length == 2)
            caller = Caller(client.app, "a.mp4")
            await until(lambda: client.app.state.service.scoring)
            await caller.leave()
            decoding.set()
            return [await post for post in posts]

    answers = asyncio.run(send())
    assert [answer.json()["score"] for answer in answers] == [1.5, 2.5]
    assert scorer.batches == [3]


def test_the_token_is_asked_for_everywhere_but_at_health(scorer, root):
    right = {"authorization": "Bearer sesame"}
    wrong = [
        {},
        {"authorization": "Bearer sesam"},
        {"authorization": "Basic sesame"},
        {"authorization": b"Bearer \xff"},
    ]

    async def send():
        async with served(scorer, token="sesame", video_roots=(root,)) as client:
            video = {"json": {"video": "a.mp4"}}
            refused = [await client.post("/score", headers=headers, **video) for headers in wrong]
            refused += [await client.get("/metrics", headers=headers) for headers in wrong]
            fine = [await client.post("/score", headers=right, **video), await client.get("/metrics", headers=right)]
            return refused, [*fine, await client.get("/health")]

    refused, fine = asyncio.run(send())
    assert {answer.status_code for answer in refused} == {401}
    assert refused[0].headers["www-authenticate"] == "Bearer"
    assert [answer.status_code for answer in fine] == [200, 200, 200]
    assert scorer.scored == ["3.25"]


def test_health_follows_the_model_and_the_end(scorer, root):
    async def send():
        app = create_app(scorer, ServiceSettings(video_roots=(root,)))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            yield await client.get("/health")
            async with app.router.lifespan_context(app):
                yield await client.get("/health")
                for _ in range(3):
                    yield await client.post("/score", json={"video": "dead.mp4"})
                yield await client.get("/health")
                yield await client.post("/score", json={"video": "a.mp4"})
                yield await client.get("/health")
                app.state.service.stop_accepting()
                yield await client.get("/health")
                yield await client.post("/score", json={"video": "a.mp4"})

    async def collect():
        return [answer async for answer in send()]

    answers = asyncio.run(collect())
    assert [answer.status_code for answer in answers] == [503, 200, 503, 503, 503, 503, 200, 200, 503, 503]
    assert [answer.json().get("status") for answer in answers if "status" in answer.json()] == [
        "starting", "ok", "the model fails; see the log", "ok", "shutting down",
    ]  # fmt: skip
    assert answers[2].json()["error"] == "the model stopped answering"
    assert answers[-1].headers["retry-after"] == "1"


def test_at_the_end_what_is_being_scored_is_finished_and_the_rest_refused(scorer):
    async def send():
        async with served(scorer, batch_size=1) as client:
            service = client.app.state.service
            scorer.gate.clear()
            first = asyncio.create_task(client.post("/score", **upload("1.5")))
            await until(lambda: service.scoring)
            second = asyncio.create_task(client.post("/score", **upload("2.5")))
            await until(lambda: service.queue_length == 1)
            service.stop_accepting()
            refused = await second
            scorer.gate.set()
            return await first, refused, service

    first, refused, service = asyncio.run(send())
    assert (first.status_code, first.json()["score"]) == (200, 1.5)
    assert refused.status_code == 503
    assert scorer.scored == ["1.5"]
    assert service.idle_within(5)


def test_the_pages_of_fastapi_describe_the_request(scorer):
    async def send():
        async with served(scorer) as client:
            return [await client.get(path, follow_redirects=True) for path in ("/", "/openapi.json", "/nothing")]

    docs, described, missing = asyncio.run(send())
    assert "swagger" in docs.text
    content = described.json()["paths"]["/score"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    assert (missing.status_code, missing.json()) == (404, {"error": "Not Found"})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_upload_mb": 0}, "--max-upload-mb: expected a number above 0, got 0"),
        ({"timeout_seconds": math.nan}, "--timeout: expected a number above 0, got nan"),
        ({"max_queue": 0}, "--max-queue: expected at least 1, got 0"),
        ({"batch_size": -1}, "--batch-size: expected at least 1, got -1"),
        ({"batch_wait_seconds": -0.5}, "--batch-wait-ms: expected 0 or more, got -500"),
        ({"token": "two words"}, "the token: expected ASCII characters without spaces"),
        ({"token": "é"}, "the token: expected ASCII"),
    ],
)
def test_wrong_settings_name_the_option(wrong, said):
    with pytest.raises(ValueError, match=said):
        ServiceSettings(**wrong)


def test_sixty_four_at_once_get_the_scores_of_the_offline_scorer(tiny_model, clips, tmp_path):
    """Through the real engine, as paths, uploads and frames, a broken file among them."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (6, 3, 56, 84), dtype=np.uint8) for _ in range(2)]
    (tmp_path / "broken.mp4").write_bytes(b"junk")
    Image.fromarray(frames[0][0].transpose(1, 2, 0)).save(tmp_path / "image.png")
    videos = [*clips, *frames, tmp_path / "image.png", tmp_path / "broken.mp4"]
    with VideoScorer(tiny_model, engine="transformers", scoring="expectation", **OPTIONS) as scorer:
        offline = scorer.score(videos, fps=25)
        assert len({one.score for one in offline[:-1]}) == 6

        def request(number):
            video = videos[number % len(videos)]
            if isinstance(video, np.ndarray):
                return {"files": {"frames": ("f.npy", npy(video))}, "data": {"fps": "25"}}
            if number % 2 and video in clips:
                return {"json": {"video": video.name}}
            return {"files": {"file": (video.name, video.read_bytes())}}

        async def send():
            async with served(scorer, video_roots=(clips[0].parent,)) as client:
                return await asyncio.gather(*(client.post("/score", **request(number)) for number in range(64)))

        for number, answer in enumerate(asyncio.run(send())):
            expected = offline[number % len(videos)]
            found = answer.json()
            if expected.error is not None:
                assert answer.status_code == 422
                assert found["error"].startswith("broken.mp4: cannot be decoded")
                assert str(tmp_path) not in found["error"]
                continue
            assert answer.status_code == 200
            assert (found["score"], found["spread"], found["response"]) == (
                expected.score,
                expected.spread,
                expected.response,
            )
            assert found["frames"] == expected.num_frames
            assert found["settings"]["scoring"] == "expectation"
            assert found["model"] == str(tiny_model)
