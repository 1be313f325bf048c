"""Names on the command line become directories, in one order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import tiny_lm
from vocabtrim.core.errors import CheckpointError
from vocabtrim.tensors import built_in
from vocabtrim.tensors import locate as module
from vocabtrim.tensors.locate import locate, locate_tokenizer


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOCABTRIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_a_directory_comes_first_also_under_a_built_in_name(tmp_path: Path) -> None:
    tiny_lm(tmp_path / "demo")
    assert locate("demo") == Path("demo")
    assert locate("~/demo") == tmp_path / "demo"


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    file = tiny_lm(tmp_path / "lm") / "model.safetensors"
    with pytest.raises(CheckpointError, match="it is a file but no GGUF file; give the directory"):
        locate(str(file))


def test_a_gguf_file_is_converted_once_for_each_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted: list[Path] = []
    monkeypatch.setattr(module, "convert_gguf", lambda source, _: converted.append(source))
    model = tmp_path / "model.bin"
    model.write_bytes(b"GGUF one")
    first = locate("model.bin")
    assert locate(str(model)) == first
    assert first.parent == tmp_path / "cache"
    assert len(converted) == 1
    model.write_bytes(b"GGUF two")
    assert locate("model.bin") != first
    assert len(converted) == 2


def test_built_in_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(built_in.BUILT_IN) == ["demo", "demo-eagle3", "demo-lm", "demo-gemma"]
    monkeypatch.setattr(module, "BUILT_IN", {"demo": lambda: tmp_path / "built"})
    assert locate("demo") == tmp_path / "built"


@pytest.mark.parametrize("name", ["absent", "./absent/x", "a/b/c", "../x/y", "org/"])
def test_what_is_nothing_is_told_what_it_could_be(name: str) -> None:
    with pytest.raises(CheckpointError, match="neither a directory, a GGUF file, a built-in") as e:
        locate(name)
    assert "demo-eagle3" in str(e.value)


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*_: object, **__: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("offline\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(CheckpointError, match=r"the hub could not give it \(offline\)"):
        locate("org/name")


def test_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[str] = []

    def download(name: str, *, allow_patterns: list[str]) -> str:
        asked.extend([name, *allow_patterns])
        return str(tmp_path / "snapshot")

    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot/model.safetensors").touch()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert locate("org/name-1.5B") == tmp_path / "snapshot"
    assert asked[0] == "org/name-1.5B"
    assert "*.safetensors" in asked
    assert not any(pattern.endswith(".bin") for pattern in asked)


def test_weights_of_torch_are_fetched_only_where_there_are_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[list[str]] = []

    def download(_: str, *, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert locate("org/older-drafter") == tmp_path
    assert ["pytorch_model*.bin" in patterns for patterns in asked] == [False, True]
    assert "*.json" in asked[1]


def test_of_a_tokenizer_on_the_hub_no_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[str] = []

    def download(name: str, *, allow_patterns: list[str]) -> str:
        asked.extend([name, *allow_patterns])
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert locate_tokenizer("org/name") == tmp_path / "snapshot"
    assert asked[0] == "org/name"
    assert "*.json" in asked
    assert "*.safetensors" not in asked


def test_a_tokenizer_file_stands_for_itself(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    assert locate_tokenizer(str(file)) == file
    assert locate_tokenizer(str(tmp_path)) == tmp_path
    # also a directory whose name could be one on the hub
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert locate_tokenizer("org/name") == Path("org/name")
    with pytest.raises(CheckpointError, match="neither a directory"):
        locate_tokenizer("absent")
