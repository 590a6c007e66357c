"""Mutated label files through `vqathinker prepare`: rows come out, or one line or a quarantine file says which not."""

import csv
import io
import json
import resource
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.mutations import mutated
from scipy.io import savemat

from vqathinker_verl.cli import prepare as cli
from vqathinker_verl.cli.main import main

ROWS = 12
# What is put in place of a word, a number or a bracket of a label file.
TOKENS = [
    "", "null", "true", "[]", "{}", "nan", "-Infinity", "1e999", "-1", "9" * 400, "9" * 5000, "0x10", "1_0", "٣",
    '"', "'", ",", ",,,,", "\n", "\r", "\0", "\\ud800", "\\u0000", "\ufeff", "\u202e", "=1+1", "a" * 200_000,
    "../../etc/passwd", "/etc/passwd", "..", ".", "", "C:\\x", "videos", "http://x/1.mp4", "[" * 100_000,
    '{"a":' * 100_000, '{"annotations": 3}', '{"image_id": {}}', '["1.mp4", "2.mp4"]', "\x1b[2J", "<b>",
]  # fmt: skip


def put_tokens(_name, data, rng):
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(rng.integers(1, 4)):
        first = int(rng.integers(len(text)))
        last = min(len(text), first + int(rng.integers(0, 12)))
        text = text[:first] + TOKENS[rng.integers(len(TOKENS))] + text[last:]
    return text.encode("utf-8", "surrogateescape")


def put_values(name, data, rng):
    """A hostile value where a whole cell or field was: the file stays well formed."""
    value = json.loads(f'"{token}"') if "\\u" in (token := TOKENS[rng.integers(len(TOKENS))]) else token
    value = [value, 10**400, float("inf"), None, [value], {"x": value}, True][rng.integers(7)]
    row = int(rng.integers(ROWS))
    if name == "l.json":
        content = json.loads(data)
        content["annotations"][row][["image_id", "score"][rng.integers(2)]] = value
        return json.dumps(content).encode()
    if name.endswith(".jsonl"):
        lines = [json.loads(line) for line in data.splitlines()]
        line, place = lines[row], rng.integers(5)
        if place == 0:
            line["image"] = value
        elif place == 1:
            line["image"][0] = value
        elif place == 2:
            line["dataset_name"] = value
        elif place == 3:
            line["conversations"][1]["value"] = value
        else:
            line["conversations"] = value
        return "\n".join(map(json.dumps, lines)).encode()
    if name.endswith((".csv", ".tsv")):
        cells = list(csv.reader(io.StringIO(data.decode()), delimiter="\t" if name.endswith("tsv") else ","))
        cells[row][rng.integers(len(cells[row]))] = str(value)
        written = io.StringIO()
        csv.writer(written, delimiter="\t" if name.endswith("tsv") else ",").writerows(cells)
        return written.getvalue().encode("utf-8", "surrogatepass")
    if name.endswith("sets.json") or name.endswith("registry.json"):
        content = json.loads(data)
        holder, key = (places := list(holders(content)))[rng.integers(len(places))]
        holder[key] = value
        return json.dumps(content).encode()
    return put_tokens(name, data, rng)


def holders(content):
    """Every place in JSON where a value is: the list or mapping, and its key there."""
    for key, value in list(content.items() if isinstance(content, dict) else enumerate(content)):
        yield content, key
        if isinstance(value, dict | list):
            yield from holders(value)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    for number in range(ROWS):
        (root / f"{number}.mp4").write_bytes(b"x")
    return root


@pytest.fixture(scope="module")
def seeds(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    table = [["video", "mos", "scene"], *([f"{n}.mp4", f"{5 * n}.5", f"s{n % 3}"] for n in range(ROWS))]
    turns = [{"from": "human", "value": "How good?"}, {"from": "gpt", "value": 2.5}]
    (folder / "l.csv").write_text("\n".join(map(",".join, table)))
    (folder / "l.tsv").write_text("\n".join(map("\t".join, table)))
    (folder / "l.json").write_text(
        json.dumps({"annotations": [{"image_id": video, "score": mos} for video, mos, _ in table[1:]]})
    )
    (folder / "l.jsonl").write_text(
        "\n".join(
            json.dumps({"id": n, "dataset_name": "set", "image": [f"{n}.mp4"], "conversations": turns})
            for n in range(ROWS)
        )
    )
    cells = np.array([[video] for video, *_ in table[1:]], dtype=object)
    savemat(folder / "l.mat", {"video": cells, "mos": np.arange(12.0)[:, None]})
    savemat(folder / "packed.mat", {"video": cells, "mos": np.arange(12.0)[:, None]}, do_compression=True)
    (folder / "sets.json").write_text(
        json.dumps([{"labels": str(folder / "l.csv"), "dataset": "d", "scale": [0, 100], "video_root": str(root)}])
    )
    (folder / "registry.json").write_text(
        json.dumps(
            {
                "d": {
                    "citation": "x",
                    "scale": [0, 100],
                    "videos": 12,
                    "annotations": {"l.json": {"scale": [0, 100], "videos": 12}},
                    "folder": {
                        "labels": ["l.csv"],
                        "video": ["video"],
                        "mos": ["mos"],
                        "names": ["{video}"],
                        "replace": {"scene": {"s1": "s2"}},
                        "subsets": {"train": {"column": "scene", "values": ["s1"]}},
                    },
                }
            }
        )
    )
    prepared = folder / "o.parquet"
    assert prepare(folder / "l.csv", root, prepared) == 0
    names = ["l.csv", "l.tsv", "l.json", "l.jsonl", "l.mat", "packed.mat", "sets.json", "registry.json", "o.parquet"]
    return {name: (folder / name).read_bytes() for name in names} | {"labels": folder / "l.csv"}


def prepare(path, root, output, labels=None):
    """Prepare with `path` as what its name says: labels, sets, a registry, or the parquet of videos to keep out."""
    given = ["--dataset", "d", "--scale", "0", "100", "--video-root", str(root)]
    if path.name.endswith("sets.json"):
        arguments = ["--label-sets", str(path)]
    elif path.name.endswith("registry.json"):
        arguments = [str(labels), *given, "--registry", str(path)]
    elif path.name.endswith(".parquet") and path != output:
        arguments = [str(labels), *given, "--exclude", str(path)]
    elif path.name.endswith(".jsonl"):
        arguments = [str(path), "--video-root", str(root)]
    else:
        arguments = [str(path), *given]
    return main(["prepare", *arguments, "--no-probe", "--output", str(output)])


def run(seeds, root, folder, capsys, count):
    labels = seeds["labels"]
    files = {name: data for name, data in seeds.items() if name != "labels"}
    output, quarantine = folder / "out.parquet", folder / "out.quarantine.csv"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = Counter()
    for number in range(count):
        name, how, data = mutated(files, number, (put_tokens, put_values))
        path = folder / f"{number}_{how}_{name}"
        path.write_bytes(data)
        code = prepare(path, root, output, labels)
        error = capsys.readouterr().err.strip()
        outcomes[code] += 1
        if code == 2:
            # The file, or the list of its rows, or what a damaged list of sets or registry names.
            where = (path.name, quarantine.name, "--dataset", "--video-root", "video root", "no such file", labels.name)
            assert any(word in error for word in where), (path.name, error[:500])
            assert error.startswith("vqathinker prepare: ")
        elif code == 1:
            with quarantine.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            assert rows
            assert all(row["where"] and row["reason"] for row in rows), path.name
        else:
            assert code == 0
        if code in (0, 1):
            for row in pq.read_table(output).to_pylist():
                assert 1 <= row["reward_model"]["ground_truth"] <= 5
                assert row["videos"][0]["video"].startswith(f"{root}/")
        path.unlink()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    with capsys.disabled():
        print(
            f"\n{count} label files: {outcomes[0]} all rows, {outcomes[1]} some rows, {outcomes[2]} refused; ", end=""
        )
        print(f"the process grew by {grown:.0f} MiB")
    assert sum(outcomes.values()) == count
    assert min(outcomes[code] for code in (0, 1, 2)) > count / 50
    assert grown < 300


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """The histogram takes ten times as long as all the rest, and draws numbers that are checked before."""
    monkeypatch.setattr(cli, "draw_histogram", lambda path, splits: None)


def test_two_hundred_mutated_files(seeds, root, tmp_path, capsys):
    # MATLAB files start a process each.
    run({name: seeds[name] for name in seeds if not name.endswith(".mat")}, root, tmp_path, capsys, 200)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_two_thousand_mutated_files(seeds, root, tmp_path, capsys):
    run(seeds, root, tmp_path, capsys, 2000)
