"""verl's V1 trainers with rewards over the full batch.

Ranking and temporal consistency need the batch, and verl 0.9 shows it in one place only: in the trainer, after
`ReplayBuffer.sample` and before the advantages. There the mixin below reads the responses of all workers from
TransferQueue, scores them together and writes the totals to `rm_scores`, from which `_compute_advantage` reads.

Why a trainer class and not `trainer.v1.sampler.custom_sampler`: a sampler sees the batch too, but what it returns for
validation is thrown away, and SRCC and PLCC must join verl's validation metrics. One extension point for both is
simpler. The classes register themselves when `verl.trainer.ppo.v1` is imported (register.py), so other processes do not
pay.

    trainer.v1.trainer_mode=vqathinker_sync | vqathinker_colocate_async | vqathinker_separate_async
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas
import torch
import transfer_queue as tq
from omegaconf import DictConfig, open_dict
from ray.actor import ActorHandle
from tensordict import TensorDict
from torchdata.stateful_dataloader import StatefulDataLoader
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_colocate_async import PPOTrainerColocateAsync
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils as tu
from verl.utils.debug import marked_timer

from vqathinker_verl.plugin.chains import ChainSampler
from vqathinker_verl.plugin.config import TemporalConfig, chains_share, extra_rewards, reward_config
from vqathinker_verl.plugin.features import clear_unused_features, feature_metrics
from vqathinker_verl.plugin.frame_actor import frame_metrics
from vqathinker_verl.plugin.look_ahead import LookAheadLoader, decode_ahead
from vqathinker_verl.plugin.rollouts import dump_rollouts, rollout_metrics, score_rollouts
from vqathinker_verl.plugin.supervision import Supervision, waited_for
from vqathinker_verl.plugin.validation import validation_metrics

logger = logging.getLogger(__name__)

FIELDS = ["uid", "responses", "data_source", "reward_model", "extra_info", "extra_fields"]
DECODED = ["response_text", "perturbation", "perturbed_response", "perturbed_tokens"]  # of the agent loop


Base: Any = object  # the mixin stands before any of verl's trainers, whose types are not checked


class BatchRewards(Base):
    """A mixin before one of verl's trainers, `verl_mode` being the name under which verl knows that trainer."""

    verl_mode: str
    train_dataloader: Any  # set by verl's trainers
    val_dataloader: Any

    def __init__(self, config: DictConfig) -> None:
        ours = config.vqathinker
        self.reward_config = reward_config(config)
        TemporalConfig.from_config(config)  # the agent loop reads it; a wrong field should stop the run here
        self.extra_rewards = extra_rewards(config)
        self.supervision = Supervision(**ours.watchdog)
        with open_dict(config):
            # verl asks for its own names in several places ("sync" chooses the buffer, what a checkpoint holds, ...).
            config.trainer.v1.trainer_mode = self.verl_mode
        super().__init__(config)
        # verl has no key for this; its 2 s are most of a short step.
        self.replay_buffer.poll_interval = ours.replay_poll_seconds

    # Rewards.

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> KVBatchMeta:
        metrics.update(self.score_batch_of_step(batch))  # verl has no hook between sampling and balancing
        return super()._balance_batch(batch, metrics, *args, **kwargs)

    def score_batch_of_step(self, batch: KVBatchMeta) -> dict[str, float]:
        """Write the rewards of the batch as it was sampled, before verl pads and reorders it; returns its metrics."""
        self.supervision.enter("reward")
        with marked_timer("reward", self.timing_raw, color="yellow"):
            metrics = self._write_batch_rewards(batch)
        if self.local_trigger_step + 1 == self.parameter_sync_step:  # these are of the step, not of the update
            metrics |= frame_metrics() | feature_metrics()
        self._decode_ahead()
        self.supervision.enter("update")
        return metrics

    def _write_batch_rewards(self, batch: KVBatchMeta) -> dict[str, float]:
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=FIELDS)
        rollouts = table_of(data)
        rewards = score_rollouts(rollouts, self.reward_config, self.extra_rewards)
        rm_scores = on_last_tokens(rewards.total, rollouts["num_tokens"])
        tq.kv_batch_put(
            keys=batch.keys, partition_id=batch.partition_id, fields=tu.get_tensordict({"rm_scores": rm_scores})
        )
        if dump_dir := self.config.vqathinker.rollout_dir:
            # Only separate_async has more than one update in a step.
            dump_rollouts(rollouts, rewards, Path(dump_dir) / f"{self.global_steps}.jsonl", self.local_trigger_step)
        prompts = self.config.data.train_batch_size // self.parameter_sync_step
        return rollout_metrics(rollouts, rewards, prompts * self.config.actor_rollout_ref.rollout.n)

    def _val_metrics_update(
        self,
        data_sources: list[str],
        sample_uids: list[str],
        reward_extra_infos_dict: dict[str, list[Any]],
        sample_turns: list[int],
        **kwargs: Any,
    ) -> dict[str, float]:
        expected = sum((kwargs.get("expected_acc_counts") or {}).values()) or len(data_sources)
        ours = validation_metrics(data_sources, sample_uids, reward_extra_infos_dict, expected, self.reward_config)
        # verl averages every number; a mean score or label per data set says nothing, and NaN would spread.
        others = {name: values for name, values in reward_extra_infos_dict.items() if name not in ("pred_mos", "mos")}
        return {**super()._val_metrics_update(data_sources, sample_uids, others, sample_turns, **kwargs), **ours}

    def _init_tokenizer(self) -> None:
        super()._init_tokenizer()
        self.reward_config = reward_config(self.config, self.processor)  # the chat template has a say
        # The agent loop is made anew for each response and reads the config.
        self.config.vqathinker.reward.prompt_opens_think = self.reward_config.prompt_opens_think

    # The next batch's videos.

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        self._keep_chains_together()
        if self.trainer_mode == "sync":  # the others generate while they update, and frames are read then
            self.train_dataloader = LookAheadLoader(self.train_dataloader)

    def _keep_chains_together(self) -> None:
        """Replace verl's sampler where rows of chains are among the data."""
        rows = self.train_dataset.dataframe
        if "chain" not in rows.features["extra_info"]:
            return
        infos = list(rows["extra_info"])
        chains = [info.get("chain") for info in infos]
        if not any(chains):
            return
        data, loader = self.config.data, self.train_dataloader
        sampler = ChainSampler(
            chains,
            [info.get("strength") for info in infos],
            batch_size=data.train_batch_size,
            chain_share=chains_share(data),
            seed=data.get("seed") or 0,
            shuffle=data.shuffle,
        )
        self.train_dataloader = StatefulDataLoader(
            dataset=loader.dataset,
            batch_size=loader.batch_size,
            num_workers=loader.num_workers,
            drop_last=True,
            collate_fn=loader.collate_fn,
            sampler=sampler,
        )

    def _decode_ahead(self) -> None:
        """Have the next batch's videos decoded during the update."""
        if self.trainer_mode != "sync" or self.global_steps >= self.total_training_steps:
            return
        data = self.config.data
        chunks = data.train_batch_size // (data.get("gen_batch_size") or data.train_batch_size)
        batches = self.train_dataloader.look_ahead(chunks)
        prompts = [messages for batch in batches for messages in batch["raw_prompt"]]
        patch_size = getattr(getattr(self.processor, "image_processor", None), "patch_size", 14)  # as the agent loop
        decode_ahead(prompts, self.agent_loop_manager.agent_loop_workers, patch_size, data)

    def _load_checkpoint(self) -> None:
        """Load the checkpoint, then drop the responses that it was already trained on.

        The asynchronous trainers save TransferQueue while it still holds those responses but no longer their prompts:
        restored, they would never be sampled, and would be saved again and again.
        """
        super()._load_checkpoint()
        if self.trainer_mode == "sync":
            return
        if trained_on := without_prompt((tq.kv_list("train") or {}).get("train", {})):
            tq.kv_clear(keys=trained_on, partition_id="train")
            logger.info("left out %d responses that the checkpoint was already trained on", len(trained_on))
        clear_unused_features()

    def on_step_begin(self) -> None:
        super().on_step_begin()
        clear_unused_features()  # of the step before, whose responses verl has just removed

    # Phases, for the supervision.

    def on_init_end(self) -> None:
        with self.supervision.weight_sync():
            super().on_init_end()

    def on_step_end(self) -> None:
        with self.supervision.weight_sync():
            super().on_step_end()

    def on_sample_begin(self) -> None:
        self.supervision.enter("rollout")
        super().on_sample_begin()

    def on_validate_begin(self) -> None:
        self.supervision.enter("validation")
        super().on_validate_begin()

    def _validate(self) -> dict[str, Any]:
        batches = self.val_dataloader
        self.val_dataloader = self._a_phase_each(batches)
        try:
            return super()._validate()
        finally:
            self.val_dataloader = batches

    def _a_phase_each(self, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            self.supervision.enter("validation")
            yield batch

    def on_validate_end(self) -> None:
        super().on_validate_end()
        frame_metrics()  # its waits are not the next step's
        self.supervision.enter("after validation")

    def fit(self, agent_loop_manager: Any) -> None:
        """Verl's loop, supervised."""
        self.supervision.enter("fit")
        managers = self._rollout_server_managers()
        servers = [address for manager in managers for address in manager.get_addresses()]
        actors = waited_for()
        for number, manager in enumerate(managers):
            if isinstance(manager.global_load_balancer, ActorHandle):  # nameless; a plugin's need not be an actor
                actors[f"load balancer {number}"] = manager.global_load_balancer
        with self.supervision.watching(actors, servers):  # verl ends them after its loop
            super().fit(agent_loop_manager)
        self.supervision.stop()


def without_prompt(tags: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Keys of the responses whose prompt is not there; a response's key begins with its prompt's, and "_"."""
    prompts = {key for key, tag in tags.items() if tag.get("is_prompt")}
    return [key for key, tag in tags.items() if not tag.get("is_prompt") and key.split("_", 1)[0] not in prompts]


def column(data: TensorDict, name: str) -> list[Any]:
    """A field's plain values; TransferQueue gives stacks, lists or wrapped values, as its backend likes."""
    return [tu.unwrap_non_tensor_data(value) for value in data[name]]


def table_of(data: TensorDict) -> pandas.DataFrame:
    """The batch's responses as rollouts.py describes them, from the FIELDS of TransferQueue."""
    decoded = pandas.DataFrame(column(data, "extra_fields"), columns=DECODED)
    return decoded.rename(columns={"response_text": "response"}).assign(
        uid=column(data, "uid"),
        video_id=[info["video_id"] for info in column(data, "extra_info")],
        data_source=column(data, "data_source"),
        mos=[float(label["ground_truth"]) for label in column(data, "reward_model")],
        chain=[info.get("chain") for info in column(data, "extra_info")],
        strength=[
            math.nan if (value := info.get("strength")) is None else float(value) for info in column(data, "extra_info")
        ],
        num_tokens=[len(ids) for ids in data["responses"].unbind()],
    )


def on_last_tokens(totals: Iterable[float], lengths: Iterable[int]) -> torch.Tensor:
    """The totals on each response's last token, as verl's nested `rm_scores` (N, *)."""
    rows = [torch.zeros(length, dtype=torch.float32) for length in lengths]
    for row, total in zip(rows, totals, strict=True):
        row[-1] = float(total)
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


@register_trainer("vqathinker_sync")
class VideoQualityTrainerSync(BatchRewards, PPOTrainerSync):
    """Rollout and training take turns on the same devices (verl/trainer/ppo/v1/trainer_sync.py)."""

    verl_mode = "sync"


@register_trainer("vqathinker_colocate_async")
class VideoQualityTrainerColocateAsync(BatchRewards, PPOTrainerColocateAsync):
    """As verl's `colocate_async` (verl/trainer/ppo/v1/trainer_colocate_async.py)."""

    verl_mode = "colocate_async"


@register_trainer("vqathinker_separate_async")
class VideoQualityTrainerSeparateAsync(BatchRewards, PPOTrainerSeparateAsync):
    """As verl's `separate_async` (verl/trainer/ppo/v1/trainer_separate_async.py)."""

    verl_mode = "separate_async"
