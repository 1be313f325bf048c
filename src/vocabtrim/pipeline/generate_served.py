"""`vocabtrim generate --base-url`: what a served model answers, as JSONL.

The same lines as `pipeline/generate.py` writes, from any OpenAI-compatible
server (`engines/openai/`). Prompts that a server refuses or does not answer are
listed with their reasons, what there is stays in `OUT.part`, and the same
command asks for the rest; the server may have moved meanwhile.

Ids are taken over only as what they are proved to be: given a tokenizer, each
completion's ids have to decode to its text, special tokens and white space
aside. Then the line names that tokenizer, and its text is what the ids decode
to, with the reasoning that a server takes out of its text. Otherwise the server's
text stands alone, and `count` encodes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from vocabtrim.core.errors import CalibrationError, ServerError
from vocabtrim.core.manifest import refuse_existing
from vocabtrim.engines.openai.asking import Ask, Given, Server
from vocabtrim.engines.openai.wire import Text
from vocabtrim.pipeline.answering import (
    Advance,
    Answer,
    Assignment,
    Failure,
    GenerateResult,
    Job,
    digest,
    make_jobs,
)
from vocabtrim.tokens.prompts import Prompt, read_prompts
from vocabtrim.tokens.tokenizer import REPLACEMENT, Tokenizer


def generate_served(
    prompts: Sequence[Path],
    server: Server,
    output: Path,
    *,
    tokenizer: Path | None = None,
    limit: int | None = None,
    samples: int = 1,
    force: bool = False,
    progress: Advance | None = None,
) -> GenerateResult:
    """Let a server answer every prompt and write the answers to `output`.

    Args:
        prompts: PROMPTS files.
        server: Where it is, and how it is asked; `server.asking.raw` sends the
            text of each prompt without a chat template.
        output: JSONL to write; `OUT.part` beside it until it is complete.
        tokenizer: The model's: a directory or a `tokenizer.json`. Ids are
            checked against it.
        limit: Answer only the first so many prompts.
        samples: Answers a prompt; above 1, their ids end in `/0`, `/1`, …
        force: Replace `output`, and start over where `OUT.part` differs.
        progress: Called with (lines there, lines in all).

    Returns:
        What came of it. Where prompts have no answer, they are its `failures`,
        and `output` is not written.

    Raises:
        OutputExists: `output` is there, or `OUT.part` was begun otherwise or is
            being written.
        CalibrationError: A prompt cannot be used.
        TokenizerError: There is no usable tokenizer.
        ServerError: The server refuses the key or does not have the model, or
            an option is out of range.
        EnvironmentFailure: Nobody answers at all, or the disk is full; what is
            there is kept.
    """
    refuse_existing(output, force=force)
    if limit is not None and limit < 1:
        raise ServerError(f"limit must be at least 1, found {limit}")
    asking = server.asking
    chosen = read_prompts(prompts)[:limit]
    if asking.raw:
        _check_raw(chosen)
    jobs = make_jobs(chosen, samples, greedy=asking.greedy)
    opened = None if tokenizer is None else Tokenizer.open(tokenizer)
    request = {
        "tokenizer": None if opened is None else opened.fingerprint,
        "prompts": digest({key: list(job.prompt.messages) for key, job in jobs.items()}),
        **asdict(asking),
        "served": True,
    }
    writer = _Writer(server, opened)
    assignment = Assignment(output, jobs, request, asking.model, asking.seed, force)
    result = assignment.carry_out(writer.answers, progress=progress)
    return replace(result, warnings=(*result.warnings, *writer.warnings()))


@dataclass
class _Writer:
    """The server as an author, and what was remarkable about its answers."""

    server: Server
    tokenizer: Tokenizer | None
    remarks: Counter[str] = field(default_factory=Counter)

    def answers(self, jobs: Sequence[Job]) -> Iterator[Answer | Failure]:
        """Find out what answers there, and return its answers as they come."""
        self.server.identify()
        asks = [Ask(job.key, job.prompt.messages) for job in jobs]
        return (self._answer(given) for given in self.server.answers(asks))

    def warnings(self) -> list[str]:
        """Return what a reader of the lines should know."""
        said = [f"{count} answers {remark}" for remark, count in self.remarks.items()]
        if self.server.is_plain:
            said.append(
                "the server refuses fields beyond the OpenAI protocol, so token ids were not "
                "asked for and its own defaults shape the distribution where nothing was given"
            )
        return said

    def _answer(self, given: Given) -> Answer | Failure:
        text = given.text
        if text is None:
            return Failure(given.key, given.reason)
        ids, extra = text.token_ids, {} if text.reasoning is None else {"reasoning": text.reasoning}
        if ids is None:
            self.remarks["came without token ids; `count` will encode their text"] += 1
        elif self.tokenizer is None:
            self.remarks[
                "have token ids that were not checked, so `count` will encode their text; "
                "give --tokenizer to have the ids used"
            ] += 1
        elif emits(self.tokenizer, text):
            whole = self.tokenizer.decode(ids)
            fingerprint = self.tokenizer.fingerprint
            return Answer(given.key, whole, ids, text.finish_reason, fingerprint)
        else:
            ids = None
            self.remarks[
                "have token ids that do not decode to their text with this tokenizer; "
                "the ids were left out"
            ] += 1
        if text.reasoning is not None:
            self.remarks["have reasoning apart from their text, which will not be counted"] += 1
        return Answer(given.key, text.content, ids, text.finish_reason, None, extra)


def emits(tokenizer: Tokenizer, text: Text) -> bool:
    """Whether ids decode to the text that came with them.

    White space and characters that broke off are each server's own affair, so
    neither is compared; an id that ends the text may have a spelling that the
    server leaves out. Where the server took out reasoning, the ids have to have
    both, in this order.

    Args:
        tokenizer: Of the model, supposedly.
        text: With ids.
    """
    ids = text.token_ids or ()
    if max(ids, default=0) >= tokenizer.vocab_size:
        return False
    spellings = {_bare(tokenizer.decode(ids)), _bare(tokenizer.decode(ids[:-1]))}
    content = _bare(text.content)
    if text.reasoning is None:
        return content in spellings
    reasoning = _bare(text.reasoning)
    return any(
        reasoning in spelled.removesuffix(content)
        for spelled in spellings
        if spelled.endswith(content)
    )


def _bare(text: str) -> str:
    return "".join(text.replace(REPLACEMENT, "").split())


def _check_raw(prompts: Sequence[Prompt]) -> None:
    for prompt in prompts:
        if prompt.text is None:
            raise CalibrationError(
                f"prompt {prompt.id} is a conversation, which only a chat template can "
                "write as text; give `prompt` instead of `messages`"
            )
