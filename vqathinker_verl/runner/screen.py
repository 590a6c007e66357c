"""What a run shows on a terminal: lines that scroll, and a pinned part below them that is drawn again and again.

Every function returns lines that fit the width it is given.
"""

import io
import math
import re
import time
from collections.abc import Iterable
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from vqathinker_verl.runner import columns, text
from vqathinker_verl.runner.events import Event, PhaseDone, RunState, Saved, Started, StepDone, Validated
from vqathinker_verl.runner.metrics_log import mean_srcc, number, series, sources_of, validation_number
from vqathinker_verl.runner.record import Start
from vqathinker_verl.runner.startup import PHASES, durations, phases_of, usual_durations

HEADER_EVERY = 20  # steps
LONGEST_SOURCE = 24  # characters of a data source's name
FACTS = ("model", "data", "steps", "batch", "device")
WRAPPING = Console(file=io.StringIO(), width=80)  # rich wraps with a console's defaults
THINK = re.compile(r"<think>(.*?)(?:</think>|$)", re.DOTALL)


class Screen:
    """Turns events and the state of a run into lines.

    Args:
        output_dir: OUTPUT_DIR as the user knows it.
        state: filled by a RunReader.
        ascii_only: for a terminal that shows nothing else.
        watched: whether the run was started by another process, so that Ctrl-C does not stop it.
    """

    def __init__(self, output_dir: str, state: RunState, *, ascii_only: bool = False, watched: bool = False) -> None:
        self._folder, self._state, self._ascii, self._watched = output_dir, state, ascii_only, watched
        self._rows = 0  # since the last header
        self._layout: tuple[int, bool] | None = None

    def lines(self, event: Event, width: int) -> list[Text]:
        """The lines that an event adds to the history."""
        if isinstance(event, Started):
            return self._header(event.start, width)
        if isinstance(event, PhaseDone):
            lines = [_line(f"   ok  {event.label:18}{event.seconds:6.0f} s", width, "green")]
            if event.ready_after is not None:
                lines.append(_line(f" ready after {text.clock(event.ready_after)}", width, "bold green"))
            return lines
        if isinstance(event, StepDone):
            return self._step(event, width)
        if isinstance(event, Validated):
            return validation_lines(event, width)
        if isinstance(event, Saved):
            return [_line(f" saved checkpoints/global_step_{event.step}", width, "dim")]
        return []

    def _header(self, start: Start, width: int) -> list[Text]:
        facts = self._state.facts
        state = f"resumes after step {start.resumed}" if start.resumed else "from the beginning"
        stop = "" if self._watched else "; Ctrl-C stops the run"
        folder = ("folder", f"{self._folder}, {state}; log: train.log{stop}")
        lines = [_line(f" {facts.get('title', 'VQAThinker')}", width, "bold")]
        for name, value in [*((name, facts.get(name, "-")) for name in FACTS), folder]:
            lines += _wrapped(f"   {name:8}", str(value), width)
        return [*lines, Text()]

    def _step(self, event: StepDone, width: int) -> list[Text]:
        step_width = max(len(str(self._state.total_steps)), 4) + 1
        shown, with_time = columns.fitting(width, step_width)
        lines = []
        layout = (len(shown), with_time)
        if self._rows % HEADER_EVERY == 0 or layout != self._layout:
            titles = "".join(f"{column.title:>{column.width}} " for column in shown)
            header = f"{'step':>{step_width}} {titles}{columns.TIME_TITLE if with_time else ''}"
            lines.append(_line(header, width, "bold cyan"))
            self._rows, self._layout = 0, layout
        self._rows += 1
        bad = {trouble.metric for trouble in event.troubles}
        line = Text(f"{event.step:>{step_width}} ", no_wrap=True)
        for column in shown:
            mark = column.marked_by(bad)
            value = column.show(number(event.data, column.metric))
            line.append(f"{value:>{column.width}}", "bold red" if mark else "")
            line.append("!" if mark else " ", "bold red")
        if with_time:
            line.append(columns.time_bar(event.data), "dim")
        lines.append(_fitted(line, width))
        for trouble in event.new:
            lines += _wrapped("     ! ", f"step {event.step}: {trouble.text}", width, "red")
        return lines

    def pinned(self, width: int, status: str | None = None) -> list[Text]:
        """The part below the history.

        Args:
            width: of the terminal.
            status: what the launcher does instead of training, for instance stop.
        """
        if not self._state.record.starts:
            return []
        start = self._state.record.starts[-1]
        if PHASES[-1].name not in start.reached and not self._state.last_step > start.resumed:
            lines = self._starting(start, width)
        else:
            lines = self._training(start, width)
        if status:
            lines.append(_line(f" {status}", width, "bold yellow"))
        return lines

    def _starting(self, start: Start, width: int) -> list[Text]:
        usual, done, now = usual_durations(self._state.record), durations(start), time.time()
        coming = [phase for phase in phases_of(self._state.facts) if phase.name not in done]
        since = now - max([start.began, *start.reached.values()])
        lines = []
        for phase in coming:
            known = usual.get(phase.name)
            if phase is coming[0]:
                progress = ""
                if known:
                    progress = f"  {text.bar(since / known, 16, ascii_only=self._ascii)}  usually {known:.0f} s"
                lines.append(_line(f"   >>  {phase.label:18}{since:6.0f} s{progress}", width, "yellow"))
            else:
                seconds = f"usually {known:6.0f} s" if known else ""
                lines.append(_line(f"   ..  {phase.label:18}{seconds}", width, "dim"))
        total = sum(usual.values())
        about = f", usually {text.clock(total)}" if total else ", often two to five minutes"
        lines.append(_line(f" starting for {text.clock(now - start.began)}{about}", width))
        return lines

    def _training(self, start: Start, width: int) -> list[Text]:
        state, steps = self._state, series(self._state.metrics, "reward/overall")
        done, total = state.last_step, state.total_steps
        left = state.seconds_left()
        validations = state.left("test_freq")
        gone = text.clock((start.ended or time.time()) - start.began)
        about = f", about {text.clock(left)} left" if left is not None and done < total else ""
        count = f" ({validations} validation{'s' * (validations != 1)})" if about and validations else ""
        tail = f"  {done}/{total}  {100 * done // max(total, 1)}%  {gone} gone{about}{count}"
        size = min(max(width - len(tail) - 2, 4), 60)
        share = done / max(total, 1)
        lines = [
            _line("─" * width if not self._ascii else "-" * width, width, "dim"),
            _line(f" {text.bar(share, size, ascii_only=self._ascii)}{tail}", width, "bold"),
        ]
        parts = []
        if steps:
            values = list(steps.values())
            first, last = text.first_and_last(values)
            trend = text.sparkline(values, max(min(30, width - 70), 8), ascii_only=self._ascii)
            parts.append(f"reward {trend} {first:.2f} -> {last:.2f}")
        if validated := {step: value for step, value in sorted(state.srcc.items()) if math.isfinite(value)}:
            values, best = list(validated.values()), max(validated, key=lambda step: validated[step])
            course = f"{values[0]:.3f} -> " if len(values) > 1 else ""
            which = "best" if best == max(validated) else f"best {validated[best]:.3f}, step {best}"
            parts.append(f"val SRCC {course}{values[-1]:.3f} ({which})")
        if state.memory:
            parts.append(f"RAM {text.gibibytes(state.memory)}")
        last_data = state.metrics.get(state.last_step, {})
        gpu = number(last_data, "actor/perf/max_memory_allocated_gb")
        if state.facts.get("gpu") and math.isfinite(gpu):
            parts.append(f"GPU {gpu:.1f} GB")
        if done < total:
            parts.append(self._activity())
        lines += _packed(parts, width)
        if state.sample:
            lines.append(self._answer(state.sample, width))
        return lines

    def _activity(self) -> str:
        step = self._state.last_step + 1
        if self._state.sampled_step < step:
            return f"step {step}: sampling"
        then = [
            name for name, every in (("save", "save_freq"), ("validate", "test_freq")) if self._state.due(every, step)
        ]
        return f"step {step}: updating" + (f", then {' and '.join(then)}" if then else "")

    def _answer(self, answer: dict[str, Any], width: int) -> Text:
        thought = THINK.search(str(answer.get("response") or ""))
        words = text.printable(thought[1] if thought else str(answer.get("response") or ""))
        score = answer.get("pred_mos")
        facts = (
            f" {score:.2f}" if isinstance(score, int | float) else " no score",
            f", MOS {answer.get('mos', math.nan):.2f}, reward {answer.get('total', math.nan):.2f}",
        )
        end = '"' + "".join(facts)
        line = Text(' answer: "', no_wrap=True)
        room = width - line.cell_len - cell_len(end)
        shown = Text(words)
        shown.truncate(max(room, 8), overflow="crop" if self._ascii else "ellipsis")
        line.append_text(shown)
        line.append(end)
        return _fitted(line, width)


def validation_lines(event: Validated, width: int) -> list[Text]:
    """One line per data source, and before them their mean where there are several."""
    sources = sources_of(event.data)
    value = mean_srcc(event.data)
    note = ""
    if event.best:
        note = f" (+{value - event.earlier[1]:.3f}, best)" if event.earlier else " (first)"
    elif event.earlier:
        note = f" (best {event.earlier[1]:.3f} at step {event.earlier[0]})"
    seconds, failed = number(event.data, "timing_s/testing"), number(event.data, "val/failed_responses")
    end = [(2, f"{seconds:.0f} s")] if math.isfinite(seconds) else []
    if failed > 0:
        end.insert(0, (9, f"! {failed:.0f} answers failed"))
    begin = f" val {event.step}"
    if len(sources) == 1:
        return [_chosen(f"{begin}  {sources[0][:LONGEST_SOURCE]}", [*_metrics(event, sources[0], note), *end], width)]
    lines = [_chosen(f"{begin}  mean", [(10, f"SRCC {text.fixed(value)}{note}"), *end], width)]
    indent = " " * len(begin)
    return lines + [
        _chosen(f"{indent}  {source[:LONGEST_SOURCE]}", _metrics(event, source, ""), width) for source in sources
    ]


def _metrics(event: Validated, source: str, note: str) -> list[tuple[int, str]]:
    """(rank, text) of a source's metrics; the lowest ranks are left out first on a narrow terminal."""

    def value(name: str) -> float:
        return validation_number(event.data, source, name)

    parts = [
        (10, f"SRCC {text.fixed(value('srcc'))}{note}"),
        (7, f"PLCC raw {text.fixed(value('plcc_raw'))}"),
        (3, f"KRCC {text.fixed(value('krcc'))}"),
        (4, f"RMSE raw {text.fixed(value('rmse_raw'))}"),
        (8, f"no score {text.percent(value('parse_failure_rate'))}"),
    ]
    videos = number(event.data, f"val/{source}/scored")
    return [*parts, (1, f"{videos:.0f} videos")] if math.isfinite(videos) else parts


def _chosen(begin: str, parts: list[tuple[int, str]], width: int) -> Text:
    """As many parts as fit, in their order."""
    while parts and cell_len("  ".join([begin, *(part for _, part in parts)])) > width:
        parts = [part for part in parts if part[0] != min(rank for rank, _ in parts)]
    return _line("  ".join([begin, *(part for _, part in parts)]), width, "bold magenta")


def _packed(parts: Iterable[str], width: int) -> list[Text]:
    """Parts side by side, on as many lines as they need."""
    rows = [""]
    for part in filter(None, parts):
        joined = f"{rows[-1]}  {part}" if rows[-1] else f" {part}"
        if rows[-1] and cell_len(joined) > width:
            rows.append(f" {part}")
        else:
            rows[-1] = joined
    return [_line(row, width) for row in rows if row]


def _wrapped(begin: str, value: str, width: int, style: str = "") -> list[Text]:
    """A value over as many lines as it needs, indented below its beginning."""
    pieces = Text(text.printable(value)).wrap(WRAPPING, max(width - len(begin), 10))
    return [
        _line((begin if n == 0 else " " * len(begin)) + piece.plain.rstrip(), width, style)
        for n, piece in enumerate(pieces)
    ]


def _line(content: str, width: int, style: str = "") -> Text:
    return _fitted(Text(content, style=style, no_wrap=True), width)


def _fitted(line: Text, width: int) -> Text:
    line.truncate(width, overflow="crop")
    return line
