"""The trainer's own parts, on a real TransferQueue where one is involved; full runs are in tests/e2e."""

import asyncio
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from vqathinker_verl import RewardConfig, score_batch
from vqathinker_verl.plugin import trainer as module
from vqathinker_verl.plugin.agent_loop import VideoQualityAgentLoopWorker


class Trainer(module.VideoQualityTrainerSync):
    """Without verl's constructor, which wants a model; `phases` are those that it entered."""

    def __init__(self, **fields):
        self.phases = []
        self.supervision = SimpleNamespace(enter=self.phases.append)
        self.trainer_mode, self.global_steps, self.total_training_steps = "sync", 20, 20
        vars(self).update(fields)


def test_every_batch_of_a_validation_is_a_phase(monkeypatch):
    monkeypatch.setattr(module.PPOTrainerSync, "_validate", lambda self: list(self.val_dataloader))
    batches = ["a batch", "another", "a third"]
    trainer = Trainer(val_dataloader=batches)
    assert trainer._validate() == batches
    assert trainer.phases == ["validation"] * 3
    assert trainer.val_dataloader is batches


# Prompt, session, response, perturbed response. The second session of b failed.
RESPONSES = [
    ("a", 0, "<think>a b c</think><answer>4.00</answer>", "<think>a</think><answer>2.00</answer>"),
    ("a", 1, "<think>a b c d</think><answer>3.50</answer>", None),
    ("b", 0, "<think>a</think><answer>2.00</answer>", None),
    ("c", 0, "no answer", "<think>a</think><answer>3.00</answer>"),
    ("c", 1, "<think>a b</think><answer>3.00</answer>", None),
]
MOS = {"a": 4.0, "b": 2.0, "c": 3.0}


def store(queue):
    """What an agent loop worker stores of them, by its own code."""

    def output_of(text, perturbed):
        ids = list(text.encode())
        fields = {
            "response_text": text,
            "perturbation": perturbed and "reverse",
            "perturbed_response": perturbed,
            "perturbed_tokens": len(perturbed or ""),
        }
        return AgentLoopOutput(
            prompt_ids=[1, 2, 3],
            response_ids=ids,
            response_mask=[1] * len(ids),
            response_logprobs=[-1.0] * len(ids),
            multi_modal_data={"features": {}},
            reward_score=math.nan,
            num_turns=2,
            metrics=AgentLoopMetrics(),
            extra_fields=fields | {"min_global_steps": 19, "max_global_steps": 19},
        )

    worker = object.__new__(VideoQualityAgentLoopWorker)
    worker.processor, worker.reward_loop_worker_handles, worker.distillation_enabled = None, [], False

    async def store_all():
        for uid, session, text, perturbed in RESPONSES:
            row = {
                "uid": uid,
                "session_id": session,
                "global_steps": 20,
                "data_source": "demo",
                "reward_model": {"style": "rule", "ground_truth": MOS[uid]},
                "extra_info": {"video_id": f"{uid}.mp4"},
            }
            await worker._agent_loop_postprocess(output_of(text, perturbed), False, **row)

    asyncio.run(store_all())
    tags = [{"is_prompt": True, "status": "failure" if uid == "b" else "finished", "global_steps": 20} for uid in MOS]
    queue.kv_batch_put(keys=list(MOS), partition_id="train", tags=tags)


def test_from_the_agent_loop_to_the_scores_of_the_advantages(queue, tmp_path):
    store(queue)
    buffer = ReplayBuffer("sync", {}, None, "drop", {}, poll_interval=0.1, train_batch_size=3, gen_batch_size=3)
    batch, _ = buffer.sample(global_steps=20, partition_id="train", batch_size=3)
    assert len(batch.keys) == len(RESPONSES)

    example = Path(__file__).resolve().parents[2] / "examples" / "custom_reward.py"
    brevity = {"path": str(example), "name": "brevity", "weight": 0.2, "kwargs": {"limit": 2}}
    config = OmegaConf.create(
        {
            "vqathinker": {"rollout_dir": str(tmp_path), "extra_rewards": {"brevity": brevity}},
            "data": {"train_batch_size": 3},
            "actor_rollout_ref": {"rollout": {"n": 2}, "actor": {"ppo_mini_batch_size": 3}},
            "trainer": {"critic_warmup": 0},
        }
    )
    trainer = Trainer(
        config=config,
        reward_config=RewardConfig(),
        extra_rewards=module.extra_rewards(config),
        tokenizer=SimpleNamespace(eos_token_id=0),
        actor_rollout_wg=SimpleNamespace(_dispatch_info={"actor": [0, 1]}),
        use_critic=False,
        parameter_sync_step=1,
        local_trigger_step=0,
        timing_raw={},
    )
    metrics = {}
    batch = trainer._balance_batch(batch, metrics)  # verl adds a row, to have six for two workers

    uids, _, texts, perturbed = zip(*RESPONSES, strict=True)
    expected = score_batch(
        texts,
        [MOS[uid] for uid in uids],
        uids,
        perturbed_responses=[text for text in perturbed if text],
        perturbed_group_ids=[uid for uid, text in zip(uids, perturbed, strict=True) if text],
    )
    brevities = np.array([0.5, 0.0, 1.0, np.nan, 1.0])  # 3, 4, 1 and 2 words of a limit of two; one without a verdict
    totals = dict(zip(texts, expected.total + 0.2 * np.nan_to_num(brevities), strict=True))

    assert [tag.get("is_padding", False) for tag in batch.tags].count(True) == 1
    data = queue.kv_batch_get(
        keys=batch.keys, partition_id="train", select_fields=["rm_scores", "responses", "response_mask"]
    )
    for number, tag in enumerate(batch.tags):
        scores, ids, mask = (data[name][number] for name in ("rm_scores", "responses", "response_mask"))
        assert len(scores) == len(ids)
        if tag.get("is_padding"):
            assert not scores.any()
            assert not mask.any()
        else:
            assert not scores[:-1].any()
            assert scores[-1].item() == pytest.approx(totals.pop(bytes(ids.tolist()).decode()))
    assert not totals

    assert metrics["reward/overall"] == pytest.approx(expected.total.mean() + 0.2 * np.nan_to_num(brevities).mean())
    assert metrics["reward/temporal_win_rate"] == expected.metrics()["temporal_win_rate"]
    assert metrics["rollout/total_failed_responses"] == 1
    assert metrics["rollout/total_perturbed_responses"] == 2
    assert metrics["frames/decoded"] == 0
    assert trainer.phases == ["reward", "update"]
    lines = [json.loads(line) for line in (tmp_path / "20.jsonl").read_text().splitlines()]
    assert {(line["video_id"], line["response"], line["perturbed_response"]) for line in lines} == {
        (f"{uid}.mp4", text, copy) for uid, _, text, copy in RESPONSES
    }
    queue.kv_clear(keys=batch.keys, partition_id="train")


def test_responses_without_their_prompt_are_those_that_were_learnt_from():
    tags = {
        "a": {"is_prompt": True, "status": "finished"},
        "a_0_0": {"is_prompt": False},
        "a_1_0": {},
        "b_0_0": {"is_prompt": False},  # its prompt left TransferQueue when it was sampled
        "c": {"is_prompt": True, "status": "pending"},
    }
    assert module.without_prompt(tags) == ["b_0_0"]
    assert module.without_prompt({}) == []


class TestDecodeAhead:
    """The videos of the next batch, while this one is learnt from."""

    @pytest.fixture
    def asked(self, monkeypatch):
        asked = []
        monkeypatch.setattr(module, "decode_ahead", lambda prompts, workers, *_: asked.append((prompts, workers)))
        return asked

    def trainer(self, **fields):
        loader = [{"raw_prompt": ["a", "b"]}, {"raw_prompt": ["c", "d"]}]
        looked_at = SimpleNamespace(look_ahead=lambda count: loader[:count])
        defaults = {
            "trainer_mode": "sync",
            "total_training_steps": 21,
            "train_dataloader": looked_at,
            "config": OmegaConf.create({"data": {"train_batch_size": 4, "gen_batch_size": 2}}),
            "agent_loop_manager": SimpleNamespace(agent_loop_workers=["worker"]),
            "processor": None,
        }
        return Trainer(**defaults | fields)

    def test_all_prompts_of_the_next_step(self, asked):
        self.trainer()._decode_ahead()
        assert asked == [(["a", "b", "c", "d"], ["worker"])]

    @pytest.mark.parametrize("fields", [{"total_training_steps": 20}, {"trainer_mode": "colocate_async"}])
    def test_nothing_after_the_last_step_or_where_generation_never_stops(self, asked, fields):
        self.trainer(**fields)._decode_ahead()
        assert asked == []


def test_what_a_checkpoint_was_trained_on_does_not_come_back(queue, tmp_path, monkeypatch):
    prompts = {
        "waiting": {"is_prompt": True, "status": "finished"},
        "asked": {"is_prompt": True, "status": "running"},
    }
    queue.kv_batch_put(keys=list(prompts), partition_id="train", tags=list(prompts.values()))
    responses = ["waiting_0_0", "trained_0_0", "trained_1_0"]
    ids = torch.nested.as_nested_tensor([torch.arange(3)] * len(responses), layout=torch.jagged)
    fields = TensorDict({"responses": ids}, batch_size=len(responses))
    tags = [{"is_prompt": False}] * len(responses)
    queue.kv_batch_put(keys=responses, partition_id="train", fields=fields, tags=tags)
    queue.save_checkpoint(tmp_path)  # as verl does, before the step's responses are cleared
    queue.kv_clear(keys=[*prompts, *responses], partition_id="train")

    monkeypatch.setattr(module.PPOTrainerSync, "_load_checkpoint", lambda _: queue.load_checkpoint(tmp_path))
    Trainer(trainer_mode="colocate_async")._load_checkpoint()
    assert set(queue.kv_list("train")["train"]) == {"waiting", "asked", "waiting_0_0"}
