"""A text's room, its end, and what is refused before anything runs."""

from __future__ import annotations

import pytest

from tests.tiny_models import V, tiny_model
from vocabtrim.core.errors import DecodeError
from vocabtrim.decode.accept import Verdict
from vocabtrim.decode.target import Target
from vocabtrim.decode.text import Request, Text, new_token_room

TARGET = Target(tiny_model(max_position_embeddings=16))


def test_room() -> None:
    assert new_token_room(TARGET, 1, 100) == 15
    assert new_token_room(TARGET, 10, 6) == 6
    assert new_token_room(TARGET, 10, 7) == 6
    assert new_token_room(TARGET, 10, 5) == 5
    assert new_token_room(TARGET, 1, 1) == 1
    assert Request("a", (5,) * 15, 100).room(TARGET) == 1
    endless = Target(tiny_model())
    endless.context = None
    assert new_token_room(endless, 1000, 100) == 100


@pytest.mark.parametrize("key", ["", "a"])
@pytest.mark.parametrize(
    ("prompt", "wanted", "says"),
    [
        ((), 4, "has no tokens"),
        ((5,) * 16, 4, "has 16 tokens, but the model's context is 16; shorten it or leave it out"),
        ((5,) * 17, 4, "has 17 tokens"),
        ((5, V), 4, r"has an id outside \[0, 96\), the ids that the model reads"),
        ((-1, 5), 4, r"has an id outside \[0, 96\), the ids that the model reads"),
    ],
)
def test_a_prompt_that_cannot_be_decoded_is_named(
    key: str, prompt: tuple[int, ...], wanted: int, says: str
) -> None:
    with pytest.raises(DecodeError, match=("^prompt a " if key else "^the prompt ") + says):
        Request(key, prompt, wanted).room(TARGET)


def test_a_token_at_least_is_asked_for() -> None:
    with pytest.raises(DecodeError, match="max_new_tokens must be at least 1, found 0"):
        Request("a", (5,), 0).room(TARGET)


def test_a_text_ends_with_its_room_or_an_eos() -> None:
    text = Text(Request("a", (5,), 4), 3)
    text.emit([7], {2})
    assert (text.left, text.ended, text.finish_reason) == (2, False, "length")
    text.emit([8, 9], {2})
    assert (text.left, text.ended, text.finish_reason) == (0, True, "length")
    assert text.token_ids == [7, 8, 9]
    stopped = Text(Request("a", (5,), 4), 3)
    stopped.emit([7, 2], {2})
    assert (stopped.left, stopped.ended, stopped.finish_reason) == (1, True, "stop")


def test_cycles_are_kept_as_metrics_count_them() -> None:
    text = Text(Request("a", (5,), 9), 9)
    text.count(Verdict(3, 1, (4, 5)))
    text.count(Verdict(2, 2, (4, 2)))
    assert text.cycles == [(3, 1, 2), (2, 2, 2)]
