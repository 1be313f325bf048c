"""Chat templates: rendered as transformers renders them, marks taken out again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from jinja2 import TemplateError

from tests.real_tokenizers import NAMES, opened, opened_by_transformers
from vocabtrim.core.errors import TokenizerError
from vocabtrim.tokens.template import RENDER_FAULTS, ChatTemplate

USER = {"role": "user", "content": "Hi <b>&"}
REPLY = {"role": "assistant", "content": " Hello\n"}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"city": "Zürich <1>"}}}
TOOL = {"type": "function", "function": {"name": "f", "description": 'a "b" <c>'}}
MARKED = (
    "{% for m in messages %}{{ m.role + ':' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}!{% endgeneration %}{% else %}{{ m.content }}{% endif %}"
    "{{ '\n' }}{% endfor %}"
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("messages", "tools"),
    [
        ([USER], None),
        ([{"role": "system", "content": "Be brief."}, USER, REPLY, USER], None),
        ([USER, {**REPLY, "content": "<think>\nwhy\n</think>\n\nso"}, USER, REPLY], None),
        ([USER, {**REPLY, "reasoning_content": "why"}], None),
        ([USER, {**REPLY, "tool_calls": [CALL]}], [TOOL]),
    ],
)
@pytest.mark.parametrize("prompt", [False, True])
def test_published_templates_render_as_in_transformers(
    name: str, messages: list[dict[str, Any]], tools: list[Any] | None, prompt: bool
) -> None:
    expected = opened_by_transformers(name).apply_chat_template(
        messages, tools=tools, tokenize=False, add_generation_prompt=prompt
    )
    tokenizer = opened(name)
    template = ChatTemplate(tokenizer.chat_template or "", tokenizer.special_tokens)
    rendering = template.render(messages, tools=tools, add_generation_prompt=prompt)
    assert rendering.text == expected
    assert rendering.generated == ()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ bos_token }}{{ eos_token }}|", "<s>|"),
        ("{{ {'a': '<é>'} | tojson }}", '{"a": "<é>"}'),
        ("{{ [1, 2] | tojson(indent=1) }}", "[\n 1,\n 2\n]"),
        ("{% for i in range(5) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("  {% if true %}\nx\n{% endif %}\n", "x\n"),
        ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
        ("{{ tools is none }} {{ documents is none }} {{ undefined }}", "True True "),
    ],
)
def test_the_environment_is_that_of_transformers(source: str, expected: str) -> None:
    assert ChatTemplate(source, {"bos_token": "<s>"}).render([USER]).text == expected


def test_the_clock_is_an_argument() -> None:
    template = ChatTemplate("{{ strftime_now('%Y') }}", {}, now=datetime(2031, 5, 1))
    assert template.render([]).text == "2031"


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('no') }}",
        "{{ messages[0].content + 1 }}",
        "{{ messages[7].content.x }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}{{ ().__class__.__base__.__subclasses__() }}",
        "{{ 1 / 0 }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_what_a_template_can_raise_is_listed(source: str) -> None:
    with pytest.raises(RENDER_FAULTS):
        ChatTemplate(source, {}).render([USER])


def test_raise_exception_says_what_the_template_says() -> None:
    with pytest.raises(TemplateError, match="roles must alternate"):
        ChatTemplate("{{ raise_exception('roles must alternate') }}", {}).render([USER])


def test_a_template_that_does_not_parse_is_named_with_its_line() -> None:
    with pytest.raises(TokenizerError, match="chat template is not valid, line 2"):
        ChatTemplate("\n{% if %}", {})


def test_marks_are_found_and_taken_out() -> None:
    template = ChatTemplate(MARKED, {})
    assert template.marks_generation
    rendering = template.render([USER, REPLY, USER, {**REPLY, "content": "é🙂"}])
    assert rendering.text == "user:Hi <b>&\nassistant: Hello\n!\nuser:Hi <b>&\nassistant:é🙂!\n"
    assert [rendering.text[a:b] for a, b in rendering.generated] == [" Hello\n!", "é🙂!"]


def test_marks_work_inside_macros_where_transformers_loses_them() -> None:
    source = (
        "{% macro say(m) %}{{ m.role }}:{% generation %}{{ m.content }}{% endgeneration %}"
        "{% endmacro %}{% for m in messages %}{{ say(m) }};{% endfor %}"
    )
    rendering = ChatTemplate(source, {}).render([USER, REPLY])
    assert [rendering.text[a:b] for a, b in rendering.generated] == ["Hi <b>&", " Hello\n"]


def test_marks_agree_with_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = [USER, REPLY, USER, {**REPLY, "content": "x"}]
    texts, spans = render_jinja_template(
        [messages], chat_template=MARKED, return_assistant_tokens_mask=True
    )
    rendering = ChatTemplate(MARKED, {}).render(messages)
    assert [rendering.text] == texts, transformers.__version__
    assert [list(rendering.generated)] == spans


@pytest.mark.parametrize("name", NAMES)
def test_published_templates_take_text(name: str) -> None:
    tokenizer = opened(name)
    template = ChatTemplate(tokenizer.chat_template or "", tokenizer.special_tokens)
    assert template.takes_text
    assert template.takes_parts == (name == "gemma3")
    assert not template.marks_generation


@pytest.mark.parametrize(
    ("source", "takes"),
    [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", (True, False)),
        ("{% for m in messages %}{{ m.content | tojson }}{% endfor %}", (True, False)),
        ("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}",
         (False, True)),
        ("{{ raise_exception('nothing') }}", (False, False)),
    ],
)  # fmt: skip
def test_forms_of_content_are_tried(source: str, takes: tuple[bool, bool]) -> None:
    template = ChatTemplate(source, {})
    assert (template.takes_text, template.takes_parts) == takes
