"""Many prompts to a server that fails: answered, refused, or given up in time."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from typing import Any

import pytest

from tests.misbehaving_server import (
    PASSING,
    MisbehavingServer,
    Script,
    always,
    answer_ids,
    seeded,
    serving,
)
from vocabtrim.core.errors import EnvironmentFailure, ServerError
from vocabtrim.engines.openai import exchange
from vocabtrim.engines.openai.asking import (
    LEAST_SILENCE,
    THREAD_NAME,
    Ask,
    Given,
    Patience,
    Server,
    retry_after,
)
from vocabtrim.engines.openai.exchange import Endpoint
from vocabtrim.engines.openai.wire import Asking

WORDS = [f"prompt {index}" for index in range(40)]


@pytest.fixture(autouse=True)
def small_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_BYTES", 1 << 19)


def asks(texts: list[str]) -> list[Ask]:
    return [Ask(f"id of {text}", [{"role": "user", "content": text}]) for text in texts]


def server_at(
    behind: MisbehavingServer, *, key: str | None = None, asking: Any = None, **patience: Any
) -> Server:
    settings = {"concurrency": 4, "timeout_s": 0.5, "retries": 2, "pause_s": 0.01} | patience
    asking = {"model": "tiny", "max_new_tokens": 8} | (asking or {})
    return Server(Endpoint.parse(behind.url, key), Asking(**asking), Patience(**settings))


def ask_all(server: Server, texts: list[str]) -> dict[str, Given]:
    given = {one.key.removeprefix("id of "): one for one in server.answers(asks(texts))}
    assert sorted(given) == sorted(texts)
    return given


def once(action: str) -> Script:
    return lambda _text, asked: action if asked == 0 else "answer"


def test_all_are_answered_and_no_more_are_in_flight_than_allowed() -> None:
    with serving() as behind:
        behind.delay_s = 0.02
        given = ask_all(server_at(behind, concurrency=3), WORDS)
        assert behind.busiest == 3
        assert set(behind.asked.values()) == {1}
    for text, one in given.items():
        assert one.text is not None
        assert len(one.text.content.split()) == len(answer_ids(text, None)) - 1


@pytest.mark.parametrize("action", [*PASSING, "status 408", "status 409", "status 425", "deep"])
def test_what_may_pass_is_tried_again(action: str) -> None:
    with serving(once(action)) as behind:
        given = ask_all(server_at(behind), WORDS[:2])
        assert all(one.text is not None for one in given.values())
        assert set(behind.asked.values()) == {2}


@pytest.mark.parametrize("action", PASSING)
def test_what_does_not_pass_is_given_up_with_its_reason(action: str) -> None:
    with serving(always(action)) as behind:
        (one,) = ask_all(server_at(behind, retries=1, timeout_s=0.2), WORDS[:1]).values()
        assert one.text is None
        assert not one.final
        assert one.reason.endswith(" (2 tries)")
        assert behind.asked[WORDS[0]] == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 301])
def test_a_refusal_is_final(status: int) -> None:
    with serving(always(f"status {status}")) as behind:
        server = server_at(behind)
        server.kind = "vllm"
        (one,) = ask_all(server, WORDS[:1]).values()
        assert one.final
        assert one.reason.startswith(f"HTTP {status}: out of order")
        assert behind.asked[WORDS[0]] == 1


def test_the_server_is_left_alone_as_long_as_it_asks() -> None:
    with serving(once("busy 1")) as behind:
        began = time.monotonic()
        (one,) = ask_all(server_at(behind), WORDS[:1]).values()
        assert one.text is not None
        assert time.monotonic() - began >= 1.0


def test_who_asks_for_too_long_a_wait_is_given_up_at_once() -> None:
    with serving(always("busy 86400")) as behind:
        (one,) = ask_all(server_at(behind), WORDS[:1]).values()
        assert one.reason == "HTTP 429: too many; it asks to be left alone for 86400 s"
        assert behind.asked[WORDS[0]] == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("-5", 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ("nan", 0.0),
        ("²", 0.0),
        ("1e999", float("inf")),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:05 GMT", 0.0),
        ("Thu, 99 Foo 1970", 0.0),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str, seconds: float) -> None:
    assert retry_after({"retry-after": header}, now_s=10.0) == seconds
    assert retry_after({}) == 0.0


def test_pauses_double_to_a_limit_and_differ_by_prompt() -> None:
    patience = Patience(pause_s=1.0)
    for attempt, full in enumerate([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]):
        drawn = [patience.pause(0, f"p{index}", attempt) for index in range(50)]
        assert all(full / 2 <= one <= full for one in drawn)
        assert len(set(drawn)) == 50
    assert patience.pause(0, "p", 1) == patience.pause(0, "p", 1)
    assert patience.pause(0, "p", 1) != patience.pause(1, "p", 1)
    assert patience.pause(0, "p", 10_000) <= 30.0


@pytest.mark.parametrize("seed", range(3))
def test_under_seeded_failures_every_prompt_is_answered_or_listed(seed: int) -> None:
    with serving(seeded(seed, good=0.4)) as behind:
        given = ask_all(server_at(behind, concurrency=8, retries=1, timeout_s=0.3), WORDS)
    done = [one for one in given.values() if one.text is not None]
    lost = [one for one in given.values() if one.text is None]
    assert done
    assert lost
    assert all(one.reason for one in lost)


def test_a_server_that_is_gone_is_not_asked_for_the_rest() -> None:
    with serving(always("drop")) as behind:
        behind.delay_s = 0.02
        given = ask_all(server_at(behind, concurrency=2, retries=0), WORDS)
        asked = sum(behind.asked.values())
        assert LEAST_SILENCE <= asked < len(WORDS) / 2
    unasked = [one for one in given.values() if one.reason.startswith("not asked")]
    assert len(unasked) == len(WORDS) - asked


def test_refusals_are_no_silence() -> None:
    with serving(always("status 400")) as behind:
        server = server_at(behind, concurrency=2)
        server.kind = "vllm"
        given = ask_all(server, WORDS)
        assert sum(behind.asked.values()) == len(WORDS)
    assert all(one.final for one in given.values())


@pytest.mark.parametrize("pause_s", [0.01, 30.0])
def test_closing_ends_the_threads(pause_s: float) -> None:
    def first_well(text: str, _asked: int) -> str:
        return "answer" if text == WORDS[0] else "status 500"

    with serving(first_well) as behind:
        behind.delay_s = 0.02
        answers = server_at(behind, retries=1000, pause_s=pause_s).answers(asks(WORDS))
        assert next(answers).text is not None
        assert asking_threads()
        answers.close()
        until = time.monotonic() + 10
        while asking_threads() and time.monotonic() < until:
            time.sleep(0.01)
        assert not asking_threads()
        assert len(behind.asked) < len(WORDS)


def asking_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def test_a_fault_of_ours_is_raised_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Asking, "document", broken)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with serving() as behind, pytest.raises(RuntimeError, match="fault of ours"):
        ask_all(server_at(behind), WORDS)


@pytest.mark.parametrize("kind", ["vllm", "sglang", "llamacpp"])
def test_the_server_says_what_it_is(kind: str) -> None:
    with serving(kind=kind) as behind:
        server = server_at(behind)
        server.identify()
        assert server.kind == kind
        given = ask_all(server, WORDS[:3])
    for text, one in given.items():
        assert one.text is not None
        assert list(one.text.token_ids or ()) == answer_ids(text, None)


def test_a_server_of_no_known_kind_is_asked_without_what_it_refuses() -> None:
    with serving(kind="somebody") as behind:
        behind.refuses = frozenset({"return_token_ids"})
        server = server_at(behind, concurrency=1)
        server.identify()
        assert server.kind is None
        given = ask_all(server, WORDS[:3])
        assert all(one.text is not None for one in given.values())
        assert server.is_plain
        # the first prompt was asked twice, the others without the fields at once
        assert list(behind.asked.values()) == [2, 1, 1]
        assert behind.requests[-1].keys() == {
            "model",
            "max_tokens",
            "temperature",
            "stream",
            "messages",
        }


def test_a_top_k_that_was_asked_for_is_not_done_without() -> None:
    with serving(kind="somebody") as behind:
        behind.refuses = frozenset({"top_k"})
        server = server_at(behind, asking={"temperature": 1.0, "top_k": 5})
        (one,) = ask_all(server, WORDS[:1]).values()
        assert one.reason == "HTTP 400: unknown field top_k"
        assert not server.is_plain


def test_a_prompt_that_is_refused_either_way_changes_nothing() -> None:
    with serving(always("status 400"), kind="somebody") as behind:
        server = server_at(behind)
        (one,) = ask_all(server, WORDS[:1]).values()
        assert one.final
        assert not server.is_plain


def test_nobody_there_is_one_error_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    server = Server(Endpoint.parse(url), Asking("tiny", 8), Patience(pause_s=30.0))
    began = time.monotonic()
    with pytest.raises(EnvironmentFailure, match=r"no server at http://127\.0\.0\.1:") as caught:
        server.identify()
    assert "Connection refused; start it, or correct --base-url" in str(caught.value)
    assert time.monotonic() - began < 5


def test_a_refused_key_and_a_wrong_name_are_one_error_at_once() -> None:
    with serving(always("status 401")) as behind, pytest.raises(ServerError, match="api-key-env"):
        server_at(behind).identify()
    with serving() as behind, pytest.raises(ServerError, match="serves tiny, not 'other'"):
        server_at(behind, asking={"model": "other"}).identify()
    # llama-server takes any name
    with serving(kind="llamacpp") as behind:
        server_at(behind, asking={"model": "other"}).identify()


def test_a_list_of_models_is_not_needed() -> None:
    with serving(always("status 404")) as behind:
        server = server_at(behind)
        server.identify()
        assert server.kind is None
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        server = Server(Endpoint.parse(url), Asking("tiny", 8), Patience(timeout_s=0.2))
        server.identify()
        assert server.kind is None


def test_a_key_in_a_complaint_is_covered() -> None:
    with serving(always("status 400")) as behind:
        server = server_at(behind, key="out of")
        server.kind = "vllm"
        (one,) = ask_all(server, WORDS[:1]).values()
        assert one.reason == "HTTP 400: … order"


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"concurrency": 5000},
        {"timeout_s": 0.0},
        {"timeout_s": float("nan")},
        {"timeout_s": float("inf")},
        {"retries": -1},
        {"pause_s": -1.0},
    ],
)
def test_patience_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ServerError, match="must"):
        Patience(**wrong)


def test_no_prompts_need_no_thread() -> None:
    with serving() as behind:
        assert list(itertools.chain(server_at(behind).answers([]))) == []
