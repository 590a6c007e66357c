import pytest

from vqathinker_verl import format_reward


def test_one_value_per_response():
    reward = format_reward(
        ["<think>a\nb</think>\n<answer>3.50</answer>", "3.50", "<think></think><answer>good</answer>"]
    )
    assert reward.tolist() == [1.0, 0.0, 1.0]
    assert reward.dtype == float


def test_no_responses():
    assert format_reward([]).shape == (0,)


def test_one_string_is_not_a_batch():
    with pytest.raises(TypeError, match="expected a sequence of strings"):
        format_reward("<think></think><answer></answer>")
