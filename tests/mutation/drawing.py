"""Which mutants there are, and a draw of them: first a place in the code, then one of the changes that fit there.

A draw of changes alone would give the arithmetic operators, each of which has ten replacements, nearly everything.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray import ast as trees
from cosmic_ray import mutating, plugins

# What numbers and promotions depend on, below src/parapet.
SUBJECTS = ("attacks", "training/losses", "training/regularisers.py", "promotion/selection.py", "promotion/query.py",
            "promotion/gate.py", "promotion/comparison.py", "search/front.py", "steps/front.py", "store/keys.py")
# An operator on bits in place of one on floats is a TypeError that any test sees, which says nothing about the tests;
# the operators on variables need to be told their names.
_LEFT_OUT = ("BitAnd", "BitOr", "BitXor", "LShift", "RShift", "_Is", "RemoveDecorator", "ExceptionReplacer", "Variable")


@dataclass(frozen=True, order=True)
class Mutant:
    """The `occurrence`-th place of `module` (below src/parapet) where `operator` fits; it lies on `line`."""

    module: str
    line: int
    column: int
    operator: str
    occurrence: int

    @property
    def name(self) -> str:
        """For example `attacks/gradient/pgd.py:41:16 Add_Sub 3`."""
        short = self.operator.removeprefix("core/").replace("ReplaceBinaryOperator_", "")
        return f"{self.module}:{self.line}:{self.column} {short} {self.occurrence}"

    def apply(self, code: str) -> str:
        """The code of the module with this one change."""
        changed = mutating.mutate_code(code, plugins.get_operator(self.operator)(), self.occurrence)
        if changed is None:
            raise ValueError(f"{self.name} is not in this code; draw again.")
        return changed


def modules(source: Path) -> list[str]:
    """The modules of `SUBJECTS` below `source`, the folder of the library."""
    paths = [path for subject in SUBJECTS
             for path in ([source / subject] if subject.endswith(".py") else (source / subject).rglob("*.py"))]
    return sorted(str(path.relative_to(source)) for path in paths)


def mutants(module: str, code: str) -> list[Mutant]:
    """Every mutant of a module, without those that no run can tell from the original."""
    tree, silent = trees.get_ast(code), _without_effect(code)
    found = []
    for operator in sorted(name for name in plugins.operator_names() if not any(part in name for part in _LEFT_OUT)):
        visitor = _Places(plugins.get_operator(operator)())
        visitor.walk(tree)
        found += [Mutant(module, line, column, operator, occurrence)
                  for occurrence, (line, column) in enumerate(visitor.places) if (line, column) not in silent]
    return found


def draw(source: Path, count: int, seed: int) -> list[Mutant]:
    """`count` mutants, every place as likely as any other."""
    places: dict[tuple[str, int, int], list[Mutant]] = {}
    for module in modules(source):
        for mutant in mutants(module, (source / module).read_text(encoding="utf-8")):
            places.setdefault((module, mutant.line, mutant.column), []).append(mutant)
    generator = random.Random(seed)
    chosen = generator.sample(sorted(places), min(count, len(places)))
    return [generator.choice(places[place]) for place in chosen]


class _Places(trees.Visitor):
    """Where an operator fits, in the order in which it counts."""

    def __init__(self, operator: object) -> None:
        self.operator, self.places = operator, []

    def visit(self, node: object) -> object:
        self.places += [start for start, _ in self.operator.mutation_positions(node)]
        return node


def _without_effect(code: str) -> set[tuple[int, int]]:
    """Places (line, column) inside annotations, which nobody evaluates, and in blocks for type checkers."""
    tree, lines = ast.parse(code), code.splitlines()
    parts: list[ast.AST] = []
    for node in ast.walk(tree):
        parts += [part for name in ("annotation", "returns") if (part := getattr(node, name, None)) is not None]
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            parts += [node.test, *node.body]
    return {place for part in parts for place in _inside(part, lines)}


def _inside(node: ast.AST, lines: Sequence[str]) -> list[tuple[int, int]]:
    found = []
    for line in range(node.lineno, node.end_lineno + 1):
        first = node.col_offset if line == node.lineno else 0
        last = node.end_col_offset if line == node.end_lineno else len(lines[line - 1])
        found += [(line, column) for column in range(first, last)]
    return found
