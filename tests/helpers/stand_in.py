"""The launcher with a stand-in for verl: a script of a few lines in place of `verl.trainer.main_ppo`."""

import os
import subprocess
import sys


def launcher_command(tmp_path, body, *arguments, before=(), **options):
    """The launcher's `train`, with a stand-in for verl's `main_ppo` on the path: command and environment."""
    package = tmp_path / "stand_in" / "verl" / "trainer"
    package.mkdir(parents=True, exist_ok=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "main_ppo.py").write_text(body)
    script = (
        "import sys; from pathlib import Path\n"
        "from vqathinker_verl.runner.launch import train\n"
        f"sys.exit(train(Path('.'), 'c', {list(arguments)!r}, Path({str(tmp_path)!r}), **{options!r}))"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path / "stand_in"), os.environ.get("PYTHONPATH")]))
    return ["env", "--default-signal=HUP", *before, sys.executable, "-c", script], {**os.environ, "PYTHONPATH": path}


def start_launcher(tmp_path, body, *arguments, before=(), verbose=True, **options):
    command, environment = launcher_command(tmp_path, body, *arguments, before=before, verbose=verbose, **options)
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
