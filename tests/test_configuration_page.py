"""docs/configuration.md: lists every field that the project adds to verl's configuration, with its default."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `((?:vqathinker|data\.frames|data\.chains)\.[\w.]+)` \| `([^`]*)` \| .+ \|$", re.MULTILINE)


def stated():
    """Field to default, as the page has them."""
    return {field: parse(default) for field, default in ROW.findall(PAGE)}


def parse(text):
    return yaml.safe_load(text)


def config():
    tree = parse((ROOT / "vqathinker_verl" / "config" / "vqathinker.yaml").read_text(encoding="utf-8"))
    return {"vqathinker": tree["vqathinker"], "data": {name: tree["data"][name] for name in ("frames", "chains")}}


def leaves(tree, prefix=""):
    for name, value in tree.items():
        field = f"{prefix}{name}"
        yield field, value
        if isinstance(value, dict):
            yield from leaves(value, f"{field}.")


def test_each_stated_field_has_this_default():
    fields = dict(leaves(config()))
    assert {field: fields.get(field, "not in the YAML") for field in stated()} == stated()


def test_no_field_is_left_out():
    listed = set(stated())

    def covered(field):
        parts = field.split(".")
        return any(".".join(parts[:count]) in listed for count in range(1, len(parts) + 1))

    plain = [field for field, value in leaves(config()) if not (isinstance(value, dict) and value)]
    assert [field for field in plain if not covered(field)] == []


def test_no_field_is_listed_twice():
    fields = [field for field, _ in ROW.findall(PAGE)]
    assert len(fields) == len(set(fields))
