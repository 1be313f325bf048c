"""vLLM: what it is given, and how it is served.

EAGLE-3, flat or in speculators' layout, it drafts with as it comes. The head is
built with `draft_vocab_size` rows and must be stored so; ids are position plus
`d2t` (`model_executor/models/llama_eagle3.py`). A `d2t` beside a full vocabulary
is refused, a missing one is taken for zeros. Feature layers are
`eagle_aux_hidden_state_layer_ids` at the top level, else the list inside
`eagle_config`, and either is read as indices of `hidden_states`
(`v1/worker/gpu_model_runner.py`).

Independent drafters, EAGLE-1 and EAGLE-2, and a target's own prediction layers it
drafts with over K ids where our plug-in (`plugin.py`) is installed beside it. What
turns that on is the name of the class in the config, which stock vLLM refuses.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vocabtrim.core.errors import CheckpointError
from vocabtrim.engines.base import GAMMA, Cell, Container, Level, ReadBack, head_rows, offset_ids
from vocabtrim.engines.vllm.architectures import ARCHITECTURES, EAGLE, OF_TARGET, TRIMMED
from vocabtrim.tensors.checkpoint import CONFIG_FILE, Checkpoint
from vocabtrim.tensors.eagle3_layout import (
    FEATURE_KEY,
    FUSION,
    NESTED_CONFIG,
    Counting,
    is_eagle3,
)
from vocabtrim.tensors.head_source import D2T, HEAD_BIAS, HEAD_WEIGHT
from vocabtrim.tensors.mtp_sidecar import REMEMBERED, is_sidecar, target_config

PLUGGED = "a trimmed one needs vocabtrim installed beside vLLM, whose plug-in has the head"
METHODS: Mapping[str, str] = MappingProxyType(
    {"eagle3": "eagle3", "mtp": "mtp", "independent": "draft_model", "eagle": "eagle"}
)
"""Family → vLLM's name for the way of drafting."""

BEST = "use_local_argmax_reduction"
"""Takes the best of K logits; without it a row of V is filled for each draft step."""

_FUSION_BIAS = FUSION.removesuffix("weight") + "bias"
_PREDICTS = ("mtp_num_hidden_layers", "num_nextn_predict_layers")


@dataclass(frozen=True)
class Vllm:
    """vLLM."""

    name: str = "vllm"
    summary: str = "vLLM: EAGLE-3 as it is; MTP, independent and EAGLE-1/2 by plug-in"
    version: str = "0.32.0"
    counting: Counting = Counting.INPUTS
    cells: tuple[Cell, ...] = (
        Cell("eagle3", Container.FLAT, Level.SERVED),
        Cell("eagle3", Container.SPECULATORS, Level.SERVED),
        Cell("mtp", Container.FLAT, Level.SERVED, PLUGGED),
        Cell("independent", Container.FLAT, Level.SERVED, PLUGGED),
        Cell("eagle", Container.FLAT, Level.SERVED, PLUGGED),
    )

    def config(
        self, config: Mapping[str, Any], container: Container, *, owns_head: bool
    ) -> dict[str, Any]:
        """Return the config as it is, but a sidecar's: what vLLM needs, every drafter states.

        Raises:
            CheckpointError: It is a sidecar of a target that our plug-in does not know.
        """
        return _prediction_config(config) if is_sidecar(config) else dict(config)

    def read_back(self, output: Path, container: Container) -> ReadBack:
        """Read an exported directory by vLLM's rules, and our plug-in's.

        Raises:
            CheckpointError: One of them would refuse it.
        """
        drafter = Checkpoint.open(output)
        V = drafter.integer("vocab_size")
        stated = drafter.config.get("draft_vocab_size") or V
        d2t = drafter.array(D2T) if D2T in drafter.tensors else None
        if d2t is not None and stated == V:
            raise CheckpointError(
                f"vLLM refuses a {D2T} beside a head of all {V} rows", path=output
            )
        if not is_eagle3(drafter):
            _refuse_unknown(drafter)
        head = drafter.tensors.get(HEAD_WEIGHT)
        ids = offset_ids(d2t)
        shape = None if head is None else head.shape
        rows = head_rows(shape, stated, None if ids is None else ids.size, output)
        return ReadBack(ids, None if head is None else rows, _layers(drafter.config))

    def command(self, output: Path, target: str, cell: Cell, *, gamma: int = GAMMA) -> str:
        """Return the command that serves it."""
        draft: dict[str, Any] = {
            "method": METHODS[cell.family],
            "model": str(output),
            "num_speculative_tokens": gamma,
        }
        if takes_best(draft["method"], output):
            draft[BEST] = True
        return shlex.join(["vllm", "serve", target, "--speculative-config", json.dumps(draft)])


def _prediction_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a target's prediction layers, as vLLM would make it, over K ids."""
    text = target_config(config)
    name = OF_TARGET.get(str(text.get("model_type")))
    if name is None:
        raise CheckpointError(
            f"the plug-in for vLLM has no reduced head for targets of the type "
            f"{text.get('model_type')!r}; it has for {', '.join(OF_TARGET)}"
        )
    predicts = next((text[key] for key in _PREDICTS if key in text), None)
    return {
        **text,
        "architectures": [name],
        "model_type": ARCHITECTURES[name].model_type,
        "vocab_size": config["vocab_size"],
        "draft_vocab_size": config["draft_vocab_size"],
        **({} if predicts is None else {"n_predict": predicts}),
        REMEMBERED: config[REMEMBERED],
    }


def takes_best(method: str, drafter: Path) -> bool:
    """Return whether vLLM can be asked for the best logit of a drafter alone.

    Args:
        method: One of `METHODS`' values.
        drafter: Its directory. All that our plug-in drafts with can be asked so; of
            vLLM's own classes those of EAGLE-3 can, and not all others.
    """
    if method == METHODS["eagle3"]:
        return True
    if not (drafter / CONFIG_FILE).is_file():
        return False
    names = Checkpoint.open(drafter).config.get("architectures") or []
    return any(name.startswith(TRIMMED) for name in names)


def _refuse_unknown(drafter: Checkpoint) -> None:
    """Refuse a trimmed drafter whose class the plug-in does not have.

    Raises:
        CheckpointError: It is one.
    """
    eagle = FUSION in drafter.tensors
    for name in drafter.config.get("architectures") or []:
        known = (EAGLE if eagle else "") + name in ARCHITECTURES
        if name.startswith(TRIMMED) and not known:
            stock = sorted(one.stock for one in ARCHITECTURES.values())
            raise CheckpointError(
                f"the plug-in for vLLM has no reduced head for {name}; it has for "
                f"{', '.join(stock)}"
            )
        for tensor in (HEAD_BIAS, *((_FUSION_BIAS,) if eagle else ())):
            if name.startswith(TRIMMED) and tensor in drafter.tensors:
                raise CheckpointError(f"vllm has no place for its {tensor}")


def _layers(config: Mapping[str, Any]) -> tuple[int, ...] | None:
    nested = config.get(NESTED_CONFIG)
    inside = nested.get(FEATURE_KEY) if isinstance(nested, dict) else None
    stated = config.get(FEATURE_KEY) or inside
    return tuple(stated) if stated else None


PLUGIN = Vllm()
