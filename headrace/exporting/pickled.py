"""Names that a pickle would import, read from its opcodes without executing it."""

import pickletools
from collections.abc import Collection

from headrace.loading.rules import is_known

_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")
_MEMO_READS = ("BINGET", "LONG_BINGET", "GET")
_MEMO_WRITES = ("BINPUT", "LONG_BINPUT", "PUT")


def imported_names(pickled: bytes) -> set[tuple[str, str]]:
    """Return (module, qualified name) of every class and function that a plain pickle refers to.

    The files of joblib are no plain pickles: they hold raw arrays between the opcodes.
    """
    names: set[tuple[str, str]] = set()
    memo: dict[int, str | None] = {}
    # The module and the name are the last two texts on the stack, whether written out or read from the memo.
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
            memo[int(str(argument))] = top
            continue
        top = _pushed_text(opcode.name, argument, memo)
        if top is not None:
            texts = [*texts[-1:], top]
    return names


def foreign_names(pickled: bytes, extra_modules: Collection[str] = ()) -> list[str]:
    """Return the dotted names that workers refuse; `extra_modules` are modules or packages that they accept as well."""
    return sorted(
        f"{module}.{name}" for module, name in imported_names(pickled) if not is_known(module, name, extra_modules)
    )


def _pushed_text(opcode: str, argument: object, memo: dict[int, str | None]) -> str | None:
    if opcode in _TEXTS:
        return str(argument)
    if opcode in _MEMO_READS:
        return memo.get(int(str(argument)))
    return None
