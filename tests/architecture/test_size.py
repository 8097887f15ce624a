"""Small on purpose: a module that grows past 400 lines, or a function past 50, is a room that is missing."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [p for folder in ("commentary_hub", "server/commentary_hub_server") for p in (ROOT / folder).rglob("*.py")]
GENERAL = {"utils", "helpers", "common", "core", "manager", "misc"}


def statements(function):
    """Lines of a function without its docstring and without the functions inside it, which count for themselves."""
    doc = function.body[0] if ast.get_docstring(function) else None
    inner = [node for node in ast.iter_child_nodes(function) if isinstance(node, ast.FunctionDef)]
    nested = sum(node.end_lineno - node.lineno + 1 for node in inner)
    return function.end_lineno - (doc.end_lineno if doc else function.lineno) - nested


def test_modules_are_small():
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert not {name: lines for name, lines in sizes.items() if lines > 400}


def test_functions_are_small():
    long = {}
    for path in SOURCES:
        if "migrations" in path.parts:  # a list of tables is one
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and statements(node) > 50:
                long[f"{path.relative_to(ROOT)}:{node.name}"] = statements(node)
    assert not long


def test_names_say_what_is_inside():
    assert not [path for path in SOURCES if path.stem.strip("_") in GENERAL]
