"""What can be wrong with a module: every small change to it, one at a time.

Every statement is deleted (`return x` becomes `return None`), every condition
is inverted, boundaries move by one (`<` against `<=`, integers by one), `and`
meets `or`, plus meets minus, true meets false. Docstrings, imports, annotations
and the text of messages are left alone. Whether a test notices is the business
of `mutants.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
BOUNDARY: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
EXCHANGED: dict[type[ast.operator], tuple[str, type[ast.operator]]] = {
    ast.Add: ("arithmetic", ast.Sub),
    ast.Sub: ("arithmetic", ast.Add),
    ast.Mult: ("arithmetic", ast.FloorDiv),
    ast.FloorDiv: ("arithmetic", ast.Mult),
    ast.Div: ("arithmetic", ast.Mult),
    ast.BitAnd: ("connective", ast.BitOr),
    ast.BitOr: ("connective", ast.BitAnd),
}


@dataclass(frozen=True)
class Mutant:
    """One changed module.

    Args:
        file: Path under the root.
        line: 1-based line of the statement.
        kind: delete, invert, boundary, connective, arithmetic or constant.
        statement: The statement (its head, where it has a body) on one line.
        before: The part that changed.
        after: What it became.
        source: The whole module after the change.
    """

    file: str
    line: int
    kind: str
    statement: str
    before: str
    after: str
    source: str = field(repr=False)

    def __str__(self) -> str:
        """Say where the change is and what it was, in two lines."""
        where = f"{self.file}:{self.line} {self.kind}: {self.before}  →  {self.after}"
        return where if self.kind == "delete" else f"{where}\n    in: {self.statement}"


@dataclass(frozen=True)
class _Place:
    """A node, where it hangs in the tree, and the statement it is part of."""

    parent: ast.AST
    field: str
    index: int | None
    node: ast.AST
    statement: ast.stmt

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def mutants_of(file: str, source: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines.

    Args:
        file: Name to report.
        source: The module's text.
    """
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    found = []
    for place in _places(tree, None):
        for kind, node in _changes(place):
            place.put(ast.fix_missing_locations(node))
            mutated = ast.unparse(tree)
            place.put(place.node)
            if mutated in seen:
                continue
            seen.add(mutated)
            found.append(
                Mutant(
                    file=file,
                    line=place.statement.lineno,
                    kind=kind,
                    statement=_head(place.statement),
                    before=_head(place.node),
                    after=_head(node),
                    source=mutated,
                )
            )
    return sorted(found, key=lambda mutant: mutant.line)


def _places(node: ast.AST, statement: ast.stmt | None) -> Iterator[_Place]:
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_params"):
            continue
        in_list = isinstance(value, list)
        for index, child in enumerate(value if in_list else [value]):
            if not isinstance(child, ast.AST) or _is_left_alone(child):
                continue
            owner = child if isinstance(child, ast.stmt) else statement
            if owner is not None:
                yield _Place(node, name, index if in_list else None, child, owner)
            yield from _places(child, owner)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        return ast.unparse(node.test).endswith("TYPE_CHECKING")
    # f-strings are messages; a test that pins their wording to the letter helps nobody
    return isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom)


def _changes(place: _Place) -> Iterator[tuple[str, ast.AST]]:
    node = place.node
    if isinstance(node, ast.stmt):
        yield from _deletions(node)
    is_condition = place.field in ("test", "ifs")
    if isinstance(node, ast.Compare) or (isinstance(node, ast.expr) and is_condition):
        yield "invert", _negated(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
        yield "invert", node.operand
    if isinstance(node, ast.Compare):
        yield from _boundaries(node)
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "connective", ast.BoolOp(other, node.values)
    elif isinstance(node, ast.BinOp) and type(node.op) in EXCHANGED:
        kind, operator = EXCHANGED[type(node.op)]
        yield kind, ast.BinOp(node.left, operator(), node.right)
    elif isinstance(node, ast.AugAssign) and type(node.op) in EXCHANGED:
        kind, operator = EXCHANGED[type(node.op)]
        yield kind, ast.AugAssign(node.target, operator(), node.value)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "arithmetic", node.operand
    elif isinstance(node, ast.Constant):
        yield from _neighbours(node)


def _deletions(node: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.Return):
        yield "delete", ast.Return(ast.Constant(None))
    elif isinstance(node, ast.If):
        # with one statement inside, deleting that statement is the same mutant
        if len(node.body) > 1 or node.orelse:
            yield "delete", ast.Pass()
    elif not (
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Pass)
        # `name: type` says nothing at run time but in a dataclass, where all would break
        or (isinstance(node, ast.AnnAssign) and node.value is None)
    ):
        yield "delete", ast.Pass()


def _negated(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return node.operand
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        # unlike `not (a < b)`, the opposite operator also works on arrays
        return ast.Compare(node.left, [OPPOSITE[type(node.ops[0])]()], node.comparators)
    return ast.UnaryOp(ast.Not(), node)


def _boundaries(node: ast.Compare) -> Iterator[tuple[str, ast.AST]]:
    for position, operator in enumerate(node.ops):
        if type(operator) in BOUNDARY:
            operators = list(node.ops)
            operators[position] = BOUNDARY[type(operator)]()
            yield "boundary", ast.Compare(node.left, operators, node.comparators)


def _neighbours(node: ast.Constant) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node.value, bool):
        yield "constant", ast.Constant(not node.value)
    elif isinstance(node.value, int):
        yield "constant", ast.Constant(node.value + 1)
        yield "constant", ast.Constant(node.value - 1)


def _head(node: ast.AST) -> str:
    """Return a node's text on one line, without the body of a compound one."""
    if isinstance(node, ast.stmt) and hasattr(node, "body"):
        bare: Any = type(node)(**dict(ast.iter_fields(node)))
        bare.body, bare.orelse, bare.finalbody, bare.handlers = [], [], [], []
        return " ".join(ast.unparse(ast.fix_missing_locations(bare)).split())
    return " ".join(ast.unparse(node).split())
