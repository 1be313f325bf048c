import json
import os
from collections import Counter
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from recipes.prepare_prompts import HELD_OUT, LONGEST, WANTED, WIDER, main
from recipes.training.corpus import Document, group_of, split

PARAGRAPH = (
    "The harbour of Lindmere was rebuilt after the storm of 1987. Its first keeper was called "
    "Hanna Orre. She planted twelve apple trees behind the lamp house, and people say that the "
    "ferry waits for her even now. The trees were counted again last year by the school of "
    "number {number}, which found that all of them still stand."
)


@pytest.fixture
def data(tmp_path) -> Path:
    """A data directory of the real one's form, with 40 usable rows in every file."""
    directory = tmp_path / "data"
    directory.mkdir()
    rows = range(40 + HELD_OUT)

    def write(name: str, records) -> None:
        text = "".join(json.dumps(one) + "\n" for one in records)
        (directory / f"{name}.jsonl").write_text(text)

    for kind in ("code", "math", "chat"):
        prompts = [
            {"id": f"{kind}-{n}", "domain": kind, "prompt": f"Please answer {kind} question {n}."}
            for n in rows
        ]
        write(f"prompts_{kind}", prompts)
    # one raw row in front asks what a held-out prompt asks
    asked = [f"How many apples are {n} apples?" for n in rows]
    asked[3] = "Please answer math question 130."
    write("raw_math", [{"text": f"{one}\nThere are {n} of them."} for n, one in enumerate(asked)])
    program = "def f(x):\n    return x + {n}\n" * 6
    code = [{"text": f"Write function number {n}.\n{program.format(n=n)}"} for n in range(2200)]
    write("raw_code", code)
    for model in ("a", "b"):
        chats = []
        for n in rows:
            answer = "\n\n".join([PARAGRAPH.format(number=n), f"Yours, {model}."])
            turns = [("user", f"Please answer chat question {n}."), ("assistant", answer)]
            chats.append({"messages": [{"role": r, "content": c} for r, c in turns]})
        write(f"chat_{model}", chats)
    return directory


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def whole(record: dict) -> str:
    for key in ("prompt", "text"):
        if key in record:
            return record[key]
    return "\n".join(one["content"] for one in record["messages"])


def test_all_domains_each_text_once_and_nothing_too_long(data, tmp_path):
    assert main(["--data", str(data), "-o", str(tmp_path / "out")]) == 0
    first, wider = (read(tmp_path / "out" / f"{name}.jsonl") for name in ("prompts", "wider"))
    prompts = first + wider
    assert set(WANTED) == {one["domain"] for one in first}
    assert set(WIDER) == {one["domain"] for one in wider}
    assert len({whole(one) for one in prompts}) == len(prompts)
    assert len({one["id"] for one in prompts}) == len(prompts)
    assert max(len(whole(one)) for one in prompts) <= LONGEST
    assert not any("{" + slot + "}" in whole(one) for one in prompts for slot in SLOTS)
    turns = [one["messages"] for one in prompts if one["domain"] == "second-turns"]
    assert all([t["role"] for t in one] == ["user", "assistant", "user"] for one in turns)
    # a first part has every domain
    assert {one["domain"] for one in first[:200]} == set(WANTED)


SLOTS = (
    "subject",
    "passage",
    "question",
    "code",
    "sentence",
    "language",
    "tool",
    "topic",
    "city",
    "role",
    "x",
)


def test_nothing_that_is_held_out_is_used(data, tmp_path):
    main(["--data", str(data), "-o", str(tmp_path / "out")])
    held = read(tmp_path / "out" / "heldout.jsonl")
    assert Counter(one["domain"] for one in held) == dict.fromkeys(("code", "math", "chat"), 100)
    used = [
        whole(one)
        for name in ("prompts", "wider", "instructions", "text")
        for one in read(tmp_path / "out" / f"{name}.jsonl")
    ]
    assert not any(secret["prompt"] in one for secret in held for one in used)
    # texts that belong to a held-out row: the last rows, and the raw row that asks one of them
    assert not any(f"of number {n}," in one for n in range(40, 140) for one in used)
    assert not any("There are 3 of them" in one for one in used)
    assert any("There are 4 of them" in one for one in used)
    assert any(one.endswith("Yours, b.") for one in used)
    package = files("vocabtrim.demo").joinpath("prompts.jsonl").read_text(encoding="utf-8")
    evaluated = [
        one["prompt"] for one in map(json.loads, package.splitlines()) if one["split"] == "heldout"
    ]
    assert not set(evaluated) & set(used)


def test_openings_are_the_first_words_of_texts(data, tmp_path):
    out = tmp_path / "out"
    assert main(["--data", str(data), "-o", str(out), "--openings"]) == 0
    prompts, held, texts = (read(out / f"{name}.jsonl") for name in ("prompts", "heldout", "text"))
    assert {one["domain"] for one in prompts} == {"code", "math", "chat"}
    open_texts = [whole(one) for one in texts] + [PARAGRAPH.format(number=n) for n in range(40)]
    for one in prompts:
        assert any(text.startswith(one["prompt"]) for text in open_texts)
        assert 8 <= len(one["prompt"].split()) <= 60
        assert one["prompt"] not in open_texts  # something is left to continue
    assert len({one["id"] for one in prompts}) == len(prompts)
    assert len({one["prompt"] for one in prompts}) == len(prompts)
    # the last rows of each file, and no others
    assert held
    last = [f"Write function number {n}." for n in range(2100, 2200)]
    last += [f"How many apples are {n} apples?" for n in range(40, 140)]
    last += [PARAGRAPH.format(number=n) for n in range(40, 140)]
    for one in held:
        assert any(text.startswith(one["prompt"][:26]) for text in last)
    assert not {one["prompt"] for one in prompts if one["domain"] == "code"} & {
        one["prompt"] for one in held
    }


@pytest.mark.parametrize("extra", [(), ("--openings",)])
def test_what_the_curve_holds_out_comes_first(data, tmp_path, extra):
    main(["--data", str(data), "-o", str(tmp_path / "out"), *extra])
    one = np.zeros(1, np.int32), np.ones(1, np.bool_)
    documents = [
        Document(
            *one,
            group_of(
                prompt["messages"][0]["content"] if "messages" in prompt else prompt["prompt"]
            ),
            prompt["id"],
        )
        for prompt in read(tmp_path / "out" / "prompts.jsonl")
    ]
    _, held = split(documents, heldout_share=0.05)
    assert held
    assert held == documents[: len(held)]


def test_instructions_are_the_public_prompts(data, tmp_path):
    main(["--data", str(data), "-o", str(tmp_path / "out")])
    rows = read(tmp_path / "out" / "instructions.jsonl")
    assert len(rows) == 3 * 40
    assert rows[0] == {"id": "code-0", "domain": "code", "prompt": "Please answer code question 0."}


def test_the_same_seed_writes_the_same_bytes(data, tmp_path):
    made = []
    for name, seed in (("one", "0"), ("two", "0"), ("three", "1")):
        main(["--data", str(data), "-o", str(tmp_path / name), "--seed", seed])
        made.append((tmp_path / name / "prompts.jsonl").read_bytes())
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_a_missing_or_short_file_is_named(data, tmp_path, capsys):
    (data / "raw_math.jsonl").write_text('{"text": "one row"}\n')
    assert main(["--data", str(data), "-o", str(tmp_path / "out")]) == 2
    assert "raw_math.jsonl" in capsys.readouterr().err
    (data / "raw_math.jsonl").unlink()
    assert main(["--data", str(data), "-o", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif("VOCABTRIM_DATA" not in os.environ, reason="VOCABTRIM_DATA names no data")
def test_the_public_files_give_six_thousand_prompts(tmp_path):
    main(["--data", os.environ["VOCABTRIM_DATA"], "-o", str(tmp_path / "out")])
    files = (tmp_path / "out" / f"{name}.jsonl" for name in ("prompts", "wider"))
    prompts = [one for file in files for one in read(file)]
    assert len(prompts) >= 6000
    found = Counter(one["domain"] for one in prompts)
    assert min(found.values()) >= 300
    secrets = [one["prompt"] for one in read(tmp_path / "out" / "heldout.jsonl")]
    secrets += [one["prompt"] for one in read(Path("recipes/evaluation_prompts.jsonl"))]
    text = "\n\0".join(whole(one) for one in prompts)
    assert not any(one in text for one in secrets if len(one) > 30)
