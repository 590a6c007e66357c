"""Coverage-led fuzzing of the parsers: `python tests/fuzz/atheris_text.py -runs=300000` (libFuzzer's options)."""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["vqathinker_verl"]):
    from helpers.texts import PIECES, check


def one(data):
    """A text from bytes: each below len(PIECES) is a piece, others are characters as they come."""
    provider = atheris.FuzzedDataProvider(data)
    if provider.ConsumeBool():
        check(provider.ConsumeUnicode(sys.maxsize))
    else:
        numbers = provider.ConsumeBytes(200)
        check("".join(PIECES[number] if number < len(PIECES) else chr(number) for number in numbers))


atheris.Setup(sys.argv, one)
atheris.Fuzz()
