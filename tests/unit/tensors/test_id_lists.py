"""Lists as other tools write them, recognised by content alone."""

from __future__ import annotations

import json
import pickle
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.tiny import tiny_eagle3
from vocabtrim.core.counts import TokenCounts
from vocabtrim.core.counts_file import write_counts
from vocabtrim.core.errors import ArtifactError, MissingExtra, VocabError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.core.vocab_file import write_vocab
from vocabtrim.tensors.id_lists import read_ids

V = 1000
IDS = [0, 1, 2, 3, 17, 18, 500, 998]
BY_FREQUENCY = [17, 2, 998, 0, 3, 500, 1, 18]


def offsets(ids: list[int]) -> np.ndarray:
    return np.array(ids) - np.arange(len(ids))


def saved(path: Path, value: Any, **options: Any) -> Path:
    torch = pytest.importorskip("torch")
    torch.save(value, path, **options)
    return path


def tensor(values: Any, dtype: str = "int64") -> Any:
    torch = pytest.importorskip("torch")
    return torch.tensor(list(values), dtype=getattr(torch, dtype))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (json.dumps(BY_FREQUENCY), "JSON list"),
        ("\ufeff" + json.dumps(BY_FREQUENCY, indent=1), "JSON list"),
        (json.dumps({"model": "x", "ids": BY_FREQUENCY}), "JSON with ids"),
        ("\n".join(map(str, BY_FREQUENCY)) + "\n", "text"),
        ("\r\n".join(map(str, BY_FREQUENCY)), "text"),
        (", ".join(map(str, BY_FREQUENCY)), "text"),
    ],
)
def test_text_and_json(tmp_path: Path, text: str, kind: str) -> None:
    # the name says nothing
    path = tmp_path / "list.npy"
    path.write_text(text, encoding="utf-8")
    found = read_ids(path, V)
    assert found.ids.tolist() == BY_FREQUENCY
    assert (found.kind, found.order, found.notes) == (kind, "as listed", ())
    assert found.vocab(V).ids.tolist() == IDS


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.array(BY_FREQUENCY), ".npy array of ids"),
        (np.array(BY_FREQUENCY, dtype=np.int32), ".npy array of ids"),
        (offsets(BY_FREQUENCY), ".npy array of offsets"),
    ],
)
def test_npy(tmp_path: Path, array: np.ndarray, kind: str) -> None:
    path = tmp_path / "ids.bin"
    with path.open("wb") as stream:
        np.save(stream, array)
    found = read_ids(path, V)
    assert found.ids.tolist() == BY_FREQUENCY
    assert found.kind == kind


def test_speculators_pair_of_npy_files(tmp_path: Path) -> None:
    np.save(tmp_path / "d2t.npy", offsets(IDS))
    np.save(tmp_path / "t2d.npy", np.isin(np.arange(V), IDS))
    d2t, t2d = (read_ids(tmp_path / name, V) for name in ("d2t.npy", "t2d.npy"))
    assert d2t.ids.tolist() == t2d.ids.tolist() == IDS
    assert (d2t.order, t2d.vocab_size) == ("ascending", V)


@pytest.mark.parametrize("dtype", ["<i4", "<i8"])
def test_raw_integers(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "raw"
    path.write_bytes(np.array(BY_FREQUENCY, dtype=dtype).tobytes())
    found = read_ids(path, V)
    assert found.ids.tolist() == BY_FREQUENCY
    assert found.kind == f"raw int{8 * int(dtype[-1])} of ids"
    with pytest.raises(VocabError, match="only where the number of ids is known"):
        read_ids(path)


@pytest.mark.parametrize("first", [128, 0x280, 0x380, 123, 0x227B, 0x504B])
def test_raw_ids_that_begin_like_other_formats(tmp_path: Path, first: int) -> None:
    for dtype in ("<i4", "<i8"):
        for listed in ([first, 5, 123, 7], [9, first, 8827, 4], [5, 123, first + 1, 8827]):
            ids = list(dict.fromkeys(listed))
            path = tmp_path / "raw"
            path.write_bytes(np.array(ids, dtype=dtype).tobytes())
            assert read_ids(path, 65_536, reading="ids").ids.tolist() == ids


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (np.array([5], dtype="<i8").tobytes(), "could be int32 or int64"),
        (np.array([5, 6, 5], dtype="<i4").tobytes(), "neither int32 nor int64"),
        (np.array([5, 2000], dtype="<i4").tobytes(), "neither int32 nor int64"),
        (np.array(IDS, dtype="<u2").tobytes() + b"\0", "17 bytes are neither"),
        (b"\xff\xfe\x00garbage", "neither int32 nor int64"),
        (b"", "empty"),
        (b"12\n13 14\nfifteen\n", "line 3 has 'fifteen'"),
        (b"1.5\n", "line 1 has '1.5'"),
        (b"99999999999999999999\n", "line 1"),
        (b"[1, 2", "no valid JSON"),
        (b"[1, 2.0]", "entry 1 of the list is '2.0'"),
        (b"[true]", "entry 0"),
        (b'["1"]', "entry 0"),
        (b"[[1]]", "entry 0"),
        (b"[1e99]", "entry 0"),
        (b"[99999999999999999999999]", "entry 0"),
        (b"[]", "holds no id"),
        (b"{}", "it has nothing"),
        (b'{"tokens": [1], "a": 2}', "it has a, tokens"),
        (b'{"ids": 7}', "found int"),
        (b'{"5": 100, "7": 3}', "maps 2 ids to numbers: these are frequencies"),
        (b"[-1, 4]", "-1 is below 0"),
        (b"[4, 1000]", "1000 is not below the 1000 ids"),
    ],
)
def test_what_is_no_list_is_refused_with_its_path(
    tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "odd"
    path.write_bytes(content)
    with pytest.raises(VocabError, match=says) as refusal:
        read_ids(path, V)
    assert str(refusal.value).startswith(str(path))


def test_a_file_too_large_to_be_a_list_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as stream:
        stream.truncate(80 << 20)
    with pytest.raises(VocabError, match="no list of ids"):
        read_ids(path, V)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        read_ids(tmp_path / "nothing")


@pytest.mark.parametrize("zipped", [True, False])
def test_pt_lists_and_tensors(tmp_path: Path, zipped: bool) -> None:
    form = {"_use_new_zipfile_serialization": zipped}
    cases = {
        ".pt list": BY_FREQUENCY,
        ".pt tensor of ids": tensor(BY_FREQUENCY),
        ".pt tensor of offsets": tensor(offsets(BY_FREQUENCY)),
        ".pt with ids": {"ids": tensor(BY_FREQUENCY)},
        ".pt d2t (offsets)": {
            "d2t": tensor(offsets(BY_FREQUENCY)),
            "t2d": tensor(np.isin(np.arange(V), IDS), "bool"),
        },
    }
    for kind, value in cases.items():
        found = read_ids(saved(tmp_path / "any", value, **form), V)
        assert (found.kind, found.ids.tolist()) == (kind, BY_FREQUENCY)


def fr_spec_list(corpus: list[int], rows: int, eos: list[int]) -> list[int]:
    """Choose ids as `fr/fr.py` of FR-Spec does: its test for EOS is always true."""
    ids = [token for token, _ in Counter(corpus).most_common()]
    missing = len(set(eos) - set(ids[:rows]))
    return ids[: rows - missing] + eos


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize(
    ("eos", "entries"),
    [
        pytest.param([990, 991], 8, id="neither seen"),
        pytest.param([4, 990], 9, id="BOS seen: K + 1"),
        pytest.param([4, 5], 10, id="both seen: K + 2"),
    ],
)
def test_fr_spec_lists_are_repaired(
    tmp_path: Path, eos: list[int], entries: int, as_tensor: bool
) -> None:
    corpus = [token for token in range(30, 0, -1) for _ in range(31 - token)]
    listed = fr_spec_list(corpus, 8, eos)
    assert len(listed) == entries
    # a fork of the script writes int32 tensors
    value = tensor(listed, "int32") if as_tensor else listed
    found = read_ids(saved(tmp_path / "freq_8.pt", value), V)
    assert found.ids.tolist() == list(dict.fromkeys(listed))
    assert found.ids.size == 8
    assert bool(found.notes) == (entries > 8)
    assert set(eos) <= set(found.ids.tolist())


def test_ambiguous_tensors_wait_for_a_word(tmp_path: Path) -> None:
    path = saved(tmp_path / "d2t.pt", tensor([100, 4, 5]))
    with pytest.raises(VocabError, match="--as ids or --as offsets"):
        read_ids(path, V)
    assert read_ids(path, V, reading="offsets").ids.tolist() == [100, 5, 7]
    assert read_ids(path, V, reading="ids").ids.tolist() == [100, 4, 5]


def test_pt_files_that_are_no_list(tmp_path: Path) -> None:
    with pytest.raises(VocabError, match="found str"):
        read_ids(saved(tmp_path / "a.pt", "text"), V)
    with pytest.raises(VocabError, match="frequencies"):
        read_ids(saved(tmp_path / "b.pt", {5: 10, 7: 2}), V)
    with pytest.raises(VocabError, match="float32"):
        read_ids(saved(tmp_path / "c.pt", tensor([1.5], "float32")), V)
    np.savez(tmp_path / "d.npz", a=np.arange(3))
    with pytest.raises(VocabError, match=r"\.npz archive"):
        read_ids(tmp_path / "d.npz", V)


def test_pickles_and_damaged_files_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    for protocol in (2, 4):
        (tmp_path / "list.pkl").write_bytes(pickle.dumps(IDS, protocol=protocol))
        with pytest.raises(ArtifactError):
            read_ids(tmp_path / "list.pkl", V)
    whole = saved(tmp_path / "whole.pt", IDS).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"cut\.pt"):
        read_ids(tmp_path / "cut.pt", V)
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00\x10")
    with pytest.raises(ArtifactError, match=r"cut\.npy"):
        read_ids(tmp_path / "cut.npy", V)


def test_without_torch_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "ids.pt", IDS)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"pip install vocabtrim\[torch\]"):
        read_ids(path, V)


def test_safetensors_maps(tmp_path: Path) -> None:
    path = tmp_path / "a"
    head = np.zeros((8, 4), dtype=np.float32)
    save_file({"lm_head.weight": head, "d2t": offsets(IDS)}, path)
    assert read_ids(path, V).ids.tolist() == IDS
    save_file({"vocab_map": np.array(IDS, dtype=np.int32)}, path)
    assert read_ids(path, V).kind == "safetensors vocab_map (absolute ids)"
    save_file({"hot_ids": np.array(BY_FREQUENCY)}, path)
    assert read_ids(path, V).kind == "safetensors hot_ids of ids"
    save_file({"lm_head.weight": head, "norm": head}, path)
    with pytest.raises(VocabError, match="not reduced"):
        read_ids(path, V)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ArtifactError, match="not a readable safetensors"):
        read_ids(path, V)


def test_our_own_artifacts(tmp_path: Path) -> None:
    vocab = DraftVocab.from_ids(IDS, V, "sha256:abc")
    write_vocab(tmp_path / "vocab", vocab, inputs={}, options={}, facts={})
    found = read_ids(tmp_path / "vocab")
    assert found.vocab(V, found.tokenizer) == vocab
    assert (found.vocab_size, found.order) == (V, "ascending")
    ones = np.ones(4, dtype=np.int64)
    counts = TokenCounts(ones, ones, 1, "sha256:abc")
    write_counts(tmp_path / "counts", counts, inputs={}, options={}, facts={})
    with pytest.raises(VocabError, match="it holds counts, not a list of ids"):
        read_ids(tmp_path / "counts")


def test_a_whole_drafter(tmp_path: Path) -> None:
    drafter = tiny_eagle3(tmp_path / "reduced", ids=[3, 4, 9, 60])
    found = read_ids(drafter, 96)
    assert found.ids.tolist() == [3, 4, 9, 60]
    assert (found.kind, found.vocab_size) == ("drafter d2t (offsets)", 96)
    with pytest.raises(VocabError, match="not reduced"):
        read_ids(tiny_eagle3(tmp_path / "full"), 96)


def test_gguf_maps_hold_ids(tmp_path: Path) -> None:
    import gguf

    path = tmp_path / "drafter.bin"
    writer = gguf.GGUFWriter(path, "eagle3")
    writer.add_token_list([f"t{n}" for n in range(50)])
    writer.add_tensor("d2t", np.array([2, 3, 9, 30], dtype=np.int64))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_ids(path, 50)
    assert found.ids.tolist() == [2, 3, 9, 30]
    assert (found.kind, found.vocab_size) == ("GGUF d2t (absolute ids)", 50)
    with pytest.raises(VocabError, match="id 30 is not below the 30"):
        read_ids(path, 30)
