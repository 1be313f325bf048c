"""Make a small target with a native prediction layer, and train both.

Run as `python -m recipes.train_mtp -o DIR`: some minutes of one thread. The text
is a language of made-up words. Each has three successors, one likely and two less
so, which are others in each of four topics; the first word of a text tells the
topic, so the layer has to read the target's features to draft well. Common words
have low ids, as merges of a tokenizer do. Target and tokenizer are read by
transformers, vLLM and vocabtrim like a published checkpoint; prompts for them lie
beside it (`prompts.jsonl`).

The same seed on the same machine gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recipes.training.mtp import Shape, Target, by_position
from vocabtrim.core.manifest import atomic_directory, refuse_existing

SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
SPECIAL = ("<|endoftext|>",)
CHANCES = (0.75, 0.15, 0.1)
TOPICS = 4
STEPS, BATCH, ROW = 80, 16, 96
WARM_UP, RATE = 20, 3e-3
PROMPTS_FILE = "prompts.jsonl"
PROMPTS, PROMPT_TOKENS, ANSWER_TOKENS, GAMMA = 40, 8, 64, 3


class Language:
    """A chain of words.

    Args:
        vocab_size: V: the end of a text, and words.
        seed: Of the chain, and of the text drawn from it.
    """

    def __init__(self, vocab_size: int, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        words = vocab_size - len(SPECIAL)
        chances = 1.0 / (np.arange(words) + 8.0)
        chances /= chances.sum()
        self.first = chances
        drawn = self.random.choice(words, size=(TOPICS, words, len(CHANCES)), p=chances)
        self.successors: NDArray[np.int64] = drawn.astype(np.int64)
        self.words = [*SPECIAL, *(_word(rank) for rank in range(words))]

    def rows(self, count: int, length: int) -> NDArray[np.int64]:
        """Draw texts: [count, length] ids."""
        found = np.empty((count, length), dtype=np.int64)
        found[:, 0] = self.random.choice(len(self.first), size=count, p=self.first)
        for place in range(1, length):
            which = self.random.choice(len(CHANCES), size=count, p=CHANCES)
            found[:, place] = self.successors[found[:, 0] % TOPICS, found[:, place - 1], which]
        return found + len(SPECIAL)

    def save_tokenizer(self, directory: Path) -> None:
        """Write a tokenizer of whole words beside a target."""
        from tokenizers import Tokenizer, models, pre_tokenizers
        from tokenizers.decoders import WordPiece

        ids = {word: place for place, word in enumerate(self.words)}
        tokenizer = Tokenizer(models.WordLevel(ids, unk_token=SPECIAL[0]))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
        tokenizer.decoder = WordPiece(prefix="##", cleanup=False)  # type: ignore[assignment]
        tokenizer.add_special_tokens(list(SPECIAL))
        tokenizer.save(str(directory / "tokenizer.json"))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[0]}
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")

    def save_prompts(self, path: Path, prompts: NDArray[np.int64]) -> None:
        """Write prompts as every verb of vocabtrim reads them."""
        lines = [{"prompt": " ".join(self.words[one] for one in row)} for row in prompts]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def train(target: Target, language: Language, steps: int) -> None:
    """Train target and prediction layer on text of the language."""
    optimizer = torch.optim.AdamW(target.parameters(), lr=RATE, betas=(0.9, 0.95))
    began = time.monotonic()
    for step in range(steps):
        rate = RATE * min(1.0, (step + 1) / WARM_UP) * (1.0 - step / steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = target.loss(torch.from_numpy(language.rows(BATCH, ROW)))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(target.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == steps - 1:
            print(
                f"step {step}  loss {loss.item():.3f}  {time.monotonic() - began:.0f} s", flush=True
            )


def measure(target: Target, prompts: NDArray[np.int64]) -> list[float]:
    """Return the share of cycles that accepted a draft at each depth, on greedy text."""
    target.eval()
    texts = target.greedy(torch.from_numpy(prompts), ANSWER_TOKENS + GAMMA)
    counts = [
        count
        for text in texts
        for count in target.accepted(text, prompts.shape[1], ANSWER_TOKENS, GAMMA, None)
    ]
    return [one / len(counts) for one in by_position(counts, GAMMA)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make, train, measure and write; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m recipes.train_mtp", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="directory to make")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    refuse_existing(options.output, force=False)
    torch.manual_seed(options.seed)
    shape = Shape()
    language = Language(shape.vocab_size, options.seed)
    prompts = language.rows(PROMPTS, PROMPT_TOKENS)
    target = Target(shape)
    train(target, language, options.steps)
    shares = measure(target, prompts)
    with atomic_directory(options.output) as place:
        target.save(place)
        language.save_tokenizer(place)
        language.save_prompts(place / PROMPTS_FILE, prompts)
    print("accepted at depth " + ", ".join(f"{i + 1}: {one:.2f}" for i, one in enumerate(shares)))
    return 0


def _word(rank: int) -> str:
    """Return a word of its own for each rank: short ones first."""
    word = ""
    rank += 1
    while rank > 0:
        rank, syllable = divmod(rank - 1, len(SYLLABLES))
        word = SYLLABLES[syllable] + word
    return word


if __name__ == "__main__":
    raise SystemExit(main())
