"""The command as a whole: groups, help of every subcommand, mistyped words."""

import shlex

import pytest

from vqathinker_verl.cli.main import COMMANDS, GROUPS, build_parser, main


def help_of(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_the_overview_has_groups_an_example_and_every_command(capsys):
    text = help_of(capsys)
    for group, commands in GROUPS.items():
        assert f"{group}:\n" in text
        for name in commands:
            assert f"\n  {name} " in text
    assert "example:\n  vqathinker score" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.fixture(params=COMMANDS)
def command(request):
    return request.param


def test_a_help_has_an_example_and_exit_codes(command, capsys):
    text = help_of(capsys, command)
    assert text.startswith(f"usage: vqathinker {command}")
    assert f"example:\n  vqathinker {command} " in text
    assert "exit codes:\n  0: " in text


def test_the_example_is_a_call_that_is_accepted(command):
    module_example = build_parser(command)._subparsers._group_actions[0].choices[command].epilog
    example = module_example.partition("exit codes:")[0].removeprefix("example:").replace("\\\n", " ")
    words = shlex.split(example)
    assert words[:2] == ["vqathinker", command]
    assert build_parser(command).parse_args(words[1:]).command == command


def test_options_are_explained_in_one_style(command):
    parser = build_parser(command)._subparsers._group_actions[0].choices[command]
    for action in parser._actions:
        if action.help == "==SUPPRESS==" or action.dest == "help":
            continue
        names = "/".join(action.option_strings) or action.dest
        assert action.help, names
        assert "%(default)s" not in action.help, names  # the formatter adds it
        assert "default" not in action.help.replace("(default:", "").replace("; default:", ""), names
        if action.nargs != 0 and action.choices is None:
            metavars = action.metavar if isinstance(action.metavar, tuple) else (action.metavar,)
            assert all(metavar is not None for metavar in metavars), f"{names}: no metavar"


def test_a_mistyped_command_or_option_gets_the_closest(capsys):
    for arguments, said in (
        (["trian"], "vqathinker: no command 'trian'; did you mean train? (see vqathinker --help)\n"),
        (["xyz"], "vqathinker: no command 'xyz' (see vqathinker --help)\n"),
        (
            ["score", "a.mp4", "--model", "m", "--num-sample-count", "3"],
            "vqathinker score: unrecognized argument --num-sample-count; did you mean --num-samples? "
            "(see vqathinker score --help)\n",
        ),
        (["score"], "vqathinker score: the following arguments are required: VIDEO|DIR, --model (see vqathinker score "
                    "--help)\n"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        assert capsys.readouterr().err == said


def test_overrides_may_stand_between_options(monkeypatch, capsys):
    monkeypatch.setenv("PLAN", "1")
    assert main(["train", "a=1", "--model", "org/m", "b=2", "--steps", "3", "--", "c=3"]) == 0
    assert set(capsys.readouterr().out.splitlines()) > {"a=1", "b=2", "c=3", "trainer.total_training_steps=3"}
