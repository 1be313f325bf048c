"""Greedy decoding in vLLM, as a program of vLLM's own environment.

Called as `python vllm_run.py JOB` with a JSON document: `target`, `drafter` (or
null), `prompts` (texts, or lists of ids), `tokens`, `gamma`; `method` (eagle3
unless given) and further keys of the speculative config under `speculative`; and
`engine`, further arguments of `LLM`. Prints one line of JSON: texts and ids, how
many draft tokens were proposed and accepted, and for each prompt its cycles and
how many of them accepted a draft at each depth. It imports nothing of vocabtrim,
which that environment does not have of itself.
"""

from __future__ import annotations

import json
import sys
from typing import Any

DRAFTS = "vllm:spec_decode_num_drafts"
DRAFTED = "vllm:spec_decode_num_draft_tokens"
ACCEPTED = "vllm:spec_decode_num_accepted_tokens"
BY_POSITION = "vllm:spec_decode_num_accepted_tokens_per_pos"


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Decode the prompts of a job; return what is printed."""
    from vllm import LLM, SamplingParams

    speculative = None
    if job["gamma"]:
        named = {} if job["drafter"] is None else {"model": job["drafter"]}
        method = {"method": job.get("method", "eagle3")}
        speculative = method | named | {"num_speculative_tokens": job["gamma"]}
        speculative |= job.get("speculative", {})
    arguments: dict[str, Any] = {
        # In bfloat16 one token and several round differently, and the text with them.
        "dtype": "float32",
        "enforce_eager": True,
        "max_model_len": 512,
        **job.get("engine", {}),
    }
    llm = LLM(
        model=job["target"],
        speculative_config=speculative,
        disable_log_stats=False,
        **arguments,
    )
    told = not arguments.get("skip_tokenizer_init", False)
    sampling = SamplingParams(
        temperature=0.0, max_tokens=job["tokens"], ignore_eos=True, detokenize=told
    )
    by_ids = [{"prompt_token_ids": one} if isinstance(one, list) else one for one in job["prompts"]]
    outputs, cycles, positions = [], [], []
    if job.get("one_by_one"):
        for prompt in by_ids:
            before = counted(llm)
            outputs += llm.generate([prompt], sampling, use_tqdm=False)
            after = counted(llm)
            cycles.append(after[0] - before[0])
            positions.append([b - a for a, b in zip(before[1], after[1], strict=True)])
    else:
        outputs = llm.generate(by_ids, sampling)
    totals = {metric.name: getattr(metric, "value", 0) for metric in llm.get_metrics()}
    return {
        "texts": [output.outputs[0].text for output in outputs],
        "ids": [list(output.outputs[0].token_ids) for output in outputs],
        "drafted": totals.get(DRAFTED, 0),
        "accepted": totals.get(ACCEPTED, 0),
        "cycles": cycles,
        "by_position": positions,
    }


def counted(llm: Any) -> tuple[int, list[int]]:
    """Return how many cycles there were so far, and how many accepted a draft at each depth."""
    metrics = {metric.name: metric for metric in llm.get_metrics()}
    cycles = metrics[DRAFTS].value if DRAFTS in metrics else 0
    return cycles, list(metrics[BY_POSITION].values) if BY_POSITION in metrics else []


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
