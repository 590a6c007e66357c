"""The question that the model is asked, and the scale that it answers on."""

from typing import Any

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

# The same question about a still image.
IMAGE_QUALITY_PROMPT = QUALITY_PROMPT.replace("video", "image")


def question_about(prompt: str, *, image: bool) -> str:
    """Return the question as it is asked about a video or a still image.

    The built-in question says which of the two it is about. Any other is the user's own and stays as it is.

    >>> question_about(QUALITY_PROMPT, image=True) == IMAGE_QUALITY_PROMPT
    True
    >>> question_about("How good is this video?", image=True)
    'How good is this video?'
    """
    if prompt in (QUALITY_PROMPT, IMAGE_QUALITY_PROMPT):
        return IMAGE_QUALITY_PROMPT if image else QUALITY_PROMPT
    return prompt


def video_messages(prompt: str) -> list[dict[str, str]]:
    """Return the chat messages that ask `prompt` about one video; the frames take the place of `<video>`.

    >>> video_messages("How good is it?")
    [{'role': 'user', 'content': '<video>How good is it?'}]
    """
    return [{"role": "user", "content": "<video>" + prompt}]


def chat_messages(prompt: str, system: str = "") -> list[dict[str, Any]]:
    """Return what a processor's chat template takes in place of `video_messages(prompt)`, as verl's dataset makes it.

    Args:
        prompt: The question about one video.
        system: The system's text, which only presets have.
    """
    before = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    return [*before, {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": prompt}]}]
