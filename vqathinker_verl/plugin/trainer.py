"""verl's V1 trainers with rewards over the whole batch.

verl 0.9 scores responses one at a time, in reward-loop workers, while others are still being generated. Ranking and
temporal consistency need the batch. It is whole in the trainer, after `ReplayBuffer.sample` and before the advantages:
there the mixin below reads the responses of all workers from TransferQueue, scores them together and writes the
totals to `rm_scores`, from which `_compute_advantage` reads.

Why a trainer class and not `trainer.v1.sampler.custom_sampler`: a sampler sees the batch too, but what it returns for
validation is thrown away, and SRCC and PLCC must join verl's validation metrics. One door for both is simpler. The
classes register themselves when `verl.trainer.ppo.v1` is imported (register.py), so other processes do not pay.

    trainer.v1.trainer_mode=vqathinker_sync | vqathinker_colocate_async | vqathinker_separate_async
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
import torch
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf, open_dict
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_colocate_async import PPOTrainerColocateAsync
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils as tu
from verl.utils.debug import marked_timer

from vqathinker_verl.plugin.checkpoints import prune
from vqathinker_verl.plugin.config import TemporalConfig, extra_rewards
from vqathinker_verl.plugin.frame_actor import frame_metrics
from vqathinker_verl.plugin.liveness import Liveness
from vqathinker_verl.plugin.look_ahead import LookAheadLoader, decode_ahead
from vqathinker_verl.plugin.rollouts import Rollouts, step_metrics, validation_metrics
from vqathinker_verl.plugin.watchdog import Watchdog
from vqathinker_verl.rewards.batch import RewardBatch
from vqathinker_verl.rewards.config import RewardConfig

logger = logging.getLogger(__name__)

NOT_AVERAGED = ("pred_mos", "mos", "video_id", "data_source", "perturbation", "perturbed_response")
NOTHING_LEFT = (
    "every response of the batch failed, so there is nothing to go on with; the errors above say why. "
    "Once that is mended, the same command goes on from the last checkpoint"
)
# What TransferQueue 0.1.11 and verl's buffer say of it.
NO_KEYS, NO_TRAJECTORIES = "empty list as keys", "no materializable trajectories"
FIELDS = ["uid", "responses", "data_source", "reward_model", "extra_info", "extra_fields"]


class BatchRewards:
    """A mixin before one of verl's trainers, `verl_mode` being the name under which verl knows that trainer."""

    verl_mode: str

    def __init__(self, config: DictConfig) -> None:
        ours = config.vqathinker
        self.reward_config = RewardConfig.from_mapping(OmegaConf.to_container(ours.reward, resolve=True))
        self.extra_rewards = extra_rewards(config)
        TemporalConfig.from_config(config)  # the agent loop reads it; a wrong field should stop the run here
        self.watchdog = Watchdog(ours.watchdog.phase_seconds, start_seconds=ours.watchdog.start_seconds)
        with open_dict(config):
            # verl asks for its own names in several places ("sync" chooses the buffer, what a checkpoint holds, ...).
            config.trainer.v1.trainer_mode = self.verl_mode
        super().__init__(config)
        # verl has no key for this; its 2 s are most of a short step.
        self.replay_buffer.poll_interval = ours.replay_poll_seconds

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        if self.trainer_mode == "sync":  # the others generate while they update, and frames are read then
            self.train_dataloader = LookAheadLoader(self.train_dataloader)

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

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict, *args: Any, **kwargs: Any) -> KVBatchMeta:
        """Score the batch as it was sampled; then let verl pad and reorder it."""
        self.watchdog.enter("reward")
        with marked_timer("reward", self.timing_raw, color="yellow"):
            self.update_metrics.append({**self._write_batch_rewards(batch), **frame_metrics()})
        self._decode_ahead()
        self.watchdog.enter("update")
        return super()._balance_batch(batch, metrics, *args, **kwargs)

    def step(self, metrics: dict, timing_raw: dict) -> KVBatchMeta:
        """Verl's step, of `parameter_sync_step` updates; it would add up what has "total" in its name."""
        self.update_metrics: list[dict[str, float]] = []
        try:
            batch = super().step(metrics, timing_raw)
        except RuntimeError as error:
            if NO_TRAJECTORIES not in str(error):
                raise
            raise RuntimeError(f"step {self.global_steps}: {NOTHING_LEFT}") from error
        metrics.update(step_metrics(self.update_metrics))
        return batch

    def _write_batch_rewards(self, batch: KVBatchMeta) -> dict[str, float]:
        if not batch.keys:
            raise RuntimeError(f"step {self.global_steps}: {NOTHING_LEFT}")
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=FIELDS)
        response_ids = list(data["responses"].unbind())
        rollouts = self._rollouts(data, response_ids)
        rewards = rollouts.score(self.reward_config, self.extra_rewards)
        tq.kv_batch_put(
            keys=batch.keys,
            partition_id=batch.partition_id,
            fields=tu.get_tensordict({"rm_scores": token_level(rewards, response_ids)}),
        )
        dump_dir = self.config.vqathinker.get("rollout_dir")
        if dump_dir:
            update = len(self.update_metrics)  # of this step; only separate_async has more than one
            rollouts.dump(rewards, Path(dump_dir) / f"{self.global_steps}.jsonl", update)
        prompts = self.config.data.train_batch_size // self.parameter_sync_step
        return rollouts.metrics(rewards, prompts * self.config.actor_rollout_ref.rollout.n)

    def _rollouts(self, data: TensorDict, response_ids: list[torch.Tensor]) -> Rollouts:
        extra_fields = column(data, "extra_fields")
        return Rollouts(
            uids=[str(uid) for uid in column(data, "uid")],
            video_ids=[str(info.get("video_id")) for info in column(data, "extra_info")],
            data_sources=[str(source) for source in column(data, "data_source")],
            mos=[float(label["ground_truth"]) for label in column(data, "reward_model")],
            responses=[self.tokenizer.decode(ids, skip_special_tokens=True) for ids in response_ids],
            num_tokens=[len(ids) for ids in response_ids],
            perturbations=[fields["perturbation"] for fields in extra_fields],
            perturbed_responses=[fields["perturbed_response"] for fields in extra_fields],
            perturbed_tokens=[fields["perturbed_tokens"] for fields in extra_fields],
        )

    def _val_metrics_update(
        self, data_sources: list, sample_uids: list, reward_extra_infos_dict: dict, sample_turns: list, **kwargs: Any
    ) -> dict[str, float]:
        expected = sum((kwargs.get("expected_acc_counts") or {}).values()) or len(data_sources)
        ours = validation_metrics(data_sources, sample_uids, reward_extra_infos_dict, expected, self.reward_config)
        # verl averages every entry; a mean score or label per data set says nothing, and NaN would spread.
        others = {name: values for name, values in reward_extra_infos_dict.items() if name not in NOT_AVERAGED}
        return {**super()._val_metrics_update(data_sources, sample_uids, others, sample_turns, **kwargs), **ours}

    def _save_checkpoint(self) -> None:
        super()._save_checkpoint()
        trainer, contents = self.config.trainer, self.config.actor_rollout_ref.actor.checkpoint.load_contents
        prune(Path(trainer.default_local_dir), trainer.max_actor_ckpt_to_keep, contents)

    def _load_checkpoint(self) -> None:
        """Verl's, without what the asynchronous trainers keep of the batch that the checkpoint has learnt from.

        They save TransferQueue before that batch leaves it, but after its prompts did: restored, its responses would
        be sampled by nobody, and saved again and again.
        """
        super()._load_checkpoint()
        if self.trainer_mode == "sync":
            return
        if learnt := without_prompt((tq.kv_list("train") or {}).get("train", {})):
            tq.kv_clear(keys=learnt, partition_id="train")
            logger.info("left out %d responses that the checkpoint has learnt from", len(learnt))

    # Phases, for the watchdog.

    def on_init_end(self) -> None:
        with self._sync_phase():
            super().on_init_end()

    def on_step_end(self) -> None:
        with self._sync_phase():
            super().on_step_end()

    def on_sample_begin(self) -> None:
        self.watchdog.enter("rollout")
        super().on_sample_begin()

    def on_validate_begin(self) -> None:
        self.watchdog.enter("validation")
        super().on_validate_begin()

    def _validate(self) -> dict[str, Any]:
        """Verl's validation, watched a batch at a time; it has no word of its own for a batch without responses."""
        batches = self.val_dataloader
        self.val_dataloader = self._watched(batches)
        try:
            return super()._validate()
        except ValueError as error:
            if NO_KEYS not in str(error):
                raise
            raise RuntimeError(f"validation at step {self.global_steps}: {NOTHING_LEFT}") from error
        finally:
            self.val_dataloader = batches

    def _watched(self, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            self.watchdog.enter("validation")
            yield batch

    def on_validate_end(self) -> None:
        super().on_validate_end()
        frame_metrics()  # its waits are not the next step's
        self.watchdog.enter("after validation")

    def fit(self, agent_loop_manager: Any) -> None:
        """Verl's loop, watched."""
        self.watchdog.enter("fit")
        actors, servers = self._waited_for(agent_loop_manager)
        liveness = Liveness(actors, servers, self.watchdog.expire)
        try:
            super().fit(agent_loop_manager)
        finally:  # verl ends them next, also after an error
            liveness.stop()
        self.watchdog.stop()

    def _waited_for(self, agent_loop_manager: Any) -> tuple[dict[str, Any], list[str]]:
        """Actors by name, and servers, without which a step does not end."""
        actors = {f"agent loop worker {n}": worker for n, worker in enumerate(agent_loop_manager.agent_loop_workers)}
        actors["TransferQueue's controller"] = ray.get_actor("TransferQueueController", namespace="transfer_queue")
        backend = self.config.transfer_queue.backend
        if backend.storage_backend == "SimpleStorage":  # the names: transfer_queue/storage/bootstrap
            for n in range(backend.SimpleStorage.num_data_storage_units):
                actors[f"TransferQueue's storage unit {n}"] = ray.get_actor(f"TransferQueueStorageUnit#{n}")
        addresses = []
        for m, manager in enumerate(self._rollout_server_managers()):
            addresses += manager.get_addresses()
            if isinstance(manager.global_load_balancer, ray.actor.ActorHandle):  # else a plugin's
                actors[f"load balancer {m}"] = manager.global_load_balancer
            for replica in manager.get_replicas():  # one over several nodes has several servers and one address
                for n, server in enumerate(replica.servers):
                    actors[f"vLLM server {replica.replica_rank}.{n}"] = server
        return actors, addresses

    def _sync_phase(self) -> Any:
        return self.watchdog.phase("weight sync", self.config.vqathinker.watchdog.sync_seconds)


def without_prompt(tags: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Keys of the responses whose prompt is not there; a response's key begins with its prompt's, and "_"."""
    prompts = {key for key, tag in tags.items() if tag.get("is_prompt")}
    return [key for key, tag in tags.items() if not tag.get("is_prompt") and key.split("_", 1)[0] not in prompts]


def column(data: TensorDict, name: str) -> list[Any]:
    """A field's plain values; TransferQueue gives stacks, lists or wrapped values, as its backend likes."""
    return [tu.unwrap_non_tensor_data(value) for value in data[name]]


def token_level(rewards: RewardBatch, response_ids: list[torch.Tensor]) -> torch.Tensor:
    """The totals on each response's last token, as verl's nested `rm_scores` (N, *)."""
    rows = []
    for total, ids in zip(rewards.total, response_ids, strict=True):
        row = torch.zeros(len(ids), dtype=torch.float32)
        row[-1] = float(total)
        rows.append(row)
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
