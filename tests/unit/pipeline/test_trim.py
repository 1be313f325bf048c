"""Trimming copies bytes: kept rows, every other tensor, every other file."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from tests.tiny import (
    WATCH_MEMORY,
    H,
    V,
    edit,
    in_bfloat16,
    numbers,
    raw_tensors,
    tiny_eagle3,
    tiny_lm,
    tiny_target,
    write_sparse,
)
from vocabtrim.core.errors import (
    CheckpointError,
    OutputExists,
    TokenizerMismatch,
    VocabError,
    VocabtrimError,
)
from vocabtrim.core.manifest import Manifest
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.families.base import family_of
from vocabtrim.pipeline.trim import trim
from vocabtrim.pipeline.trim_result import TrimResult
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.gguf_conversion import bfloat16_bits
from vocabtrim.tensors.locate import locate
from vocabtrim.tensors.taken import Taken
from vocabtrim.tokens.tokenizer import fingerprint_of

IDS = np.array([0, 1, 2, 17, 18, 40, 95])
PART = DraftVocab(IDS, V)
EMBEDDING = "model.embed_tokens.weight"
VOCABULARY_TENSORS = {"lm_head.weight", "lm_head.bias", "d2t", "t2d"}


def _write_tokenizer(directory: Path, *, prefix: str = "token") -> str:
    vocab = {f"{prefix}{token_id}": token_id for token_id in range(V)}
    Tokenizer(models.WordLevel(vocab, unk_token=f"{prefix}0")).save(
        str(directory / "tokenizer.json")
    )
    return str(fingerprint_of(directory))


def _listing(directory: Path) -> set[str]:
    return {str(file.relative_to(directory)) for file in directory.rglob("*")}


Build = Callable[[Path], Path]

# How a drafter is built, and which tensor of which checkpoint is its head.
SOURCES: dict[str, tuple[Build, bool, str, str]] = {
    "eagle3, the target's tied head": (
        tiny_eagle3,
        True,
        EMBEDDING,
        "the target's tied embedding",
    ),
    "eagle3, the target's own head": (
        tiny_eagle3,
        False,
        "lm_head.weight",
        "the target's lm_head",
    ),
    "eagle3, its own head": (
        lambda path: tiny_eagle3(path, own_head=True),
        True,
        "lm_head.weight",
        "its own lm_head",
    ),
    "LM, tied": (tiny_lm, True, EMBEDDING, "its own tied embedding"),
    "LM, untied": (
        lambda path: tiny_lm(path, tied=False),
        True,
        "lm_head.weight",
        "its own lm_head",
    ),
    "LM, bfloat16 in shards": (
        lambda path: edit(in_bfloat16(tiny_lm(path)), shards=3),
        True,
        EMBEDDING,
        "its own tied embedding",
    ),
}


@pytest.mark.parametrize("case", SOURCES)
def test_rows_are_byte_equal_and_nothing_else_changes(tmp_path: Path, case: str) -> None:
    build, target_tied, head_name, origin = SOURCES[case]
    target = tiny_target(tmp_path / "target", tied=target_tied)
    drafter = build(tmp_path / "drafter")
    result = trim(drafter, PART, tmp_path / "out", target=target)
    holder = target if origin.startswith("the target's") else drafter
    dtype, shape, data = raw_tensors(holder)[head_name]
    row = len(data) // shape[0]
    written, original = raw_tensors(tmp_path / "out"), raw_tensors(drafter)
    assert written["lm_head.weight"] == (
        dtype,
        (IDS.size, H),
        b"".join(data[i * row : (i + 1) * row] for i in IDS),
    )
    assert written["d2t"][0] == "I64"
    assert (numbers(written["d2t"]) + np.arange(IDS.size)).tolist() == IDS.tolist()
    assert np.flatnonzero(numbers(written["t2d"])).tolist() == IDS.tolist()
    assert written["t2d"][:2] == ("BOOL", (V,))
    rest = {name: raw for name, raw in original.items() if name not in VOCABULARY_TENSORS}
    assert {name: raw for name, raw in written.items() if name not in VOCABULARY_TENSORS} == rest
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["vocab_size"], config["draft_vocab_size"]) == (V, IDS.size)
    assert config["tie_word_embeddings"] is False
    assert (result.K_before, result.K, result.head_source) == (V, IDS.size, origin)
    assert (tmp_path / "out/model.safetensors").is_file()
    assert not list((tmp_path / "out").glob("*.index.json"))


def test_the_result_states_what_was_gained(tmp_path: Path) -> None:
    target, drafter = tiny_target(tmp_path / "t"), tiny_eagle3(tmp_path / "d")
    result = trim(drafter, PART, tmp_path / "out", target=target)
    assert result == TrimResult(
        output=str(tmp_path / "out"),
        family="eagle3",
        V=V,
        K_before=V,
        K=7,
        hidden=H,
        dtype_before="F32",
        dtype="F32",
        head_source="the target's tied embedding",
        head_bytes_before=4 * V * H,
        head_bytes=4 * 7 * H,
        step_bytes_before=result.step_bytes + 4 * (V - 7) * H,
        step_bytes=result.step_bytes,
        memory_delta_bytes=4 * 7 * H,
        warnings=result.warnings,
    )
    assert result.to_json()["trim"]["K"] == 7
    assert json.dumps(result.to_json())


@pytest.mark.parametrize(
    ("build", "delta"),
    [
        (tiny_lm, 4 * 7 * H),
        (lambda path: tiny_lm(path, tied=False), 4 * (7 - V) * H),
        (lambda path: tiny_eagle3(path, own_head=True), 4 * (7 - V) * H),
        (lambda path: tiny_eagle3(path, ids=IDS), 0),
    ],
)
def test_a_shared_head_costs_memory_and_an_own_one_frees_it(
    tmp_path: Path, build: Build, delta: int
) -> None:
    result = trim(build(tmp_path / "d"), PART, tmp_path / "out")
    assert result.memory_delta_bytes == delta


@settings(deadline=None, max_examples=12)
@given(
    first=st.sets(st.integers(0, V - 1), min_size=2),
    share=st.floats(0.1, 1.0),
)
def test_any_ids_and_any_of_those_again(
    tmp_path_factory: pytest.TempPathFactory, first: set[int], share: float
) -> None:
    place = tmp_path_factory.mktemp("any")
    drafter = tiny_lm(place / "d", tied=False)
    once = DraftVocab(np.array(sorted(first)), V)
    twice = DraftVocab(once.ids[: max(int(share * once.size), 1)], V)
    trim(drafter, once, place / "once")
    trim(place / "once", twice, place / "twice")
    head = numbers(raw_tensors(drafter)["lm_head.weight"])
    for out, vocab in (("once", once), ("twice", twice)):
        written = raw_tensors(place / out)
        assert np.array_equal(numbers(written["lm_head.weight"]), head[vocab.ids])
        assert ("d2t" in written) is (not vocab.is_full)


def test_ids_that_a_reduced_head_does_not_hold(tmp_path: Path) -> None:
    drafter = tiny_eagle3(tmp_path / "d", ids=range(0, V, 2))
    with pytest.raises(VocabError, match="3 of 7 ids have no row in the head, which holds 48"):
        trim(drafter, PART, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_ids_remove_the_maps_and_restore_the_name(tmp_path: Path) -> None:
    drafter = tiny_lm(tmp_path / "d", tied=False)
    edit(
        drafter,
        add={"d2t": np.zeros(V, np.int64), "t2d": np.ones(V, np.bool_)},
        config={"architectures": ["TrimmedLlamaForCausalLM"], "draft_vocab_size": V},
    )
    trim(drafter, DraftVocab.full(V), tmp_path / "out")
    written = raw_tensors(tmp_path / "out")
    assert written["lm_head.weight"] == raw_tensors(drafter)["lm_head.weight"]
    assert not {"d2t", "t2d"} & written.keys()
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["draft_vocab_size"] == V


@pytest.mark.parametrize("build", [tiny_eagle3, tiny_lm])
def test_all_ids_of_a_shared_head_leave_it_where_it_is(tmp_path: Path, build: Build) -> None:
    drafter, target = build(tmp_path / "d"), tiny_target(tmp_path / "t")
    result = trim(drafter, DraftVocab.full(V), tmp_path / "out", target=target)
    assert raw_tensors(tmp_path / "out") == raw_tensors(drafter)
    before = json.loads((drafter / "config.json").read_text())
    after = json.loads((tmp_path / "out/config.json").read_text())
    assert after == before | {"draft_vocab_size": V}
    assert result.memory_delta_bytes == 0
    assert any("nothing was trimmed" in warning for warning in result.warnings)


def test_a_head_bias_follows_its_rows(tmp_path: Path) -> None:
    bias = np.arange(V, dtype=np.float32)
    drafter = edit(tiny_lm(tmp_path / "d", tied=False), add={"lm_head.bias": bias})
    trim(drafter, PART, tmp_path / "out")
    assert numbers(raw_tensors(tmp_path / "out")["lm_head.bias"]).tolist() == IDS.tolist()


def test_a_vocabulary_of_an_unpadded_tokenizer_fits_a_padded_model(tmp_path: Path) -> None:
    unpadded = DraftVocab(IDS[:-1], 50)
    result = trim(tiny_lm(tmp_path / "d"), unpadded, tmp_path / "out")
    assert (result.V, result.K) == (V, 6)
    assert raw_tensors(tmp_path / "out")["t2d"][1] == (V,)


def test_other_files_are_copied_and_other_weights_are_not(tmp_path: Path) -> None:
    drafter = tiny_lm(tmp_path / "d")
    _write_tokenizer(drafter)
    copied = {"generation_config.json": b"{}", "LICENSE": b"\xff\x00", "templates/tool.jinja": b"x"}
    left = {
        "pytorch_model.bin": b"1",
        "model-00001-of-00002.safetensors": b"2",
        "pytorch_model.bin.index.json": b"3",
        "model.gguf": b"4",
        ".cache/huggingface/x": b"5",
    }
    for name, data in {**copied, **left}.items():
        (drafter / name).parent.mkdir(parents=True, exist_ok=True)
        (drafter / name).write_bytes(data)
    trim(drafter, PART, tmp_path / "out")
    out = tmp_path / "out"
    assert {n for n in _listing(out) if (out / n).is_file()} == {
        "config.json",
        "model.safetensors",
        "vocabtrim.json",
        "tokenizer.json",
        *copied,
    }
    for name in ("tokenizer.json", *copied):
        assert (out / name).read_bytes() == (drafter / name).read_bytes()


def test_equal_inputs_give_equal_bytes_and_the_manifest_says_which(tmp_path: Path) -> None:
    target, drafter = tiny_target(tmp_path / "t"), tiny_eagle3(tmp_path / "d")
    made_by = Manifest("draft vocabulary", V, None, {"c": "sha256:0"}, {"rule": "x"}, {"fill": 0.5})
    for name in ("one", "two"):
        trim(drafter, PART, tmp_path / name, target=target, vocab_manifest=made_by)
    for file in _listing(tmp_path / "one"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    path = tmp_path / "one/vocabtrim.json"
    manifest = Manifest.from_json(path.read_text(), path)
    rows = numbers(raw_tensors(target)[EMBEDDING])[IDS]
    taken = Taken()
    taken.note("target head", "rows of lm_head.weight", rows.tobytes())
    for name, (_, _, data) in raw_tensors(drafter).items():
        taken.note("drafter", name, data)
    config = json.loads((drafter / "config.json").read_text())
    taken.note("drafter", "config.json", json.dumps(config, sort_keys=True).encode())
    assert manifest.inputs == {
        **taken.hashes(),
        "vocab": "sha256:" + hashlib.sha256(IDS.astype("<i8").tobytes()).hexdigest(),
    }
    assert (manifest.kind, manifest.vocab_size) == ("trimmed drafter", V)
    assert manifest.options == {"family": "eagle3", "K": 7}
    assert manifest.facts["selection"] == {
        "inputs": {"c": "sha256:0"},
        "options": {"rule": "x"},
        "facts": {"fill": 0.5},
    }
    assert str(tmp_path) not in path.read_text()


def test_the_tokenizers_of_drafter_target_and_vocabulary_must_be_one(tmp_path: Path) -> None:
    target, drafter = tiny_target(tmp_path / "t"), tiny_eagle3(tmp_path / "d")
    own = _write_tokenizer(target)
    matching = DraftVocab(IDS, V, own)
    assert trim(drafter, matching, tmp_path / "out", target=target).warnings == ()
    foreign = DraftVocab(IDS, V, "sha256:of another tokenizer")
    with pytest.raises(TokenizerMismatch, match="another tokenizer than the target's"):
        trim(drafter, foreign, tmp_path / "out2", target=target)
    _write_tokenizer(drafter, prefix="other")
    with pytest.raises(TokenizerMismatch, match="another tokenizer than the drafter's"):
        trim(drafter, matching, tmp_path / "out2", target=target)
    with pytest.raises(TokenizerMismatch, match="drafter and target have different tokenizers"):
        trim(drafter, PART, tmp_path / "out2", target=target)
    assert not (tmp_path / "out2").exists()


@pytest.mark.parametrize("fingerprint", [None, "sha256:not to be compared with anything"])
def test_what_could_not_be_compared_is_a_warning(tmp_path: Path, fingerprint: str | None) -> None:
    result = trim(tiny_lm(tmp_path / "d"), DraftVocab(IDS, V, fingerprint), tmp_path / "out")
    assert result.warnings == (
        "no tokenizer shows that the draft vocabulary belongs to this drafter",
    )


def test_paddings_may_differ_where_both_ship_the_same_tokenizer(tmp_path: Path) -> None:
    drafter = tiny_lm(tmp_path / "d", vocab_size=V)
    target = tiny_target(tmp_path / "t", vocab_size=V + 32)
    with pytest.raises(CheckpointError, match=f"has {V} ids, but the target has {V + 32}"):
        trim(drafter, PART, tmp_path / "out", target=target)
    fingerprints = {_write_tokenizer(directory) for directory in (drafter, target)}
    result = trim(drafter, DraftVocab(IDS, V, fingerprints.pop()), tmp_path / "out", target=target)
    assert result.V == V


Setup = Callable[[Path], tuple[Path, Path | None]]


def _truncated(path: Path) -> tuple[Path, None]:
    file = tiny_lm(path / "d") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    return path / "d", None


REFUSED: dict[str, tuple[Setup, DraftVocab, type[VocabtrimError], str]] = {
    "no target": (
        lambda path: (tiny_eagle3(path / "d"), None),
        PART,
        CheckpointError,
        "its head is the target's: give --target",
    ),
    "no drafter": (
        lambda path: (edit(tiny_eagle3(path / "d"), drop=["fc.weight"]), None),
        PART,
        CheckpointError,
        "no drafter of a known family",
    ),
    "no directory": (lambda path: (path / "d", None), PART, CheckpointError, "no such directory"),
    "a truncated file": (_truncated, PART, CheckpointError, "not a whole safetensors file"),
    "ids of a larger tokenizer": (
        lambda path: (tiny_lm(path / "d"), None),
        DraftVocab(np.array([3, V]), V + 1),
        CheckpointError,
        f"it has {V} ids, but the draft vocabulary holds id {V}: it was counted with another",
    ),
    "another target's V": (
        lambda path: (tiny_eagle3(path / "d"), tiny_target(path / "t", vocab_size=V + 1)),
        PART,
        CheckpointError,
        f"it has {V} ids, but the target has {V + 1}",
    ),
    "another target's H": (
        lambda path: (tiny_eagle3(path / "d"), tiny_target(path / "t", hidden=2 * H)),
        PART,
        CheckpointError,
        "was trained for another target",
    ),
    "a drafter as the target": (
        lambda path: (tiny_eagle3(path / "d"), tiny_eagle3(path / "t")),
        PART,
        CheckpointError,
        "it is no causal LM",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trimmed_is_refused_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    setup, vocab, error, message = REFUSED[case]
    drafter, target = setup(tmp_path)
    before = _listing(tmp_path)
    with pytest.raises(error, match=message) as caught:
        trim(drafter, vocab, tmp_path / "out", target=target)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert _listing(tmp_path) == before


def test_an_output_is_replaced_only_by_force_and_only_if_it_is_ours(tmp_path: Path) -> None:
    drafter, out = tiny_lm(tmp_path / "d"), tmp_path / "out"
    trim(drafter, PART, out)
    (out / "stale").touch()
    with pytest.raises(OutputExists):
        trim(drafter, PART, out)
    assert (out / "stale").exists()
    trim(drafter, PART, out, force=True)
    assert not (out / "stale").exists()
    with pytest.raises(OutputExists, match=r"it has no vocabtrim\.json of ours"):
        trim(out, PART, drafter, force=True)


def test_a_trimmed_drafter_is_trimmed_in_place_by_force(tmp_path: Path) -> None:
    drafter, out = tiny_lm(tmp_path / "d"), tmp_path / "out"
    trim(drafter, PART, out)
    expected = numbers(raw_tensors(out)["lm_head.weight"])[:3]
    trim(out, DraftVocab(IDS[:3], V), out, force=True)
    assert np.array_equal(numbers(raw_tensors(out)["lm_head.weight"]), expected)


@pytest.mark.parametrize("place", ["d/out", "."])
def test_an_output_inside_or_around_the_drafter_is_refused(tmp_path: Path, place: str) -> None:
    drafter = tiny_lm(tmp_path / "d")
    (tmp_path / "vocabtrim.json").touch()
    with pytest.raises(OutputExists, match=r"neither inside the drafter .* nor around it"):
        trim(drafter, PART, tmp_path / place, force=True)
    assert (drafter / "config.json").exists()


IN_ANOTHER_PROCESS = (
    WATCH_MEMORY
    + """
import json, resource, sys
import numpy as np
from vocabtrim.core.errors import VocabtrimError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.pipeline.trim import trim

drafter, output, n_rows, V, file_limit = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
if file_limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
ids = np.sort(np.random.default_rng(0).permutation(V)[:n_rows])
outcome = {"exit_code": 0}
try:
    trim(Path(drafter), DraftVocab(ids, V), Path(output))
except VocabtrimError as fault:
    outcome = {"exit_code": fault.exit_code, "message": str(fault)}
print(json.dumps(outcome | {"peak_kib": peak_kib(), "torch": "torch" in sys.modules}))
"""
)


def _in_another_process(drafter: Path, output: Path, *, rows: int, V: int, limit: int = 0) -> dict:
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(drafter), str(output)]
    command += [str(rows), str(V), str(limit)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict = json.loads(outcome.stdout)
    return found


def test_a_disk_that_fills_up_is_the_machines_fault_and_leaves_nothing(tmp_path: Path) -> None:
    drafter = tiny_lm(tmp_path / "d")
    before = _listing(tmp_path)
    outcome = _in_another_process(drafter, tmp_path / "out", rows=50, V=V, limit=20_000)
    assert outcome["exit_code"] == 1
    assert f"no room left to write {tmp_path / 'out'}" in outcome["message"]
    assert _listing(tmp_path) == before


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("share", [0.02, 0.9])
def test_memory_does_not_follow_the_head(tmp_path: Path, share: float) -> None:
    rows, hidden = 1 << 17, 1 << 10
    drafter = edit(tiny_eagle3(tmp_path / "d"), config={"vocab_size": rows, "hidden_size": hidden})
    edit(drafter, forget=["draft_vocab_size"])
    weights = {name: (raw[0], raw[1]) for name, raw in raw_tensors(drafter).items()}
    head = {"lm_head.weight": ("BF16", (rows, hidden))}
    write_sparse(drafter / "model.safetensors", weights | head)
    outcome = _in_another_process(drafter, tmp_path / "out", rows=int(share * rows), V=rows)
    assert outcome["exit_code"] == 0
    assert outcome["torch"] is False
    assert (tmp_path / "out/model.safetensors").stat().st_size > share * rows * hidden * 2 * 0.99
    assert 0 < outcome["peak_kib"] < 250 << 10


@pytest.mark.parametrize(
    ("name", "needs", "params"),
    [("demo-eagle3", True, 35_760_384), ("demo-lm", False, 16_520_256)],
)
def test_the_demo_drafters(
    demo_cache: Path, tmp_path: Path, name: str, needs: bool, params: int
) -> None:
    target, drafter = locate("demo"), locate(name)
    ids = np.sort(np.random.default_rng(0).permutation(49152)[:4096])
    vocab = DraftVocab(ids, 49152, fingerprint_of(target))
    result = trim(drafter, vocab, tmp_path / "out", target=target if needs else None)
    assert result.warnings == ()
    assert result.head_bytes == 4096 * 576 * 2
    out = Checkpoint.open(tmp_path / "out")
    assert family_of(out).cost(out, None).params == params
    written, original = raw_tensors(tmp_path / "out"), raw_tensors(drafter)
    embedding = numbers(raw_tensors(target)[EMBEDDING])
    assert np.array_equal(numbers(written["lm_head.weight"]), embedding[ids])
    assert {tensor: written[tensor] for tensor in original} == original
    assert np.array_equal(numbers(written["d2t"]) + np.arange(4096), ids)
    assert np.array_equal(np.flatnonzero(numbers(written["t2d"])), ids)


@pytest.mark.parametrize(("wanted", "dtype"), [("f16", "F16"), ("BF16", "BF16"), ("f32", "F32")])
def test_a_head_is_written_in_another_float_type_where_asked(
    tmp_path: Path, wanted: str, dtype: str
) -> None:
    drafter = tiny_eagle3(tmp_path / "d", own_head=True)
    result = trim(drafter, PART, tmp_path / "out", head_type=wanted)
    kept = numbers(raw_tensors(drafter)["lm_head.weight"])[IDS]
    found = raw_tensors(tmp_path / "out")["lm_head.weight"]
    assert found[:2] == (dtype, (IDS.size, H))
    if dtype == "BF16":
        assert np.array_equal(numbers(found), bfloat16_bits(kept))
    else:
        assert np.array_equal(numbers(found), kept.astype(numbers(found).dtype))
    assert (result.dtype_before, result.dtype) == ("F32", dtype)
    assert result.head_bytes == len(found[2])


def test_block_types_are_ggufs_and_a_head_that_stays_keeps_its_type(tmp_path: Path) -> None:
    target, drafter = tiny_target(tmp_path / "t"), tiny_eagle3(tmp_path / "d")
    with pytest.raises(CheckpointError, match="Q8_0 is a type of GGUF, and this drafter is"):
        trim(drafter, PART, tmp_path / "out", target=target, head_type="q8_0")
    with pytest.raises(CheckpointError, match="all ids are kept, so its head stays where it is"):
        trim(drafter, DraftVocab.full(V), tmp_path / "out", target=target, head_type="f16")
    assert not (tmp_path / "out").exists()
