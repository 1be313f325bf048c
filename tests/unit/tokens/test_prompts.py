from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import write_tokenizer
from vocabtrim.core.errors import CalibrationError
from vocabtrim.tokens.prompts import Prompt, PromptEncoder, read_prompts


def jsonl(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def user(text: str) -> tuple[dict[str, Any], ...]:
    return ({"role": "user", "content": text},)


def test_jsonl_with_prompts_and_messages(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, *user("Hello")]
    file = jsonl(
        tmp_path / "prompts.txt",  # content decides, not the name
        {"prompt": "One", "id": "a", "domain": "writing", "split": "heldout"},
        {"messages": talk, "id": 7},
        {"prompt": "Three"},
    )
    one, two, three = read_prompts([file])
    assert one == Prompt("a", user("One"), "writing")
    assert one.text == "One"
    assert (two.id, two.messages, two.text) == ("7", tuple(talk), None)
    assert (three.text, three.domain) == ("Three", None)


def test_text_has_a_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_bytes("\ufeffFirst {not json}\r\n\n  Zweitens: ü  \n".encode())
    assert [one.text for one in read_prompts([file])] == ["First {not json}", "Zweitens: ü"]


def test_ids_come_from_content_whatever_the_order(tmp_path: Path) -> None:
    text = tmp_path / "a"
    text.write_text("First\nSecond\n")
    other = jsonl(tmp_path / "b", {"prompt": "Second"}, {"prompt": "First"})
    first, second = read_prompts([text])
    assert first.id != second.id
    assert read_prompts([other]) == [second, first]
    # the same prompt given twice is one prompt
    assert read_prompts([text, other, text]) == [first, second]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": " \n"}, "the prompt is empty"),
        ({"prompt": 3}, "`prompt` must be text, found int"),
        ({"messages": []}, "at least one message"),
        ({"messages": "hello"}, "must be a list"),
        ({"messages": [{"content": "x"}]}, "message 1 is no object with a `role`"),
        ({"messages": [{"role": "user", "content": ""}]}, "the prompt is empty"),
        ({"messages": [*user("x"), {"role": "assistant", "content": "y"}]}, "nothing to answer"),
        ({"prompt": "x", "messages": [*user("x")]}, "either `prompt` or `messages`"),
        ({"text": "x"}, "either `prompt` or `messages`"),
        ({"prompt": "x", "id": 1.5}, "`id` must be text or a number, found float"),
        ({"prompt": "x", "id": True}, "found bool"),
        ({"prompt": "x", "domain": ["a"]}, "`domain` must be text, found list"),
        (["prompt"], "must be an object, found list"),
    ],
)
def test_bad_records_name_file_and_line(tmp_path: Path, record: Any, message: str) -> None:
    file = jsonl(tmp_path / "p.jsonl", {"prompt": "fine"}, record)
    with pytest.raises(CalibrationError, match=message) as caught:
        read_prompts([file])
    assert str(caught.value).startswith(f"{file}, line 2: ")
    assert (caught.value.path, caught.value.line) == (file, 2)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda file: None, "no such file"),
        (lambda file: file.write_text(""), "there is no prompt in it"),
        (lambda file: file.write_text(" \n\n"), "there is no prompt in it"),
        (lambda file: file.write_bytes(b"caf\xe9\n"), "must be UTF-8"),
        (lambda file: file.write_text('{"prompt": "x"}\n{"prompt": \n'), "line 2: not valid JSON"),
    ],
)
def test_bad_files_are_one_sentence(
    tmp_path: Path, write: Callable[[Path], object], message: str
) -> None:
    file = tmp_path / "prompts"
    write(file)
    with pytest.raises(CalibrationError, match=message):
        read_prompts([file])


def test_one_id_for_two_prompts_is_refused(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "p", {"prompt": "x", "id": 1}, {"prompt": "y", "id": "1"})
    with pytest.raises(CalibrationError, match=r"p, line 2: the id '1' is already that of another"):
        read_prompts([file])


def test_the_chat_template_writes_the_prompt(tmp_path: Path) -> None:
    directory = write_tokenizer(tmp_path, chat=True)
    encoder = PromptEncoder(directory)
    assert encoder.uses_template
    ids = encoder.encode(Prompt("a", user("red green")))
    tokens = [encoder.tokenizer.token(int(one)) for one in ids]
    # no BOS of the tokenizer around what the template writes itself
    assert tokens == ["<user>", "red", "green", "<end>", "<assistant>"]


def test_raw_text_is_encoded_as_the_model_does(tmp_path: Path) -> None:
    directory = write_tokenizer(tmp_path, chat=True)
    encoder = PromptEncoder(directory, raw=True)
    tokens = [encoder.tokenizer.token(int(one)) for one in encoder.encode(Prompt("a", user("red")))]
    assert tokens == ["<bos>", "red"]
    assert not encoder.uses_template
    with pytest.raises(CalibrationError, match="prompt b is a conversation"):
        encoder.encode(Prompt("b", (*user("red"), *user("green"))))
    with pytest.raises(CalibrationError, match="prompt b is a conversation"):
        encoder.encode(Prompt("b", ({"role": "system", "content": "red"},)))


def test_a_tokenizer_without_a_template_reads_raw_text(tmp_path: Path) -> None:
    encoder = PromptEncoder(write_tokenizer(tmp_path, chat=False))
    assert not encoder.uses_template
    assert encoder.encode(Prompt("a", user("red green"))).size == 3


def test_what_the_template_refuses_is_named(tmp_path: Path) -> None:
    encoder = PromptEncoder(write_tokenizer(tmp_path, chat=True))
    with pytest.raises(CalibrationError, match=r"refuses prompt a \(only users speak\)"):
        encoder.encode(Prompt("a", ({"role": "system", "content": "red"},)))
