"""The service's endpoints: `POST /score`, `GET /health`, `GET /metrics`, and FastAPI's own `/docs`."""

import asyncio
import hmac
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from vqathinker_verl import __version__
from vqathinker_verl.frames import DecodedVideo
from vqathinker_verl.inference.engines import EngineError
from vqathinker_verl.inference.engines.prompting import DECODERS
from vqathinker_verl.inference.service.batching import Batcher, Job, QueueFullError, ShuttingDownError
from vqathinker_verl.inference.service.settings import ServiceSettings
from vqathinker_verl.inference.service.videos import Received, received

if TYPE_CHECKING:
    from vqathinker_verl.inference.predictions import Prediction
    from vqathinker_verl.inference.scorer import VideoScorer

logger = logging.getLogger(__name__)

Decoding = tuple[Received, Future[DecodedVideo]]

NO_SCORE = "the response holds no valid answer"
RETRY = {"Retry-After": "1"}  # seconds
CLIENT_GONE = 499  # counted under this number, as nginx does; nobody receives it
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

# Bodies are read piece by piece, which FastAPI cannot know; this is what /docs shows.
BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["video"],
                    "properties": {"video": {"type": "string", "description": "a path under --video-root"}},
                }
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "a video"},
                        "frames": {
                            "type": "string",
                            "format": "binary",
                            "description": "in place of a file: numpy.save of uint8 RGB (T, 3, H, W), named *.npy",
                        },
                        "fps": {"type": "number", "description": "frames per second, with frames"},
                    },
                }
            },
        },
    }
}


class Metrics:
    """What `/metrics` tells Prometheus.

    Args:
        registry: Holds them; one per app.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "vqathinker_requests", "Requests to /score by the status of their answer.", ["status"], registry=registry
        )
        self.seconds = Histogram(
            "vqathinker_request_seconds", "Time from request to answer.", buckets=SECONDS, registry=registry
        )
        self.batch_size = Histogram(
            "vqathinker_batch_size", "Videos scored together.", buckets=SIZES, registry=registry
        )
        self.queue_length = Gauge("vqathinker_queue_length", "Requests that wait.", registry=registry)

    def answered(self, status: int, seconds: float) -> None:
        """Count one answer."""
        self.requests.labels(str(status)).inc()
        self.seconds.observe(seconds)


class Service:
    """The state of one app, from its start to its end.

    Args:
        scorer: Scores the videos. It is not closed here.
        settings: Limits and access.
    """

    def __init__(self, scorer: "VideoScorer", settings: ServiceSettings) -> None:
        self.scorer = scorer
        self.settings = settings
        self.metrics = Metrics(CollectorRegistry())
        self.model = scorer.settings.model
        facts = scorer.settings.as_json()
        # Without the digests of the weights, and the address of a server behind this one.
        self.asked = {name: value for name, value in facts.items() if name not in ("model", "server")}
        self._batcher: Batcher[Decoding, Prediction] | None = None
        self._folder: Path | None = None
        # Frames of one batch are held while it is scored, and of one that is decoded meanwhile.
        self._held = asyncio.Semaphore(2 * settings.batch_size)
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="frames")
        self._decoding: set[Future[DecodedVideo]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Score what is asked for until the context ends; uploads are deleted then."""
        settings = self.settings
        batcher = Batcher(
            self._score,
            max_batch=settings.batch_size,
            wait_seconds=settings.batch_wait_seconds,
            max_waiting=settings.max_queue,
            on_batch=self.metrics.batch_size.observe,
        )
        self.metrics.queue_length.set_function(lambda: self.queue_length)
        with tempfile.TemporaryDirectory(prefix="vqathinker_serve_", ignore_cleanup_errors=True) as folder:
            self._batcher, self._folder = batcher, Path(folder)
            task = asyncio.create_task(batcher.run())
            try:
                yield
            finally:
                batcher.close()
                task.cancel()
                self._decoders.shutdown(wait=False, cancel_futures=True)

    def stop_accepting(self) -> None:
        """Answer waiting and new requests with 503; what is being scored is finished."""
        if self._batcher is not None:
            self._batcher.close()

    @property
    def queue_length(self) -> int:
        """Number of requests that wait."""
        return 0 if self._batcher is None else self._batcher.waiting

    @property
    def scoring(self) -> bool:
        """Whether a batch is being scored."""
        return self._batcher is not None and not self._batcher.idle_within(0)

    def idle_within(self, seconds: float) -> bool:
        """Wait until no video is being decoded or scored, at most for `seconds`; whether none is.

        For use after the app's end: threads cannot be interrupted.
        """
        until = time.monotonic() + seconds
        if self._batcher is not None and not self._batcher.idle_within(seconds):
            return False
        return not wait(list(self._decoding), max(0.0, until - time.monotonic())).not_done

    @property
    def state(self) -> str:
        """Return "ok", or why the service should get no requests."""
        if self._batcher is None:
            return "starting"
        if self._batcher.closed:
            return "shutting down"
        return "the model fails; see the log" if self._batcher.broken else "ok"

    def check_token(self, request: Request) -> None:
        """Raise HTTPException 401 unless the request carries the token, where one is asked for."""
        token = self.settings.token
        if token is None:
            return
        kind, _, sent = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(sent.strip().encode("latin-1", "replace"), token.encode())
        if kind.lower() != "bearer" or not right:
            raise HTTPException(401, "expected the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})

    async def answer(self, request: Request) -> Response:
        """Answer a request for a score, whatever happens."""
        started = time.perf_counter()
        try:
            response: Response = await self._answer(request)
        except HTTPException as error:
            response = _error(error.status_code, error.detail, error.headers)
        except ClientDisconnect:
            response = Response(status_code=CLIENT_GONE)
        except TimeoutError:
            response = _error(408, f"not answered within {self.settings.timeout_seconds:g} s (--timeout)")
        except QueueFullError:
            response = _error(429, f"{self.settings.max_queue} requests are waiting (--max-queue); try again", RETRY)
        except ShuttingDownError:
            response = _error(503, "the service is shutting down", RETRY)
        except asyncio.CancelledError:  # uvicorn's, when the time for the end is up
            if self._batcher is None or not self._batcher.closed:
                raise
            response = _error(503, "the service is shutting down", RETRY)
        except EngineError as error:
            response = _error(503, str(error), RETRY)
        except Exception:
            logger.exception("a request failed")
            response = _error(500, "the request failed inside the service; see its log")
        self.metrics.answered(response.status_code, time.perf_counter() - started)
        return response

    async def _answer(self, request: Request) -> Response:
        self.check_token(request)
        if self._batcher is None or self._folder is None:
            raise ShuttingDownError
        with self._batcher.admitted() as job:
            async with (
                asyncio.timeout(self.settings.timeout_seconds),
                received(request, self.settings, self._folder) as video,
            ):
                scoring = asyncio.ensure_future(self._scored(self._batcher, job, video))
                gone = asyncio.ensure_future(_disconnected(request))
                try:
                    await asyncio.wait((scoring, gone), return_when=asyncio.FIRST_COMPLETED)
                    if not scoring.done():
                        raise ClientDisconnect
                    prediction = scoring.result()
                finally:
                    scoring.cancel()
                    gone.cancel()
        return JSONResponse(self._record(video, prediction), 422 if prediction.error is not None else 200)

    async def _scored(
        self, batcher: "Batcher[Decoding, Prediction]", job: "Job[Decoding, Prediction]", video: Received
    ) -> "Prediction":
        """Decode a video while earlier ones are being scored, and wait for its score."""
        async with self._held:
            frames = self._decoders.submit(self.scorer.decode, video.source)
            self._decoding.add(frames)
            frames.add_done_callback(self._decoding.discard)
            try:
                return await batcher.result(job, (video, frames))
            finally:
                if batcher.waits(job):  # else others in its batch wait for it, too
                    frames.cancel()

    def _score(self, videos: "list[Decoding]") -> "Iterator[Prediction]":
        return self.scorer.stream([video.source for video, _ in videos], [frames for _, frames in videos])

    def _record(self, video: Received, prediction: "Prediction") -> dict[str, Any]:
        """The answer: the line of a predictions file, with the names of `VideoScorer.score`'s records."""
        line = prediction.as_json()
        del line["video_id"], line["video"]
        score, spread, error = line.pop("pred_mos"), line.pop("pred_mos_std", None), line.pop("error")
        if error is not None:  # names the file where it lies here
            error = error.replace(str(video.source), video.name)
        elif score is None:
            error = NO_SCORE
        return {
            "video": video.name,
            "score": score,
            "spread": spread,
            **line,
            "error": error,
            "model": self.model,
            "settings": self.asked,
        }


def create_app(scorer: "VideoScorer", settings: ServiceSettings) -> FastAPI:
    """Return the FastAPI app that scores with `scorer`; `app.state.service` is its `Service`.

    Args:
        scorer: Scores the videos; whoever made it closes it.
        settings: Limits and access.
    """
    service = Service(scorer, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="VQAThinker", version=__version__, description="Scores the quality of videos.", lifespan=lifespan
    )
    app.state.service = service

    @app.exception_handler(HTTPException)
    async def error(_: Request, error: HTTPException) -> Response:
        return _error(error.status_code, error.detail, error.headers)

    @app.post("/score", openapi_extra=BODIES, summary="Score one video")
    async def score(request: Request) -> Response:
        return await service.answer(request)

    @app.get("/health", summary="200 if the service takes requests, else 503")
    async def health() -> Response:
        return JSONResponse({"status": service.state}, 200 if service.state == "ok" else 503)

    @app.get("/metrics", summary="Metrics for Prometheus")
    async def metrics(request: Request) -> Response:
        service.check_token(request)
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("docs")

    return app


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _error(status: int, message: str, headers: Any = None) -> Response:
    return JSONResponse({"error": message}, status, headers)
