"""Each patch repairs what it says; where stock verl no longer needs it, a test here fails and the patch can go."""

from types import SimpleNamespace

import pytest
import torch
from helpers.tiny_models import save_tiny
from tensordict import TensorDict

from vqathinker_verl.plugin.patches import fix_3d_position_ids, freeze_vision_tower
from vqathinker_verl.plugin.run_mark import RUN_MARK


def position_ids_of(lengths, components=4):
    return [torch.arange(components * length).reshape(components, length) + 100 * i for i, length in enumerate(lengths)]


def nested(tensors):
    return torch.nested.as_nested_tensor(tensors, layout=torch.jagged)


def stock_fix(data):
    """What verl 0.9.1 does (verl/utils/tensordict_utils.py), stated here because importing verl applies the patch."""
    data["position_ids"]._ragged_idx = 2


@pytest.mark.parametrize("lengths", [[5, 5, 5], [7], [4, 4], [3, 5, 4], [1, 2], [8, 8]])
def test_every_sequence_gets_its_own_ids_back(lengths):
    rows = position_ids_of(lengths)
    data = TensorDict({"position_ids": nested(rows)}, batch_size=len(rows))
    fix_3d_position_ids(data)
    fix_3d_position_ids(data)  # verl calls it more than once on the way
    assert data["position_ids"].values().shape == (4, sum(lengths))
    for given, row in zip(data["position_ids"].unbind(), rows, strict=True):
        assert torch.equal(given, row)


def test_other_fields_are_left_alone():
    data = TensorDict({"input_ids": nested([torch.arange(3), torch.arange(5)])}, batch_size=2)
    fix_3d_position_ids(data)
    flat = TensorDict({"position_ids": nested([torch.arange(3), torch.arange(5)])}, batch_size=2)
    fix_3d_position_ids(flat)
    assert flat["position_ids"].dim() == 2


def test_torch_and_verl_still_need_it():
    data = TensorDict({"position_ids": nested(position_ids_of([5, 5, 5]))}, batch_size=3)
    stock_fix(data)
    with pytest.raises(RuntimeError):  # torch words it in several ways
        data["position_ids"].unbind()


def test_stock_verl_still_labels_without_looking():
    import inspect

    import verl.utils.tensordict_utils as utils

    source = inspect.getsource(inspect.getmodule(utils))
    body = source.split("def maybe_fix_3d_position_ids", 1)[1].split("\ndef ", 1)[0]
    assert '["position_ids"]._ragged_idx = 2' in body, "verl changed it: see whether the patch is still needed"
    assert utils.maybe_fix_3d_position_ids is fix_3d_position_ids


def test_the_engine_uses_the_patched_function():
    from verl.workers import engine_workers
    from verl.workers.engine import base

    assert engine_workers.maybe_fix_3d_position_ids is fix_3d_position_ids
    assert base.maybe_fix_3d_position_ids is fix_3d_position_ids


class TestSocketsOfARun:
    HANDLE = "ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock"

    def handles(self):
        from verl.workers.rollout.vllm_rollout import bucketed_weight_transfer as module

        sender = module.BucketedWeightSender(self.HANDLE, bucket_size_mb=1, use_shm=True)
        receiver = module.BucketedWeightReceiver(zmq_handle=self.HANDLE, device=torch.device("cpu"), use_shm=True)
        return sender.zmq_handle, receiver.zmq_handle

    def test_both_ends_meet_and_two_runs_do_not(self, monkeypatch):
        met = []
        for run in ("a" * 32, "b" * 32):
            monkeypatch.setenv(RUN_MARK, run)
            sender, receiver = self.handles()
            assert sender == receiver
            assert len(sender.removeprefix("ipc://")) < 100  # what a Unix socket's path may have
            met.append(sender)
        assert met[0] != met[1]

    def test_a_cluster_of_ones_own_keeps_verls_name(self, monkeypatch):
        monkeypatch.delenv(RUN_MARK, raising=False)
        assert self.handles() == (self.HANDLE, self.HANDLE)

    def test_stock_verl_still_tells_runs_apart_by_the_job_alone(self):
        import inspect

        from verl.workers.rollout.vllm_rollout import utils

        source = inspect.getsource(utils.vLLMColocateWorkerExtension._get_zmq_handle)
        assert "rl-colocate-zmq-{job_id}-replica-{replica_rank}-rank-{trainer_rank}.sock" in source


class TestFrozenVisionTower:
    @pytest.mark.parametrize(("architecture", "tower"), [("qwen2_5_vl", "visual"), ("internvl", "vision_tower")])
    def test_the_tower_is_frozen_and_the_rest_trains(self, architecture, tower, tmp_path):
        from transformers import AutoModelForImageTextToText

        save_tiny(architecture, tmp_path)
        model = freeze_vision_tower(AutoModelForImageTextToText.from_pretrained(tmp_path))
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        assert frozen == {name for name, _ in model.named_parameters() if name.startswith(f"model.{tower}.")}
        assert 0 < len(frozen) < len(list(model.parameters()))

    def test_a_model_without_one_is_refused(self):
        with pytest.raises(ValueError, match=r"Linear has no visual or vision_tower"):
            freeze_vision_tower(torch.nn.Linear(2, 2))

    @pytest.mark.parametrize("asked", [True, False])
    def test_the_worker_builds_its_actor_with_it_if_asked(self, asked):
        from verl.workers.engine_workers import ActorRolloutRefWorker, TrainingWorker

        worker = SimpleNamespace(config=SimpleNamespace(actor={"freeze_vision_tower": asked}))
        worker_cls = ActorRolloutRefWorker.actor_worker_cls.fget(worker)
        assert (worker_cls is TrainingWorker) != asked
        assert ActorRolloutRefWorker.ref_worker_cls is TrainingWorker

    def test_stock_verl_still_has_the_field_and_does_not_read_it(self):
        from pathlib import Path

        import verl

        root = Path(verl.__file__).parent
        readers = [path for path in (root / "workers").rglob("*.py") if "freeze_vision_tower" in path.read_text()]
        assert [path.relative_to(root).as_posix() for path in readers] == ["workers/config/actor.py"]


class TestInternVL:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("internvl")
        save_tiny("internvl", folder)
        return folder

    def test_its_processor_is_found_wherever_verl_asks_for_one(self, folder):
        from verl.utils import hf_processor
        from verl.utils.tokenizer import hf_processor as of_the_package

        for find in (hf_processor, of_the_package):
            processor = find(str(folder))
            assert type(processor).__name__ == "InternVLProcessor"
            assert processor.config.model_type == "internvl"

    def test_other_models_get_what_stock_verl_gives(self, tmp_path):
        from verl.utils import hf_processor

        save_tiny("qwen3_vl", tmp_path)
        assert hasattr(hf_processor(str(tmp_path)), "get_rope_index")

    def test_stock_verl_still_refuses_it(self, folder):
        from verl.utils import hf_processor

        with pytest.warns(UserWarning, match="Unsupported processor type: InternVLProcessor"):
            assert hf_processor.__wrapped__(str(folder)) is None


class TestLogProbsByChunks:
    @pytest.fixture
    def inputs(self):
        torch.manual_seed(0)
        return torch.randn(1200, 37, requires_grad=True), torch.randint(37, (1200,))

    @pytest.fixture
    def sums(self, monkeypatch):
        """How many tokens each call of logsumexp is given."""
        counted, stock = [], torch.logsumexp
        monkeypatch.setattr(
            torch, "logsumexp", lambda x, dim: counted.append(x.numel() // x.shape[-1]) or stock(x, dim)
        )
        return counted

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_values_and_gradients_are_those_of_log_softmax(self, inputs, dtype):
        from verl.utils.torch_functional import logprobs_from_logits

        logits, labels = inputs
        expected = logits.to(dtype).log_softmax(-1).gather(-1, labels[:, None])[:, 0]
        (wanted,) = torch.autograd.grad(expected.sum(), logits)
        log_probs = logprobs_from_logits(logits.to(dtype), labels)
        (gradient,) = torch.autograd.grad(log_probs.sum(), logits)
        torch.testing.assert_close(log_probs, expected)
        torch.testing.assert_close(gradient, wanted)

    def test_a_batch_of_rows_goes_as_before(self, inputs):
        from verl.utils.torch_functional import logprobs_from_logits

        logits, labels = inputs
        rows = logprobs_from_logits(logits.reshape(4, 300, 37), labels.reshape(4, 300))
        torch.testing.assert_close(rows.flatten(), logprobs_from_logits(logits, labels))

    def test_many_tokens_at_once(self, inputs, sums):
        from verl.utils.torch_functional import logprobs_from_logits

        logprobs_from_logits(*inputs)
        assert sums == [512, 512, 176]

    def test_stock_verl_still_takes_one_at_a_time(self, inputs, sums):
        from verl.utils.torch_functional import logprobs_from_logits_v2

        logprobs_from_logits_v2.__wrapped__(*inputs)
        assert sums == [1] * 1200, "verl changed it: see whether the patch is still needed"
