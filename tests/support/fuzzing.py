"""Bytes that Hypothesis generates: JSON, almost JSON, and queue entries that are changed in one place."""

import copy
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from headrace.models.manifest import Feature
from tests.support.fuzz_options import FACTOR

# JSON texts that parsers were seen to fail on.
ODD_VALUES = [
    *("NaN", "-Infinity", "1e400", "-0.0", "5e-324", "9" * 400, "9" * 5000, "1.", "+1", "01", "true", "null"),
    *('"nan"', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\ufeff"', '"\U0001f600"', '"' + "x" * 10_001 + '"'),
    *("[" * 200 + "]" * 200, '{"":' * 200 + "1" + "}" * 200, "[", "{", '"', "", " ", "\x00", "[1,]", '{"a":1,"a":2}'),
]


LONG_NAME = "~/" * 10_000


def fuzzed(examples: int) -> settings:
    """Return settings with the same examples in each run, or with many new ones for `make fuzz`."""
    factor = int(os.environ.get(FACTOR, "1"))
    return settings(
        max_examples=examples * factor,
        derandomize=factor == 1,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


def json_values() -> st.SearchStrategy[Any]:
    """Return a strategy for all values that `json.loads` could return."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    )


def bodies(features: Sequence[Feature]) -> st.SearchStrategy[bytes]:
    """Return a strategy for rows with these features: valid, with a fault, or with bytes inserted; or any bytes."""
    values = st.sampled_from(ODD_VALUES) | json_values().map(json.dumps)
    names = st.sampled_from([*(feature.name for feature in features), "instances", "", LONG_NAME])
    row = st.tuples(*(st.tuples(st.just(feature.name), _value(feature)) for feature in features)).map(list)
    # One member is removed, and one is inserted that may duplicate another.
    wrong = st.builds(
        lambda members, out, at, member: [*members[:out], *members[out + 1 :][:at], member, *members[out + 1 :][at:]],
        row,
        st.integers(0, len(features)),
        st.integers(0, len(features)),
        st.tuples(names, values),
    )
    good, bad = row.map(_object), wrong.map(_object)
    lists = st.lists(good, min_size=1, max_size=3) | st.lists(good | bad | values, max_size=3)
    texts = good | bad | lists.map(lambda each: f'{{"instances":[{",".join(each)}]}}')
    return texts.map(_encoded) | texts.map(_encoded) | _cut(texts | values) | st.binary(max_size=200)


def _value(feature: Feature) -> st.SearchStrategy[str]:
    good: dict[str, st.SearchStrategy[Any]] = {
        "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70),
        "string": st.text(max_size=20),
        "boolean": st.booleans(),
    }
    values = good[feature.type].map(json.dumps)
    return values | st.just("null") if feature.nullable else values


def _object(members: Sequence[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in members) + "}"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _cut(texts: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """Insert a few other bytes."""

    def cut(text: str, at: int, wedge: bytes, left_out: int) -> bytes:
        body = _encoded(text)
        at %= len(body) + 1
        return body[:at] + wedge + body[at + left_out :]

    return st.builds(cut, texts, st.integers(0, 2**16), st.binary(max_size=3), st.integers(0, 5))


def changed(content: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for a JSON document with one part replaced or removed."""
    places = [*_places(content)]

    def change(place: tuple[Any, ...], value: Any, take_out: bool) -> Any:
        whole = copy.deepcopy(content)
        part = whole
        for key in place[:-1]:
            part = part[key]
        if take_out:
            del part[place[-1]]
        else:
            part[place[-1]] = value
        return whole

    return st.builds(change, st.sampled_from(places), json_values(), st.booleans())


def _places(content: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    keys = content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield (*above, key)
        yield from _places(content[key], (*above, key))
