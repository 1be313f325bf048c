"""An assistant of `transformers` that drafts over the kept rows of its head.

For plain `target.generate(assistant_model=…)`, greedy and sampled. The head
becomes a matrix of K rows. Behind the model's own forward pass, so behind a
softcap or a scale of its logits, they are put in their places among V, where the
target's rule reads them as q; ids ascend, and so do the rows.

Elsewhere a logit is `floor`: its probability is exactly 0 in float32, for
temperatures up to tens, so such an id is never drafted and keeps all of p in the
residual. It is finite because `transformers` gives the target's own logits
processors to the assistant: where these forbid every kept id (an enforced prefix,
suppressed tokens, a minimal length), minus infinity everywhere would be NaN. Then
the draft is an id that they allow, and is verified like any other.

Nothing of the model that is given changes: the assistant has modules of its own
and shares their weights.
"""

from __future__ import annotations

import copy
import importlib
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from vocabtrim.core.errors import DecodeError, TokenizerMismatch
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.decode.drafters.base import ReducedHead
from vocabtrim.decode.model import DTYPES, quietly
from vocabtrim.decode.weights import read_head
from vocabtrim.tensors.causal import causal_layout
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.head_source import HeadSource, embedding_head, own_head
from vocabtrim.tensors.locate import locate
from vocabtrim.tokens.tokenizer import fingerprint_of

HEAD_KEYS = ("lm_head.weight", "lm_head.bias", "embed_out.weight", "output.weight")
"""Of a head with fewer rows than the config says, these do not load; they are read by us."""


def reduced_assistant(assistant: Any, vocab: DraftVocab, *, target: Any = None) -> Any:
    """Return a causal LM that drafts over a draft vocabulary, as an assistant of `generate`.

    Args:
        assistant: A causal LM of `transformers` with the target's tokenizer; it stays
            as it is.
        vocab: Ids to keep; all of them are rows of its head.
        target: The model that verifies, where its vocabulary is padded to another
            number of rows than the assistant's.

    Raises:
        DecodeError: The head is not a plain matrix, or is reduced already.
        VocabError: An id has no row in the head, or is none of the target's.
    """
    head = assistant.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear) or not head.weight.is_floating_point():
        raise DecodeError(
            f"the assistant's head is a {type(head).__name__}, and rows are kept of plain "
            "linear layers only"
        )
    stated = assistant.config.get_text_config(decoder=True).vocab_size
    if head.weight.shape[0] != stated:
        raise DecodeError(
            f"the assistant's head has {head.weight.shape[0]} rows for a vocabulary of {stated}; "
            "give a model that is not reduced yet"
        )
    kept = vocab.over(stated)
    rows = torch.from_numpy(kept.ids.copy()).to(head.weight.device)
    bias = None if head.bias is None else head.bias.detach()[rows]
    # weights are shared, modules and configs are not
    shared = {id(one): one for one in chain(assistant.parameters(), assistant.buffers())}
    twin = copy.deepcopy(assistant, shared)
    return _with_head(twin, ReducedHead(head.weight.detach()[rows], kept, bias), target)


def load_assistant(
    drafter: str | Path,
    vocab: DraftVocab | None = None,
    *,
    target: Any = None,
    dtype: str = "float32",
    device: str = "cpu",
) -> Any:
    """Open an independent drafter, trimmed or not, as an assistant of `generate`.

    Args:
        drafter: Directory of a causal LM, as `vocabtrim trim` or `vocabtrim export`
            writes it, or a built-in or hub name.
        vocab: Ids to keep; by default those that its head has.
        target: As for `reduced_assistant`.
        dtype: "float32", "bfloat16" or "float16".
        device: Where it goes.

    Raises:
        CheckpointError: It is no causal LM, or head, map and config contradict
            each other.
        VocabError: An id has no row in the head.
        TokenizerMismatch: The draft vocabulary was made with another tokenizer.
        DecodeError: `transformers` cannot load it.
    """
    directory = locate(str(drafter))
    source = _head_of(Checkpoint.open(directory))
    if vocab is not None:
        TokenizerMismatch.check(
            f"the draft vocabulary was made with another tokenizer than that of {directory}",
            expected=fingerprint_of(directory),
            found=vocab.tokenizer,
        )
    if dtype not in DTYPES:
        raise DecodeError(f"dtype must be one of {', '.join(DTYPES)}, found {dtype!r}")
    kept = source.held if vocab is None else vocab.over(source.held.vocab_size)
    head = read_head(source, kept, DTYPES[dtype])
    return _with_head(_load(directory, DTYPES[dtype]), head, target).to(device)


class Scatter:
    """A forward hook that puts K logits in their places among V.

    Args:
        ids: [K] int64 ascending, where the logits belong.
        width: V.
    """

    def __init__(self, ids: torch.Tensor, width: int) -> None:
        self.ids, self.width = ids, width

    def __call__(self, _module: Any, _arguments: Any, output: Any) -> Any:
        """Return the module's output with logits [..., V]."""
        kept = output.logits
        wide = kept.new_full((*kept.shape[:-1], self.width), floor(kept.dtype))
        wide[..., self.ids.to(kept.device)] = kept
        output.logits = wide
        return output


class KnownIds:
    """A hook in front of an embedding with fewer rows than the target has ids.

    Those are padding, which texts do not have; if one does, the drafts behind it are
    nonsense, and are verified.

    Args:
        rows: Of the embedding.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __call__(self, _module: Any, arguments: Any) -> Any:
        """Return the arguments with ids below `rows`."""
        return (arguments[0].clamp(max=self.rows - 1), *arguments[1:])


def floor(dtype: torch.dtype) -> float:
    """Return the logit of an id that has no row."""
    # far below any logit, far enough above the least number to be divided by a temperature
    return max(-(2.0**100), torch.finfo(dtype).min / 2)


def _with_head(model: Any, head: ReducedHead, target: Any) -> Any:
    """Give a model a head of K rows, in place."""
    V, H = head.vocab.vocab_size, head.weight.shape[1]
    if target is not None:
        V = target.get_output_embeddings().weight.shape[0]
    rows = torch.nn.Linear(H, head.vocab.size, bias=head.bias is not None, device="meta")
    rows.weight = torch.nn.Parameter(head.weight, requires_grad=False)
    if head.bias is not None:
        rows.bias = torch.nn.Parameter(head.bias, requires_grad=False)
    model.set_output_embeddings(rows)
    text = model.config.get_text_config(decoder=True)
    # a head of its own from here on; `generate` compares the other with the target's
    text.tie_word_embeddings, text.vocab_size = False, V
    vocab = head.vocab.over(V)
    if not vocab.is_full:
        model.register_forward_hook(Scatter(torch.from_numpy(vocab.ids.copy()), V))
    embedding = model.get_input_embeddings()
    if embedding.weight.shape[0] < V:
        embedding.register_forward_pre_hook(KnownIds(embedding.weight.shape[0]))
    return model.eval()


def _head_of(checkpoint: Checkpoint) -> HeadSource:
    layout = causal_layout(checkpoint)
    if layout.tied:
        return embedding_head(checkpoint, layout)
    V, H = layout.embedding.shape
    return own_head(checkpoint, V, name=layout.head.name, hidden=H)


def _load(directory: Path, dtype: torch.dtype) -> Any:
    """Open a causal LM whose head may have fewer rows than its config says."""
    library: Any = importlib.import_module("transformers")
    logging = library.utils.logging
    before = logging.get_verbosity()
    # that the head does not fit needs no remark
    logging.set_verbosity_error()
    try:
        with quietly(logging):
            model, told = library.AutoModelForCausalLM.from_pretrained(
                directory, dtype=dtype, ignore_mismatched_sizes=True, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as fault:
        reason = str(fault).strip().splitlines()[0]
        raise DecodeError(
            f"{directory}: transformers cannot load it as a causal LM ({reason})"
        ) from fault
    finally:
        logging.set_verbosity(before)
    unfit = {one[0] if isinstance(one, tuple) else one for one in told["mismatched_keys"]}
    if wrong := sorted((set(told["missing_keys"]) | unfit) - set(HEAD_KEYS)):
        raise DecodeError(f"{directory}: the weights of {wrong[0]} are missing or do not fit")
    return model
