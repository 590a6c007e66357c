"""docs/lsvq.md: its commands exist as written, and its published figures are the reference's."""

import re
import shlex
from pathlib import Path

import pytest
from helpers.data import data_file

from vqathinker_verl.cli.main import COMMANDS, build_parser

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "lsvq.md").read_text(encoding="utf-8")


def commands():
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("vqathinker ")]


@pytest.mark.parametrize("line", [line for line in commands() if line.split()[1] in COMMANDS])
def test_commands_are_accepted_as_written(line):
    words = [word for word in shlex.split(line, comments=True)[1:] if word != "..."]
    arguments = build_parser(words[0]).parse_args(words)
    assert arguments.command == words[0]


def test_the_page_works_from_upload_to_score():
    assert {line.split()[1] for line in commands()} == {
        "prepare",
        "plan",
        "train",
        "watch",
        "summary",
        "export",
        "evaluate",
    }
    for script in re.findall(r"recipes/(\w+\.sh)|`(run_\w+\.sh)`", PAGE):
        assert (Path(__file__).resolve().parents[2] / "recipes" / "".join(script)).is_file()


def table_rows(text):
    rows = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("|")]
    found = {}
    for cells in rows:  # a model's first row counts; VQAThinker has another, as others report it
        found.setdefault(cells[0].strip(), [cell.strip() for cell in cells[1:]])
    return found


def test_published_figures_are_the_references():
    reference, ours = table_rows(data_file("published_results.md").read_text(encoding="utf-8")), table_rows(PAGE)
    for model in ("FAST-VQA", "DOVER", "MinimalisticVQA", "Q-Align", "VQA^2", "VQAThinker (8B)"):
        assert ours[model] == reference[model]
    newer = reference.keys() & ours.keys() - {"model", "---"}
    assert len(newer) >= 14
    for model in newer:
        assert ours[model] == reference[model]


def test_rows_without_a_measurement_are_empty():
    ours = {name: cells for name, cells in table_rows(PAGE).items() if name.startswith("ours")}
    assert len(ours) == 3
    assert all(not "".join(cells) for cells in ours.values())
