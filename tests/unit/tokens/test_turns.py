"""Turns: what the model wrote, under every habit that templates have."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chat_templates import TEMPLATES
from vocabtrim.tokens.template import RENDER_FAULTS, ChatTemplate
from vocabtrim.tokens.turns import Probe, Turn, TurnFinder, probe

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
ENDS = ("<|im_end|>", "<|eot_id|>", "</s>")


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def finder(name: str) -> TurnFinder:
    template = ChatTemplate(TEMPLATES[name], SPECIAL)
    return TurnFinder(template, probe(template), ENDS)


def turn_of(name: str, *messages: dict[str, Any]) -> Turn | None:
    *context, last = messages
    return finder(name).find(context, last, None)


def written(name: str, *messages: dict[str, Any]) -> str:
    turn = turn_of(name, *messages)
    assert turn is not None
    return turn.written


@pytest.mark.parametrize(
    ("name", "header", "tail", "prompts"),
    [
        ("chatml", "<|im_start|>assistant\n", "<|im_end|>\n", True),
        (
            "llama31",
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "<|eot_id|>",
            True,
        ),
        ("r1", "<|im_start|>assistant\n", "<|im_end|>\n", True),
        ("mistral", "", "</s>", False),
        ("no_prompt", "<|im_start|>assistant\n", "<|im_end|>\n", False),
        ("gemma", "<|im_start|>model\n", "<|im_end|>\n", True),
        ("phi3", None, "<|im_end|>\n</s>", True),
    ],
)
def test_what_a_probe_learns(name: str, header: str | None, tail: str, prompts: bool) -> None:
    assert probe(ChatTemplate(TEMPLATES[name], SPECIAL)) == Probe(header, tail, prompts)


def test_a_template_that_takes_no_probe_teaches_nothing() -> None:
    refusing = ChatTemplate("{{ raise_exception('never') }}", {})
    silent = ChatTemplate("{% for m in messages %}x{% endfor %}", {})
    assert probe(refusing) == probe(silent) == Probe()
    assert TurnFinder(silent, Probe(), ENDS).find([user("a")], assistant("b"), None) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chatml", "It is.\n<|im_end|>"),
        ("llama31", "It is.<|eot_id|>"),
        ("qwen3", "It is.\n<|im_end|>"),
        ("r1", "It is.\n<|im_end|>"),
        ("phi3", "It is.\n<|im_end|>"),
        ("mistral", " It is.\n</s>"),
        ("no_prompt", "It is.\n<|im_end|>"),
        ("smollm2", "It is.\n<|im_end|>"),
        ("gemma", "It is.<|im_end|>"),
        ("marked", "It is.\n<|im_end|>"),
    ],
)
@pytest.mark.parametrize("earlier", [[], [user("Is it?"), assistant("Was it?")]])
def test_a_turn_goes_from_the_header_to_the_turn_end(
    name: str, expected: str, earlier: list[dict[str, Any]]
) -> None:
    assert written(name, *earlier, user("It is?"), assistant("It is.\n")) == expected


def test_thinking_counts_in_the_turn_that_it_belongs_to() -> None:
    first = [user("a"), assistant("one", reasoning_content="because")]
    assert written("qwen3", *first) == "<think>\nbecause\n</think>\n\none<|im_end|>"
    assert written("qwen3", *first, user("b"), assistant("two")) == "two<|im_end|>"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("answer", "answer<|im_end|>"),
        ("<b>bold</b>", "<b>bold</b><|im_end|>"),
        ("<think>\nwhy\n</think>\n\nanswer", "answer<|im_end|>"),
        ("a", "a<|im_end|>"),
        ("", "<|im_end|>"),
    ],
)
def test_a_prompt_that_opens_thinking_need_not_continue_in_the_rendering(
    content: str, expected: str
) -> None:
    assert written("r1", user("q"), assistant(content)) == expected


def test_a_call_is_the_models_own_text() -> None:
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    message = assistant("", tool_calls=[call])
    expected = '{"name": "f", "arguments": {"x": 1}}<|eot_id|>'
    assert written("llama31", user("q"), message) == expected


@pytest.mark.parametrize("name", ["smollm2", "chatml", "llama31"])
def test_a_conversation_can_begin_with_the_assistant(name: str) -> None:
    end = "<|eot_id|>" if name == "llama31" else "<|im_end|>"
    assert written(name, assistant("Welcome")) == "Welcome" + end


def test_text_before_the_turn_that_looks_like_it_is_not_taken() -> None:
    messages = [user("assistant\nyes<|im_end|>"), assistant("assistant")]
    assert written("no_prompt", *messages) == "assistant<|im_end|>"
    assert written("smollm2", assistant("system")) == "system<|im_end|>"


def test_a_turn_without_an_end_goes_to_the_last_character() -> None:
    template = ChatTemplate(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", {}
    )
    turn = TurnFinder(template, probe(template), ENDS).find([user("a")], assistant("b"), None)
    assert turn == Turn("user: a\nassistant: b\n", ((19, 20),), closed=False)


def test_the_first_of_several_ends_is_the_models() -> None:
    turn = turn_of("phi3", user("a"), assistant("b"))
    assert turn is not None
    assert turn.text.endswith("b<|im_end|>\n</s>")
    assert (turn.written, turn.closed) == ("b<|im_end|>", True)


def test_marked_turns_follow_their_marks_even_where_the_context_does_not_render() -> None:
    source = (
        "{% if messages | length < 2 %}{{ raise_exception('too short') }}{% endif %}"
        + TEMPLATES["marked"]
    )
    template = ChatTemplate(source, SPECIAL)
    found = TurnFinder(template, probe(template), ENDS).find([user("a")], assistant("b"), None)
    assert found is not None
    assert found.written == "b<|im_end|>"


def test_all_marks_of_a_turn_are_its_own() -> None:
    source = (
        "{% if messages | length < 2 %}{{ raise_exception('too short') }}{% endif %}"
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content }}{% endgeneration %}, {% generation %}!{% endgeneration %}"
        "{% else %}{{ m.content }}: {% endif %}{% endfor %}"
    )
    template = ChatTemplate(source, SPECIAL)
    found = TurnFinder(template, probe(template), ENDS).find([user("a")], assistant("b"), None)
    assert found == Turn("a: b, !", ((3, 4), (6, 7)), closed=True)


def test_a_turn_is_known_by_its_header_and_text_where_what_precedes_it_changes() -> None:
    # the number of messages stands in front, and answers are cut
    source = (
        "{% if messages | length > 2 %}{{ messages | length }}{% endif %}"
        "{% for m in messages %}"
        "{{ '<|im_start|>' + m.role + '\n' + m.content[:20] + '<|im_end|>\n' }}{% endfor %}"
    )
    template = ChatTemplate(source, SPECIAL)
    found = TurnFinder(template, probe(template), ENDS)
    context = [user("a"), assistant("b"), user("c")]
    turn = found.find(context, assistant("found again "), None)
    assert turn is not None
    assert turn.written == "found again <|im_end|>"
    assert found.find(context, assistant("x" * 21), None) is None
    assert found.find(context, assistant(""), None) is None


def test_a_turn_is_open_unless_it_says_otherwise() -> None:
    assert not Turn("text", ((0, 4),)).closed


def test_what_cannot_be_told_apart_is_not_guessed() -> None:
    # the assistant's text comes first, and twice
    source = "{% for m in messages %}{{ messages[-1].content }}{{ m.content }}{% endfor %}"
    template = ChatTemplate(source, {})
    found = TurnFinder(template, probe(template), ENDS)
    assert found.find([user("a")], assistant("b"), None) is None


def test_a_refusal_is_the_templates() -> None:
    with pytest.raises(RENDER_FAULTS, match="roles must alternate"):
        turn_of("gemma", user("a"), user("b"), assistant("c"))
