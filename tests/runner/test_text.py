import math

import pytest

from vqathinker_verl.runner import text


def test_numbers():
    assert text.fixed(2.3456) == "2.346"
    assert text.fixed(math.nan) == text.percent(math.nan) == "-"
    assert text.percent(0.0123) == "1.2%"
    assert text.gibibytes(9.2 * 2**30) == "9.2 GiB"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.4, "0:59"), (204, "3:24"), (3661, "1:01:01"), (-5, "0:00")]
)
def test_durations(seconds, shown):
    assert text.clock(seconds) == shown


def test_bars():
    assert text.bar(0.5, 10, ascii_only=True) == "#####-----"
    assert text.bar(7.0, 4, ascii_only=True) == "####"
    assert len(text.bar(0.3, 17)) == 17


def test_sparkline_shows_the_course():
    assert text.sparkline([0, 1, 2, 3], 8) == "▁▃▆█"
    assert text.sparkline([1, 1, 1], 8) == "▅▅▅"
    assert text.sparkline([], 8) == text.sparkline([math.nan], 8) == ""
    long = text.sparkline(list(range(1000)), 12, ascii_only=True)
    assert len(long) == 12
    assert long[0] == "_"
    assert long[-1] == "#"


def test_first_and_last():
    assert text.first_and_last([1, 2, 3, 4, 5]) == (2, 4)
    assert text.first_and_last([1.0]) == (1, 1)
    assert all(map(math.isnan, text.first_and_last([])))


def test_printable():
    assert text.printable(" a\x1b[2J\n\tb\u202e ") == "a [2J b"
