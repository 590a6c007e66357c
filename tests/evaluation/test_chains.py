"""`vqathinker evaluate` on chains of known order, beside labelled videos and alone."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.evaluation_files import benchmark, noisy, predictions

from vqathinker_verl.cli.main import main
from vqathinker_verl.data.output import verl_row, write_rows
from vqathinker_verl.data.sources import LabelSource
from vqathinker_verl.evaluation.benchmarks import read_benchmarks
from vqathinker_verl.evaluation.records import Benchmark, EvaluationError, Label, Prediction
from vqathinker_verl.evaluation.results import Settings, evaluate_model
from vqathinker_verl.metrics import chain_accuracy
from vqathinker_verl.synthesis.output import CHAIN_FIELDS

SETTINGS = Settings(num_resamples=200)


def chains(num_chains=6, strengths=(0.0, 0.5, 1.0), distortions=("blur", "noise")):
    labels = [
        Label(f"chains/{chain}_{strength}.mp4", f"{chain}_{strength}.mp4", math.nan, None, (), f"chains/{chain}",
              strength, distortions[chain % len(distortions)])
        for chain in range(num_chains)
        for strength in strengths
    ]  # fmt: skip
    return Benchmark("chains", tuple(labels))


def scored(found, scores):
    return [
        None if score is None else Prediction("here", label.video_id, score, ())
        for label, score in zip(found.labels, scores, strict=True)
    ]


def result(found, scores, settings=SETTINGS):
    (chained,) = evaluate_model("m", [found], {found.name: scored(found, scores)}, settings).chains
    return chained


def test_by_hand_over_all_and_by_distortion():
    found = chains(num_chains=2)
    # blur: 5 > 4 > 3, all three pairs right. noise: 2, 2, 3: a tie and two wrong pairs.
    chained = result(found, [5.0, 4.0, 3.0, 2.0, 2.0, 3.0])
    assert chained.by_distortion["blur"].accuracy.value == 1.0
    assert chained.by_distortion["noise"].accuracy.value == pytest.approx(0.5 / 3)
    assert chained.overall.accuracy.value == pytest.approx(3.5 / 6)
    assert (chained.overall.num_pairs, chained.overall.num_chains) == (6, 2)
    assert math.isnan(chained.by_distortion["blur"].accuracy.low)  # one chain has no interval


def test_it_is_chain_accuracy_with_and_without_scores():
    rng = np.random.default_rng(0)
    found = chains(num_chains=9)
    scores = rng.uniform(1, 5, len(found.labels))
    scores[rng.choice(len(scores), 5, replace=False)] = np.nan
    chained = result(found, scores)
    names = [label.chain for label in found.labels]
    expected = chain_accuracy(scores, names, [label.strength for label in found.labels])
    estimate = chained.overall.accuracy
    assert estimate.value == pytest.approx(expected, abs=1e-12)
    assert estimate.low < estimate.value < estimate.high
    assert chained.num_scored == len(scores) - 5
    assert chained.num_missing == 0


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    found = chains(num_chains=40, strengths=(0.0, 1.0))
    hits = 0
    for seed in range(60):
        scores = np.where(np.arange(80) % 2 == 0, rng.normal(0.5, 1, 80), rng.normal(-0.5, 1, 80))
        estimate = result(found, scores, Settings(num_resamples=300, seed=seed)).overall.accuracy
        hits += estimate.low <= 0.7602 <= estimate.high  # Phi(1 / sqrt(2))
    assert 50 <= hits <= 60


def test_missing_clips_are_counted_and_a_fault():
    found = chains(num_chains=2)
    chained = result(found, [5.0, None, 3.0, 4.0, None, None])
    assert (chained.num_clips, chained.num_missing) == (6, 3)
    assert chained.overall.num_pairs == 1
    assert chained.overall.num_chains == 1


def test_without_pairs_there_is_no_accuracy():
    found = chains(num_chains=2)
    chained = result(found, [5.0, None, None, 4.0, None, None])
    assert math.isnan(chained.overall.accuracy.value)
    assert chained.as_json()["chain_accuracy"] == {
        "value": None, "low": None, "high": None, "num_pairs": 0, "num_chains": 0,
    }  # fmt: skip


def test_labelled_metrics_do_not_change_beside_chains():
    mos, pred = noisy(30)
    labelled = benchmark(mos, "mine")
    said = predictions(pred, "mine")
    found = chains()
    both = evaluate_model(
        "m", [labelled, found], {"mine": said, "chains": scored(found, [3.0] * len(found.labels))}, SETTINGS
    )
    alone = evaluate_model("m", [labelled], {"mine": said}, SETTINGS)
    assert both.benchmarks[0].metrics == alone.benchmarks[0].metrics
    assert both.plain == alone.plain
    assert both.chains[0].overall.accuracy.value == 0.5  # ties


@pytest.fixture
def parquet(tmp_path):
    rows = [
        verl_row(
            "chains", str(tmp_path / label.video), math.nan, "How good?",
            {"index": number, "split": "test", "video": label.video, "video_id": label.video_id, "total_frames": 30,
             "fps": 25.0, "height": 48, "width": 64, "chain": label.chain, "strength": label.strength,
             "distortion": label.distortion},
        )
        for number, label in enumerate(chains().labels)
    ]  # fmt: skip
    write_rows(tmp_path / "chains.parquet", rows, CHAIN_FIELDS)
    return tmp_path / "chains.parquet"


def test_the_command_with_chains_alone(parquet, tmp_path, capsys):
    labels = chains().labels
    lines = [{"video_id": label.video_id, "pred_mos": 4.0 - label.strength} for label in labels[:-1]]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    call = ["evaluate", str(tmp_path / "p.jsonl"), "--labels", str(parquet), "--output-dir", str(tmp_path / "out")]
    assert main(call) == 1  # a clip has no answer
    shown = capsys.readouterr().out
    assert "pairs of one chain in the right order" in shown
    assert "1 of 18 clips have no answer" in shown
    (model,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["models"]
    (found,) = model["chains"]
    assert found["chain_accuracy"]["value"] == 1.0
    assert set(found["by_distortion"]) == {"blur", "noise"}
    assert model["benchmarks"] == []
    page = (tmp_path / "out" / "report.html").read_text()
    assert "pairs of one chain in the right order" in page
    assert "chain_accuracy" in (tmp_path / "out" / "evaluation.csv").read_text()


def test_one_name_for_both_kinds_is_refused(parquet, tmp_path):
    table = pq.read_table(parquet).to_pylist()
    for row in table[:3]:
        row["extra_info"]["chain"] = None
        row["reward_model"]["ground_truth"] = 3.0
    write_rows(tmp_path / "mixed.parquet", table, CHAIN_FIELDS)
    with pytest.raises(EvaluationError, match="have one name"):
        read_benchmarks([LabelSource(tmp_path / "mixed.parquet")], {})
