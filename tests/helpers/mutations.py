"""Damage to files, the same for the same number: what disks, networks and those who mean harm do to them."""

import struct

import numpy as np

EXTREMES = [
    b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    struct.pack(">I", 10**9),
    struct.pack("<I", 10**9),
    struct.pack(">I", 60000 << 16),
    struct.pack(">HH", 65535, 65535),
]


def flip_bits(data, rng):
    damaged = bytearray(data)
    for at in rng.integers(0, len(data), 2 ** rng.integers(0, 9)):
        damaged[at] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def overwrite_ends(data, rng):
    """Bytes near the start or the end, where headers and indices are."""
    damaged = bytearray(data)
    places = rng.integers(0, min(len(data), 2048), 2 ** rng.integers(0, 6))
    for at in places if rng.random() < 0.5 else len(data) - 1 - places:
        damaged[at] = int(rng.integers(256))
    return bytes(damaged)


def truncate(data, rng):
    return data[: int(rng.integers(1, len(data)))]


def cut_out(data, rng):
    first, last = sorted(rng.integers(0, len(data), 2))
    return data[:first] + data[last:]


def repeat(data, rng):
    first, last = sorted(rng.integers(0, len(data), 2))
    return data[:last] + data[first:]


def write_extremes(data, rng):
    damaged = bytearray(data)
    for at in rng.integers(0, max(1, len(data) - 4), rng.integers(1, 6)):
        damaged[at : at + 4] = EXTREMES[rng.integers(len(EXTREMES))]
    return bytes(damaged)


def noise(data, rng):
    return data[: int(rng.integers(0, 64))] + rng.bytes(int(rng.integers(1, 5000)))


ANY_FILE = (flip_bits, overwrite_ends, truncate, cut_out, repeat, write_extremes, noise)


def swap_headers(seeds, name, rng):
    """The start of one file before the rest of another."""
    other = list(seeds.values())[rng.integers(len(seeds))]
    size = int(rng.integers(4, 2048))
    return other[:size] + seeds[name][size:]


def mutated(seeds, number, own):
    """File `number` of the sequence: the seed's name, what was done, the bytes.

    Args:
        seeds: name -> bytes; taken in turn.
        number: place in the sequence.
        own: mutations of this kind of file, (name, data, rng) -> data, drawn as often as all others together.
    """
    rng = np.random.default_rng(number)
    name = list(seeds)[number % len(seeds)]
    if rng.random() < 0.5:
        how = own[rng.integers(len(own))]
        return name, how.__name__, how(name, seeds[name], rng)
    place = rng.integers(len(ANY_FILE) + 1)
    if place == len(ANY_FILE):
        return name, "swap_headers", swap_headers(seeds, name, rng)
    return name, ANY_FILE[place].__name__, ANY_FILE[place](seeds[name], rng)
