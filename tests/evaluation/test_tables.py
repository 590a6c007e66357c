import csv
import functools
import io
import json
import math

import pytest
from helpers.data import data_file
from helpers.evaluation_files import benchmark, noisy, predictions

from vqathinker_verl.evaluation.compare import compare_models
from vqathinker_verl.evaluation.outcome import Outcome, as_json
from vqathinker_verl.evaluation.reference import published
from vqathinker_verl.evaluation.results import Settings, evaluate_model
from vqathinker_verl.evaluation.tables import as_csv, as_latex, paper_table, short, terminal_tables

SETTINGS = Settings(num_resamples=20)


@functools.cache  # nothing changes it
def outcome(names=("KoNViD-1k", "LIVE-VQC"), constant=False):
    labels, said, other = [], {}, {}
    for number, name in enumerate(names):
        mos, pred = noisy(30 + 10 * number, seed=number)
        labels.append(benchmark(mos, name))
        said[name] = predictions([3.0] * len(pred) if constant else pred, name)
        other[name] = predictions(noisy(30 + 10 * number, noise=2.0, seed=number)[1], name)
    models = [evaluate_model("ours_1", labels, said, SETTINGS), evaluate_model("other", labels, other, SETTINGS)]
    return Outcome(models, SETTINGS, compare_models(*models, SETTINGS))


def printed(found):
    from rich.console import Console

    console = Console(width=160, record=True, file=io.StringIO())
    for table in terminal_tables(found):
        console.print(table)
    return console.export_text()


def test_the_published_rows_are_those_of_the_reference_table():
    expected = {}
    for part in data_file("published_results.md").read_text().split("##"):
        lines = [line for line in part.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        names = [{"Waterloo-4K": "Waterloo-IVC-4K"}.get(name, name) for name in cells[0][1:]]
        for row in cells[2:]:
            metrics = expected.setdefault(row[0], {})
            for name, cell in zip(names, row[1:], strict=True):
                if cell:
                    srcc, _, plcc = cell.partition("/")
                    metrics[name] = (float(srcc), pytest.approx(float(plcc or math.nan), nan_ok=True))
    table = published()
    assert {model.name: model.srcc_plcc for model in table.models} == expected
    assert {name for row in expected.values() for name in row} == set(table.benchmarks)
    assert "arXiv 2508.06051" in table.source
    assert "W2S-VQA, stage 3 (no human labels) (SRCC): W2S-VQA, table 1" in table.source


def test_a_row_that_is_not_comparable_is_marked_and_never_the_best():
    table = paper_table(outcome())
    (finevq,) = [row for row in table.rows if row.name.startswith("FineVQ")]
    assert (finevq.name, finevq.comparable) == ("FineVQ \N{DAGGER}", False)
    (note,) = [note for note in table.notes if note.startswith("\N{DAGGER} FineVQ is not comparable")]
    assert "trained on KoNViD-1k" in note
    (line,) = [line for line in as_latex(outcome()).splitlines() if line.startswith("FineVQ")]
    assert line.startswith(r"FineVQ \textdagger{} & .915/-- & .895/--")
    assert as_json(outcome())["published"]["not_comparable"].keys() == {"FineVQ"}


def test_a_benchmark_of_unknown_size_has_no_weighted_published_mean():
    row = next(row for row in paper_table(outcome(("KoNViD-1k", "KVQ"))).rows if row.name == "VQAThinker (8B)")
    assert row.cells[1][0] == 0.586
    assert row.cells[2][0] == pytest.approx((0.881 + 0.586) / 2)
    assert math.isnan(row.cells[2][1])
    assert row.cells[3] is None


def test_the_published_numbers_of_videos_are_those_of_the_registry():
    from vqathinker_verl.data.registry import load_registry

    for name, dataset in load_registry().items():
        for annotations in dataset.annotations.values():
            assert published().num_videos[name] == annotations.videos


def test_the_papers_layout():
    found = outcome()
    table = paper_table(found)
    assert table.columns == ("KoNViD-1k", "LIVE-VQC", "mean", "weighted")
    vqathinker = next(row for row in table.rows if row.name == "VQAThinker (8B)")
    assert vqathinker.cells[:2] == ((0.881, 0.884), (0.808, 0.847))
    assert vqathinker.cells[2][0] == pytest.approx((0.881 + 0.808) / 2)
    assert vqathinker.cells[3][1] == pytest.approx((1200 * 0.884 + 585 * 0.847) / 1785)
    ours = next(row for row in table.rows if row.name == "ours_1")
    metrics = found.models[0].benchmarks[0].metrics
    assert ours.cells[0] == (metrics["srcc"].value, metrics["plcc"].value)
    assert "KoNViD-1k: 30 videos here, 1200 in the published rows." in table.notes
    raw = next(row for row in paper_table(found, raw_plcc=True).rows if row.name == "ours_1")
    assert raw.cells[0][1] == metrics["plcc_raw"].value


def test_benchmarks_without_published_rows():
    table = paper_table(outcome(("mine",)))
    assert table.columns == ("mine",)
    assert [row.name for row in table.rows] == ["ours_1", "other"]
    assert len(table.rows[0].cells) == 1
    partly = paper_table(outcome(("mine", "LIVE-VQC")))
    dover = next(row for row in partly.rows if row.name == "DOVER")
    assert dover.cells == (None, (0.817, 0.840), None, None)


def test_latex():
    found = outcome()
    text = as_latex(found)
    lines = text.splitlines()
    assert r"\begin{tabular}{lcccc}" in lines
    assert r"Model & KoNViD-1k & LIVE-VQC & mean & weighted \\" in lines
    vqa2 = next(line for line in lines if line.startswith(r"VQA\textasciicircum{}2 &"))
    assert ".785/.830" in vqa2
    ours = next(line for line in lines if line.startswith(r"ours\_1"))
    assert ours.endswith(r"\\")
    assert ours.count("&") == 4
    assert text.count(r"\midrule") == 2
    # The best of a column, here made up: the made predictions lead both of their columns.
    best = found.models[0].benchmarks[0].metrics["srcc"].value
    assert best > 0.886
    assert rf"\textbf{{{short(best)}}}/" in ours
    assert r"\textbf{.881}" not in text


def test_json_has_no_nan_and_names_the_reason():
    content = json.loads(json.dumps(as_json(outcome(constant=True)), allow_nan=False))
    first = content["models"][0]["benchmarks"][0]
    assert first["metrics"]["srcc"] == {"value": None, "low": None, "high": None}
    assert first["undefined"]["srcc"] == "all 30 predictions are 3"
    assert content["models"][0]["mean"]["undefined"]["srcc"] == "undefined for KoNViD-1k, LIVE-VQC"
    assert content["comparison"]["benchmarks"][0]["differences"]["srcc"]["p"] is None
    assert content["published"]["models"]["VQAThinker (8B)"]["CGVDS"] == [0.856, 0.845]
    assert content["faults"] == [  # one for each benchmark, not for each metric
        "ours_1, KoNViD-1k: no SRCC, KRCC, PLCC, RMSE, PLCC raw: all 30 predictions are 3",
        "ours_1, LIVE-VQC: no SRCC, KRCC, PLCC, RMSE, PLCC raw: all 40 predictions are 3",
    ]


def test_csv_is_the_json_in_rows():
    found = outcome()
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [(row["model"], row["benchmark"]) for row in rows][:4] == [
        ("ours_1", "KoNViD-1k"),
        ("ours_1", "LIVE-VQC"),
        ("ours_1", "mean"),
        ("ours_1", "weighted mean"),
    ]
    assert float(rows[1]["plcc_high"]) == found.models[0].benchmarks[1].metrics["plcc"].high
    assert rows[0]["num_videos"] == "30"
    empty = next(csv.DictReader(io.StringIO(as_csv(outcome(constant=True)))))
    assert empty["srcc"] == ""
    assert "srcc: all 30 predictions are 3" in empty["undefined"]


def test_the_terminal_shows_figures_published_rows_and_the_comparison():
    text = printed(outcome())
    for part in ("ours_1", "other", "VQAThinker (8B)", "weighted by videos", "Williams t", "ours_1 less other", ".884"):
        assert part in text
    assert "nan" not in printed(outcome(constant=True))


def test_names_are_no_markup():
    mos, pred = noisy(10)
    labels = benchmark(mos, "[red]x[/red]")
    model = evaluate_model("[b]m", [labels], {labels.name: predictions(pred, labels.name)}, SETTINGS)
    text = printed(Outcome([model], SETTINGS))
    assert "[red]x[/red]" in text
    assert "[b]m" in text


def test_a_mean_needs_every_metric():
    row = next(row for row in paper_table(outcome(constant=True)).rows if row.name == "ours_1")
    assert math.isnan(row.cells[2][0])


def test_a_table_fits_80_columns_and_breaks_no_word():
    from rich.console import Console

    console = Console(width=80, record=True, file=io.StringIO())
    for table in terminal_tables(outcome()):
        if "intervals" in str(table.title):
            console.print(table)
    text = console.export_text()
    for heading in ("benchmark", "SRCC", "PLCC raw", "videos"):
        assert heading in text
    assert "missing" not in text  # nothing is
