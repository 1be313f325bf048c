"""A corpus of Debian's kernel source and documentation, no document twice, as JSONL.

    python benchmarks/debian_corpus.py DIR [--megabytes 1000]

Packages are fetched with `apt-get download`, without root and without installing
anything, and every text file in them becomes one line `{"text": …}`: those that
are UTF-8 and hold no zero byte, unpacked where they are compressed. Documents are
put in the order of their hash, so that every beginning of the corpus is a fair
sample of it and the same packages give the same file. Manual pages bring a dozen
languages. Needs about 3 GB in DIR while it works, and takes some minutes.

Without a network, or apt, the corpus is what text the Python installation has,
which is less; a sentence says so. Prints the path of the corpus.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import json
import lzma
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

NAMED_BY_VERSION = {
    "linux-source": r"linux-source-\d\S*",
    "linux-doc": r"linux-doc-\d\S*",
    "python3-doc": r"python3\.\d+-doc",
    "postgresql-doc": r"postgresql-doc-\d+",
}
"""Packages that are names for the newest of several, and what those are called."""

PACKAGES = (
    *("debian-handbook", "debian-reference-en", "developers-reference", "perl-doc", "git-doc"),
    *("sqlite3-doc", "qtbase5-doc-html", "manpages", "manpages-dev", "manpages-de"),
    *("manpages-es", "manpages-fr", "manpages-ja", "manpages-ru", "manpages-zh"),
)
BUCKETS = 64
TEXT_SUFFIXES = {".py", ".pyi", ".md", ".rst", ".txt", ".h", ".hpp", ".json"}


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def resolved(package: str) -> list[str]:
    """Return the package that a name stands for, or none."""
    done = subprocess.run(
        ["apt-cache", "depends", "--important", package],
        capture_output=True,
        text=True,
        check=False,
    )
    names = re.findall(rf"Depends: ({NAMED_BY_VERSION[package]})$", done.stdout, re.MULTILINE)
    return names[:1]


def fetched(directory: Path) -> list[Path]:
    """Download the packages that are not there yet and return all that are."""
    directory.mkdir(parents=True, exist_ok=True)
    found = []
    for package in [one for name in NAMED_BY_VERSION for one in resolved(name)] + [*PACKAGES]:
        if not list(directory.glob(f"{package}_*.deb")):
            say(f"fetching {package}")
            subprocess.run(
                ["apt-get", "download", package],
                cwd=directory,
                capture_output=True,
                check=False,
                timeout=1800,
            )
        there = sorted(directory.glob(f"{package}_*.deb"))[:1]
        if not there:
            say(f"{package} is not to be had here and left out")
        found += there
    return found


def texts_of_package(path: Path) -> Iterator[str]:
    """Yield the texts in a Debian package."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", path], stdout=subprocess.PIPE) as process:
        if process.stdout is None:
            raise OSError(f"{path} cannot be read")
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            yield from texts_of_archive(archive)


def texts_of_archive(archive: tarfile.TarFile) -> Iterator[str]:
    """Yield the texts of all files, of archives within it too."""
    for member in archive:
        stream: IO[bytes] | None = archive.extractfile(member) if member.isfile() else None
        if stream is None:
            continue
        if re.search(r"\.tar(\.\w+)?$", member.name):
            with tarfile.open(fileobj=stream, mode="r|*") as inner:
                yield from texts_of_archive(inner)
        elif text := as_text(stream.read()):
            yield text


def as_text(data: bytes) -> str | None:
    """Return the text of a file, unpacked, or None where it is no text or none is in it."""
    with contextlib.suppress(OSError, EOFError, zlib.error, lzma.LZMAError):
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        elif data.startswith(b"\xfd7zXZ\0"):
            data = lzma.decompress(data)
    try:
        return None if b"\0" in data else data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def texts_of_installation(root: Path) -> Iterator[str]:
    """Yield the texts in a Python installation."""
    for path in sorted(root.rglob("*")):
        if path.suffix in TEXT_SUFFIXES and path.is_file() and (text := as_text(path.read_bytes())):
            yield text


def write_corpus(texts: Iterable[str], output: Path, limit: int) -> dict[str, Any]:
    """Write texts in the order of their hashes, each once, up to `limit` bytes."""
    seen: set[bytes] = set()
    written = documents = 0
    with tempfile.TemporaryDirectory(dir=output.parent) as temporary:
        paths = [Path(temporary) / str(one) for one in range(BUCKETS)]
        with contextlib.ExitStack() as stack:
            buckets = [stack.enter_context(path.open("wb")) for path in paths]
            for text in texts:
                digest = hashlib.sha256(text.encode()).digest()
                if digest not in seen:
                    seen.add(digest)
                    line = json.dumps({"text": text}, ensure_ascii=False).encode()
                    buckets[digest[0] * BUCKETS >> 8].write(digest.hex().encode() + line + b"\n")
        partial = Path(temporary) / "corpus"
        with partial.open("wb") as stream:
            for line in (line for path in paths for line in sorted(path.open("rb"))):
                if written < limit:
                    written += stream.write(line[64:])
                    documents += 1
        partial.replace(output)
    return {"corpus": str(output), "bytes": written, "documents": documents}


def main() -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--megabytes", type=int, default=1000, help="most, in millions of bytes")
    options = parser.parse_args()
    output = options.directory / "corpus.jsonl"
    try:
        packages = fetched(options.directory / "packages")
    except OSError as fault:
        say(f"packages cannot be fetched here ({fault})")
        packages = []
    if packages:
        texts: Iterable[str] = (text for path in packages for text in texts_of_package(path))
    else:
        root = Path(sysconfig.get_paths()["purelib"])
        say(f"no package is to be had, so the corpus is the text below {root}, which is less")
        texts = texts_of_installation(root)
    facts = write_corpus(texts, output, options.megabytes * 1_000_000)
    if facts["bytes"] < options.megabytes * 1_000_000:
        say(f"the corpus has {facts['bytes'] / 1e6:.0f} MB, less than was asked for")
    print(json.dumps(facts))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
