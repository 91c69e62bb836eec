"""Atheris searches for bytes that break a parser: it keeps inputs that reach new branches, and mutates them.

    python -m tests.fuzz.parsers bodies .fuzz/bodies -max_total_time=20

The branches are those of our own code; pydantic-core and orjson, which do most of the work, are not instrumented.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gateway", "shared", "worker"]):
    from gateway.broker.celery_message import queue_entry
    from gateway.catalog.row_parser import RowParser
    from shared.queue.celery_app import make_celery
    from shared.settings import CommonSettings
    from tests.support.any_bytes import check_body, check_entry, check_manifest
    from tests.support.manifests import classifier, feature, flag, mixed, text
    from tests.support.messages import EXAMPLES

MANIFEST = mixed(
    feature("size"), feature("weight", nullable=True), text("colour"), text("note", None, nullable=True), flag("new")
)
PARSER = RowParser(MANIFEST, 3)
ROW = {"size": 1.5, "weight": None, "colour": "red", "note": "Straße", "new": True}


def body(data: bytes) -> None:
    """Check the bytes as the body of a request."""
    check_body(PARSER, MANIFEST, data)


def entry(data: bytes) -> None:
    """Check the bytes as a queue entry."""
    check_entry(data)


ODD_WORDS = [b"NaN", b"-Infinity", b"1e400", b'"\\ud800"', b"null", b"true", b'"instances":[', b"[[", b'{"":', b"\xff"]

Target = tuple[Callable[[bytes], None], Callable[[], Iterable[bytes]]]

TARGETS: dict[str, Target] = {
    "bodies": (body, lambda: [json.dumps(each).encode() for each in (ROW, {"instances": [ROW, ROW]})]),
    "entries": (entry, lambda: [queue_entry(make_celery(CommonSettings()), message, "", 1.0) for message in EXAMPLES]),
    "manifests": (check_manifest, lambda: [each.model_dump_json().encode() for each in (MANIFEST, classifier())]),
}
"""Name -> the check that must hold for any bytes, and valid bytes to begin with."""


def main() -> None:
    """Search until libFuzzer's options end it; the exit code is not 0 if a failure was found."""
    name, corpus, *options = sys.argv[1:]
    hold, seeds = TARGETS[name]
    folder = Path(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    words: set[bytes] = set(ODD_WORDS)
    for number, seed in enumerate(seeds()):
        (folder / f"seed{number}").write_bytes(seed)
        words.update(re.findall(rb'"[\w-]{1,20}"', seed))
    dictionary = folder.with_suffix(".words")
    dictionary.write_text("".join('"' + "".join(map("\\x{:02x}".format, word)) + '"\n' for word in sorted(words)))
    atheris.Setup([sys.argv[0], corpus, f"-dict={dictionary}", f"-artifact_prefix={corpus}-", *options], hold)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
