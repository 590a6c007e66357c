"""What the package never does, read off its source: run data as code, or a model's code unasked, or open a door."""

import ast
from pathlib import Path

import pytest

import vqathinker_verl

PACKAGE = Path(vqathinker_verl.__file__).parent
ROOT = PACKAGE.parent
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "examples").glob("*.py")])

# Modules and functions that run what they read, or let a shell read it.
RUNS_DATA = {
    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "pandas.read_pickle", "numpy.load",
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput",
    "subprocess.getstatusoutput", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.hub", "importlib.reload",
}  # fmt: skip
# Where a decoder that may be absent is imported by its name, from a list in the source.
BY_NAME = {("frames/child.py", "__import__")}


def faults_of(source, path="x.py"):
    """Uses of RUNS_DATA, shells, unsafe loads, remote code and open doors, as "line: what"."""
    names = {}  # how the file calls a module or function -> its full name
    for node in ast.walk(tree := ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
                if first in RUNS_DATA:
                    yield f"{node.lineno}: import {alias.name}"
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names[alias.asname or alias.name] = full
                if full in RUNS_DATA or node.module.split(".")[0] in RUNS_DATA:
                    yield f"{node.lineno}: import {full}"
    short = {"np": "numpy", "pd": "pandas"}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            if isinstance(node, ast.Constant) and node.value in ("0.0.0.0", "::"):
                yield f"{node.lineno}: {node.value}"
            continue
        parts = ast.unparse(node.func).split(".")
        parts[0] = names.get(parts[0], short.get(parts[0], parts[0]))
        called = ".".join(parts)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in RUNS_DATA and (path, called) not in BY_NAME:
            yield f"{node.lineno}: {called}"
        if called == "torch.load" and options.get("weights_only") != "True":
            yield f"{node.lineno}: torch.load without weights_only=True"
        if options.get("shell", "False") != "False":
            yield f"{node.lineno}: {called}(shell={options['shell']})"
        if options.get("trust_remote_code", "False") != "False":
            yield f"{node.lineno}: {called}(trust_remote_code={options['trust_remote_code']})"
        if options.get("share", "False") != "False":
            yield f"{node.lineno}: {called}(share={options['share']})"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_data_is_run_as_code(path):
    inside = path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else path.name
    assert list(faults_of(path.read_text(encoding="utf-8"), inside)) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as c",
        "eval(text)",
        "exec(text)",
        "import os; os.system(text)",
        "from os import system as run; run(text)",
        "import subprocess; subprocess.run(text, shell=True)",
        "import subprocess; subprocess.run(text, shell=flag)",
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "import yaml; yaml.load(text)",
        "import numpy as np; np.load(path)",
        "import pandas; pandas.read_pickle(path)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "LLM(name, trust_remote_code=args.trust)",
        "host = '0.0.0.0'",
        "page.launch(share=True)",
    ],
)
def test_the_search_finds(code):
    assert list(faults_of(code))


def test_the_search_lets_pass():
    code = (
        "import torch, subprocess; torch.load(p, weights_only=True); subprocess.run([p]); model.eval(); re.compile(p)"
    )
    assert list(faults_of(code)) == []


def test_no_recipe_trusts_a_models_code_or_opens_a_door():
    recipes = [path for path in (ROOT / "recipes").rglob("*") if path.suffix in (".yaml", ".sh")]
    assert len(recipes) > 10
    for path in recipes:
        text = path.read_text(encoding="utf-8")
        assert "trust_remote_code" not in text, path
        assert "0.0.0.0" not in text, path


def test_the_page_is_served_to_this_machine_only_by_default():
    import argparse

    from vqathinker_verl.cli import ui as ui_cli

    parser = argparse.ArgumentParser()
    ui_cli.configure(parser)
    assert parser.parse_args(["--model", "m"]).host == "127.0.0.1"
    assert parser.parse_args(["--model", "m", "--host", "::1"]).host == "::1"
