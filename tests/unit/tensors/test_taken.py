"""Hashes of what passed: of the bytes and their names, not of order or chunks."""

from __future__ import annotations

import hashlib

import pytest

from vocabtrim.tensors.taken import Taken


def passed(*pieces: tuple[str, str, list[bytes]]) -> dict[str, str]:
    taken = Taken()
    for role, name, chunks in pieces:
        given = b"".join(taken.passing(role, name, lambda chunks=chunks: chunks)())
        assert given == b"".join(chunks)
    return taken.hashes()


def test_order_and_chunks_do_not_matter() -> None:
    one = passed(("drafter", "a", [b"12", b"3"]), ("drafter", "b", [b"4"]))
    two = passed(("drafter", "b", [b"4"]), ("drafter", "a", [b"1", b"23"]))
    assert one == two


def test_the_hash_is_over_names_and_the_hashes_of_the_bytes() -> None:
    lines = "".join(
        f"{n}\0{hashlib.sha256(b).hexdigest()}\n" for n, b in [("a", b"x"), ("b", b"y")]
    )
    expected = "sha256:" + hashlib.sha256(lines.encode()).hexdigest()
    taken = Taken()
    taken.note("drafter", "b", b"y")
    list(taken.passing("drafter", "a", lambda: [b"x"])())
    assert taken.hashes() == {"drafter": expected}


@pytest.mark.parametrize(
    "other",
    [("drafter", "a", [b"124"]), ("drafter", "c", [b"123"]), ("target head", "a", [b"123"])],
)
def test_another_byte_name_or_input_is_another_hash(other: tuple[str, str, list[bytes]]) -> None:
    assert passed(("drafter", "a", [b"123"])) != passed(other)


def test_what_breaks_off_has_no_hash() -> None:
    taken = Taken()
    chunks = iter(taken.passing("drafter", "a", lambda: [b"1", b"2"])())
    next(chunks)
    assert taken.hashes() == {}
