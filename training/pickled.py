"""What a pickle would import, read from its opcodes: nothing is executed."""

import pickletools
import sys

WORKER_PACKAGES = frozenset({"joblib", "numpy", "pandas", "scipy", "sklearn", "threadpoolctl"})
"""What a worker can import beside the standard library, by top-level name."""

_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")
_MEMO_READS = ("BINGET", "LONG_BINGET", "GET")
_MEMO_WRITES = ("BINPUT", "LONG_BINPUT", "PUT")


def imported_names(pickled: bytes) -> set[tuple[str, str]]:
    """(module, qualified name) of every class and function that a plain pickle refers to.

    Not for the files of joblib, which hold raw arrays between the opcodes.
    """
    names: set[tuple[str, str]] = set()
    memo: dict[int, str | None] = {}
    # Module and name are the last two texts on the stack, whether written out or fetched from the memo.
    texts: list[str | None] = []
    top: str | None = None
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            names.add((module, name))
        elif opcode.name == "STACK_GLOBAL":
            module_text, name_text = texts[-2:]
            names.add((str(module_text), str(name_text)))
        if opcode.name == "MEMOIZE":
            memo[len(memo)] = top
            continue
        if opcode.name in _MEMO_WRITES:
            memo[int(argument)] = top
            continue
        top = _pushed_text(opcode.name, argument, memo)
        if top is not None:
            texts = [*texts[-1:], top]
    return names


def foreign_names(pickled: bytes, extra_modules: tuple[str, ...] = ()) -> list[str]:
    """The dotted names that a worker can't import; `extra_modules` are top-level packages that it also has."""
    known = WORKER_PACKAGES | sys.stdlib_module_names | set(extra_modules)
    return sorted(
        f"{module}.{name}"
        for module, name in imported_names(pickled)
        if module == "__main__" or module.partition(".")[0] not in known
    )


def _pushed_text(opcode: str, argument: object, memo: dict[int, str | None]) -> str | None:
    if opcode in _TEXTS:
        return str(argument)
    if opcode in _MEMO_READS:
        return memo.get(int(str(argument)))
    return None
