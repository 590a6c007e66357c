"""The main job on real processes: one run that is killed and resumed, and looked at from every side.

Starting verl takes minutes on two cores, so many assertions share one run. One training video is replaced by garbage
after the input was checked: its responses are lost, named and counted, and nothing else is.
"""

import json
import math
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet
import pytest
import torch
from helpers.runs import ROOT, START_SECONDS, read_jsonl, scored_again, start_recipe

from vqathinker_verl.inference.engines import Sampling, open_engine, read_defaults
from vqathinker_verl.inference.export import export_checkpoint
from vqathinker_verl.inference.scoring import find_videos, score_videos
from vqathinker_verl.perturbations import draw_perturbation, perturbation_rng
from vqathinker_verl.runner.shared_memory import orphaned_shared_memory

pytestmark = pytest.mark.e2e

STEPS, KILLED_IN, SAVED_AT = 5, 3, 2
GROUP_SIZE, VIDEOS_A_STEP, NUM_FRAMES = 4, 8, 6
COMPONENTS = ("regression", "ranking", "temporal", "format", "total")
BROKEN = "train_0005"
EXAMPLE = ROOT / "examples" / "custom_reward.py"
# The demo's reasoning is three or four words long.
EXTRA = {
    "brevity": {"path": str(EXAMPLE), "name": "brevity", "weight": 0.2, "kwargs": {"limit": 3}},
    "listwise": {"path": str(EXAMPLE), "name": "listwise", "weight": 0.5, "kwargs": {}},
}


@pytest.fixture(scope="module")
def run(demo, tmp_path_factory):
    """Train, SIGKILL everything during step 3, start again with the same OUTPUT_DIR."""
    output_dir = tmp_path_factory.mktemp("training")
    overrides = [
        f"actor_rollout_ref.rollout.n={GROUP_SIZE}",
        f"data.train_batch_size={VIDEOS_A_STEP}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={VIDEOS_A_STEP}",
        f"trainer.save_freq={SAVED_AT}",
        "trainer.test_freq=2",
        "vqathinker.sampling_seed=0",
        # Hydra's mappings are JSON's without quotes.
        *(f"+vqathinker.extra_rewards.{name}={json.dumps(EXTRA[name]).replace(chr(34), '')}" for name in EXTRA),
    ]
    settings = {"TOTAL_STEPS": str(STEPS)}
    started = time.time()
    broken = next(path for path in (demo / "videos").glob("*.mp4") if path.name.startswith(BROKEN))
    whole = broken.read_bytes()
    first = start_recipe(demo, output_dir, *overrides, **settings)
    first.wait_until(lambda: "ray init kwargs" in first.train_log(), 300)  # the input has been checked
    broken.write_bytes(b"not a video any more")
    try:
        first.wait_until((output_dir / "rollouts" / f"{KILLED_IN}.jsonl").exists, START_SECONDS)
        first.kill_everything()
        seen_before = read_jsonl(output_dir / "rollouts" / f"{KILLED_IN}.jsonl")
        broken.write_bytes(whole)  # else the second start refuses the input, rightly
        second = start_recipe(demo, output_dir, *overrides, **settings)
        code = second.wait(START_SECONDS)
    finally:
        broken.write_bytes(whole)
    return SimpleNamespace(
        code=code,
        output=second.text(),
        train_log=second.train_log(),
        folder=output_dir,
        metrics={line["step"]: line for line in read_jsonl(output_dir / "metrics.jsonl")},
        rollouts={step: read_jsonl(output_dir / "rollouts" / f"{step}.jsonl") for step in range(1, STEPS + 1)},
        seen_before=seen_before,
        left_behind=(second.marked_processes(), orphaned_shared_memory(since=started)),
        demo=demo,
        broken=broken.name,
    )


def by_video(lines: list[dict]) -> dict[str, list[dict]]:
    groups = defaultdict(list)
    for line in lines:
        groups[line["video_id"]].append(line)
    return groups


def test_it_ends_well_and_says_what_it_did(run):
    assert run.code == 0
    for said in ("s per step (median)", "regression", "answers without a score", "peak memory", "metrics.jsonl"):
        assert said in run.output
    for step in (0, 2, 4, STEPS):
        assert re.search(rf"^demo +{step} ", run.output, re.MULTILINE)
    assert f"vqathinker export {run.folder} --step " in run.output


def test_it_says_what_happens_in_lines_that_a_file_can_hold(run):
    events = [line for line in run.output.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
    assert max(map(len, events)) <= 160
    assert "\x1b" not in run.output
    steps = [int(line.split()[2].split("/")[0]) for line in events if line.split()[1] == "step"]
    assert steps[-3:] == list(range(SAVED_AT + 1, STEPS + 1))  # of the second start
    assert sum(line.split()[1] == "ready" for line in events) == 2
    assert sum(line.split()[1] == "ok" for line in events) == 12  # every phase of both start-ups was recognized
    for noise in ("TaskRunner", "np.float64", "ray init kwargs"):
        assert noise not in run.output
        assert noise in run.train_log


def test_the_run_is_recorded(run):
    record = json.loads((run.folder / "run.json").read_text())
    assert [start["resumed"] for start in record["starts"]] == [0, SAVED_AT]
    assert [start["code"] for start in record["starts"]] == [None, 0]  # the first one was killed
    assert record["facts"]["total_steps"] == STEPS
    assert (run.folder / "plots" / "training.png").stat().st_size > 1000
    assert len(list((run.folder / "tensorboard").glob("*/events*"))) == 2  # one a start


def test_it_went_on_from_the_last_saved_step(run):
    assert f"resumes after step {SAVED_AT}" in run.output
    assert re.search(rf"Resuming from \S*global_step_{SAVED_AT}\b", run.train_log)
    segments = sorted((run.folder / "metrics").glob("*.jsonl"))
    assert len(segments) == 2
    trained = [[line["step"] for line in read_jsonl(path) if "actor/lr" in line["data"]] for path in segments]
    assert trained[0][:SAVED_AT] == list(range(1, SAVED_AT + 1))
    assert trained[1] == list(range(SAVED_AT + 1, STEPS + 1))
    assert (run.folder / "checkpoints" / f"global_step_{STEPS}" / "actor").is_dir()


def test_the_step_that_was_killed_is_taken_again_as_it_was(run):
    """Videos in their order, perturbations and, as sampling is seeded, the responses. Weights: those of step 2."""
    again, before = by_video(run.rollouts[KILLED_IN]), by_video(run.seen_before)
    assert again.keys() - before.keys() <= {video_id for video_id in again if run.broken in video_id}
    assert before.keys() <= again.keys()
    same = total = 0
    for video_id, lines in before.items():
        assert {line["perturbation"] for line in lines} == {line["perturbation"] for line in again[video_id]}
        responses, others = (Counter(line["response"] for line in group) for group in (lines, again[video_id]))
        same, total = same + (responses & others).total(), total + responses.total()
    # Which requests share a batch decides the last digits of the logits, so now and then a response differs.
    assert same > 0.9 * total


def test_nothing_is_left_behind(run):
    assert run.left_behind == ([], [])


def test_every_component_of_every_step_is_logged_and_finite(run):
    names = [f"reward/{name}" for name in (*COMPONENTS[:-1], "overall", *EXTRA)]
    names += [f"reward/{name}" for name in ("parse_failure_rate", "temporal_win_rate", "srcc", "group_std")]
    names += [
        "response_length/mean",
        "rollout/total_original_tokens",
        "rollout/total_perturbed_tokens",
        "actor/kl_loss",
    ]
    for step in range(1, STEPS + 1):
        values = {name: run.metrics[step].get(name) for name in names}
        assert all(isinstance(value, int | float) and math.isfinite(value) for value in values.values()), values


def test_the_rewards_are_score_batch_over_the_full_batch(run):
    """Recomputed from the texts; and verl's own mean of the scores that its advantages come from."""
    for step, lines in run.rollouts.items():
        rewards = scored_again(lines, EXTRA)
        for name in COMPONENTS:
            expected = [line[name] for line in lines]
            np.testing.assert_allclose(getattr(rewards, name), expected, atol=1e-6)
        assert run.metrics[step]["critic/score/mean"] == pytest.approx(rewards.total.mean(), abs=1e-5)
        assert run.metrics[step]["critic/score/max"] == pytest.approx(rewards.total.max(), abs=1e-6)


def test_rewards_of_ones_own_are_in_the_total_the_log_and_the_dump(run):
    """Recomputed by the example's functions alone; what they add to the four is what the total is above them."""
    seen = dict.fromkeys(EXTRA, 0)
    for step, lines in run.rollouts.items():
        rewards, four = scored_again(lines, EXTRA), scored_again(lines)
        added = np.zeros(len(lines))
        for name, reward in EXTRA.items():
            dumped = np.array([line[name] for line in lines], dtype=np.float64)  # None, no verdict, becomes NaN
            np.testing.assert_allclose(rewards.extra[name], dumped, atol=1e-6)
            assert run.metrics[step][f"reward/{name}"] == pytest.approx(np.nanmean(dumped), abs=1e-6)
            added += reward["weight"] * np.nan_to_num(dumped)
            seen[name] += len(np.unique(dumped[~np.isnan(dumped)]))
        np.testing.assert_allclose([line["total"] for line in lines], four.total + added, atol=1e-6)
    assert min(seen.values()) > STEPS, seen  # rewards that tell responses apart


def test_the_labels_are_the_videos_own(run):
    table = pyarrow.parquet.read_table(run.demo / "train.parquet").to_pylist()
    mos = {row["extra_info"]["video_id"]: row["reward_model"]["ground_truth"] for row in table}
    for lines in run.rollouts.values():
        assert all(line["mos"] == mos[line["video_id"]] for line in lines)


def test_groups_and_perturbed_pairs_are_complete(run):
    for step, lines in run.rollouts.items():
        groups = {}
        for line in lines:
            groups.setdefault(line["uid"], []).append(line)
        assert all(len(group) == GROUP_SIZE for group in groups.values())
        for group in groups.values():
            perturbed = [line for line in group if line["perturbed_response"] is not None]
            assert len(perturbed) == GROUP_SIZE // 2
            video_id = group[0]["video_id"]
            replayed = draw_perturbation(NUM_FRAMES, perturbation_rng(0, step, video_id))
            assert {line["perturbation"] for line in perturbed} == {replayed.name}


def test_the_pair_costs_half_of_the_originals_tokens(run):
    metrics = run.metrics.values()
    original = sum(line.get("rollout/total_original_tokens", 0) for line in metrics)
    perturbed = sum(line.get("rollout/total_perturbed_tokens", 0) for line in metrics)
    assert perturbed / original == pytest.approx(0.5, abs=0.05)


def test_a_video_broken_after_the_check_is_counted_and_the_rest_trains(run):
    """24 videos, 8 a step: the broken one was due once in the first three steps."""
    shown = {step: {line["video_id"] for line in lines} for step, lines in run.rollouts.items()}
    due = [step for step in range(1, SAVED_AT + 1) if len(shown[step]) == VIDEOS_A_STEP - 1]
    for step in range(1, SAVED_AT + 1):
        expected = GROUP_SIZE if step in due else 0
        assert run.metrics[step]["rollout/total_failed_responses"] == expected
    first_three = set().union(*(shown[step] for step in (1, 2)))
    assert not any(run.broken in video_id for video_id in first_three)
    assert run.broken in (run.folder / "train.log").read_text(errors="replace")


def test_vllm_samples_from_the_weights_that_fsdp_holds(run):
    """Log-probabilities of the same responses, from the sampler and from the trainer, at every step."""
    for step in range(1, STEPS + 1):
        metrics = run.metrics[step]
        assert metrics["training/rollout_probs_diff_max"] < 0.02, step
        assert metrics["training/rollout_actor_probs_pearson_corr"] > 0.9999, step
    moved = [run.metrics[step]["actor/grad_norm"] * run.metrics[step]["actor/lr"] for step in range(1, STEPS + 1)]
    assert all(value > 0 for value in moved)
    assert run.metrics[STEPS]["actor/kl_loss"] > 0  # away from the reference, so stale weights would show


def test_validation_gives_correlations_per_data_source(run):
    for step in (0, 2, 4, STEPS):
        metrics = run.metrics[step]
        assert metrics["val/demo/scored"] > 0
        assert metrics["val/failed_responses"] == 0
        assert {"val/demo/srcc", "val/demo/plcc_raw", "val/demo/krcc", "val/demo/rmse_raw"} <= metrics.keys()
        assert 0 <= metrics["val/demo/parse_failure_rate"] < 0.5


def test_the_validation_dump_names_every_answers_video(run):
    table = pyarrow.parquet.read_table(run.demo / "val.parquet").to_pylist()
    mos = {row["extra_info"]["video_id"]: row["reward_model"]["ground_truth"] for row in table}
    for step in (0, 2, 4, STEPS):
        lines = read_jsonl(run.folder / "validation" / f"{step}.jsonl")
        assert {line["video_id"] for line in lines} == mos.keys()
        assert all(line["mos"] == mos[line["video_id"]] and line["data_source"] == "demo" for line in lines)


def test_the_exported_model_has_the_trained_weights_and_gives_their_scores(run, tmp_path):
    """Exported, reloaded by transformers and by vLLM, against the checkpoint's own tensors in the demo's model."""
    actor = run.folder / "checkpoints" / f"global_step_{STEPS}" / "actor"
    folder = export_checkpoint(run.folder, tmp_path / "model")
    frames = read_defaults(str(folder)).frames
    assert frames.num_frames == NUM_FRAMES

    options = {"backend": "transformers", "frames": frames, "sampling": Sampling(max_tokens=32)}
    untrained = open_engine(str(run.demo / "model"), **options)
    exported = open_engine(str(folder), **options)
    shards = torch.load(actor / "model_world_size_1_rank_0.pt", weights_only=False)
    trained = {name: getattr(tensor, "_local_tensor", tensor) for name, tensor in shards.items()}
    moved = {name for name, tensor in untrained.model.state_dict().items() if not torch.equal(tensor, trained[name])}
    assert moved
    assert not any(name.startswith("model.visual.") for name in moved)  # actor.freeze_vision_tower, in experiment/demo
    assert all(torch.equal(tensor, trained[name]) for name, tensor in exported.model.state_dict().items())
    assert exported.model.generation_config.eos_token_id == untrained.model.generation_config.eos_token_id

    untrained.model.load_state_dict(trained)
    videos = find_videos([run.demo / "videos"])
    videos = {name: path for name, path in videos.items() if name.startswith("val_")}
    before = {line.video_id: line.as_json() for line in score_videos(videos, untrained)}
    after = {line.video_id: line.as_json() for line in score_videos(videos, exported)}
    assert after == before
    assert len({line["response"] for line in after.values()}) > 1

    output = tmp_path / "scores.jsonl"
    command = [sys.executable, "-m", "vqathinker_verl.cli", "score", *map(str, videos.values())]
    command += ["--model", str(folder), "--backend", "vllm", "--num-samples", "1", "--output", str(output)]
    subprocess.run(command, check=True, timeout=300)
    scores = {line["video_id"]: line["pred_mos"] for line in read_jsonl(output)}
    assert scores == {name: line["pred_mos"] for name, line in after.items()}
