import pyarrow as pa
import pyarrow.parquet
import pytest
from helpers.plan_config import plan_config

from vqathinker_verl.plan.figures import faults_of, figures_of
from vqathinker_verl.plan.model import load_model
from vqathinker_verl.plan.steps import count_steps


def test_an_epoch_of_lsvq_as_the_example():
    steps = count_steps(plan_config())
    assert steps.example
    assert (steps.rows, steps.per_epoch, steps.total) == (28_056, 876, 2_628)  # 28,056 / 32 = 876.75
    assert (steps.responses, steps.perturbed, steps.ranked, steps.updates) == (128, 64, 32, 1)


def test_rows_are_those_of_the_files(tmp_path):
    files = []
    for number, rows in enumerate((100, 33)):
        files.append(str(tmp_path / f"{number}.parquet"))
        pa.parquet.write_table(pa.table({"row": list(range(rows))}), files[-1])
    steps = count_steps(plan_config(**{"data.train_files": files}))
    assert (steps.rows, steps.example, steps.per_epoch) == (133, False, 4)
    assert count_steps(plan_config(**{"data.train_files": files[0]})).rows == 100


def test_total_steps_can_be_given():
    assert count_steps(plan_config(**{"trainer.total_training_steps": 10})).total == 10


@pytest.mark.parametrize(("changes", "added"), [({"num_perturbed": 1}, 32), ({"enable": False}, 0), ({}, 64)])
def test_what_the_temporal_pair_adds(changes, added):
    config = plan_config(**{f"vqathinker.temporal.{name}": value for name, value in changes.items()})
    assert count_steps(config).perturbed == added


def test_separate_async_ranks_one_mini_batch():
    config = plan_config(**{"data.train_batch_size": 64, "trainer.v1.trainer_mode": "vqathinker_separate_async"})
    steps = count_steps(config)
    assert (steps.videos, steps.ranked, steps.updates) == (64, 32, 2)


@pytest.mark.parametrize(("ranking_chunk_size", "ranked"), [(2, 2), (40, 32)])
def test_parts_of_the_batch_are_ranked_apart(ranking_chunk_size, ranked):
    assert count_steps(plan_config(**{"vqathinker.reward.ranking_chunk_size": ranking_chunk_size})).ranked == ranked


class TestFaults:
    @pytest.fixture(scope="class")
    def model(self):
        return load_model("Qwen/Qwen2.5-VL-7B-Instruct")

    def faults(self, model, gpu_gib=79.0, **changes):
        config = plan_config(**changes)
        return faults_of(config, figures_of(config, model, gpu_gib=gpu_gib))

    def test_a_recipe_that_fits_has_none(self, model):
        assert self.faults(model) == []

    def test_a_prompt_that_is_too_long(self, model):
        # Training's prompt is 889 tokens, validation's 2,317.
        (fault,) = self.faults(model, **{"data.max_prompt_length": 1000})
        assert "prompt of val takes about 2317 tokens" in fault
        assert "data.max_prompt_length=1000" in fault

    @pytest.mark.parametrize("length", [None, 6143])
    def test_a_context_that_vllm_would_reserve_or_cut(self, model, length):
        (fault,) = self.faults(model, **{"actor_rollout_ref.rollout.max_model_len": length})
        assert fault.startswith(f"actor_rollout_ref.rollout.max_model_len is {length}")
        assert fault.endswith("= 6144")

    def test_a_batch_that_cannot_hold_a_sequence(self, model):
        rollout = "actor_rollout_ref.rollout"
        changes = {f"{rollout}.max_num_batched_tokens": 4096, f"{rollout}.enable_chunked_prefill": False}
        (fault,) = self.faults(model, **changes)
        assert fault.startswith(f"{rollout}.max_num_batched_tokens is 4096, expected at least max_model_len = 6144")
        assert self.faults(model, **{f"{rollout}.max_num_batched_tokens": 4096}) == []

    def test_a_card_that_is_too_small(self, model):
        training, generation, cache = self.faults(model, gpu_gib=24)
        assert training.startswith("training takes about 36.9 GiB of a GPU's 24")
        assert generation.startswith("generation takes about 34.0 GiB")  # weights alone are 15.4, beside 11.6 and 7
        assert "KV cache holds 0 tokens, fewer than one sequence of 2937" in cache
