"""The expected score: against brute force over all answers, on the tiny model and on made-up distributions."""

import numpy as np
import pytest
import torch

from vqathinker_verl.frames import FrameSpec, decode
from vqathinker_verl.inference.engines import Request, Sampling, open_engine
from vqathinker_verl.inference.engines.expectation import (
    ANSWERS,
    CHARACTERS,
    NODES,
    VALUES,
    character_tokens,
    distribution_of,
)
from vqathinker_verl.parsing import up_to_answer
from vqathinker_verl.prompts import QUALITY_PROMPT

FRAMES = FrameSpec(num_frames=4, max_pixels=56 * 56)
REASONED = "<think>It looks sharp</think><answer>"


@pytest.fixture(scope="module")
def engine(tiny_model):
    """Its untrained model writes babble, so it begins each response where the answer begins."""
    return open_engine(
        str(tiny_model), backend="transformers", frames=FRAMES, sampling=Sampling(max_tokens=4), answer_prefix=REASONED
    )


def log_probs_of(engine, video, answers):
    """(A,) log probability of each answer after the reasoning: one complete forward pass each, nothing shared."""
    tokens = engine.prompting.characters()
    found = []
    for answer in answers:
        inputs = engine.prompting.features(QUALITY_PROMPT, video, REASONED + answer).to(engine.device)
        with torch.no_grad():
            logs = engine.model(**inputs).logits[0].double().log_softmax(-1)
        ids = [tokens[character] for character in answer]
        assert inputs["input_ids"][0, -len(ids) :].tolist() == ids
        found.append(sum(float(logs[place - len(ids) - 1, token]) for place, token in enumerate(ids)))
    return np.array(found)


def test_it_equals_brute_force_over_all_answers(engine, clips):
    (answer,) = engine.generate([Request(clips[0], QUALITY_PROMPT)], expectation=True)
    logs = log_probs_of(engine, decode(clips[0], engine.frames), ANSWERS)
    probabilities = np.exp(logs)
    expected = probabilities / probabilities.sum()
    found = answer.distribution
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert found.probabilities.sum() == pytest.approx(1.0, abs=1e-12)
    assert found.mean == pytest.approx(float(expected @ VALUES), abs=1e-6)
    assert found.std == pytest.approx(float(np.sqrt(expected @ (VALUES - expected @ VALUES) ** 2)), abs=1e-6)
    assert found.legal_mass == pytest.approx(probabilities.sum(), rel=1e-4)
    assert len(ANSWERS) == 401


def test_neighbours_order_and_batch_size_do_not_matter(engine, clips, monkeypatch):
    requests = [Request(clip, QUALITY_PROMPT) for clip in clips]

    def means(asked):
        return [answer.distribution.mean for answer in engine.generate(asked, expectation=True)]

    together = means(requests)
    assert len(set(together)) == 3
    assert means(requests[::-1]) == together[::-1]
    assert [means([request])[0] for request in requests] == together
    monkeypatch.setattr("vqathinker_verl.inference.engines.transformers_engine.TREE_ROWS", 41)
    np.testing.assert_allclose(means(requests), together, atol=1e-6)


def test_without_an_answer_there_is_no_distribution(tiny_model, clips, tmp_path):
    engine = open_engine(str(tiny_model), backend="transformers", frames=FRAMES, sampling=Sampling(max_tokens=3))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"junk")
    babble, failed = engine.generate([Request(clips[0], "Q"), Request(broken, "Q")], expectation=True)
    assert babble.error is None
    assert babble.distribution is None
    assert failed.distribution is None
    assert "broken.mp4" in failed.error


def test_made_up_distributions():
    table = np.full((len(NODES), len(CHARACTERS)), -np.inf)

    def allow(node, **probabilities):
        for character, probability in probabilities.items():
            table[NODES.index(node), CHARACTERS.index(character.strip("p").replace("dot", "."))] = np.log(probability)

    allow("", p3=0.5, p5=0.25)
    allow("3", pdot=1.0)
    allow("5", pdot=1.0)
    allow("3.", p4=1.0)
    allow("5.", p0=1.0)
    allow("3.4", p2=1.0)
    allow("5.0", p0=0.4, p1=0.6)  # 5.01 is not legal
    found = distribution_of(table)
    assert found.legal_mass == pytest.approx(0.6)
    assert found.mean == pytest.approx((0.5 * 3.42 + 0.1 * 5.0) / 0.6)
    assert found.probabilities[ANSWERS.index("3.42")] == pytest.approx(5 / 6)
    with pytest.raises(ValueError, match="at least one legal answer"):
        distribution_of(np.full(table.shape, -np.inf))


def test_the_tree_has_52_nodes():
    assert len(NODES) == 1 + 5 + 5 + 41
    assert NODES[0] == ""


def test_a_vocabulary_that_joins_characters_is_refused():
    single = {character: number for number, character in enumerate("<>/\nanswer" + CHARACTERS)}

    def letters(text):
        return [single[character] for character in text]

    assert character_tokens(letters, "m") == {character: single[character] for character in CHARACTERS}

    def joined(text):
        return letters(text.replace("42", "<"))

    with pytest.raises(ValueError, match="m: its vocabulary joins"):
        character_tokens(joined, "m")


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        ("<think>a</think><answer>3.50</answer>", "<think>a</think><answer>"),
        ("<answer>1</answer> and <answer>2</answer>", "<answer>1</answer> and <answer>"),
        ("<answer>3.5", "<answer>"),
        ("<answer>3.50</answer> said <answer>", "<answer>"),
        ("no answer", None),
    ],
)
def test_where_the_answer_begins(text, begin):
    assert up_to_answer(text) == begin
