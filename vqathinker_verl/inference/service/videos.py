"""The video of a request: a path under an allowed root, an uploaded file, or uploaded frames.

    {"video": "clips/a.mp4"}             as application/json
    file=@a.mp4                          as multipart/form-data
    frames=@frames.npy, fps=25           as multipart/form-data; `numpy.save` of uint8 RGB (T, 3, H, W)

A still image is a video of one frame; `frames` of one frame need no `fps`.

An upload lies in the service's own folder as long as its request lasts. Files are opened by the decoder's child
processes only; frames are mapped into memory and never unpickled.
"""

import asyncio
import json
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from vqathinker_verl.frames.image import IMAGE_FPS
from vqathinker_verl.frames.suffixes import VIDEO_SUFFIXES
from vqathinker_verl.inference.engines.frame_array import FrameArray
from vqathinker_verl.inference.service.settings import MEGABYTE, ServiceSettings

MAX_JSON_BYTES = 65536  # a path
FRAMES_SUFFIX = ".npy"
FPS_EXPECTED = "expected the field fps, the number of frames per second, beside several frames"
EXPECTED = 'expected JSON {"video": PATH}, or a form with file=@VIDEO, or with frames=@FRAMES.npy and fps=NUMBER'


@dataclass(frozen=True)
class Received:
    """The video of one request.

    Attributes:
        name: What the caller calls it.
        source: What is scored.
    """

    name: str
    source: Path | FrameArray


@asynccontextmanager
async def received(request: Request, settings: ServiceSettings, folder: Path) -> AsyncIterator[Received]:
    """Read a request's body; what was uploaded is kept in `folder` until the context ends.

    Raises:
        HTTPException: 403, 404, 413, 415 or 422: the body has no video that may be used.
        ClientDisconnect: The caller is gone.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        name = await _path(request)
        yield await asyncio.to_thread(_under_a_root, name, settings.video_roots)  # a network disk may be slow
    elif kind == "multipart/form-data":
        limited = _limited(request, settings.max_upload_bytes)
        async with limited.form(max_files=1, max_fields=1, max_part_size=1024) as form:
            field, upload, fps = _fields(dict(form))
            name = Path((upload.filename or "").replace("\\", "/")).name.encode(errors="replace").decode()
            suffix = Path(name).suffix.lower()
            if suffix not in (VIDEO_SUFFIXES if field == "file" else {FRAMES_SUFFIX}):
                expected = "a file name with the suffix of a video" if field == "file" else "a file name with .npy"
                raise HTTPException(415, f"{field}: {name or 'no name'}: expected {expected}")
            with tempfile.NamedTemporaryFile(dir=folder, suffix=suffix) as file:
                await asyncio.to_thread(shutil.copyfileobj, upload.file, file, MEGABYTE)
                file.flush()
                path = Path(file.name)
                yield Received(name, path if field == "file" else _frames(path, name, fps))
    else:
        raise HTTPException(415, f"content type {kind or 'missing'}: {EXPECTED}")


def _limited(request: Request, limit: int) -> Request:
    """The request, whose body ends with status 413 as soon as it is known to be longer than `limit` bytes."""
    message = f"the request is longer than {limit} bytes; send a shorter or smaller video, or raise --max-upload-mb"
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > limit:
        raise HTTPException(413, message)
    receive: Callable[[], Awaitable[Any]] = request.receive
    got = 0

    async def counted() -> Any:
        nonlocal got
        part = await receive()
        got += len(part.get("body", b""))
        if got > limit:
            raise HTTPException(413, message)
        return part

    return Request(request.scope, counted)


async def _path(request: Request) -> str:
    body = await _limited(request, MAX_JSON_BYTES).body()
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(422, f"the body is not valid JSON; {EXPECTED}") from None
    if not (isinstance(fields, dict) and list(fields) == ["video"] and isinstance(fields["video"], str)):
        raise HTTPException(422, f"the body has other fields; {EXPECTED}")
    return str(fields["video"])


def _under_a_root(name: str, roots: tuple[Path, ...]) -> Received:
    """The file that a path names, relative to a root or absolute, symbolic links followed.

    Nothing is said about files outside the roots, not even whether they exist.
    """
    if not roots:
        raise HTTPException(
            403, "paths are not accepted: the service was started without --video-root; upload the video"
        )
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|data:", name):
        raise HTTPException(422, f"video: expected a path under --video-root, not an address, got {name!r}")
    if not name or "\0" in name or name != name.encode(errors="replace").decode():
        raise HTTPException(422, f"video: expected a path, got {name!r}")
    inside = []
    for root in roots:
        try:
            path = (root / name).resolve()
            if path.is_relative_to(root.resolve()):
                inside.append(path)
                if path.is_file():
                    return Received(name, path)
        except (OSError, RuntimeError):  # a name that is too long, a circle of links
            continue
    if not inside:
        raise HTTPException(403, f"{name}: not under an allowed folder (--video-root)")
    raise HTTPException(404, f"{name}: no such file under --video-root")


def _fields(form: dict[str, Any]) -> tuple[str, UploadFile, float | None]:
    """Name of the uploaded field, the upload, and fps with frames."""
    field = next(iter(form.keys() & {"file", "frames"}), None)
    upload = form.get(field) if field is not None else None
    if field is None or not isinstance(upload, UploadFile):
        raise HTTPException(422, f"the form has no uploaded video; {EXPECTED}")
    if unknown := sorted(form.keys() - {field, *(("fps",) if field == "frames" else ())}):
        raise HTTPException(422, f"the form has a field {unknown[0]!r} that does not belong to it; {EXPECTED}")
    if "fps" not in form:
        return field, upload, None
    try:
        return field, upload, float(form["fps"])
    except (TypeError, ValueError):
        raise HTTPException(422, f"fps: {FPS_EXPECTED}") from None


def _frames(path: Path, name: str, fps: float | None) -> FrameArray:
    """Frames (T, 3, H, W), mapped into memory; shape and type are checked where they are scored."""
    try:
        frames = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # the header of a hostile file may raise anything
        raise HTTPException(422, f"{name}: no array that numpy.save wrote ({error})") from None
    array = FrameArray(frames, IMAGE_FPS if fps is None else fps, name)
    if fps is None and not array.is_image:
        raise HTTPException(422, f"{name}: {FPS_EXPECTED}")
    return array
