"""Running llama.cpp's converter, which turns a drafter's directory into GGUF.

It is a script of llama.cpp's sources, `convert_hf_to_gguf.py`, and needs torch and
transformers; it is no part of ours and runs as a process of its own. Which one is
meant, `--converter` says, else `VOCABTRIM_LLAMA_CONVERTER`, else the PATH. The
type of the values stays what it was, so that kept rows keep their bits.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from vocabtrim.core.errors import CheckpointError, EnvironmentFailure
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.eagle3_layout import FUSION

SCRIPT = "convert_hf_to_gguf.py"
VARIABLE = "VOCABTRIM_LLAMA_CONVERTER"

_OUTTYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


def run_converter(command: str | None, drafter: Path, target: Path, output: Path) -> None:
    """Convert a flat EAGLE-3 drafter.

    Args:
        command: What runs the converter; see `ready_converter`.
        drafter: Directory of the drafter.
        target: Directory of the target, whose tokenizer goes into the file.
        output: The file to write.

    Raises:
        CheckpointError: The converter refuses the drafter; its last line says why.
        EnvironmentFailure: There is no converter, or it cannot be run.
    """
    kind = Checkpoint.open(drafter).tensor(FUSION).dtype
    if kind not in _OUTTYPES:
        raise CheckpointError(f"its values are {kind}, which is not converted", path=drafter)
    words = [*ready_converter(command), str(drafter), "--target-model-dir", str(target)]
    words += ["--outtype", _OUTTYPES[kind], "--outfile", str(output)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as fault:
        raise EnvironmentFailure(f"{words[0]} cannot be run ({fault.strerror})") from fault
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        why = said[-1].strip() if said else f"it ended with {done.returncode}"
        if "ModuleNotFoundError" in why or "ImportError" in why:
            raise EnvironmentFailure(
                f"llama.cpp's converter lacks a package ({why}); run it with the Python of an "
                f"environment that has it: --converter 'PYTHON {SCRIPT}'"
            )
        raise CheckpointError(f"llama.cpp's converter refuses it ({why})", path=drafter)


def ready_converter(command: str | None) -> list[str]:
    """Return the words that run the converter, where all of them are there.

    Args:
        command: As for `converter_command`.

    Raises:
        EnvironmentFailure: There is no converter, or what is named does not exist.
    """
    words = converter_command(command)
    for word in words:
        if word.endswith(".py") and not Path(word).is_file():
            raise EnvironmentFailure(f"llama.cpp's converter {word} does not exist")
    if shutil.which(words[0]) is None:
        raise EnvironmentFailure(f"{words[0]} cannot be run (there is no such program)")
    return words


def converter_command(command: str | None) -> list[str]:
    """Return the words that run the converter.

    Args:
        command: A command line, or the path of the script alone, which this
            Python then runs; None looks at the environment and the PATH.

    Raises:
        EnvironmentFailure: There is none.
    """
    named = command or os.environ.get(VARIABLE) or shutil.which(SCRIPT)
    if not named:
        raise EnvironmentFailure(
            f"a directory becomes GGUF through llama.cpp's {SCRIPT}, and there is none: name it "
            f"with --converter, or in {VARIABLE}"
        )
    words = [named] if Path(named).is_file() else shlex.split(named)
    if words[0].endswith(".py"):
        return [sys.executable, *words]
    return words
