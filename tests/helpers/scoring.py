"""Fixture: the tiny model and clips for scoring, made in a second or two; nothing here knows how to judge quality."""

import numpy as np
import pytest

from vqathinker_verl.demo.degradations import encode_h264


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Three clips of 84x112 and three seconds, each with noise and a moving square of its own."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(3):
        frames = np.random.default_rng(number).integers(0, 80 * (number + 1), (72, 84, 112, 3), dtype=np.uint8)
        for place, frame in enumerate(frames):
            frame[30:50, place : place + 20] = (220, 40, 40)
        (folder / f"clip_{number}.mp4").write_bytes(encode_h264(frames, 18))
    return sorted(folder.glob("*.mp4"))
