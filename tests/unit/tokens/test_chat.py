"""Chat: of a conversation, the tokens that the model emits and no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.chat_templates import TEMPLATES
from tests.outside_data import outside_files
from tests.real_tokenizers import NAMES, opened, opened_by_transformers
from tests.tiny_tokenizer import ADDED, tokenizer
from vocabtrim.core.errors import CalibrationError, TokenizerError
from vocabtrim.tokens.chat import (
    LEFT_OUT,
    LOST_PARTS,
    NO_ASSISTANT,
    NO_TEMPLATE,
    NOT_FOUND,
    ChatEncoder,
)
from vocabtrim.tokens.messages import Conversation
from vocabtrim.tokens.tokenizer import Tokenizer

ASK = {"role": "user", "content": "Is the ant there?"}
TELL = {"role": "assistant", "content": "The ant\n\nis there. "}
THINK = {"role": "assistant", "content": "There.", "reasoning_content": "the ants"}
CALL = {"function": {"name": "f", "arguments": '{"the": "a"}'}}

EMITTED: dict[str, Callable[[str], str]] = {
    "smollm2": lambda content: content + "<|im_end|>",
    "llama3_1": lambda content: content.strip() + "<|eot_id|>",
    "qwen3": lambda content: "<think>\n\n</think>\n\n" + content.lstrip("\n") + "<|im_end|>",
    "gemma3": lambda content: content.strip() + "<end_of_turn>",
}
"""What each published template makes of the text of a model's last turn."""


def counted(made: Tokenizer, *messages: dict[str, Any], role: str = "assistant") -> str:
    """Return the counted tokens of a conversation, as text."""
    tokens = ChatEncoder(made, role).encode(Conversation(messages))
    assert tokens.counted.dtype == np.bool_
    assert tokens.ids.shape == tokens.counted.shape
    return "".join(made.token_text(token_id) for token_id in tokens.counted_ids)


@pytest.mark.parametrize("name", TEMPLATES)
def test_of_a_conversation_only_what_the_model_emits_counts(tmp_path: Path, name: str) -> None:
    made = tokenizer(tmp_path, TEMPLATES[name], added=(*ADDED, "<|eot_id|>"))
    end = "<|eot_id|>" if name == "llama31" else "<|im_end|>"
    text = TELL["content"].strip() if name in ("llama31", "gemma") else TELL["content"]
    # nothing but the question stands before Mistral's answers: the space is the model's
    lead = " " if name == "mistral" else ""
    assert counted(made, ASK, TELL, ASK, TELL) == 2 * (lead + text + end)


def test_the_token_that_ends_a_turn_counts_and_the_newline_behind_it_does_not(
    tmp_path: Path,
) -> None:
    made = tokenizer(tmp_path)
    encoder = ChatEncoder(made)
    tokens = encoder.encode(Conversation([ASK, TELL]))
    assert (
        tokens.ids.tolist()
        == made.encode(
            f"<|im_start|>user\n{ASK['content']}<|im_end|>\n"
            f"<|im_start|>assistant\n{TELL['content']}<|im_end|>\n"
        ).tolist()
    )
    assert tokens.counted_ids.tolist() == made.encode(TELL["content"] + "<|im_end|>").tolist()
    assert encoder.turn_ends == (made.id_of("<|im_end|>"),)
    assert not tokens.counted[-1]
    assert tokens.warnings == ()


def test_turns_that_continue_one_another_are_encoded_once(tmp_path: Path) -> None:
    conversation = Conversation([ASK, TELL, ASK, TELL, ASK])
    plain = ChatEncoder(tokenizer(tmp_path / "a")).encode(conversation)
    stripping = tokenizer(tmp_path / "b", TEMPLATES["qwen3"])
    assert plain.ids.size == tokenizer(tmp_path / "c").encode(
        "".join(
            f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n"
            for m in conversation.messages[:-1]
        )
    ).size  # fmt: skip
    parted = ChatEncoder(stripping).encode(Conversation([ASK, THINK, ASK, TELL]))
    assert parted.ids.size > parted.counted.sum()
    assert counted(stripping, ASK, THINK, ASK, TELL) == (
        "<think>\nthe ants\n</think>\n\nThere.<|im_end|>" + TELL["content"] + "<|im_end|>"
    )


def test_a_token_across_the_start_of_a_turn_counts(tmp_path: Path) -> None:
    # "\n" of the header and "\n" of the answer are one token
    made = tokenizer(tmp_path)
    assert counted(made, ASK, {"role": "assistant", "content": "\n"}) == "\n\n<|im_end|>"


def test_text_that_is_no_single_token_counts_whole(tmp_path: Path) -> None:
    made = tokenizer(tmp_path)
    message = {"role": "assistant", "content": "🙂é漢"}
    tokens = ChatEncoder(made).encode(Conversation([ASK, message]))
    assert tokens.counted_ids.tolist() == made.encode("🙂é漢<|im_end|>").tolist()


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("user", "Is the ant there?"),
        ("system", "the rulesthe others"),
        (
            "all",
            "<|im_start|>system\nthe rules<|im_end|>\n<|im_start|>developer\nthe others<|im_end|>\n"
            "<|im_start|>user\nIs the ant there?<|im_end|>\n"
            "<|im_start|>assistant\nThe ant\n\nis there. <|im_end|>\n",
        ),
    ],
)
def test_other_roles(tmp_path: Path, role: str, expected: str) -> None:
    rules = {"role": "system", "content": "the rules"}
    others = {"role": "developer", "content": [{"type": "text", "text": "the others"}]}
    assert counted(tokenizer(tmp_path), rules, others, ASK, TELL, role=role) == expected


@pytest.mark.parametrize(
    ("counted_from", "role", "expected"),
    [
        (0, "assistant", "One.<|im_end|>Two.<|im_end|>"),
        (3, "assistant", "Two.<|im_end|>"),
        (2, "user", "the others"),
        (4, "assistant", ""),
    ],
)
def test_what_was_counted_before_is_not_counted_again(
    tmp_path: Path, counted_from: int, role: str, expected: str
) -> None:
    said = [
        ASK,
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "the others"},
    ]
    messages = [*said, {"role": "assistant", "content": "Two."}]
    made = tokenizer(tmp_path)
    tokens = ChatEncoder(made, role).encode(Conversation(messages, None, counted_from))
    assert "".join(map(made.token_text, tokens.counted_ids.tolist())) == expected


def test_all_is_all_of_a_conversation(tmp_path: Path) -> None:
    encoder = ChatEncoder(tokenizer(tmp_path), "all")
    part, whole = (encoder.encode(Conversation([ASK, TELL], None, n)) for n in (1, 0))
    assert part.counted_ids.tolist() == whole.counted_ids.tolist()


def test_an_unknown_role_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="assistant, user, system, all, found 'bot'"):
        ChatEncoder(tokenizer(tmp_path), "bot")


def test_a_broken_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="chat template is not valid"):
        ChatEncoder(tokenizer(tmp_path, "{% for %}"))


@pytest.mark.parametrize("role", ["assistant", "all"])
def test_without_a_template_the_text_counts_and_a_warning_says_so(
    tmp_path: Path, role: str
) -> None:
    made = tokenizer(tmp_path, None)
    tokens = ChatEncoder(made, role).encode(Conversation([ASK, THINK]))
    texts = (
        ["the ants", "There."] if role == "assistant" else [ASK["content"], "the ants", "There."]
    )
    assert tokens.counted_ids.tolist() == [one for t in texts for one in made.encode(t).tolist()]
    assert tokens.warnings == (NO_TEMPLATE,)


def test_a_conversation_without_an_assistant_turn(tmp_path: Path) -> None:
    for messages in ([], [ASK]):
        tokens = ChatEncoder(tokenizer(tmp_path)).encode(Conversation(messages))
        assert (tokens.ids.size, tokens.warnings) == (0, (NO_ASSISTANT,))


def test_content_in_parts_equals_its_text(tmp_path: Path) -> None:
    made = tokenizer(tmp_path)
    parts = [{"type": "text", "text": "The ant\n\n"}, {"type": "text", "text": "is there. "}]
    parted = {"role": "assistant", "content": parts}
    assert counted(made, ASK, parted) == counted(made, ASK, TELL)
    image = {"role": "user", "content": [*parts, {"type": "image"}]}
    tokens = ChatEncoder(made).encode(Conversation([image, TELL]))
    assert tokens.warnings == (LOST_PARTS,)
    assert tokens.counted_ids.tolist() == made.encode(TELL["content"] + "<|im_end|>").tolist()


def test_content_that_is_null_beside_a_call(tmp_path: Path) -> None:
    made = tokenizer(tmp_path / "l", TEMPLATES["llama31"], added=(*ADDED, "<|eot_id|>"))
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert counted(made, ASK, message) == '{"name": "f", "arguments": {"the": "a"}}<|eot_id|>'
    # a template without calls writes an empty turn, and its end still counts
    assert counted(tokenizer(tmp_path / "c"), ASK, message) == "<|im_end|>"


def test_a_refused_conversation_counts_as_text_with_the_reason(tmp_path: Path) -> None:
    made = tokenizer(tmp_path, TEMPLATES["gemma"])
    for role, texts in (("assistant", ["There."]), ("all", [ASK["content"]] * 2 + ["There."])):
        message = {"role": "assistant", "content": "There."}
        tokens = ChatEncoder(made, role).encode(Conversation([ASK, ASK, message]))
        expected = [one for text in texts for one in made.encode(text).tolist()]
        assert tokens.counted_ids.tolist() == expected
        (warning,) = tokens.warnings
        assert "refused a conversation (TemplateError: roles must alternate)" in warning


def test_a_turn_that_cannot_be_found_counts_as_text(tmp_path: Path) -> None:
    source = "{% for m in messages %}{{ messages[-1].content }}{{ m.content }}{% endfor %}"
    made = tokenizer(tmp_path, source)
    tokens = ChatEncoder(made).encode(Conversation([ASK, TELL]))
    assert tokens.warnings == (NOT_FOUND,)
    assert tokens.counted_ids.tolist() == made.encode(TELL["content"]).tolist()


def test_what_a_template_leaves_out_is_warned_of(tmp_path: Path) -> None:
    encoder = ChatEncoder(tokenizer(tmp_path, TEMPLATES["r1"]))
    thinking = {"role": "assistant", "content": "<think>why</think>There."}
    assert encoder.encode(Conversation([ASK, thinking])).warnings == (LEFT_OUT,)
    assert encoder.encode(Conversation([ASK, THINK])).warnings == (LEFT_OUT,)
    assert encoder.encode(Conversation([ASK, TELL])).warnings == ()


def test_white_space_that_a_template_moves_is_nothing_left_out(tmp_path: Path) -> None:
    source = TEMPLATES["chatml"].replace("m.content +", "m.content | replace(' ', '\n') +")
    encoder = ChatEncoder(tokenizer(tmp_path, source))
    assert encoder.encode(Conversation([ASK, TELL])).warnings == ()


def test_batches_equal_single_conversations(tmp_path: Path) -> None:
    made = tokenizer(tmp_path, TEMPLATES["qwen3"])
    encoder = ChatEncoder(made)
    conversations = [
        Conversation(messages)
        for messages in ([ASK, TELL], [], [ASK], [ASK, THINK, ASK, THINK], [ASK, TELL])
    ]
    for tokens, conversation in zip(
        encoder.encode_batch(conversations), conversations, strict=True
    ):
        single = encoder.encode(conversation)
        assert tokens.ids.tolist() == single.ids.tolist()
        assert tokens.counted.tolist() == single.counted.tolist()
        assert tokens.warnings == single.warnings


def test_an_eos_that_is_no_added_token_does_not_end_a_turn(tmp_path: Path) -> None:
    made = tokenizer(tmp_path, eos="e")
    assert made.id_of("e") in ChatEncoder(made).turn_ends
    message = {"role": "assistant", "content": "The end e"}
    assert counted(made, ASK, message) == "The end e<|im_end|>"


@pytest.mark.parametrize("name", NAMES)
def test_all_is_the_rendering_of_transformers(name: str) -> None:
    messages = [ASK, THINK, ASK, {**TELL, "content": "<think>\nwhy\n</think>\n\n🙂 so"}]
    expected = opened_by_transformers(name).apply_chat_template(messages)["input_ids"]
    tokens = ChatEncoder(opened(name), "all").encode(Conversation(messages))
    assert tokens.counted_ids.tolist() == expected
    assert tokens.counted.all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "content", ["Yes", " The ant\n\nis 🙂 there, 漢字. ", "<b>\r\n", "\tif x:\n"]
)
def test_published_templates_count_what_the_model_emits(name: str, content: str) -> None:
    made = opened(name)
    message = {"role": "assistant", "content": content}
    tokens = ChatEncoder(made).encode(Conversation([ASK, TELL, ASK, message, ASK]))
    turns = [EMITTED[name](text) for text in (TELL["content"], content)]
    assert tokens.counted_ids.tolist() == [one for t in turns for one in made.encode(t).tolist()]
    assert tokens.warnings == ()


def test_qwen3_thinking_and_calls_count_where_they_were_emitted() -> None:
    made = opened("qwen3")
    call = {"role": "assistant", "content": None, "reasoning": "look", "tool_calls": [CALL]}
    answer = {"role": "tool", "content": "4"}
    tokens = ChatEncoder(made).encode(
        Conversation([ASK, THINK, ASK, call, answer, THINK], tools=[{"type": "function"}])
    )
    call_text = '<tool_call>\n{"name": "f", "arguments": {"the": "a"}}\n</tool_call><|im_end|>'
    expected = (
        "<think>\nthe ants\n</think>\n\nThere.<|im_end|>",
        f"<think>\nlook\n</think>\n\n{call_text}",
        "<think>\nthe ants\n</think>\n\nThere.<|im_end|>",
    )
    texts = [one for text in expected for one in made.encode(text).tolist()]
    assert tokens.counted_ids.tolist() == texts
    assert tokens.warnings == ()


@pytest.mark.parametrize("name", ["smollm2", "llama3_1"])
def test_marked_templates_count_what_transformers_masks(name: str, tmp_path: Path) -> None:
    theirs = opened_by_transformers(name)
    messages = [ASK, TELL, ASK, {"role": "assistant", "content": "🙂 Yes.\n"}]
    source = TEMPLATES["marked"]
    out = theirs.apply_chat_template(
        messages, chat_template=source, return_dict=True, return_assistant_tokens_mask=True
    )
    directory = tmp_path / "marked"
    theirs.save_pretrained(directory)
    (directory / "chat_template.jinja").write_text(source, encoding="utf-8")
    tokens = ChatEncoder(Tokenizer.open(directory)).encode(Conversation(messages))
    assert tokens.ids.tolist() == out["input_ids"]
    assert tokens.counted.astype(int).tolist() == out["assistant_masks"]


@pytest.mark.parametrize("name", NAMES)
def test_real_answers_count_as_the_model_emitted_them(name: str) -> None:
    made = opened(name)
    conversations = [
        Conversation(json.loads(line)["messages"])
        for file in outside_files("chat_*.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()[:150]
    ]
    for tokens, conversation in zip(
        ChatEncoder(made).encode_batch(conversations), conversations, strict=True
    ):
        text = EMITTED[name](conversation.messages[-1]["content"])
        assert tokens.counted_ids.tolist() == made.encode(text).tolist()
        assert tokens.warnings == ()
