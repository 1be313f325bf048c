"""Greedy decoding in vLLM, as a program of vLLM's own environment.

Called as `python vllm_run.py JOB` with a JSON document: `target`, `drafter` (or
null), `prompts`, `tokens`, `gamma`. Prints one line of JSON: the texts, and how
many draft tokens were proposed and accepted. It imports nothing of vocabtrim,
which that environment does not have.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Decode the prompts of a job; return what is printed."""
    from vllm import LLM, SamplingParams

    speculative = None
    if job["drafter"] is not None:
        speculative = {
            "method": "eagle3",
            "model": job["drafter"],
            "num_speculative_tokens": job["gamma"],
        }
    llm = LLM(
        model=job["target"],
        # In bfloat16 one token and several round differently, and the text with them.
        dtype="float32",
        enforce_eager=True,
        max_model_len=512,
        speculative_config=speculative,
        disable_log_stats=False,
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=job["tokens"], ignore_eos=True)
    outputs = llm.generate(job["prompts"], sampling)
    totals = {metric.name: getattr(metric, "value", 0) for metric in llm.get_metrics()}
    return {
        "texts": [output.outputs[0].text for output in outputs],
        "drafted": totals.get("vllm:spec_decode_num_draft_tokens", 0),
        "accepted": totals.get("vllm:spec_decode_num_accepted_tokens", 0),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
