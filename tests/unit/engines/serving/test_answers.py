from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.fake_engine import tokens_of
from tests.serving import asker, asks, ending, launcher, logged, tell
from vocabtrim.core.errors import ServerError
from vocabtrim.engines.serving.answers import Answer
from vocabtrim.engines.serving.base import EngineError, EngineFailure, Serve

SERVE = Serve(Path("target.gguf"))


def test_an_answer_has_what_the_server_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, ms={"": 20.0})
    (ask,) = asks("hello")
    with ending() as started:
        server = launcher(tmp_path).start(SERVE, started)
        found = asker().one(server, ask)
        short = asker().one(server, ask, max_new_tokens=3)
    expected = tokens_of('[{"role": "user", "content": "hello"}]', 64)
    assert found.key == "hello"
    assert found.new_tokens == expected
    assert found.token_ids is not None
    assert len(found.token_ids) == expected
    assert found.decode_s == pytest.approx((expected - 1) * 0.02)
    assert found.wall_s > 0
    assert short.new_tokens == 3


def test_several_at_once_come_in_order_and_are_timed_as_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, answer_s=0.3)
    prompts = asks(*"abcdefgh")
    with ending() as started:
        server = launcher(tmp_path).start(SERVE, started)
        answers, together_s = asker().all(server, prompts, 8)
        _, alone_s = asker().all(server, prompts[:4], 1)
    assert [answer.key for answer in answers] == list("abcdefgh")
    assert 0.3 <= together_s < 8 * 0.3
    assert alone_s >= 4 * 0.3


def test_tokens_are_never_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, usage=False)
    with ending() as started:
        server = launcher(tmp_path).start(SERVE, started)
        with pytest.raises(ServerError, match="neither `usage` nor token ids"):
            asker().one(server, asks("hello")[0])


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_refused_prompt_is_named_with_the_servers_reason(
    tmp_path: Path, concurrency: int
) -> None:
    with ending() as started:
        server = launcher(tmp_path).start(SERVE, started)
        with pytest.raises(ServerError, match=r"prompt REFUSED .HTTP 400: the prompt is too long"):
            asker().all(server, asks("REFUSED", "b", "c"), concurrency)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_server_that_ends_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    tell(monkeypatch, dies_after=1)
    with ending() as started:
        server = launcher(tmp_path).start(SERVE, started)
        with pytest.raises(EngineError, match=r"(?s)in the middle of its work, with 3.*cannot go"):
            asker().all(server, asks("a", "b", "c"), concurrency)


def test_one_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, hangs_after=0)
    with ending() as started:
        server = launcher(tmp_path).start(SERVE, started)
        with pytest.raises(EngineFailure, match="no answer to prompt a: no whole answer within 1"):
            asker(timeout_s=1.0).one(server, asks("a")[0])


def test_counters_are_read_or_known_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ending() as started:
        server = launcher(tmp_path).start(SERVE, started)
        answer = asker().one(server, asks("a")[0])
        found = asker().metrics(server)
        assert found is not None
        assert found.totals[server.engine.counters.tokens] == answer.new_tokens
        tell(monkeypatch, metrics="none")
        silent = launcher(tmp_path).start(SERVE, started)
        assert asker().metrics(silent) is None


def test_a_signal_ends_the_wait_for_a_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, hangs_after=0, log=str(tmp_path / "log"))
    with ending() as started:
        server = launcher(tmp_path).start(SERVE, started)
        asking = asker()
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt), asking.interrupts.held():
            asking.all(server, asks("a", "b"), 2)
        assert time.monotonic() - began < 20.0
    assert logged(tmp_path / "log")


def test_texts_are_compared_by_ids_where_both_have_them() -> None:
    def answer(content: str, ids: tuple[int, ...] | None) -> Answer:
        return Answer("k", content, ids, 3, 1.0, None)

    assert answer("a", (1, 2)).same_text(answer("b", (1, 2)))
    assert not answer("a", (1, 2)).same_text(answer("a", (1, 3)))
    assert answer("a", None).same_text(answer("a", (1, 3)))
    assert not answer("a", None).same_text(answer("b", (1, 3)))
