r"""Drafts that an engine accepts beside those that our decoder accepts, by position.

    python -m benchmarks.engine_acceptance PROMPTS --drafter DIR
        --server-bin VENV/bin/vllm -- --dtype float32 --enforce-eager

The engine serves the pair and is asked for each prompt by itself; our decoder reads
the same prompts in float32. Where the two texts are the same, so are their drafts,
and every count has to be: a difference is a wrong map, a shifted feature or an
engine's own convention. Of conventions one is known: an engine drafts γ tokens also
where fewer are left, and counts what it accepts behind an EOS too. So here too the
text goes on past its end, and cycles count up to the one that reaches it.

An engine may be given the pair in another form: `--own-target` and `--own-drafter`
are the directories that our decoder reads. Exit code 1 where fewer than 90 % of the
texts are the same, or counts differ by more than 1 %. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import VocabtrimError
from vocabtrim.engines.openai.asking import Ask
from vocabtrim.engines.serving.answers import Asker
from vocabtrim.engines.serving.base import EngineFailure, Serve, serving_named
from vocabtrim.engines.serving.interrupts import Interrupts
from vocabtrim.engines.serving.launch import Launcher, Limits
from vocabtrim.families.base import family_of
from vocabtrim.pipeline.benching.arms import find_pair
from vocabtrim.pipeline.benching.rounds import Block, Rounds
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.locate import locate
from vocabtrim.tokens.prompts import Prompt, PromptEncoder, read_prompts

LEAST_SAME, MOST_DIFFERENT = 0.9, 0.01


@dataclass(frozen=True)
class Own:
    """What our decoder did with one prompt.

    Args:
        token_ids: More than were asked for.
        cycles: (drafted, accepted, emitted) of each cycle.
    """

    token_ids: tuple[int, ...]
    cycles: tuple[tuple[int, int, int], ...]

    def until(self, length: int) -> list[tuple[int, int, int]]:
        """Return the cycles up to the one that brings the text to this length."""
        found, emitted = [], 1
        for cycle in self.cycles:
            if emitted >= length:
                break
            found.append(cycle)
            emitted += cycle[2]
        return found


@dataclass(frozen=True)
class Comparison:
    """Counts over the prompts whose texts are the same.

    Args:
        prompts: All prompts.
        same: Those with the same text.
        cycles: Of the engine and of our decoder.
        engine: Drafts that the engine accepted, by position.
        own: Those that our decoder accepted.
    """

    prompts: int
    same: int
    cycles: tuple[int, int]
    engine: tuple[int, ...]
    own: tuple[int, ...]

    @property
    def difference(self) -> float:
        """The largest difference at a position, as a share of our count."""
        pairs = zip(self.engine, self.own, strict=True)
        return max(abs(theirs - ours) / max(ours, 1) for theirs, ours in pairs)

    @property
    def passed(self) -> bool:
        """Whether enough texts are the same, and their counts."""
        return self.same >= LEAST_SAME * self.prompts and self.difference <= MOST_DIFFERENT

    def lines(self) -> list[str]:
        """Return it as a table."""
        lines = [
            f"{self.same} of {self.prompts} texts are the same; on these:",
            f"{'':<10}{'cycles':>8}{'accepted by position':>28}",
        ]
        for name, cycles, accepted in (
            ("engine", self.cycles[0], self.engine),
            ("vocabtrim", self.cycles[1], self.own),
        ):
            lines.append(f"{name:<10}{cycles:>8,}        {', '.join(map(str, accepted))}")
        return [*lines, f"largest difference {self.difference:.2%}"]


def compared(blocks: Sequence[Block], own: Sequence[Own], gamma: int) -> Comparison:
    """Compare what an engine answered and counted with what our decoder did."""
    engine, ours, cycles, same = [0] * gamma, [0] * gamma, [0, 0], 0
    for block, mine in zip(blocks, own, strict=True):
        ids, counted = block.answers[0].token_ids, block.counted
        if ids is None or counted is None:
            raise EngineFailure("the engine gives no token ids or no counts of its own")
        if mine.token_ids[: len(ids)] != ids:
            continue
        same += 1
        taken = mine.until(len(ids))
        cycles = [cycles[0] + counted.drafts, cycles[1] + len(taken)]
        for position in range(gamma):
            ours[position] += sum(accepted > position for _, accepted, _ in taken)
        for position, accepted in enumerate(counted.accepted_at):
            engine[position] += accepted
    return Comparison(len(blocks), same, (cycles[0], cycles[1]), tuple(engine), tuple(ours))


def served(options: argparse.Namespace, prompts: Sequence[Prompt]) -> list[Block]:
    """Let the engine answer all prompts, one by one."""
    engine, interrupts = serving_named(options.engine), Interrupts()
    with interrupts.held(), tempfile.TemporaryDirectory() as scratch:
        pair = find_pair(engine, options.target, [options.drafter])
        (drafter,) = pair.drafters
        program = engine.find(options.server_bin, [drafter.method])
        own = tuple(options.arguments)
        serve = Serve(pair.target, drafter.path, drafter.method, options.gamma, 1, 2048, own)
        asker = Asker(options.max_new_tokens, raw=False, timeout_s=600.0, interrupts=interrupts)
        rounds = Rounds([Ask(one.id, one.messages) for one in prompts], asker, 1)
        launcher = Launcher(engine, program, Path(scratch), Limits(), interrupts)
        rounds.run(launcher, [serve], one_at_a_time=True)
        return rounds.blocks


def decoded(options: argparse.Namespace, prompts: Sequence[Prompt]) -> list[Own]:
    """Decode all prompts ourselves, past any EOS and further than was asked for."""
    from vocabtrim.decode.chain import Chain
    from vocabtrim.decode.model import load_model
    from vocabtrim.decode.target import Target
    from vocabtrim.decode.text import Request, Text

    directory = locate(options.own_target or options.target)
    checkpoint = Checkpoint.open(locate(options.own_drafter or options.drafter))
    model, encoder = load_model(directory, "float32"), PromptEncoder(directory)
    family = family_of(checkpoint, to_decode=True)
    drafter = family.load_drafter(checkpoint, Checkpoint.open(directory), model, None)
    target, gamma, found = Target(model, drafter.feature_layers, ends=()), options.gamma, []
    for prompt in prompts:
        ids = tuple(encoder.encode(prompt).tolist())
        request = Request(prompt.id, ids, options.max_new_tokens + gamma + 1)
        text = Text(request, request.room(target))
        chain = Chain(target, drafter, gamma=gamma, rows=1, columns=len(ids) + text.room)
        chain.admit([text])
        chain.close()
        while chain.texts:
            chain.cycle()
            chain.close()
        found.append(Own(tuple(text.token_ids), tuple(text.cycles)))
    return found


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    at = arguments.index("--") if "--" in arguments else len(arguments)
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("prompts", type=Path, nargs="+", help="as for `vocabtrim bench`")
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--target", default="demo", help="as the engine takes it")
    parser.add_argument("--drafter", required=True, help="the same")
    parser.add_argument("--own-target", help="its directory, where that is another")
    parser.add_argument("--own-drafter", help="the same")
    parser.add_argument("--gamma", type=int, default=3)
    parser.add_argument("--limit", type=int, help="use only the first so many prompts")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--server-bin", type=Path)
    options = parser.parse_args(arguments[:at])
    options.arguments = list(arguments[at + 1 :])
    return options


def main(arguments: Sequence[str]) -> int:
    options = parsed(arguments)
    try:
        prompts = read_prompts(options.prompts)[: options.limit]
        blocks = served(options, prompts)
        found = compared(blocks, decoded(options, prompts), options.gamma)
    except VocabtrimError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    for line in found.lines():
        print(line)
    document: dict[str, Any] = vars(found) | {"passed": found.passed}
    print(json.dumps({"engine_acceptance": document}))
    return 0 if found.passed else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
