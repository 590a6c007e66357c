import time

from vqathinker_verl.runner.record import Record, Start, read_record, seconds_of
from vqathinker_verl.runner.startup import PHASES, StartUp, durations, usual_durations

# One line of each phase, and lines between them that are not marks, as a start of the demo printed them.
PRINTED = """ray init kwargs: {'num_cpus': 8, 'num_gpus': 1, 'include_dashboard': False}
2026-01-01 10:00:00,000\tINFO worker.py:2028 -- Started a local Ray instance.
\x1b[36m(TaskRunnerV1 pid=24009)\x1b[0m {'rollout': {'agent': {'agent_loop_manager_class': 'x.Manager'
\x1b[36m(TaskRunnerV1 pid=24009)\x1b[0m INFO:2026-01-01 10:00:40,000:actor and ref model engine initialized
\x1b[36m(WorkerDict pid=24010)\x1b[0m loading weights
\x1b[36m(TaskRunnerV1 pid=24009)\x1b[0m LLMServerManager: ['127.0.0.1:40001']
\x1b[36m(TaskRunnerV1 pid=24009)\x1b[0m ("Initial validation metrics: {'val-aux/demo/reward/mean@8': "
"""


def test_each_mark_ends_its_phase(monkeypatch):
    start, saved = Start(began=0.0, metrics="0000", reached={"input": 1.0}), []
    startup = StartUp(start, lambda: saved.append(dict(start.reached)))
    for number, line in enumerate(PRINTED.splitlines()):
        monkeypatch.setattr(time, "time", lambda number=number: 10.0 * (number + 1))
        startup.feed(line)
    assert start.reached == {"input": 1.0, "ray": 20, "trainer": 30, "model": 40, "server": 60, "validation": 70}
    assert len(saved) == 5
    assert durations(start) == {"input": 1, "ray": 19, "trainer": 10, "model": 10, "server": 20, "validation": 10}


def test_a_later_mark_ends_the_phases_before_it():
    start = Start(began=time.time(), metrics="0000")
    StartUp(start, lambda: None).feed("LLMServerManager: []")
    assert list(start.reached) == [phase.name for phase in PHASES[:-1]]


def test_without_a_first_validation_the_progress_bar_is_the_mark():
    start = Start(began=time.time(), metrics="0000")
    StartUp(start, lambda: None).feed("Training Progress:   0%|          | 0/30 [00:00<?, ?it/s]")
    assert PHASES[-1].name in start.reached


def test_usual_times_are_those_of_the_last_start_that_came_through():
    complete = {phase.name: 100.0 + number for number, phase in enumerate(PHASES)}
    failed = {"input": 201.0, "ray": 230.0}
    record = Record(
        {}, [Start(99.0, "0000", reached=complete), Start(200.0, "0001", reached=failed), Start(300.0, "0002")]
    )
    assert usual_durations(record) == {phase.name: 1.0 for phase in PHASES}
    assert usual_durations(Record({}, record.starts[1:])) == {}


def test_the_record_is_read_as_it_was_written(tmp_path):
    record = Record({"total_steps": 6}, [Start(1.0, "0000", 2, {"ray": 2.0}, 3.0, 1, "ValueError: broken")])
    record.save(tmp_path)
    assert read_record(tmp_path) == record
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_record_that_is_missing_or_broken_is_empty(tmp_path):
    assert read_record(tmp_path) == Record()
    for content in ("", "[1]", '{"facts": {}, "starts": [{"unknown": 1}]}'):
        (tmp_path / "run.json").write_text(content)
        assert read_record(tmp_path) == Record()


def test_a_start_whose_launcher_was_killed_counts_until_its_last_metrics(tmp_path):
    assert seconds_of(Start(100.0, "0000", ended=160.0), tmp_path) == 60
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "0000.jsonl").touch()
    now = time.time()
    assert abs(seconds_of(Start(now - 50, "0000"), tmp_path) - 50) < 5
    assert seconds_of(Start(now - 50, "0001", reached={"ray": now - 20}), tmp_path) == 30
