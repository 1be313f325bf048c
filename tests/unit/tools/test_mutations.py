"""Which changes are made to a module, kind by kind."""

from __future__ import annotations

from tools.mutations import mutants_of

CLAMP = '''"""A docstring that is left alone."""
def clamp(value: int, high: int) -> int:
    """Also left alone."""
    if value > high:
        return high
    return value
'''


def changes(source: str) -> set[tuple[str, str, str]]:
    return {(m.kind, m.before, m.after) for m in mutants_of("m.py", source)}


def test_every_kind_of_change() -> None:
    assert changes("def f(a, b):\n    return a < b and a + 1") == {
        ("delete", "return a < b and a + 1", "return None"),
        ("connective", "a < b and a + 1", "a < b or a + 1"),
        ("invert", "a < b", "a >= b"),
        ("boundary", "a < b", "a <= b"),
        ("arithmetic", "a + 1", "a - 1"),
        ("constant", "1", "2"),
        ("constant", "1", "0"),
    }
    assert changes("x = -y") == {("delete", "x = -y", "pass"), ("arithmetic", "-y", "y")}
    assert ("invert", "~y", "y") in changes("x = ~y")
    assert ("connective", "a & b", "a | b") in changes("x = a & b")
    assert ("arithmetic", "x += y", "x -= y") in changes("x += y")
    assert ("constant", "True", "False") in changes("@d(frozen=True)\nclass C:\n    x: int")
    assert ("constant", "0", "1") in changes("def f(x=0):\n    return x")


def test_conditions_are_inverted_once() -> None:
    assert changes("if a:\n    f()") == {("invert", "a", "not a"), ("delete", "f()", "pass")}
    assert ("invert", "not a", "a") in changes("while not a:\n    f()")
    assert ("invert", "a", "not a") in changes("x = [y for y in z if a]")
    assert ("invert", "a", "not a") in changes("x = 1 if a else 2")
    assert ("invert", "0 < a < 9", "not 0 < a < 9") in changes("if 0 < a < 9:\n    f()")
    assert ("boundary", "0 < a < 9", "0 < a <= 9") in changes("if 0 < a < 9:\n    f()")


def test_blocks_are_deleted_where_that_is_more_than_deleting_what_is_inside() -> None:
    assert ("delete", "for x in y:", "pass") in changes("for x in y:\n    f()\n    g()")
    assert ("delete", "if a:", "pass") in changes("if a:\n    f()\n    g()")
    assert ("delete", "if a:", "pass") not in changes("if a:\n    f()")


def test_what_says_nothing_at_run_time_is_left_alone() -> None:
    source = (
        '"""Doc 1."""\nfrom __future__ import annotations\nimport os\n'
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import x\n"
        "class C:\n    size: int\n    'what a size is'\n"
        "    def f(self, n: Literal[1]) -> Literal[2]:\n        pass\n"
    )
    assert changes(source) == set()
    assert {m.kind for m in mutants_of("m.py", "raise E(f'{a + 1}')")} == {"delete"}


def test_mutants_parse_and_name_their_line() -> None:
    for mutant in mutants_of("m.py", CLAMP):
        compile(mutant.source, "m.py", "exec")
        assert mutant.statement in {"if value > high:", "return high", "return value"}
        assert CLAMP.splitlines()[mutant.line - 1].strip() == mutant.statement


def test_the_source_is_never_among_its_mutants() -> None:
    source = "def f():\n    return None\n"
    assert mutants_of("m.py", source) == []
