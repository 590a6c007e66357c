import logging

import pytest

from vqathinker_verl.config import CONFIG_DIR
from vqathinker_verl.config.compose import composed
from vqathinker_verl.demo.model import build_processor
from vqathinker_verl.plugin.config import reward_config

OPENS = (
    "{{ messages[0].content }}{% if add_generation_prompt %}assistant\n"
    "{% if think | default(true) %}<think>\n{% endif %}{% endif %}"
)


PATHS = ["data.train_files=train.parquet", "data.val_files=val.parquet", "actor_rollout_ref.model.path=model"]


def run_config(*overrides):
    return composed(CONFIG_DIR, "vqathinker", [*PATHS, *overrides])


@pytest.fixture(scope="module")
def processor():
    return build_processor()


def test_a_template_that_opens_the_reasoning_is_found_out_and_logged(processor, caplog):
    config = run_config()
    with caplog.at_level(logging.WARNING):
        assert not reward_config(config, processor).prompt_opens_think
        assert not caplog.messages
        processor.chat_template, stock = OPENS, processor.chat_template
        try:
            assert reward_config(config, processor).prompt_opens_think
        finally:
            processor.chat_template = stock
    assert "ends the prompt with <think>" in caplog.text


def test_agent_loops_read_it_from_the_config_of_the_trainer(processor):
    """verl makes an agent loop for each response; asking the template there would cost, and warn, each time."""
    from vqathinker_verl.plugin.trainer import BatchRewards

    class Stock:
        def _init_tokenizer(self):
            self.processor = processor

    class Trainer(BatchRewards, Stock):
        pass

    trainer = object.__new__(Trainer)
    trainer.config = run_config()
    processor.chat_template, stock = OPENS, processor.chat_template
    try:
        trainer._init_tokenizer()
    finally:
        processor.chat_template = stock
    assert trainer.reward_config.prompt_opens_think
    assert reward_config(trainer.config).prompt_opens_think


def test_a_template_is_asked_with_the_run_s_own_options(processor):
    config = run_config("+data.apply_chat_template_kwargs.think=false")
    processor.chat_template, stock = OPENS, processor.chat_template
    try:
        assert not reward_config(config, processor).prompt_opens_think
    finally:
        processor.chat_template = stock
