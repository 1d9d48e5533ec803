"""Valid files made a little wrong, knowing their structure: JSON trees, safetensors headers, rows, and plain bytes.

Every mutation draws from one generator, so that a number names an input for good.
"""

import json
import random
import struct
from collections.abc import Callable
from copy import deepcopy
from typing import Any

DEEP: Any = []
for _ in range(400):
    DEEP = [DEEP]

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 1.5, 10**8, 10**30, -(2**63), float("nan"), float("inf"), 1e308),
    *("", "x", "0", "../x", "/etc/passwd", "\x1b[2J\x1b]0;t\x07", "\0", "\ud800", "a" * 5000, "﻿", "None"),
    *([], {}, [1], {"x": 1}, [[]], ["x", 5], DEEP),
)
"""Values that stand where another kind or size was meant."""


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all nodes of a JSON tree, the root left out."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, item in items for path in ((*here, key), *paths(item, (*here, key)))]


def mutated_tree(value: Any, draw: random.Random) -> Any:
    """A copy with one to three nodes replaced, dropped, renamed, doubled or exchanged."""
    value = json.loads(json.dumps(value))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = paths(value)
        if not places or draw.random() < 0.02:
            return deepcopy(draw.choice(ODD))
        # Near the root first: there stand the settings, and in a tokenizer thousands of words below.
        depth = draw.choice((1, 2, 2, 3, 9))
        chosen = draw.choice([path for path in places if len(path) <= depth] or places)
        parent = value
        for key in chosen[:-1]:
            parent = parent[key]
        key, kind = chosen[-1], draw.randrange(8)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, dict):
            parent[f"{key}x"] = parent.pop(key)
        elif kind == 2 and isinstance(parent, list):
            parent.append(parent[key])
        elif kind == 3:
            other = value
            for part in draw.choice(places):
                try:
                    other = other[part]
                except (KeyError, IndexError, TypeError):
                    break
            parent[key] = json.loads(json.dumps(other))
        elif kind == 4 and isinstance(parent[key], int) and not isinstance(parent[key], bool):
            parent[key] += draw.choice((-1, 1, 2**16, -(2**31)))
        else:
            parent[key] = deepcopy(draw.choice(ODD))
    return value


def mutated_bytes(content: bytes, draw: random.Random) -> bytes:
    """A copy that is cut, flipped, doubled in part, or has something put in."""
    at, kind = draw.randrange(len(content) + 1), draw.randrange(6)
    if kind == 0:
        return content[:at]
    if kind == 1 and at < len(content):
        return content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1 :]
    if kind == 2:
        return content[:at] + content[at : at + draw.randrange(64)] + content[at:]
    if kind == 3:
        return content[:at] + content[at + draw.randrange(64) :]
    odd = (b"\0", b"\r", b'"', b"\xff", b"\xef\xbb\xbf", b"{", b"[" * 5000, b"\n\n", b",", b"NaN", b"1e999", b"\x1b[2J")
    return content[:at] + draw.choice(odd) + content[at:]


def mutated_json(content: bytes, draw: random.Random) -> bytes:
    """A JSON file, mostly with another tree, sometimes with other bytes."""
    if draw.random() < 0.2:
        return mutated_bytes(content, draw)
    return json.dumps(mutated_tree(json.loads(content), draw)).encode()


def mutated_safetensors(content: bytes, draw: random.Random) -> bytes:
    """A safetensors file with another header, another length of it, or other bytes."""
    length = int.from_bytes(content[:8], "little")
    kind = draw.randrange(4)
    if kind == 0:
        return mutated_bytes(content, draw)
    if kind == 1:
        wrong = draw.choice((0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1))
        return struct.pack("<Q", wrong % 2**64) + content[8:]
    header = json.dumps(mutated_tree(json.loads(content[8 : 8 + length]), draw)).encode()
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def mutated_rows(content: bytes, draw: random.Random) -> bytes:
    """Lines of rows with one exchanged, joined, repeated or broken, or other bytes."""
    lines, kind = content.split(b"\n"), draw.randrange(5)
    at = draw.randrange(len(lines))
    if kind == 0:
        lines[at] = draw.choice(
            (b"", b'"', b",,,,", b"\0", b"null", b"[]", b'{"text": 5}', b"a\rb", b"\xff\xfe", b"{" * 3000)
        )
    elif kind == 1:
        lines[at : at + 2] = [b"".join(lines[at : at + 2])]
    elif kind == 2:
        lines[at:at] = [lines[at]] * draw.choice((1, 50))
    elif kind == 3:
        draw.shuffle(lines)
    else:
        return mutated_bytes(content, draw)
    return b"\n".join(lines)


Mutation = Callable[[bytes, random.Random], bytes]


def mutation_of(name: str) -> Mutation:
    """The mutation for a file of that name."""
    if name.endswith(".safetensors"):
        return mutated_safetensors
    if name.endswith((".csv", ".tsv", ".jsonl", ".txt")):
        return mutated_rows
    return mutated_json if name.endswith(".json") else mutated_bytes
