"""Ask a model about videos and keep each answer as it comes: the one loop of every command that asks."""

from collections.abc import Callable, Iterator, Mapping

from vqathinker_verl.inference.answers_file import AnswersFile, Row
from vqathinker_verl.inference.engines import Answer, Engine, Request
from vqathinker_verl.inference.predictions import Prediction, predicted
from vqathinker_verl.inference.progress import Progress
from vqathinker_verl.inference.quiet import quiet_libraries
from vqathinker_verl.inference.settings import AskingSettings

# (engine, name of the request, its answer) -> what to keep of it
MakeRow = Callable[[Engine, str, Answer], Row]


def answer_missing(
    requests: Mapping[str, Request],
    settings: AskingSettings,
    make_row: MakeRow,
    *,
    output: AnswersFile | None = None,
    key: str = "video_id",
    unit: str = "video",
    desc: str | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Ask every request that `output` has no answer to yet, and add each answer to it as it comes.

    Args:
        requests: What to ask, by names that are unique in the file.
        settings: How the model is run and asked; it is loaded only if something is to be asked.
        make_row: What to keep of an answer; `key` and `error` are added where it leaves them out.
        output: The file of earlier answers; None keeps nothing.
        key: The field that the name is kept in.
        unit: What one request is called where the progress is shown.
        desc: What stands before the progress.
        on_row: Called with each new row.

    Returns:
        The rows, in the order of `requests`.

    Raises:
        ValueError: An option is out of range.
        EngineError: The model cannot be loaded, or stops answering.
    """
    quiet_libraries()
    rows = {name: output.done[name] for name in requests if output is not None and name in output.done}
    missing = {name: request for name, request in requests.items() if name not in rows}
    if missing:
        engine = settings.open()
        lines = (
            {key: name, **make_row(engine, name, answer), "error": answer.error}
            for name, answer in zip(missing, ask(engine, list(missing.values()), settings), strict=True)
        )
        with Progress(len(requests), done=len(rows), unit=unit, desc=desc) as shown:
            for row in output.add(lines) if output is not None else lines:
                rows[row[key]] = row
                on_row(row)
                shown.update()
    return [rows[name] for name in requests]


def ask(engine: Engine, requests: list[Request], settings: AskingSettings) -> Iterator[Answer]:
    """Answer requests as the settings say: so many samples, or with the distribution of the score."""
    if settings.expectation:
        return engine.generate(requests, samples=1, expectation=True)
    return engine.generate(requests, samples=settings.num_samples)


def prediction_by(
    settings: AskingSettings, engine: Engine, video_id: str, request: Request, answer: Answer
) -> Prediction:
    """Return the prediction that an answer makes, calibrated where the settings say so."""
    found = predicted(
        video_id,
        str(request.video),
        answer,
        num_frames=request.num_frames(engine.frames),
        num_samples=settings.num_samples,
        expectation=settings.expectation,
        form=settings.answer,
    )
    return found if settings.calibration is None else settings.calibration.apply(found)


def prediction_row(settings: AskingSettings, requests: Mapping[str, Request]) -> MakeRow:
    """What `answer_missing` keeps of an answer to the question for a score: a line of a predictions file."""

    def make_row(engine: Engine, name: str, answer: Answer) -> Row:
        return prediction_by(settings, engine, name, requests[name], answer).as_json()

    return make_row
