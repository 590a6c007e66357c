"""The multi-node recipe on a Ray cluster that is already up: two nodes (on one machine), a worker on each."""

import os
from collections import defaultdict

import numpy as np
import pytest
import ray
from helpers.runs import ROOT, START_SECONDS, read_jsonl, scored_again, start_recipe
from ray.cluster_utils import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

STEPS, VIDEOS, GROUP_SIZE = 2, 8, 4
MICRO_BATCHES = [  # of the 16 responses that each worker has
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8",
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=8",
]
# What the recipe exports on a machine without a GPU; the workers of this cluster are children of its nodes.
NODE_ENVIRONMENT = {
    "VERL_PLATFORM": "cpu",
    "VERL_ENGINE_DEVICE": "cuda",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "TQ_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@pytest.fixture
def cluster(monkeypatch):
    """Two Ray nodes with one logical GPU each."""
    for name, value in NODE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    cluster = Cluster()
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=8, num_gpus=1, object_store_memory=10**9, include_dashboard=False)
        yield cluster
    finally:
        if ray.is_initialized():
            ray.shutdown()
        cluster.shutdown()


def nodes_of_actors() -> dict[str, set[str]]:
    """The nodes on which actors of each class live."""
    nodes = defaultdict(set)
    for actor in ray._private.state.actors().values():
        if actor["State"] == "ALIVE":
            nodes[actor["ActorClassName"]].add(actor["Address"]["NodeID"])
    return nodes


def test_the_ranking_batch_spans_both_nodes(cluster, demo, tmp_path):
    run = start_recipe(
        demo,
        tmp_path,
        "platform=cpu",
        "experiment=demo",
        "trainer.nnodes=2",
        f"data.train_batch_size={VIDEOS}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={VIDEOS}",
        *MICRO_BATCHES,
        f"actor_rollout_ref.rollout.n={GROUP_SIZE}",
        "actor_rollout_ref.rollout.agent.num_workers=2",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        recipe=ROOT / "recipes" / "run_multi_node.sh",
        RAY_ADDRESS=cluster.address,
        NNODES="2",
        NGPUS_PER_NODE="1",
        TOTAL_STEPS=str(STEPS),
    )
    run.wait_until((tmp_path / "rollouts" / "1.jsonl").exists, START_SECONDS)
    ray.init(cluster.address, log_to_driver=False)
    on_nodes = nodes_of_actors()
    assert run.wait(START_SECONDS) == 0, run.text()[-3000:]

    both = {node["NodeID"] for node in ray.nodes()}
    assert len(both) == 2
    trainers = [name for name in on_nodes if "WorkerDict" in name or "ActorRolloutRef" in name]
    assert trainers, sorted(on_nodes)
    assert set().union(*(on_nodes[name] for name in trainers)) == both
    assert on_nodes["vLLMHttpServer"] == both, sorted(on_nodes)

    steps = {line["step"]: line for line in read_jsonl(tmp_path / "metrics.jsonl")}
    for step in range(1, STEPS + 1):
        rollouts = read_jsonl(tmp_path / "rollouts" / f"{step}.jsonl")
        assert len({line["uid"] for line in rollouts}) == VIDEOS
        whole = scored_again(rollouts)
        np.testing.assert_allclose(whole.ranking, [line["ranking"] for line in rollouts], atol=1e-6)
        assert steps[step]["critic/score/mean"] == pytest.approx(whole.total.mean(), abs=1e-5)
        # The same videos by halves earn something else: the whole batch was ranked.
        half = len(rollouts) // 2
        halves = [*scored_again(rollouts[:half]).ranking, *scored_again(rollouts[half:]).ranking]
        assert np.abs(np.array(halves) - whole.ranking).max() > 0.01
