"""Numbers, times, bars and paths as short text."""

import itertools
import math
from collections.abc import Sequence

BARS = " ▁▂▃▄▅▆▇█"
ASCII_BARS = " _.,-=+*#"


def fixed(value: float, decimals: int = 3) -> str:
    """A number with this many decimals; a dash where it is undefined."""
    return f"{value:.{decimals}f}" if math.isfinite(value) else "-"


def percent(share: float) -> str:
    """A share in [0, 1] in percent, with one decimal."""
    return f"{100 * share:.1f}%" if math.isfinite(share) else "-"


def clock(seconds: float) -> str:
    """A duration as m:ss or h:mm:ss."""
    rounded = max(int(seconds + 0.5), 0)
    hours, minutes = rounded // 3600, rounded // 60 % 60
    return f"{hours}:{minutes:02d}:{rounded % 60:02d}" if hours else f"{minutes}:{rounded % 60:02d}"


def gibibytes(size: float) -> str:
    """Bytes in GiB."""
    return f"{size / 2**30:.1f} GiB"


def bar(share: float, width: int, *, ascii_only: bool = False) -> str:
    """A progress bar of `width` characters for a share in [0, 1]."""
    full = round(min(max(share, 0.0), 1.0) * width)
    done, open_ = ("#", "-") if ascii_only else ("━", "╌")
    return done * full + open_ * (width - full)


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """The course of a series in at most `width` characters; neighbours are averaged where there are more values."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    groups = min(width, len(finite))
    edges = [len(finite) * index // groups for index in range(groups + 1)]
    means = [sum(finite[begin:end]) / (end - begin) for begin, end in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    marks = (ASCII_BARS if ascii_only else BARS)[1:]
    if high == low:
        return marks[len(marks) // 2] * groups
    return "".join(marks[round((value - low) / (high - low) * (len(marks) - 1))] for value in means)


def first_and_last(values: Sequence[float], count: int = 3) -> tuple[float, float]:
    """Means of the first and of the last `count` values; NaN where there is none."""
    if not values:
        return math.nan, math.nan
    first, last = values[:count], values[-count:]
    return sum(first) / len(first), sum(last) / len(last)


def printable(text: str) -> str:
    """Return one line without control characters, so that a model's text cannot control the terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
