"""verl's dataset over our parquet: frames come from `vqathinker_verl.frames`, decoded once and cached.

Used as `data.custom_cls.path=pkg://vqathinker_verl.plugin.dataset`, `.name=VideoQualityDataset`. verl's
agent loop workers call the class, not an instance, to turn messages into pixels; so what they need is in `data.frames`
of the config and in the message itself:

    data:
      frames:
        train: {num_frames: 6, size: [448, 448]}          # rows with extra_info.split == "train"
        val: {num_frames: 12, size: [560, 560]}           # every other row
        merge_size: 2                                     # the model's; sides are multiples of patch x merge
        timeout_seconds: 60                               # the longest that one video may take to decode
        cache_bytes: 4294967296                           # decoded frames kept, per node
        decoders: null                                    # videos decoded side by side, per node (null: CPUs / 4)
        decoder: auto                                     # auto | pyav | decord
        true_times: true                                  # false: 24 frames per second, to continue an older run

A spec takes `size: [height, width]`, or `min_pixels` and `max_pixels` per frame for models with a pixel budget. A still
image is shown as often as the model's temporal patch has frames: the message carries that number, as it does the split.
"""

import json
import logging
import tempfile
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
from omegaconf import DictConfig
from verl.utils.dataset.rl_dataset import RLHFDataset

from vqathinker_verl.frames import FrameSpec, VideoInfo, probe, video_tokens
from vqathinker_verl.frames.suffixes import is_image
from vqathinker_verl.frames.tensors import Video, at_24_fps, frames_and_metadata, temporal_patch
from vqathinker_verl.plugin.config import cache_config, frame_spec
from vqathinker_verl.plugin.frame_actor import get_frames

logger = logging.getLogger(__name__)

# One placeholder in the prompt for each token of the video; Qwen3-VL's, for one, writes time stamps between them.
COUNTED_PROCESSORS = ("Qwen2VLProcessor", "Qwen2_5_VLProcessor")


class VideoQualityDataset(RLHFDataset):
    """RLHFDataset whose videos are decoded by `vqathinker_verl.frames` (verl/utils/dataset/rl_dataset.py)."""

    data_files: list[str]  # set by verl

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._counted: dict[str, int] = {}
        super().__init__(*args, **kwargs)

    def _build_messages(self, example: dict[str, Any], key: str) -> list[dict[str, Any]]:
        messages = super()._build_messages(example, key)
        split = (example.get("extra_info") or {}).get("split", "train")
        for item in _video_items(messages):
            item["split"] = split
            item["image_frames"] = temporal_patch(self.processor)
        return messages

    def _read_files_and_tokenize(self) -> None:
        """Read the files; those of chains have columns in `extra_info` that others lack, and these become null."""
        files = [path for path in self.data_files if path.endswith(".parquet")]
        schemas = [pyarrow.parquet.read_schema(path) for path in files]
        if len(files) < len(self.data_files) or all(schema.equals(schemas[0]) for schema in schemas):
            super()._read_files_and_tokenize()
            return
        table = pyarrow.concat_tables(
            [pyarrow.parquet.read_table(path) for path in files], promote_options="permissive"
        )
        with tempfile.TemporaryDirectory() as folder:
            merged = f"{folder}/merged.parquet"
            pyarrow.parquet.write_table(table.replace_schema_metadata(None), merged)
            given, self.data_files = self.data_files, [merged]
            try:
                super()._read_files_and_tokenize()
            finally:
                self.data_files = given

    def maybe_filter_out_long_prompts(self, dataframe: datasets.Dataset) -> datasets.Dataset:
        """Leave out prompts of more than `data.max_prompt_length` tokens, counted without decoding a video.

        verl's own filter decodes every video: half an hour for 3,500 rows (verl issue #6145). It is used as it is for
        models whose processor writes more than one placeholder per token of the video.
        """
        if not self.filter_overlong_prompts or type(self.processor).__name__ not in COUNTED_PROCESSORS:
            return super().maybe_filter_out_long_prompts(dataframe)
        lengths = [self.prompt_tokens(row) for row in dataframe.remove_columns("reward_model")]
        kept = [number for number, length in enumerate(lengths) if length <= self.max_prompt_length]
        if len(kept) < len(lengths):
            logger.warning(
                "%d of %d prompts are longer than data.max_prompt_length=%d tokens (the longest: %d) and are left out; "
                "raise it, or lower data.frames.*.max_pixels or num_frames",
                len(lengths) - len(kept), len(lengths), self.max_prompt_length, max(lengths),
            )  # fmt: skip
        return dataframe.select(kept)

    def prompt_tokens(self, row: dict[str, Any]) -> int:
        """Tokens of a row's prompt, from the video's size as `prepare` wrote it (or as its file states it)."""
        video = row[self.video_key][0]
        path = video["video"] if isinstance(video, dict) else video
        extra_info = row["extra_info"]
        info = probe(path) if not extra_info.get("height") else VideoInfo(
            path, extra_info["total_frames"], extra_info["fps"], extra_info["height"], extra_info["width"]
        )  # fmt: skip
        split = extra_info.get("split", "train")
        spec = frame_spec(split, self.image_patch_size, self.config, temporal_patch(self.processor))
        tokens = video_tokens(info, spec, self.image_patch_size, self.config.frames.get("merge_size", 2))
        return self._text_tokens(json.dumps(row[self.prompt_key])) - 1 + tokens  # its placeholder is one of them

    def _text_tokens(self, prompt: str) -> int:
        """Tokens of a prompt with one placeholder for its video; most rows ask the same question."""
        if prompt not in self._counted:
            messages = self._build_messages(
                {self.prompt_key: json.loads(prompt), self.video_key: ["video"]}, self.prompt_key
            )
            text = self.processor.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False, **self.apply_chat_template_kwargs
            )
            self._counted[prompt] = len(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        return self._counted[prompt]

    @classmethod
    def _process_multi_modal_info(
        cls, messages: list[dict[str, Any]], image_patch_size: int, config: DictConfig
    ) -> tuple[None, list[Video] | None, None]:
        """Decode the videos of `messages`; called in a thread, never on the event loop.

        Returns:
            (images, videos, audios) as verl expects; images and audios are always None.

        Raises:
            VideoError: a video cannot be decoded; the message names the file.
        """
        cache = cache_config(config)
        videos = [
            frames_and_metadata(get_frames(path, spec, cache))
            for path, spec in frames_shown(messages, image_patch_size, config)
        ]
        if not config.frames.get("true_times", True):
            videos = [at_24_fps(video) for video in videos]
        return None, videos or None, None


def frames_shown(
    messages: list[dict[str, Any]], image_patch_size: int, config: DictConfig
) -> list[tuple[str, FrameSpec]]:
    """The videos of a prompt, and which frames of each a model sees; `config` is `data`."""
    return [
        (item["video"], frame_spec(item["split"], image_patch_size, config, item.get("image_frames", 1)))
        for item in _video_items(messages)
    ]


def shows_image(messages: list[dict[str, Any]]) -> bool:
    """Whether a prompt is about a still image."""
    return any(is_image(item["video"]) for item in _video_items(messages))


def _video_items(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        item
        for message in messages
        if isinstance(message["content"], list)
        for item in message["content"]
        if item.get("type") == "video"
    ]
