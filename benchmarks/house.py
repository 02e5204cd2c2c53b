"""What the house looks like in figures: code lines, functions, private functions that are called once.

python -m benchmarks.house [FOLDER …]

Code lines leave out blank lines, comments and docstrings. A private function is called once where its name occurs
once, beside its definition, in all the sources of the product.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from pathlib import Path
from statistics import median

ROOMS = ("app.py", "pages", "cli", "analysis", "mrd_core")
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def sources(places: list[Path]) -> dict[Path, str]:
    """Return the text of every Python file in these files and folders."""
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*.py")))]
    return {file: file.read_text(encoding="utf-8") for file in files}


def code_lines(source: str) -> int:
    """Return the number of lines that hold code."""
    documented = (ast.Module, ast.ClassDef, *FUNCTIONS)
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            docstrings |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def called_once(source: str) -> int:
    """Return how many private functions of a module are named there once beside their definition."""
    tree = ast.parse(source)
    names = Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    names += Counter(node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    private = [node.name for node in functions_in(tree) if re.match("_[^_]", node.name)]
    return sum(names[name] == 1 for name in private)


def functions_in(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the functions and methods of a syntax tree."""
    return [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]


def figures(texts: list[str]) -> tuple[int, int, int, float, float, float]:
    """Return files, code lines, functions, their median length, and shares: over 30 lines, called once."""
    functions = [function for text in texts for function in functions_in(ast.parse(text))]
    lengths = [(function.end_lineno or 0) - function.lineno + 1 for function in functions] or [0]
    many = max(len(functions), 1)
    long, once = sum(length > 30 for length in lengths), sum(map(called_once, texts))
    return len(texts), sum(map(code_lines, texts)), len(functions), median(lengths), long / many, once / many


def main() -> None:
    """Print the figures of each room, or of the folders that are named, and of all of them."""
    root = Path(__file__).resolve().parents[1]
    places = [Path(argument) for argument in sys.argv[1:]] or [root / room for room in ROOMS]
    print(f"{'':<32}{'files':>6}{'code':>8}{'functions':>11}{'median':>8}{'> 30 lines':>12}{'called once':>13}")
    for name, chosen in [*((str(place), [place]) for place in places), ("all", places)]:
        row = figures(list(sources(chosen).values()))
        print(f"{name[-31:]:<32}" + "{:>6}{:>8}{:>11}{:>8.0f}{:>12.1%}{:>13.1%}".format(*row))


if __name__ == "__main__":
    main()
