"""The demo target as llama.cpp serves it: as it was published, and in float32.

`demo` is the published file (Q4_1, its head Q8_0). `demo-f32` holds the same
weights widened to float32 by llama.cpp's own converter, once, in the cache. In
Q4_1 one token and several are computed by kernels that round differently; in
float32 a text changes with the number of tokens of a pass only where two logits
all but tie.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from vocabtrim.core.errors import EnvironmentFailure
from vocabtrim.pipeline.gguf_converter import converter_command
from vocabtrim.tensors.built_in import SMOLLM2, demo_gguf, demo_target
from vocabtrim.tensors.cache import built_once

FILE = "model.gguf"


def widened_demo(outtype: str = "f32") -> Path:
    """Return the demo target as a GGUF file of one float type, made once.

    Args:
        outtype: As llama.cpp's converter calls it: "f32", "f16", "bf16".

    Raises:
        EnvironmentFailure: The target cannot be fetched, or the converter cannot
            be run.
    """
    source = demo_target()

    def build(directory: Path) -> None:
        words = [*converter_command(None), str(source), "--outtype", outtype]
        words += ["--outfile", str(directory / FILE)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        except OSError as fault:
            raise EnvironmentFailure(f"{words[0]} cannot be run ({fault.strerror})") from fault
        if done.returncode:
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            raise EnvironmentFailure(
                f"llama.cpp's converter could not widen the demo target "
                f"({said[-1] if said else f'it ended with {done.returncode}'})"
            )

    return built_once(f"demo-{outtype}-{SMOLLM2.short_hash}", build) / FILE


DEMO_FILES: Mapping[str, Callable[[], Path]] = MappingProxyType(
    {"demo": demo_gguf, "demo-f32": partial(widened_demo, "f32")}
)
"""Name to the function that returns its file."""
