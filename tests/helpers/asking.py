"""A real tiny model, untrained, and clips for it; and an engine that says what a test tells it to."""

from collections.abc import Iterator

import pytest

from vqathinker_verl.demo.clips import make_split
from vqathinker_verl.frames import FrameSpec, VideoError, decode
from vqathinker_verl.inference import settings as asking_settings
from vqathinker_verl.inference.engines import Answer


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """A folder of nine clips, one per distortion."""
    folder = tmp_path_factory.mktemp("clips")
    make_split("val", 9, 0, folder, lambda: None)
    return folder / "videos"


class ToldEngine:
    """Answers with what `say` returns for (video's name, prompt), where the video can be decoded."""

    frames = FrameSpec(num_frames=3, max_pixels=56 * 56)

    def __init__(self, say):
        self.say = say
        self.asked = []

    def generate(self, requests, *, samples: int = 1) -> Iterator[Answer]:
        for request in requests:
            self.asked.append((request.video.name, request.prompt))
            try:
                decode(request.video, self.frames)
            except VideoError as error:
                yield Answer((), str(error))
            else:
                yield Answer((self.say(request.video.name, request.prompt),))


@pytest.fixture
def told(monkeypatch):
    """Replaces the model: `told(say)` returns the engine that the commands will open."""

    def replace(say):
        engine = ToldEngine(say)
        monkeypatch.setattr(asking_settings, "open_engine", lambda model, **settings: engine)
        monkeypatch.setattr(asking_settings, "usable_model", lambda model: model)
        return engine

    return replace
