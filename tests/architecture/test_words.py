"""The rule of words: how docstrings open, and where the old name of the product may stand."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "gateway", "worker", "shared", "headrace", "training", "monitoring", "demo", "scripts", "bench", "tests",
)  # fmt: skip
OPENERS = ("What", "Whether", "Those", "Who", "It", "Nothing", "As", "The same")
OLD_NAME = "mill" + "race"


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of every docstring of a module: also of strings after an attribute or a constant."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for statement in node.body:
            match statement:
                case ast.Expr(value=ast.Constant(value=str() as text)):
                    yield statement.lineno, text


def opens_badly(text: str) -> bool:
    """Return True if the first words of a text are one of the openers, such as `What's` or `Those,`."""
    start = text.lstrip()
    return any(start.startswith(opener) and not start[len(opener) :][:1].isalnum() for opener in OPENERS)


def test_no_docstring_opens_with_a_pronoun_or_a_relative_clause() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in docstrings(ast.parse(path.read_text(encoding="utf-8")))
        if opens_badly(text)
    ]
    assert found == []


def test_the_old_name_stands_in_the_changelog_alone() -> None:
    command = ["git", "grep", "--ignore-case", "--files-with-matches", OLD_NAME]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.stdout.split() == ["CHANGELOG.md"], ran.stderr
