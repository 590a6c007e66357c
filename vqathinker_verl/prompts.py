"""The question that the model is asked, and the scale that it answers on."""

# Lowest and highest score a model may give, and the scale that every MOS is mapped to.
SCORE_RANGE = (1.0, 5.0)

# What makes the answer readable: `parsing` looks for the last answer block.
THINK_THEN_ANSWER = (
    "First output the thinking process in <think> </think> tags and then output the final answer in "
    "<answer> </answer> tags."
)

QUALITY_PROMPT = (
    "You are doing the video quality assessment task. Here is the question: What is your overall rating on the "
    "quality of this video? The rating should be a float between 1 and 5, rounded to two decimal places, with 1 "
    "representing very poor quality and 5 representing excellent quality. " + THINK_THEN_ANSWER
)


def video_messages(prompt: str) -> list[dict[str, str]]:
    """Return the chat messages that ask `prompt` about one video; the frames take the place of `<video>`.

    >>> video_messages("How good is it?")
    [{'role': 'user', 'content': '<video>How good is it?'}]
    """
    return [{"role": "user", "content": "<video>" + prompt}]
