"""Write the prompts from which a target's own training text is generated.

    python -m recipes.prepare_prompts --data DIR -o OUT
    python -m recipes.prepare_prompts --data DIR -o OUT --openings

Public prompts cover code, mathematics and chat; other kinds of task are made from
the same files. Five files are written, no held-out prompt in the first four:

    prompts.jsonl       ordered by digest: any first part has all domains, and what
                        a training run holds out for its curve comes first
    wider.jsonl         more kinds, in the same order
    instructions.jsonl  the public prompts alone, as they are
    text.jsonl          other text, for teacher forcing
    heldout.jsonl       the last 100 prompts of every file

A base model is not asked but continues: with `--openings`, `prompts.jsonl` and
`heldout.jsonl` hold the first words of texts, and `text.jsonl` the texts alone.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from recipes.training.corpus import group_of
from vocabtrim.core.errors import CalibrationError, VocabtrimError
from vocabtrim.core.manifest import atomic_file

HELD_OUT = 100
"""Rows at the end of every file that are left for evaluation."""

LONGEST = 1200
"""Characters of a prompt: with its answer it shall fit a row of 512 tokens."""

WANTED = {
    "code": 1000,
    "math": 900,
    "chat": 600,
    "writing": 1000,
    "extraction": 800,
    "summarising": 800,
    "rewrite": 500,
    "translation": 900,
    "functions": 700,
    "qa": 500,
    "second-turns": 900,
}
"""Prompts of each kind."""

WIDER = {
    "knowledge": 1500,
    "roleplay": 400,
    "grounded": 500,
    "reasoning": 400,
    "into-english": 300,
}
"""Prompts of kinds that came later; apart, so that the first ones stay as they were."""

OPENING = (8, 60)
"""Words of an opening, from and to."""

Record = dict[str, Any]


class Data:
    """The rows of a data directory that may be used.

    Args:
        directory: With `prompts_*.jsonl`, `raw_*.jsonl` and `chat_*.jsonl`.

    Raises:
        CalibrationError: A file is missing or damaged.
    """

    def __init__(self, directory: Path) -> None:
        prompts = {kind: _rows(directory / f"prompts_{kind}.jsonl") for kind in _KINDS}
        self.heldout = [one for rows in prompts.values() for one in rows[-HELD_OUT:]]
        self._secret = {_plain(one["prompt"]) for one in self.heldout}
        self.instructions = [one for rows in prompts.values() for one in self._open(rows, "prompt")]
        self.questions = [
            one["text"].partition("\n")[0]
            for one in self._open(_rows(directory / "raw_math.jsonl"), "text")
        ]
        self.programs = [
            one["text"].partition("\n")
            for one in self._open(_rows(directory / "raw_code.jsonl"), "text")
        ]
        self.chats = [
            one["messages"]
            for file in sorted(directory.glob("chat_*.jsonl"))
            for one in self._open(_rows(file), "messages")
        ]
        self.passages = [one for chat in self.chats for one in _passages(chat[1]["content"])]
        self.solutions = self._solutions(directory)
        self.heldout_texts = self._heldout_texts(directory)

    @property
    def texts(self) -> list[Record]:
        """Everything for teacher forcing: raw rows, and other models' answers."""
        return self.solutions + [{"messages": one, "domain": "chat"} for one in self.chats]

    def openings(self, *, seed: int = 0) -> tuple[list[Record], list[Record]]:
        """Return the first words of open texts and of held-out ones, by digest; each once.

        Long answers of chats open once a passage.

        Args:
            seed: Of the numbers of words.
        """
        passages = [{"text": one, "domain": "chat"} for one in self.passages]
        return _openings(self.solutions + passages, seed), _openings(self.heldout_texts, seed)

    def _solutions(self, directory: Path) -> list[Record]:
        names = ("raw_code", "raw_math")
        return [
            {"text": one["text"], "domain": name.removeprefix("raw_")}
            for name in names
            for one in self._open(_rows(directory / f"{name}.jsonl"), "text")
        ]

    def _heldout_texts(self, directory: Path) -> list[Record]:
        found = [
            {"text": one["text"], "domain": name}
            for name in ("code", "math")
            for one in _rows(directory / f"raw_{name}.jsonl")[-HELD_OUT:]
        ]
        for file in sorted(directory.glob("chat_*.jsonl")):
            for one in _rows(file)[-HELD_OUT:]:
                answers = _passages(one["messages"][1]["content"])
                found += [{"text": text, "domain": "chat"} for text in list(answers)[:1]]
        return found

    def secret(self, text: str) -> bool:
        """Whether a text is, or quotes, a held-out prompt."""
        plain = _plain(text)
        return plain in self._secret or any(len(one) >= 24 and one in plain for one in self._secret)

    def _open(self, rows: Sequence[Record], field: str) -> list[Record]:
        """Return the rows that are neither at the end nor of a held-out prompt."""
        kept = []
        for row in rows[:-HELD_OUT]:
            content = row[field]
            asked = content if isinstance(content, str) else content[0]["content"]
            if not self.secret(asked):
                kept.append(row)
        return kept


_KINDS = ("code", "math", "chat")


def prepare(data: Data, *, seed: int = 0) -> list[Record]:
    """Return prompts of every domain, in the order of digests; each text once, none held out.

    Args:
        data: The usable rows.
        seed: Of the choices.
    """
    parts = json.loads(files("recipes").joinpath("prompt_parts.json").read_text(encoding="utf-8"))
    package = _package_prompts()
    known = {_plain(one["prompt"]) for one in package}
    taken = [one for one in package if one["split"] == "calibration"]
    wanted = WANTED | WIDER
    domains: dict[str, list[Record]] = {name: [] for name in wanted}
    for one in taken:
        domains.setdefault(one["domain"], []).append({"prompt": one["prompt"]})
    for name, chosen in domains.items():
        generator = random.Random(f"{seed} {name}")
        for messages in _made(name, data, parts, generator):
            if len(chosen) >= wanted[name]:
                break
            text = "\n".join(one["content"] for one in messages)
            if len(text) > LONGEST or _plain(text) in known or data.secret(text):
                continue
            known.add(_plain(text))
            chosen.append({"messages": messages} if len(messages) > 1 else {"prompt": text})
    records = [
        {"id": f"{name}-{number:04}", "domain": name, **one}
        for name, prompts in domains.items()
        for number, one in enumerate(prompts)
    ]
    return sorted(records, key=_digest)


def _openings(texts: Sequence[Record], seed: int) -> list[Record]:
    """Return the first words of texts as prompts, each once."""
    generator, known, found = random.Random(seed), set(), []
    for one in generator.sample(list(texts), len(texts)):
        words = list(re.finditer(r"\S+", one["text"]))
        taken = generator.randint(*OPENING)
        if len(words) <= taken:
            continue
        opening = one["text"][: words[taken - 1].end()]
        if _plain(opening) not in known:
            known.add(_plain(opening))
            found.append({"id": f"opening-{len(found):05}", "domain": one["domain"]})
            found[-1]["prompt"] = opening
    return sorted(found, key=_digest)


def _digest(record: Record) -> str:
    """Return what decides whether a training run holds a prompt out."""
    messages = record.get("messages")
    return group_of(record["prompt"] if messages is None else messages[0]["content"])


def _made(name: str, data: Data, parts: Any, generator: random.Random) -> Iterator[list[Record]]:
    """Yield conversations of a domain: first those that are given, then made ones."""
    yield from ([_user(one["prompt"])] for one in data.instructions if one["domain"] == name)
    if name in _MADE:
        yield from ([_user(one)] for one in _MADE[name](data, parts[name], generator))
    if name == "second-turns":
        yield from _second_turns(data, parts[name]["follow_ups"], generator)


def _code(data: Data, parts: Any, generator: random.Random) -> Iterator[str]:
    # half of the raw rows are asked as they are, half are shown as programs
    for row, (instruction, _, program) in enumerate(
        generator.sample(data.programs, len(data.programs))
    ):
        if row % 2:
            yield instruction
        elif 80 < len(program) < 700:
            yield generator.choice(parts["explain"]).format(code=program.strip())


def _math(data: Data, parts: Any, generator: random.Random) -> Iterator[str]:
    for question in generator.sample(data.questions, len(data.questions)):
        yield generator.choice(parts["ask"]).format(question=question)


def _crossed(forms: str, subjects: str, slot: str) -> Any:
    def made(_: Data, parts: Any, generator: random.Random) -> Iterator[str]:
        pairs = [(form, one) for form in parts[forms] for one in parts[subjects]]
        for form, one in generator.sample(pairs, len(pairs)):
            yield form.format(**{slot: one})

    return made


def _of_passages(data: Data, parts: Any, generator: random.Random) -> Iterator[str]:
    passages = generator.sample(data.passages, len(data.passages))
    for row, passage in enumerate(passages):
        yield generator.choice(parts["forms"]).format(passage=passage)
        if "quantities" in parts and row % 4 == 0:
            question = generator.choice(data.questions)
            yield generator.choice(parts["quantities"]).format(question=question)
        if "code" in parts and row % 6 == 0:
            program = generator.choice(data.programs)[2].strip()
            if 80 < len(program) < 700:
                yield generator.choice(parts["code"]).format(code=program)


def _translation(data: Data, parts: Any, generator: random.Random) -> Iterator[str]:
    foreign = [(form, one) for form in parts["english"] for one in parts["foreign"]]
    yield from (form.format(sentence=one) for form, one in generator.sample(foreign, len(foreign)))
    sentences = [one for passage in data.passages for one in _sentences(passage)]
    sentences += [one for question in data.questions for one in _sentences(question)]
    for sentence in generator.sample(sentences, len(sentences)):
        form, language = generator.choice(parts["forms"]), generator.choice(parts["languages"])
        yield form.format(language=language, sentence=sentence)


def _functions(_: Data, parts: Any, generator: random.Random) -> Iterator[str]:
    for _turn in range(20_000):
        tool = generator.choice(parts["tools"])
        fills = {name: generator.choice(values) for name, values in parts["fills"].items()}
        request = generator.choice(tool["requests"]).format(**fills)
        yield generator.choice(parts["forms"]).format(tool=tool["tool"], request=request)


def _reasoning(_: Data, parts: Any, generator: random.Random) -> Iterator[str]:
    for _turn in range(20_000):
        fills = {name: generator.choice(values) for name, values in parts["fills"].items()}
        yield generator.choice(parts["forms"]).format(**fills)


def _second_turns(
    data: Data, follow_ups: Sequence[str], generator: random.Random
) -> Iterator[list[Record]]:
    solved = [
        [_user(text[0]), {"role": "assistant", "content": text[1]}]
        for text in (one["text"].split("\n", 1) for one in data.solutions)
        if len(text) == 2
    ]
    first = [chat[:2] for chat in data.chats] + generator.sample(solved, len(data.chats) // 2)
    for _ in range(3):
        for asked, answer in generator.sample(first, len(first)):
            room = LONGEST - 100 - len(asked["content"])
            shown = _shortened(answer["content"], room)
            if shown:
                again = {"role": "assistant", "content": shown}
                yield [_user(asked["content"]), again, _user(generator.choice(follow_ups))]


_MADE = {
    "code": _code,
    "math": _math,
    "writing": _crossed("forms", "subjects", "subject"),
    "qa": _crossed("forms", "topics", "topic"),
    "extraction": _of_passages,
    "summarising": _of_passages,
    "rewrite": _of_passages,
    "translation": _translation,
    "functions": _functions,
    "knowledge": _crossed("forms", "topics", "topic"),
    "roleplay": _crossed("forms", "roles", "role"),
    "grounded": _of_passages,
    "reasoning": _reasoning,
    "into-english": _crossed("forms", "sentences", "sentence"),
}


def _user(content: str) -> Record:
    return {"role": "user", "content": content}


def _passages(answer: str) -> Iterator[str]:
    """Yield paragraphs, alone or with the next, that read as text."""
    paragraphs = [
        one.strip() for one in answer.split("\n\n") if "```" not in one and "http" not in one
    ]
    for place, one in enumerate(paragraphs):
        for text in (one, "\n\n".join(paragraphs[place : place + 2])):
            if 250 <= len(text) <= 900:
                yield text
                break


def _sentences(passage: str) -> Iterator[str]:
    for sentence in passage.replace("\n", " ").replace("**", "").split(". "):
        plain = sentence.strip(" *-")
        if 40 <= len(plain) <= 220 and plain[0].isupper() and not set(plain) & set(":*#|"):
            yield plain.rstrip(".") + "."


def _shortened(answer: str, room: int) -> str:
    """Return the first paragraphs of an answer that fit, or nothing."""
    shown = ""
    for paragraph in answer.split("\n\n"):
        if len(shown) + len(paragraph) + 2 > min(room, 900):
            break
        shown = f"{shown}\n\n{paragraph}".strip()
    return shown


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _package_prompts() -> list[Record]:
    text = files("vocabtrim.demo").joinpath("prompts.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _rows(path: Path) -> list[Record]:
    try:
        rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    except OSError as fault:
        raise CalibrationError(f"cannot be read ({fault.strerror})", path=path) from fault
    except ValueError as fault:
        raise CalibrationError(f"no JSONL ({fault})", path=path) from fault
    if len(rows) <= HELD_OUT:
        raise CalibrationError(
            f"{len(rows)} rows, of which the last {HELD_OUT} are held out: none is left", path=path
        )
    return rows


def _write(path: Path, records: Iterable[Record]) -> None:
    with atomic_file(path, force=True) as temporary:
        lines = (json.dumps(one, ensure_ascii=False) + "\n" for one in records)
        temporary.write_text("".join(lines), encoding="utf-8")


def _write_openings(data: Data, output: Path, seed: int) -> int:
    prompts, heldout = data.openings(seed=seed)
    _write(output / "prompts.jsonl", prompts)
    _write(output / "heldout.jsonl", heldout)
    _write(output / "text.jsonl", data.solutions)
    print(f"{'openings':14} {len(prompts):5}, held out {len(heldout)}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, write the five files, and return the exit status."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--data", type=Path, required=True, help="directory of the public files")
    options.add_argument("-o", "--output", type=Path, required=True, help="directory to write")
    options.add_argument("--openings", action="store_true", help="for a base model")
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse_args(argv)
    try:
        data = Data(arguments.data)
        if arguments.openings:
            return _write_openings(data, arguments.output, arguments.seed)
        prompts = prepare(data, seed=arguments.seed)
        for name, domains in (("prompts", WANTED), ("wider", WIDER)):
            chosen = [one for one in prompts if one["domain"] in domains]
            _write(arguments.output / f"{name}.jsonl", chosen)
        _write(arguments.output / "instructions.jsonl", data.instructions)
        _write(arguments.output / "heldout.jsonl", data.heldout)
        _write(arguments.output / "text.jsonl", data.texts)
    except VocabtrimError as fault:
        print(f"prepare_prompts: {fault}", file=sys.stderr)
        return fault.exit_code
    for name in WANTED | WIDER:
        print(f"{name:14} {sum(one['domain'] == name for one in prompts):5}")
    print(f"{'prompts':14} {len(prompts):5}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
