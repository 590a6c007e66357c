"""Two steps with a real vocabulary, chat template, frame size and widths, in a few random layers, with LoRA.

The figures that plan computes are printed beside those that were measured (pytest -s).
"""

import subprocess

import pytest
from helpers.clips import encode
from helpers.real_shapes import VOCABULARY, qwen2_5_tokenizer, save_qwen2_5_vl
from helpers.runs import ROOT, VQATHINKER, batch, read_jsonl, start_recipe

from vqathinker_verl.plan.figures import figures_of
from vqathinker_verl.plan.model import load_model
from vqathinker_verl.plan.recipe import compose_recipe, recipe_overrides

pytestmark = [pytest.mark.e2e, pytest.mark.soak, pytest.mark.timeout(3600)]

RECIPE = ROOT / "recipes" / "run_qwen2_5_vl_7b_lora.sh"
STEPS, VIDEOS, GROUP_SIZE, RESPONSE = 2, 4, 2, 256
SECONDS = 3000
SIDE, PATCH = 448, 14
OVERRIDES = [
    *batch(VIDEOS, GROUP_SIZE),
    f"data.max_response_length={RESPONSE}",
    "data.dataloader_num_workers=0",
    "actor_rollout_ref.model.lora_rank=16",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=1",
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=1",
    "actor_rollout_ref.rollout.max_num_seqs=16",
    "actor_rollout_ref.rollout.agent.num_workers=1",
    "+actor_rollout_ref.rollout.engine_kwargs.vllm.skip_mm_profiling=true",
    "trainer.test_freq=2",
    "trainer.save_freq=-1",
    "trainer.val_before_train=false",
    "trainer.total_epochs=10",
]


def test_the_tokenizer_is_qwens():
    tokenizer = qwen2_5_tokenizer()
    assert len(tokenizer) == VOCABULARY
    assert tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|video_pad|>"]) == [151645, 151656]
    # Ids of Qwen2.5's tokenizer for texts of its model card and of our prompt.
    assert tokenizer("Hello, world!").input_ids == [9707, 11, 1879, 0]
    text = "<think>It looks grainy</think><answer>3.47</answer>"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    digits = tokenizer.tokenize("3.47")
    assert digits == ["3", ".", "4", "7"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Eight clips at 960 x 540, and their parquet."""
    folder = tmp_path_factory.mktemp("videos")
    lines = ["video,mos"]
    for number in range(2 * VIDEOS):
        encode(folder / f"{number}.mp4", num_frames=48, height=540, width=960, rate=24)
        lines.append(f"{number}.mp4,{1 + number / 2}")
    (folder / "labels.csv").write_text("\n".join(lines))
    command = [*VQATHINKER, "prepare", f"{folder}/labels.csv", "--video-root", str(folder), "--scale", "1", "5"]
    for split in ("train", "val"):
        output = ["--split", split, "--output", f"{folder}/{split}.parquet"]
        subprocess.run([*command, "--dataset", "clips", *output], check=True, timeout=300)
    return folder


def test_two_steps_of_the_lora_recipe(videos, tmp_path, monkeypatch):
    parameters = save_qwen2_5_vl(tmp_path / "model")
    run = start_recipe(
        videos,
        tmp_path / "run",
        *OVERRIDES,
        recipe=RECIPE,
        MODEL_PATH=str(tmp_path / "model"),
        NGPUS_PER_NODE="1",
        TOTAL_STEPS=str(STEPS),
    )
    assert run.wait(SECONDS) == 0, run.text()[-3000:]
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    steps = [line for line in lines if "reward/overall" in line]
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))

    monkeypatch.setenv("MODEL_PATH", str(tmp_path / "model"))
    monkeypatch.setenv("NGPUS_PER_NODE", "1")
    monkeypatch.setenv("DEVICE", "cpu")
    config = compose_recipe(recipe_overrides(RECIPE, OVERRIDES))
    model = load_model(str(tmp_path / "model"))
    figures = figures_of(config, model, height=540, width=960)
    prompt = figures.prompts["train"].total
    # 6 frames of at most 448 x 448 pixels: two frames and 14 x 14 pixels in three colours a patch, in float32.
    patches = 4 * figures.prompts["train"].video
    feature_bytes = patches * 3 * 2 * PATCH * PATCH * 4
    for line in steps:
        assert line["prompt_length/max"] == pytest.approx(prompt, abs=2)
        assert line["response_length/max"] <= RESPONSE
        assert line["features/prompts"] == VIDEOS
        assert line["training/rollout_actor_probs_pearson_corr"] > 0.999
        # Originals and perturbed copies; the copies' features stay in the agent loop.
        assert line["features/bytes"] == pytest.approx(VIDEOS * feature_bytes, rel=0.01)
    assert any("val/clips/num_videos" in line or "val/clips/srcc" in line for line in lines)
    memory = read_jsonl(tmp_path / "run" / "memory.jsonl")
    print(f"\n{parameters / 1e6:.0f} M parameters, of which {figures.trained / 1e6:.1f} M are trained")
    print(f"prompt: plan {prompt} tokens, measured {steps[0]['prompt_length/max']:.0f}")
    print(f"features of a step: plan {VIDEOS * feature_bytes / 2**20:.1f} MiB, "
          f"measured {steps[0]['features/bytes'] / 2**20:.1f} MiB")  # fmt: skip
    print(f"memory of a GPU: plan {figures.memory}")
    print(f"memory of the processes, measured: {max(memory, key=lambda line: line['bytes'])}")
