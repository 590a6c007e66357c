import numpy as np
import pytest
import torch

from vqathinker_verl.demo.degradations import DISTORTIONS
from vqathinker_verl.demo.model import (
    ANSWER_TAGS,
    SPECIAL_TOKENS,
    build_model,
    build_processor,
    save_policy,
    think_text,
)
from vqathinker_verl.demo.questions import CHOICES, question_texts
from vqathinker_verl.demo.warmup import (
    degree_of,
    prompt_inputs,
    prompt_text,
    target_probabilities,
    train_reading,
    video_inputs,
)
from vqathinker_verl.demo.warmup_clips import NUM_SAMPLED, WarmupBatches
from vqathinker_verl.frames.positions import use_true_times
from vqathinker_verl.prompts import QUALITY_PROMPT, video_messages
from vqathinker_verl.rewards.format import format_reward


@pytest.fixture(scope="module")
def processor():
    return build_processor()


@pytest.fixture(scope="module")
def policy(processor):
    return build_model(processor.tokenizer, seed=0)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (2, NUM_SAMPLED, 84, 84, 3)).astype(np.uint8)


def answer(distortion="noise", degree=2, score="3.47"):
    return f"<think>{think_text(distortion, degree)}</think><answer>{score}</answer>"


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_answers_are_short_and_survive_the_tokenizer(processor, distortion):
    text = answer(distortion)
    ids = processor.tokenizer(text + "<|im_end|>").input_ids
    assert len(ids) <= 13
    assert processor.tokenizer.decode(ids, skip_special_tokens=True) == text
    assert format_reward([text])[0] == 1


def test_every_score_is_four_tokens(processor):
    for hundredths in range(100, 501):
        assert len(processor.tokenizer(f"{hundredths / 100:.2f}").input_ids) == 4


def test_any_text_can_be_spelled(processor):
    text = "Ünknown wörds, 漢字 and\nlines"
    assert processor.tokenizer.decode(processor.tokenizer(text).input_ids) == text


def test_prompt_has_a_token_a_word(processor):
    assert len(processor.tokenizer(QUALITY_PROMPT).input_ids) < 1.2 * len(QUALITY_PROMPT.split()) + 12


def test_prompt_is_the_one_that_training_asks(processor):
    [message] = video_messages(QUALITY_PROMPT)
    before, after = message["content"].split("<video>")
    content = [{"type": "video"}, {"type": "text", "text": after}]
    assert before == ""
    messages = [{"role": "user", "content": content}]
    asked = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert prompt_text(processor) == asked


def test_vocabulary_is_exactly_the_tokenizer(processor, policy):
    assert policy.config.text_config.vocab_size == len(processor.tokenizer) == policy.lm_head.weight.shape[0]
    assert max(processor.tokenizer.get_vocab().values()) == len(processor.tokenizer) - 1
    assert set(SPECIAL_TOKENS) <= set(processor.tokenizer.all_special_tokens)
    assert not set(ANSWER_TAGS) & set(processor.tokenizer.all_special_tokens)


def test_folder_loads_offline_and_computes_the_same(processor, policy, frames, tmp_path, monkeypatch):
    from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    save_policy(policy, processor, tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    loaded_processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert AutoTokenizer.from_pretrained(tmp_path)(answer()).input_ids == processor.tokenizer(answer()).input_ids
    use_true_times(loaded.model)
    inputs, loaded_inputs = (prompt_inputs(p, frames, [3, 6]) for p in (processor, loaded_processor))
    with torch.no_grad():
        torch.testing.assert_close(loaded(**loaded_inputs).logits, policy(**inputs).logits)
    assert loaded.generation_config.eos_token_id[0] == processor.tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_same_seed_same_weights(processor, policy):
    again, other = build_model(processor.tokenizer, seed=0), build_model(processor.tokenizer, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), again.parameters(), strict=True))
    assert not torch.equal(policy.lm_head.weight, other.lm_head.weight)


def test_warm_up_sees_the_pixels_of_the_complete_processor(processor, frames):
    alone, whole = video_inputs(processor, frames), prompt_inputs(processor, frames, [3, 6])
    torch.testing.assert_close(alone["pixel_values_videos"], whole["pixel_values_videos"], rtol=0, atol=0)
    assert alone["video_grid_thw"].tolist() == [[NUM_SAMPLED // 2, 6, 6]] * 2
    # 84 x 84 is left at its size: the first value of the first patch is the first pixel, normalised
    mean, std = processor.video_processor.image_mean[0], processor.video_processor.image_std[0]
    expected = (frames[0, 0, 0, 0, 0] / 255 - mean) / std
    assert alone["pixel_values_videos"][0, 0].item() == pytest.approx(expected, abs=1e-5)


def test_positions_of_the_policy_count_seconds(processor, policy, frames):
    inputs = prompt_inputs(processor, np.concatenate([frames, frames[:1]]), [3, 4, 6])
    seen = {}

    def note(module, args, kwargs):
        seen["positions"] = kwargs["position_ids"]

    hook = policy.model.language_model.register_forward_pre_hook(note, with_kwargs=True)
    with torch.no_grad():
        policy(**inputs)
    hook.remove()
    tokens = inputs["input_ids"] == policy.config.video_token_id
    for row, steps in enumerate([[0, 2, 4], [0, 2, 5], [0, 4, 8]]):  # floor(patch x seconds / 3 x 2)
        temporal = seen["positions"][0, row, tokens[row]]
        assert (temporal - temporal[0]).reshape(3, 9).tolist() == [[step] * 9 for step in steps]
        text_after = seen["positions"][:, row, tokens[row].nonzero().max() + 1]
        assert text_after.tolist() == [temporal.max().item() + 1] * 3


def test_sampled_answers_stand_where_the_training_puts_them(processor, policy, frames):
    """Greedy tokens of generate() are the likeliest of one pass over prompt and answer."""
    inputs = prompt_inputs(processor, frames, [3, 6])
    policy.eval()
    with torch.no_grad():
        ids = policy.generate(**inputs, max_new_tokens=8, do_sample=False, eos_token_id=-1)
        inputs |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        inputs["mm_token_type_ids"] = 2 * (ids == policy.config.video_token_id).int()
        likeliest = policy(**inputs).logits.argmax(-1)
    policy.train()
    assert ids[:, -8:].tolist() == likeliest[:, -9:-1].tolist()


def test_targets_leave_nothing_of_the_drawn_score(processor):
    tokenizer = processor.tokenizer
    ids = tokenizer([answer(score=s) for s in ("1.23", "4.98", "5.00")], return_tensors="pt").input_ids
    targets = target_probabilities(ids, tokenizer)
    torch.testing.assert_close(targets.sum(-1), torch.ones(ids.shape))
    torch.testing.assert_close(targets[0][ids[0] == ids[1]], targets[1][ids[0] == ids[1]])
    first = (ids[0] == tokenizer.convert_tokens_to_ids("<answer>")).nonzero().item() + 1
    digit = tokenizer.convert_tokens_to_ids
    torch.testing.assert_close(targets[0, first], targets[2, first])
    assert targets[0, first, digit("5")].item() == pytest.approx(1 / 401)
    assert targets[0, first, digit("1")].item() == pytest.approx(100 / 401)
    torch.testing.assert_close(targets[0, first + 2 : first + 4], targets[1, first + 2 : first + 4])
    assert targets[2, first + 2, digit("0")].item() == 1.0  # after "5." only "00"


def test_warm_up_clips_show_every_distortion_of_a_new_scene():
    batches = WarmupBatches(num_batches=2, num_scenes=1, seed=0)
    first, again, second = batches[0], batches[0], batches[1]
    assert [clip.distortion for clip in first] == list(DISTORTIONS)
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].frames, second[0].frames)
    assert first[0].frames.shape == (NUM_SAMPLED, 84, 84, 3)


def test_degree_words_follow_the_strength():
    assert [degree_of(s) for s in (0.2, 0.4, 0.6, 0.8, 1.0)] == [0, 0, 1, 2, 2]


class TestReading:
    def test_the_prompt_is_the_usual_one_without_the_video(self, processor):
        question = "Is this sharp?"
        marker = "<|vision_start|><|video_pad|><|vision_end|>"
        assert prompt_text(processor, question).replace(marker, "") == prompt_text(
            processor, question, with_video=False
        )

    def test_the_first_token_tells_the_choices_apart(self):
        tokenizer = build_processor(question_texts()).tokenizer
        assert len({tokenizer(f"<answer>{choice}").input_ids[1] for choice in CHOICES}) == len(CHOICES)

    def test_only_the_language_model_learns(self):
        processor = build_processor(question_texts())
        policy = build_model(processor.tokenizer, seed=0)
        before = {name: weight.clone() for name, weight in policy.named_parameters()}
        losses = []
        train_reading(policy, processor, None, num_steps=30, learning_rate=2e-3, seed=0, on_step=losses.append)
        changed = {name for name, weight in policy.named_parameters() if not torch.equal(weight, before[name])}
        assert changed
        assert not any("visual" in name for name in changed)
        assert losses[0] > 4  # of a random policy: any token
        assert np.mean(losses[-5:]) < 5  # fewer
