"""The supervised format warm-up: the policy learns to see and to answer in the format, but nothing about quality.

It has three parts, on clips drawn on the fly (`warmup_clips`), and two more where they are asked for:

1. `vision`: the vision tower, under a linear head that is discarded afterwards, learns to recognise the distortion.
2. `caption`: the complete policy learns to write `<think>It looks very grainy</think><answer>3.47</answer>` after the
   video alone, without the question. A short prompt costs less, and the attention has little besides the video to use.
3. `answer`: the same with the question that training asks.
4. `reading`: text alone. After a question on what a clip shows (`questions`) and true words, the policy learns the
   choice that follows from both: a letter, or yes or no. It takes many questions, which cost little without videos.
5. `choice`: half of the clips as in part 3, the others with such a question.

The words describe what is visible; the score is drawn at random, evenly over the score range, whatever the clip. So the
score carries no information about the clip, and everything that the policy later knows about quality comes from the
rewards. The loss takes the expectation over the scores' digits instead of the digits that were drawn. Otherwise, chance
would leave the policy with a small preference for some score on some kind of clip, which greedy answers would show.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vqathinker_verl.demo.degradations import DISTORTION_WORDS, DISTORTIONS
from vqathinker_verl.demo.model import DEGREE_WORDS, think_text
from vqathinker_verl.demo.questions import CHOICES, draw_question
from vqathinker_verl.demo.warmup_clips import NUM_SAMPLED, WarmupClip
from vqathinker_verl.prompts import QUALITY_PROMPT, chat_messages

WORD_WEIGHT = 4.0  # weight in the loss of a token that names what is seen; the tokens of the format are learned quickly
FRAMES_PER_PATCH = 2  # Qwen2.5-VL's temporal patch size
QUESTIONS_PER_STEP = 64
DEGREE_STEPS = (0.45, 0.75)  # strengths at which "slightly" becomes "clearly", and that becomes "very"


def degree_of(strength: float) -> int:
    """Index into `DEGREE_WORDS` of a strength in (0, 1]."""
    return int(np.searchsorted(DEGREE_STEPS, strength, side="right"))


def seen_text(clip: WarmupClip) -> str:
    """Return true words on what is seen: "It looks very grainy"."""
    return think_text(clip.distortion, degree_of(clip.strength))


def ask_score(clip: WarmupClip, rng: np.random.Generator, question: str = QUALITY_PROMPT) -> tuple[str, str]:
    """Return the question, and the response to learn: true words, and a score that is independent of the clip."""
    score = rng.integers(100, 501) / 100
    return question, f"<think>{seen_text(clip)}</think><answer>{score:.2f}</answer>"


def ask_score_or_choice(clip: WarmupClip, rng: np.random.Generator) -> tuple[str, str]:
    """Return a question and the response to learn: for the score, or with a choice that follows from what is seen."""
    if rng.random() < 0.5:
        return ask_score(clip, rng)
    question = draw_question(clip.distortion, rng)
    return question.prompt(), f"<think>{seen_text(clip)}</think><answer>{question.label(question.answer)}</answer>"


def prompt_text(processor: Any, question: str = QUALITY_PROMPT, *, with_video: bool = True) -> str:
    """Return the prompt of one video and a question, or of the question alone, in the chat template."""
    messages = chat_messages(question)
    if not with_video:
        messages[-1]["content"] = [part for part in messages[-1]["content"] if part["type"] == "text"]
    return processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


def video_inputs(processor: Any, clips: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return the processor's pixels of the sampled frames of each clip, (T, H, W, 3) uint8."""
    import torch

    videos = [torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2) for frames in clips]
    return dict(processor.video_processor(videos=videos, return_tensors="pt"))


def seconds_per_patch(seconds: Sequence[float]) -> Any:
    """Return the seconds between two temporal patches, (N,), for clips of these durations and `NUM_SAMPLED` frames."""
    import torch

    return torch.tensor(seconds, dtype=torch.float32) * FRAMES_PER_PATCH / NUM_SAMPLED


def prompt_inputs(
    processor: Any, clips: Sequence[np.ndarray], seconds: Sequence[float], question: str = QUALITY_PROMPT
) -> dict[str, Any]:
    """Return all inputs of the model for one question on each clip; all prompts have one length, so none is padded.

    Args:
        processor: Of the demo's policy.
        clips: Sampled frames of each clip, (T, H, W, 3) uint8.
        seconds: Duration of each clip.
        question: The same for all clips.
    """
    inputs = processor(
        text=[prompt_text(processor, question)] * len(clips),
        videos=[np.ascontiguousarray(frames.transpose(0, 3, 1, 2)) for frames in clips],
        return_tensors="pt",
    )
    return {**inputs, "second_per_grid_ts": seconds_per_patch(seconds)}


def train_vision(
    model: Any,
    processor: Any,
    batches: Any,
    *,
    num_steps: int,
    learning_rate: float,
    seed: int,
    on_step: Callable[[float], None],
) -> None:
    """Train part 1 in place: cross entropy of (distortion, degree) from the mean visual token; see the module."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        num_classes = 1 + len(DEGREE_WORDS) * (len(DISTORTIONS) - 1)
        head = torch.nn.Linear(model.config.text_config.hidden_size, num_classes)
    parameters = [*_trained(model.model.visual), *head.parameters()]
    optimizer, schedule = _optimizer(parameters, learning_rate, num_steps)
    for _, clips in zip(range(num_steps), batches, strict=False):
        inputs = video_inputs(processor, [clip.frames for clip in clips])
        tokens = model.model.visual(inputs["pixel_values_videos"], grid_thw=inputs["video_grid_thw"]).pooler_output
        seen = tokens.reshape(len(clips), -1, tokens.shape[-1]).mean(1)
        target = torch.tensor([_class_of(clip) for clip in clips])
        loss = torch.nn.functional.cross_entropy(head(seen), target)
        _update(optimizer, schedule, parameters, loss)
        on_step(loss.item())


def _trained(module: Any) -> list[Any]:
    """Return the parameters to train: all that require a gradient, except the patch filters.

    The patch filters start with useful values (see `model.py`), and the learning rate of the rest would destroy them.
    """
    return [p for name, p in module.named_parameters() if p.requires_grad and "patch_embed" not in name]


def _is_word(answer_ids: Any, tokenizer: Any) -> Any:
    """Return which tokens of the answers name what is seen, or a choice: (B, L) bool."""
    import torch

    words = {f" {word}" for word in (*DISTORTION_WORDS.values(), *DEGREE_WORDS)} | set(CHOICES)
    ids = [tokenizer(word).input_ids[0] for word in sorted(words)]
    return torch.isin(answer_ids, torch.tensor(ids))


def _class_of(clip: WarmupClip) -> int:
    kind = DISTORTIONS.index(clip.distortion)
    return 0 if kind == 0 else 1 + len(DEGREE_WORDS) * (kind - 1) + degree_of(clip.strength)


def target_probabilities(answer_ids: Any, tokenizer: Any) -> Any:
    """Return the next-token probabilities to learn, (B, L, V) float32, of answers (B, L) with scores even over 1 to 5.

    A token of the format, of the words or of a choice has probability 1; a digit of the score shares it with the digits
    that could be in its place. (After 5, only 5.00 is possible, so its decimals are certain.)
    """
    import torch

    targets = torch.nn.functional.one_hot(answer_ids, len(tokenizer)).float()
    digits = tokenizer.convert_tokens_to_ids(list("0123456789"))
    rows, starts = torch.nonzero(answer_ids == tokenizer.convert_tokens_to_ids("<answer>"), as_tuple=True)
    scored = torch.isin(answer_ids[rows, starts + 1], torch.tensor(digits))
    rows, starts = rows[scored], starts[scored]
    below_five = answer_ids[rows, starts + 1] != digits[5]
    units = torch.zeros(len(tokenizer))
    units[digits[1:5]], units[digits[5]] = 100 / 401, 1 / 401
    decimal = torch.zeros(len(tokenizer))
    decimal[digits] = 0.1
    targets[rows, starts + 1] = units
    for offset in (3, 4):  # 2 is the point
        targets[rows[below_five], starts[below_five] + offset] = decimal
    return targets


def train_answers(
    model: Any,
    processor: Any,
    batches: Any,
    *,
    num_steps: int,
    learning_rate: float,
    seed: int,
    on_step: Callable[[float], None],
    ask: Callable[[Any, np.random.Generator], tuple[str, str]] = ask_score,
    targets: Callable[[Any, Any], Any] = target_probabilities,
) -> None:
    """Train parts 2, 3 and 5 in place: cross entropy of the responses' tokens; see the module.

    Args:
        model: The policy; only weights that require a gradient change.
        processor: Of the policy.
        batches: Iterator of lists of `WarmupClip`.
        num_steps: Updates.
        learning_rate: The highest.
        seed: Of the answers.
        on_step: Called with the loss of each step.
        ask: Gives the question on a clip, and the response to learn.
        targets: Next-token probabilities (B, L, V) to learn, of the answers' ids (B, L) and the tokenizer.
    """
    import torch

    rng = np.random.default_rng(seed)
    tokenizer = processor.tokenizer
    known: dict[str, Any] = {}  # question -> ids of its prompt: all clips have as many tokens
    parameters = _trained(model)
    optimizer, schedule = _optimizer(parameters, learning_rate, num_steps)
    for _, clips in zip(range(num_steps), batches, strict=False):
        asked = [ask(clip, rng) for clip in clips]
        for question, _ in asked:
            if question not in known:
                one = prompt_inputs(processor, [clips[0].frames], [clips[0].seconds], question)
                known[question] = one["input_ids"][0]
        prompts = tokenizer.pad(
            {"input_ids": [known[question] for question, _ in asked]}, padding_side="left", return_tensors="pt"
        )
        answers = tokenizer(
            [response + tokenizer.eos_token for _, response in asked],
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )
        input_ids = torch.cat([prompts.input_ids, answers.input_ids], dim=1)
        logits = model(
            input_ids=input_ids,
            attention_mask=torch.cat([prompts.attention_mask, answers.attention_mask], dim=1),
            mm_token_type_ids=2 * (input_ids == model.config.video_token_id).int(),
            second_per_grid_ts=seconds_per_patch([clip.seconds for clip in clips]),
            logits_to_keep=answers.input_ids.shape[1] + 1,
            **video_inputs(processor, [clip.frames for clip in clips]),
        ).logits
        probabilities = targets(answers.input_ids, tokenizer)
        token_loss = -(probabilities * logits[:, :-1].log_softmax(-1)).sum(-1)
        weights = answers.attention_mask * (1 + (WORD_WEIGHT - 1) * _is_word(answers.input_ids, tokenizer))
        loss = (weights * token_loss).sum() / weights.sum()
        _update(optimizer, schedule, parameters, loss)
        on_step(loss.item())


def train_reading(
    model: Any,
    processor: Any,
    _: Any,
    *,
    num_steps: int,
    learning_rate: float,
    seed: int,
    on_step: Callable[[float], None],
) -> None:
    """Train part 4 in place: cross entropy of the choice's first token, which tells the choices apart; see the module.

    Args:
        model: The policy; only weights that require a gradient change.
        processor: Of the policy.
        num_steps: Updates, of `QUESTIONS_PER_STEP` questions each.
        learning_rate: The highest.
        seed: Of the questions.
        on_step: Called with the loss of each step.
    """
    import torch

    rng = np.random.default_rng(seed)
    tokenizer = processor.tokenizer
    parameters = _trained(model.model.language_model)
    optimizer, schedule = _optimizer(parameters, learning_rate, num_steps)
    for _step in range(num_steps):
        texts, choices = [], []
        for distortion in rng.choice(DISTORTIONS, QUESTIONS_PER_STEP).tolist():
            question = draw_question(distortion, rng)
            words = think_text(distortion, int(rng.integers(len(DEGREE_WORDS))))
            prompt = prompt_text(processor, question.prompt(), with_video=False)
            texts.append(f"{prompt}<think>{words}</think><answer>")
            choices.append(tokenizer(f"<answer>{question.label(question.answer)}").input_ids[1])
        inputs = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
        logits = model(**inputs, logits_to_keep=1).logits[:, -1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(choices))
        _update(optimizer, schedule, parameters, loss)
        on_step(loss.item())


def _optimizer(parameters: list[Any], learning_rate: float, num_steps: int) -> tuple[Any, Any]:
    """AdamW, with a rise over the first tenth and a cosine down to a twentieth of the learning rate."""
    import torch

    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)

    def factor(step: int) -> float:
        rise = max(1, num_steps // 10)
        return min((step + 1) / rise, 0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * step / max(1, num_steps))))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _update(optimizer: Any, schedule: Any, parameters: list[Any], loss: Any) -> None:
    import torch

    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    schedule.step()
