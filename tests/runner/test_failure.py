import pytest

from vqathinker_verl.runner.failure import CONTEXT, LONGEST_REASON, FailureReader

WORKER = "\x1b[36m(TaskRunnerV1 pid=24009)\x1b[0m "


def read(text):
    reader = FailureReader()
    for line in text.splitlines(keepends=True):
        reader.feed(line)
    return reader


def test_a_reason_of_one_line():
    assert (
        read("Traceback (most recent call last):\n  File 'x'\nValueError: too small\n").reason
        == "ValueError: too small"
    )


def test_a_reason_that_continues_after_a_colon_is_complete():
    """Hydra's, of a model that is not there: the line that helps is the second one."""
    reader = read(
        f"{WORKER}Traceback (most recent call last):\n"
        "hydra.errors.InstantiationException: Error in call to target 'verl.workers.config.model.HFModelConfig':\n"
        "OSError(\"We couldn't connect to 'https://huggingface.co' to load the files\")\n"
        "full_key: actor_rollout_ref.model\n"
        "\n"
        "Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.\n"
    )
    assert reader.reason == (
        "InstantiationException: Error in call to target 'verl.workers.config.model.HFModelConfig':\n"
        "OSError(\"We couldn't connect to 'https://huggingface.co' to load the files\")\n"
        "full_key: actor_rollout_ref.model"
    )


def test_a_named_cause_in_the_next_line_belongs_to_it():
    reader = read("RuntimeError: the model cannot be read:\nOSError: [Errno 2] no such file\n")
    assert reader.reason == "RuntimeError: the model cannot be read:\nOSError: [Errno 2] no such file"
    assert read("RuntimeError: one\nOSError: two\n").reason == "OSError: two"


def test_lines_of_other_processes_between_do_not_end_it():
    reader = read(
        f"{WORKER}ValueError: rows that cannot be used:\n"
        "(WorkerDict pid=7) loading\n"
        f"{WORKER}row 3: no video\n"
        f"{WORKER}INFO:2026-01-01 the next message\n"
        f"{WORKER}not a part of it\n"
    )
    assert reader.reason == "ValueError: rows that cannot be used:\nrow 3: no video"


@pytest.mark.parametrize("after", ["Traceback (most recent call last):", "", "WARNING:root:x", "2026-01-01 10:00:00 x"])
def test_what_follows_a_message_is_not_taken_for_a_part_of_it(after):
    assert read(f"ValueError: broken\n{after}\nmore\n").reason == "ValueError: broken"


def test_the_last_reason_counts_unless_the_watchdog_spoke():
    assert read("ValueError: one\n\nKeyError: 'two'\n").reason == "KeyError: 'two'"
    assert read("watchdog: no progress in phase fit\nRuntimeError: actor died\n").reason == (
        "watchdog: no progress in phase fit"
    )


def test_the_excerpt_is_the_end_of_the_failed_process():
    noise = "".join(f"(WorkerDict pid=7) line {number}\n" for number in range(50))
    before = "".join(f"{WORKER}step {number}\n" for number in range(40))
    reader = read(f"{before}{noise}{WORKER}ValueError: broken:\n{noise}{WORKER}because\n{noise}")
    assert reader.excerpt == [*(f"step {number}" for number in range(27, 40)), "ValueError: broken:", "because"]
    assert len(reader.excerpt) == CONTEXT


def test_a_message_without_end_is_cut():
    reader = read("ValueError: broken\n" + "more\n" * 100)
    assert len(reader.reason.splitlines()) == LONGEST_REASON


# As a start printed it whose vLLM worker found a variable that is no number; the traceback is shortened.
LOGGED = "(vLLMHttpServer pid=2) (Worker pid=3) ERROR 11-26 01:02:19 [executor.py:898]"
WORKER_FAILED = f"""{LOGGED} WorkerProc failed to start.
{LOGGED} Traceback (most recent call last):
{LOGGED}   File "vllm/envs.py", line 617, in <lambda>
{LOGGED} ValueError: invalid literal for int(): ''
(vLLMHttpServer pid=2) (Worker pid=3) Loading safetensors checkpoint shards:   0% Completed | 0/1 [00:00<?, ?it/s]
(vLLMHttpServer pid=2) (EngineCore pid=4) ERROR 11-26 01:02:22 [core.py:1231] EngineCore failed to start.
(vLLMHttpServer pid=2) (EngineCore pid=4) Exception: WorkerProc initialization failed. See stack trace for root cause.
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {{}}
"""


def test_an_exception_that_refers_to_another_one_names_it():
    reader = read(WORKER_FAILED)
    assert reader.reason == (
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
        "root cause: ValueError: invalid literal for int(): ''"
    )
    assert reader.excerpt == [
        "WorkerProc failed to start.",
        "Traceback (most recent call last):",
        '  File "vllm/envs.py", line 617, in <lambda>',
        "ValueError: invalid literal for int(): ''",
    ]


def test_nothing_was_printed():
    assert read("all is well\n").reason is None
    assert read("").excerpt == []


def test_one_that_died_long_before_is_not_named(monkeypatch):
    times = iter((10.0, 1000.0))
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    reader = read("\tclass_name: FrameCacheActor\n\tclass_name: verl.workers.WorkerDict\n")
    assert reader.dead_actors(since=990.0) == ["WorkerDict"]
