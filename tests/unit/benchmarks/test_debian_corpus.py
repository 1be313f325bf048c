"""The corpus: every text once, in an order that does not depend on where it was found."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks import debian_corpus
from benchmarks.debian_corpus import (
    as_text,
    fetched,
    resolved,
    texts_of_archive,
    texts_of_package,
    write_corpus,
)


def archive(files: Mapping[str, bytes], compression: str = "") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{compression}") as made:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def texts_in(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as opened:
        return list(texts_of_archive(opened))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain \xc3\xa9", "plain é"),
        (gzip.compress(b"packed", mtime=0), "packed"),
        (lzma.compress(b"packed"), "packed"),
        (gzip.compress(b"cut off" * 99, mtime=0)[:-9], None),
        (b"\x1f\x8b", None),
        (b"latin \xe9", None),
        (b"zero \0 byte", None),
        (b"", ""),
    ],
)
def test_texts_are_unpacked_and_others_are_not_texts(data: bytes, text: str | None) -> None:
    assert as_text(data) == text


def test_archives_within_archives_are_read() -> None:
    inner = archive({"a.c": b"inner", "b.o": b"\0", "empty": b""}, "xz")
    outer = {"x/linux.tar.xz": inner, "x/man.1.gz": gzip.compress(b"page"), "x/c": b"last"}
    assert texts_in(archive(outer)) == ["inner", "page", "last"]


def test_each_text_is_written_once_and_order_does_not_matter(tmp_path: Path) -> None:
    texts = [f"text {one % 70}\n\u2028" for one in range(100)]
    facts = write_corpus(texts, tmp_path / "a", 1 << 20)
    write_corpus(reversed(texts), tmp_path / "b", 1 << 20)
    assert facts["documents"] == 70
    assert facts["bytes"] == (tmp_path / "a").stat().st_size
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    lines = (tmp_path / "a").read_bytes().split(b"\n")[:-1]
    written = [json.loads(line)["text"] for line in lines]
    assert sorted(written) == sorted(set(texts))
    assert written != sorted(written)


def test_a_smaller_corpus_is_the_beginning_of_a_larger_one(tmp_path: Path) -> None:
    texts = [f"text {one}" for one in range(100)]
    write_corpus(texts, tmp_path / "all", 1 << 20)
    facts = write_corpus(texts, tmp_path / "some", 200)
    beginning = (tmp_path / "some").read_bytes()
    assert (tmp_path / "all").read_bytes().startswith(beginning)
    assert 200 <= len(beginning) == facts["bytes"] < 230
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all", "some"]


def test_a_package_is_read_as_debian_made_it(tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    root = tmp_path / "tree"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: tiny-doc\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n"
    )
    (root / "usr").mkdir()
    (root / "usr" / "a.txt").write_text("a text")
    subprocess.run(
        ["dpkg-deb", "--build", root, tmp_path / "tiny-doc_1_all.deb"],
        check=True,
        capture_output=True,
    )
    assert list(texts_of_package(tmp_path / "tiny-doc_1_all.deb")) == ["a text"]


def fake_tool(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_names_stand_for_the_newest_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    fake_tool(tools, "apt-cache", 'echo "$3"; echo "  Depends: binutils"; echo "  Depends: $3-6.1"')
    fake_tool(tools, "apt-get", '[ "$2" = perl-doc ] || echo x > "$2_1_all.deb"')
    monkeypatch.setenv("PATH", str(tools))
    assert resolved("linux-source") == ["linux-source-6.1"]
    assert resolved("python3-doc") == []
    names = [path.name for path in fetched(tmp_path / "packages")]
    packages = ("linux-source-6.1", "linux-doc-6.1", "debian-handbook")
    assert names[:3] == [f"{name}_1_all.deb" for name in packages]
    assert "perl-doc_1_all.deb" not in names
    assert "perl-doc is not to be had here" in capsys.readouterr().err


def test_without_packages_the_python_installation_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "one.py").write_text("print(1)\n")
    (library / "two.so").write_text("no text by its name")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(debian_corpus.sysconfig, "get_paths", lambda: {"purelib": str(library)})
    monkeypatch.setattr(sys, "argv", ["debian_corpus.py", str(tmp_path)])
    assert debian_corpus.main() == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["documents"] == 1
    assert json.loads((tmp_path / "corpus.jsonl").read_text()) == {"text": "print(1)\n"}
    assert "no package is to be had" in err
    assert "less than was asked for" in err
