"""Independent drafters: an ordinary causal LM with the target's tokenizer.

Its head is its own, or its tied input embedding. A trimmed one keeps the whole
embedding and the tokenizer, so that it reads any context, and gets a head of K
rows with `d2t` and `t2d`. No engine reads that from stock, and one that does not
know better could fill a random head, so its architecture is renamed `Trimmed…`:
engines that go by architecture refuse the name, and transformers, which goes by
`model_type`, refuses the shape of the head.

A model that was tied counts its vocabulary once before trimming and K rows
after: the config remembers that in `vocabtrim.tied_before_trim`, because the
trimmed file, which holds two matrices, no longer shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.metrics import StepCost, tied_parameters, untied_parameters
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import trimmed_architectures
from vocabtrim.families.tiny import tiny_config, tiny_layer, write_tiny
from vocabtrim.tensors.causal import causal_layout, has_causal_layout, row_bytes, trunk_tensors
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.head_source import D2T, T2D, HeadSource, embedding_head, own_head

if TYPE_CHECKING:
    from vocabtrim.decode.drafters.base import Drafter

REMEMBERED = "vocabtrim"
TIED_BEFORE = "tied_before_trim"

_CLASSES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""How transformers ends the name of a class with an LM head."""


@dataclass(frozen=True)
class Independent:
    """The family of ordinary causal LMs."""

    name: str = "independent"
    summary: str = "an ordinary causal LM, tied or not"
    sidecar: bool = False
    token_map: bool = False
    decoded: bool = True

    def matches(self, checkpoint: Checkpoint) -> bool:
        """Return whether it is a causal LM by architecture and tensors."""
        return (
            has_causal_layout(checkpoint)
            and any(name.endswith(_CLASSES) for name in _architectures(checkpoint.config))
            and "fc.weight" not in checkpoint.tensors
        )

    def vocab_size(self, drafter: Checkpoint) -> int:
        """Return V: the rows of the input embedding.

        Raises:
            CheckpointError: The config says otherwise.
        """
        V = drafter.integer("vocab_size")
        rows = causal_layout(drafter).embedding.shape[0]
        if rows != V:
            raise CheckpointError(
                f"vocab_size is {V}, but its input embedding has {rows} rows", path=drafter.path
            )
        return V

    def needs_target(self, drafter: Checkpoint) -> bool:
        """Return False: it has all that it needs."""
        return False

    def head(self, drafter: Checkpoint, target: Checkpoint | None) -> HeadSource:
        """Find the head in the drafter itself; the target is not looked at.

        Raises:
            CheckpointError: Head, maps and config contradict each other.
        """
        V = self.vocab_size(drafter)
        layout = causal_layout(drafter)
        if not layout.tied:
            hidden = layout.embedding.shape[1]
            return own_head(drafter, V, name=layout.head.name, hidden=hidden)
        if D2T in drafter.tensors or drafter.config.get("draft_vocab_size") not in (None, V):
            raise CheckpointError(
                "it drafts over fewer ids than it reads, but its head is its whole embedding",
                path=drafter.path,
            )
        return embedding_head(drafter, layout)

    def trimmed_config(
        self, config: Mapping[str, Any], vocab: DraftVocab, head: HeadSource
    ) -> dict[str, Any]:
        """Return the config, under a name that stock loaders refuse while K < V."""
        names = trimmed_architectures(config, full=vocab.is_full)
        changed = {**config, "draft_vocab_size": vocab.size, "architectures": names}
        if vocab.is_full:
            changed.pop(REMEMBERED, None)
            return changed
        tied = head.origin.shared or was_tied(config)
        return changed | {
            "tie_word_embeddings": False,
            REMEMBERED: {TIED_BEFORE: tied},
        }

    def cost(
        self, drafter: Checkpoint, target: Checkpoint | None, *, itemsize: float | None = None
    ) -> StepCost:
        """Return what a draft step holds and reads.

        Parameters are trunk + K·H where the model is or was tied, and
        trunk + V·H + K·H where it never was.

        Raises:
            CheckpointError: As for `head`.
        """
        head = self.head(drafter, target)
        layout = causal_layout(drafter)
        V, H = layout.embedding.shape
        trunk = [info for info in trunk_tensors(drafter, layout) if info.name not in (D2T, T2D)]
        bias = sum(info.n_params for info in head.infos) - head.weight.n_params
        trunk_params = sum(info.n_params for info in trunk) + bias
        rows = head.weight.shape[0]
        head_bytes = sum(info.bytes_at(itemsize) for info in head.infos)
        return StepCost(
            params=tied_parameters(trunk_params, H, rows)
            if layout.tied or was_tied(drafter.config)
            else untied_parameters(trunk_params, H, V, rows),
            head_params=head.weight.n_params + bias,
            step_bytes=sum(info.bytes_at(itemsize) for info in trunk)
            + head_bytes
            + row_bytes(layout.embedding, itemsize),
            head_bytes=head_bytes,
        )

    def load_drafter(
        self, drafter: Checkpoint, target: Checkpoint, model: Any, vocab: DraftVocab | None
    ) -> Drafter:
        """Open it for decoding: the trunk by `transformers`, the kept rows beside it.

        Raises:
            CheckpointError: It is damaged.
            VocabError: Its head has no row for an id.
            DecodeError: `transformers` cannot load its trunk.
        """
        from vocabtrim.decode.drafters.independent import IndependentDrafter, load_trunk
        from vocabtrim.decode.weights import read_head

        source = self.head(drafter, target)
        kept = source.held if vocab is None else vocab.over(source.held.vocab_size)
        trunk = load_trunk(drafter.path, model.dtype, model.device)
        return IndependentDrafter(trunk, read_head(source, kept, model.dtype))

    def tiny_checkpoint(
        self, directory: Path, *, vocab_size: int = 96, hidden: int = 32, seed: int = 0
    ) -> None:
        """Write a tied two-layer Llama, for tests."""
        write_tiny_llama(directory, vocab_size=vocab_size, hidden=hidden, seed=seed)


def was_tied(config: Mapping[str, Any]) -> bool:
    """Return whether a trimmed drafter was tied before, as its config remembers."""
    remembered = config.get(REMEMBERED)
    return isinstance(remembered, dict) and remembered.get(TIED_BEFORE) is True


def write_tiny_llama(
    directory: Path,
    *,
    vocab_size: int = 96,
    hidden: int = 32,
    seed: int = 0,
    layers: int = 2,
    tied: bool = True,
) -> None:
    """Write a Llama of a few kilobytes that transformers loads, for tests."""
    config = {
        **tiny_config(hidden, vocab_size),
        "attention_bias": False,
        "bos_token_id": 1,
        "dtype": "float32",
        "eos_token_id": 2,
        "num_hidden_layers": layers,
        "tie_word_embeddings": tied,
    }
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocab_size, hidden),
        "model.norm.weight": (hidden,),
    }
    for index in range(layers):
        prefix = f"model.layers.{index}."
        shapes |= tiny_layer(prefix, hidden)
        shapes[f"{prefix}input_layernorm.weight"] = (hidden,)
    if not tied:
        shapes["lm_head.weight"] = (vocab_size, hidden)
    write_tiny(directory, config, shapes, seed)


def _architectures(config: Mapping[str, Any]) -> list[str]:
    names = config.get("architectures")
    return [str(name) for name in names] if isinstance(names, list) else []


PLUGIN = Independent()
