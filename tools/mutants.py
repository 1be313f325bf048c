"""Mutation testing: change one thing in a module, and some test must fail.

Run as `python -m tools.mutants` (`make mutants`). A mutant that no mapped test
notices is a survivor: a missing test, or code that does nothing. The few that
cannot be noticed are named with a reason in `mutants_allowed.toml`; an entry
there that no survivor needs any more is an error too.

The working tree is never touched: each of the parallel slots has a copy of
`src` and `tests` in a temporary directory and puts it first on the path.
Imports are paid once, for each mutant is a fork of this process.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import math
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

from tools.mutations import Mutant, mutants_of


@dataclass(frozen=True)
class Subject:
    """Files to mutate and the tests that must notice.

    Args:
        files: Glob under the repository's root.
        tests: Test files under the root; `{name}` is the mutated file's stem.
    """

    files: str
    tests: tuple[str, ...]


SUBJECTS = (
    Subject("src/vocabtrim/core/vocab.py", ("tests/unit/core/test_vocab.py",)),
    Subject(
        "src/vocabtrim/rules/*.py",
        ("tests/unit/rules/test_{name}.py", "tests/contract/test_every_rule.py"),
    ),
    Subject("src/vocabtrim/decode/accept.py", ("tests/unit/decode/test_accept.py",)),
    Subject("src/vocabtrim/decode/chain.py", ("tests/unit/decode/test_chain.py",)),
    Subject("src/vocabtrim/decode/drafters/base.py", ("tests/unit/decode/drafters/test_base.py",)),
)
PRELOAD = {
    "": ("hypothesis.extra.numpy", "numpy", "safetensors.numpy"),
    "src/vocabtrim/decode/": (
        "torch",
        "transformers.generation",
        "transformers.models.auto",
        "transformers.models.gemma3.modeling_gemma3",
        "transformers.models.llama.modeling_llama",
        "transformers.models.mistral.modeling_mistral",
    ),
}
"""What is imported once before the forks, by the folder of the files mutated; no part
of the package under test. torch is safe to fork on one thread, before any arithmetic."""

NEVER_IMPORTED = 90
"""Exit code of tests that pass without loading the module they are mapped to."""
BASELINE_TIMEOUT_S = 600.0
TIMEOUT_FACTOR = 5.0


class MutationError(Exception):
    """The run says nothing about the tests: its set-up is wrong."""


@dataclass(frozen=True)
class Allowed:
    """A survivor with a reason, as listed in the TOML file."""

    file: str
    statement: str
    kind: str
    after: str
    reason: str

    def covers(self, mutant: Mutant) -> bool:
        """Return whether `mutant` is the one that this entry is about."""
        return all(
            getattr(self, name) == getattr(mutant, name)
            for name in ("file", "statement", "kind", "after")
        )


@dataclass(frozen=True)
class _Job:
    file: str
    source: str
    tests: tuple[str, ...]
    timeout_s: float
    mutant: Mutant | None = None


@dataclass(frozen=True)
class _Outcome:
    job: _Job
    exit_code: int | None  # None: ran into the timeout
    seconds: float
    log: str


class _Slot:
    """A copy of the repository that runs one job at a time."""

    def __init__(self, root: Path, directory: Path) -> None:
        self.directory = directory
        self._log = directory / "log"
        self._job: _Job | None = None
        self._process, self._began, self._original = 0, 0.0, b""
        for name in ("src", "tests"):
            shutil.copytree(
                root / name,
                directory / name,
                ignore=shutil.ignore_patterns("__pycache__"),
                copy_function=_copy_code_link_data,
            )
        if (root / "pyproject.toml").is_file():
            shutil.copy(root / "pyproject.toml", directory)

    @property
    def is_free(self) -> bool:
        return self._job is None

    def start(self, job: _Job) -> None:
        target = self.directory / job.file
        self._original = target.read_bytes()
        target.write_text(job.source, encoding="utf-8")
        sys.stdout.flush()
        self._job, self._began = job, time.monotonic()
        self._process = os.fork()
        if self._process == 0:
            _run_tests(self.directory, job, self._log)
        # a group of its own, so that what the tests start can be ended with them
        os.setpgid(self._process, self._process)

    def finish(self) -> _Outcome | None:
        """Return the outcome once the job has ended or overrun, else None."""
        if self._job is None:
            return None
        job, seconds = self._job, time.monotonic() - self._began
        process, status = os.waitpid(self._process, os.WNOHANG)
        if process == 0:
            if seconds < job.timeout_s:
                return None
            self.stop()
        (self.directory / job.file).write_bytes(self._original)
        self._job = None
        code = None if process == 0 else os.waitstatus_to_exitcode(status)
        return _Outcome(job, code, seconds, self._log.read_text(errors="replace"))

    def stop(self) -> None:
        """End the job, with whatever it has started itself."""
        if self._job is not None:
            os.killpg(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
            self._job = None


def _copy_code_link_data(source: str, destination: str) -> None:
    if source.endswith(".py"):
        shutil.copy(source, destination)
    else:
        Path(destination).symlink_to(source)


def _run_tests(directory: Path, job: _Job, log: Path) -> NoReturn:
    """Be the forked child: run the tests in `directory` and leave."""
    code = 70
    # should the parent be killed, an endless mutant still ends
    signal.alarm(math.ceil(job.timeout_s) + 60)
    try:
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(stream, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(directory)
        sys.path.insert(0, str(directory / "src"))
        os.environ["PYTHONPATH"] = str(directory / "src")
        # two mutants may have one size and one second: a cached .pyc would be the wrong one
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        sys.dont_write_bytecode = True
        code = int(
            pytest.main(
                [
                    "-x",
                    "--tb=short",
                    "-pno:cacheprovider",
                    f"--rootdir={directory}",
                    f"--basetemp={directory / 'tmp'}",
                    *job.tests,
                ]
            )
        )
        loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        if code == 0 and str(directory / job.file) not in loaded:
            code = NEVER_IMPORTED
    except BaseException:  # noqa: BLE001 (whatever happens, the child must not go on as the parent)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _outcomes(slots: Sequence[_Slot], jobs: Sequence[_Job]) -> Iterator[_Outcome]:
    """Yield outcomes as they come in."""
    waiting = list(reversed(jobs))
    left = len(jobs)
    try:
        while left:
            for slot in slots:
                if slot.is_free and waiting:
                    slot.start(waiting.pop())
                outcome = slot.finish()
                if outcome is not None:
                    left -= 1
                    yield outcome
            time.sleep(0.005)
    finally:
        for slot in slots:
            slot.stop()


def _prepare_process(files: Iterable[str]) -> None:
    """Import what the tests need, and make their randomness repeatable."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for folder, names in PRELOAD.items():
        if any(file.startswith(folder) for file in files):
            for name in names:
                importlib.import_module(name)
    hypothesis.settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=40,
        report_multiple_bugs=False,
        # a failure is all that is asked for; a small one takes longer
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    hypothesis.settings.load_profile("mutants")


def survivors_of(
    root: Path, files: Mapping[str, tuple[str, ...]], *, jobs: int, timeout_s: float
) -> list[Mutant]:
    """Mutate every file, run its tests, print a line for each.

    Args:
        root: The repository.
        files: File to its tests, under the root.
        jobs: Processes at a time.
        timeout_s: The least time that a mutant's tests get; a mutant that
            overruns it, and five times what the tests take, counts as noticed.

    Returns:
        The mutants that no test noticed.

    Raises:
        MutationError: Without a mutant the tests fail, or load another copy
            of the module.
    """
    sources = {file: (root / file).read_text(encoding="utf-8") for file in files}
    _prepare_process(sources)
    survivors: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        # resolved, for a module's __file__ is compared with it
        home = Path(temporary).resolve()
        slots = [_Slot(root, home / str(number)) for number in range(jobs)]
        work: list[_Job] = []
        for baseline in _outcomes(slots, _baselines(sources, files)):
            _require_pass(baseline)
            work += _mutant_jobs(sources[baseline.job.file], baseline, timeout_s)
        work.sort(key=lambda job: job.file)
        for outcome in _outcomes(slots, work):
            if outcome.exit_code == 0 and outcome.job.mutant is not None:
                survivors.append(outcome.job.mutant)
    for file, number in Counter(job.file for job in work).items():
        alive = sum(mutant.file == file for mutant in survivors)
        print(f"{file}: {number} mutants, {number - alive} noticed by {_listed(files[file])}")
    return sorted(survivors, key=lambda mutant: (mutant.file, mutant.line))


def _baselines(sources: Mapping[str, str], files: Mapping[str, tuple[str, ...]]) -> list[_Job]:
    # unparsed like the mutants, so that a mutation is the only difference
    return [
        _Job(file, ast.unparse(ast.parse(sources[file])), tests, BASELINE_TIMEOUT_S)
        for file, tests in files.items()
    ]


def _mutant_jobs(source: str, baseline: _Outcome, timeout_s: float) -> list[_Job]:
    """All mutants of a file, each with time in proportion to its tests' own."""
    job = baseline.job
    timeout_s = max(timeout_s, TIMEOUT_FACTOR * baseline.seconds)
    return [
        _Job(job.file, mutant.source, job.tests, timeout_s, mutant)
        for mutant in mutants_of(job.file, source)
    ]


def mapped_files(
    root: Path, subjects: Sequence[Subject], only: Sequence[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Return the files that subjects stand for, each with its tests.

    Args:
        root: The repository.
        subjects: What to mutate; for a file of two, the later one holds.
        only: Files to keep, as paths under the root; none given keeps all.

    Raises:
        MutationError: A glob matches nothing, a test file is missing, or a
            file of `only` belongs to no subject.
    """
    mapped = {}
    for subject in subjects:
        paths = sorted(path for path in root.glob(subject.files) if path.name != "__init__.py")
        if not paths:
            raise MutationError(f"{subject.files} matches no file under {root}")
        for path in paths:
            tests = tuple(test.format(name=path.stem) for test in subject.tests)
            mapped[path.relative_to(root).as_posix()] = tests
    for file in only:
        if file not in mapped:
            raise MutationError(f"{file} belongs to no subject; they are in {__file__}")
    chosen = {file: tests for file, tests in mapped.items() if not only or file in only}
    for file, tests in chosen.items():
        for test in tests:
            if not (root / test).is_file():
                raise MutationError(f"{test} is missing: nothing would notice a mutant of {file}")
    return chosen


def _require_pass(outcome: _Outcome) -> None:
    job = outcome.job
    if outcome.exit_code == NEVER_IMPORTED:
        raise MutationError(f"{_listed(job.tests)} never import {job.file}")
    if outcome.exit_code != 0:
        raise MutationError(f"{_listed(job.tests)} fail without any mutant:\n{outcome.log[-4000:]}")


def _listed(tests: Sequence[str]) -> str:
    return ", ".join(tests)


def read_allowed(path: Path) -> list[Allowed]:
    """Read the survivors that are named with a reason; no file, no survivor.

    Raises:
        MutationError: An entry lacks a key, or has no reason.
    """
    if not path.is_file():
        return []
    entries = []
    for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("survivor", []):
        try:
            allowed = Allowed(**entry)
        except TypeError as fault:
            raise MutationError(f"{path}: {entry}: {fault}") from fault
        if len(allowed.reason.split()) < 3:
            raise MutationError(f"{path}: {allowed.file}: {allowed.statement} has no reason")
        entries.append(allowed)
    return entries


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code: 0, 1 for survivors, 2 for a bad set-up."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("files", nargs="*", help="of the built-in subjects, only these")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--allowed", type=Path, help="default: ROOT/tools/mutants_allowed.toml")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--list", action="store_true", help="print the mutants, run nothing")
    parser.add_argument(
        "--subject",
        nargs="+",
        action="append",
        metavar=("FILES", "TEST"),
        help="mutate FILES (a glob) and run these tests, in place of the built-in subjects",
    )
    given = parser.parse_args(arguments)
    root = given.root.resolve()
    subjects = [Subject(files, tuple(tests)) for files, *tests in given.subject or []] or SUBJECTS
    began = time.monotonic()
    try:
        files = mapped_files(root, subjects, given.files)
        if given.list:
            for file in files:
                for mutant in mutants_of(file, (root / file).read_text(encoding="utf-8")):
                    print(mutant)
            return 0
        allowed = read_allowed(given.allowed or root / "tools" / "mutants_allowed.toml")
        survivors = survivors_of(root, files, jobs=given.jobs, timeout_s=given.timeout)
    except MutationError as fault:
        print(f"mutants: {fault}", file=sys.stderr)
        return 2
    # entries about other files say nothing about a run over some
    partial = bool(given.subject or given.files)
    relevant = [entry for entry in allowed if entry.file in files or not partial]
    return _verdict(survivors, relevant, time.monotonic() - began)


def _verdict(survivors: Sequence[Mutant], allowed: Sequence[Allowed], seconds: float) -> int:
    unexplained = [m for m in survivors if not any(entry.covers(m) for entry in allowed)]
    stale = [entry for entry in allowed if not any(entry.covers(m) for m in survivors)]
    for mutant in unexplained:
        print(f"SURVIVED {mutant}")
    for entry in stale:
        print(f"STALE    {entry.file} {entry.kind}: no such survivor: {entry.statement}")
    print(
        f"survivors: {len(unexplained)} without a reason, {len(survivors) - len(unexplained)} "
        f"with one; stale reasons: {len(stale)}; {seconds:.0f} s"
    )
    return 1 if unexplained or stale else 0


if __name__ == "__main__":
    sys.exit(main())
