"""Reduced heads in vLLM through our plug-in: prediction layers, LMs, EAGLE-1."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.plugged import ROOT, built_wheel, installed, run, served
from tests.tiny import RawTensor, edit, numbers, raw_tensors
from tools.engines import PARTS, vllm_python
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.engines.serving.base import serving_named
from vocabtrim.engines.serving.launch import Limits
from vocabtrim.pipeline.bench import Plan, bench
from vocabtrim.pipeline.export import export
from vocabtrim.pipeline.trim import trim
from vocabtrim.tensors.built_in import demo_drafter, demo_target
from vocabtrim.tensors.cache import built_once
from vocabtrim.tokens.prompts import Prompt
from vocabtrim.tokens.tokenizer import fingerprint_of

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

V, GAMMA, TOKENS, PROMPTS = 4096, 3, 64, 12
WITHIN = 0.01
ENGINE = {"max_model_len": 256, "max_num_seqs": 1}
BEST = {"use_local_argmax_reduction": True}
CHATS = [
    "Write a short story about a lighthouse.",
    "How do I reverse a list in Python?",
    "What is the capital of France?",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not PARTS["vllm"].complete:
        pytest.skip("vllm is not there: run `make engines`")
    return built_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our package, as vLLM's processes find it."""
    return installed(wheel, tmp_path_factory.mktemp("site"))


def test_installing_changes_no_other_package(wheel: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    pip = [str(vllm_python()), "-m", "pip", "--disable-pip-version-check"]
    dry = ["install", "--quiet", "--dry-run", "--report", str(report), f"{wheel}[vllm]"]
    subprocess.run([*pip, *dry], check=True)
    wanted = [one["metadata"]["name"] for one in json.loads(report.read_text())["install"]]
    listed = subprocess.run([*pip, "list", "--format", "json"], check=True, capture_output=True)
    present = {one["name"].lower() for one in json.loads(listed.stdout)}
    assert "vocabtrim" in wanted
    assert not {one.lower() for one in wanted} & present


@pytest.fixture(scope="module")
def toy(demo_cache: Path) -> Path:
    """A small target with a prediction layer; trained once for each state of its recipe."""
    recipe = [ROOT / "recipes" / "train_mtp.py", ROOT / "recipes" / "training" / "mtp.py"]
    key = hashlib.sha256(b"".join(file.read_bytes() for file in recipe)).hexdigest()[:12]

    def make(directory: Path) -> None:
        from recipes.train_mtp import main

        main(["-o", str(directory / "target")])

    return built_once(f"test-mtp-{key}", make) / "target"


def toy_prompts(toy: Path) -> list[str]:
    lines = (toy / "prompts.jsonl").read_text().splitlines()
    return [json.loads(line)["prompt"] for line in lines[:PROMPTS]]


def toy_job(toy: Path, drafter: Path | None, **more: Any) -> dict[str, Any]:
    job = {"target": str(toy), "drafter": None if drafter is None else str(drafter)}
    job |= {"method": "mtp", "prompts": toy_prompts(toy), "tokens": TOKENS, "gamma": GAMMA}
    return {**job, "one_by_one": True, "engine": ENGINE, **more}


@pytest.fixture(scope="module")
def stock(toy: Path, site: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What vLLM says and accepts with its own head of V rows, our package beside it."""
    return served(toy_job(toy, None), site, tmp_path_factory.mktemp("stock") / "log")


@pytest.fixture(scope="module")
def kept() -> DraftVocab:
    """Ids that are neither the lowest nor the most frequent."""
    random = np.random.default_rng(0)
    ids = np.union1d(random.choice(1200, 700, replace=False), np.arange(1301, V, 9))
    return DraftVocab(ids[:960], V)


@pytest.fixture(scope="module")
def exported(toy: Path, kept: DraftVocab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("mtp")
    trim(toy, kept, place / "sidecar", family="mtp")
    export(place / "sidecar", "vllm", place / "out", target=str(toy))
    return place / "out"


def matrix(raw: RawTensor) -> np.ndarray[Any, Any]:
    """Return a stored matrix in float32, exactly."""
    values = numbers(raw)
    if raw[0] == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


def permuted(export_: Path, head: np.ndarray[Any, Any], out: Path) -> Path:
    """Write an export over all ids, in an order of chance."""
    order = np.random.default_rng(1).permutation(head.shape[0])
    d2t = (order - np.arange(order.size)).astype(np.int64)
    out.mkdir()
    for file in export_.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    size = {"draft_vocab_size": int(order.size)}
    return edit(out, add={"lm_head.weight": head[order], "d2t": d2t}, drop=["t2d"], config=size)


def test_prediction_layers_over_all_ids_in_another_order_draft_the_same(
    toy: Path, site: Path, exported: Path, stock: dict[str, Any], tmp_path: Path
) -> None:
    head = matrix(raw_tensors(toy)["lm_head.weight"])
    drafter = permuted(exported, head, tmp_path / "all")
    # rows of V logits, not the best alone: what sampling needs
    found = served(toy_job(toy, drafter), site, tmp_path / "log")
    assert found["ids"] == stock["ids"]
    assert found["by_position"] == stock["by_position"]
    assert found["cycles"] == stock["cycles"]
    assert 0.4 < sum(one[0] for one in found["by_position"]) / sum(found["cycles"]) < 1


def test_prediction_layers_over_fewer_ids_accept_what_the_reference_does(
    toy: Path,
    site: Path,
    exported: Path,
    kept: DraftVocab,
    stock: dict[str, Any],
    tmp_path: Path,
) -> None:
    found = served(toy_job(toy, exported, speculative=BEST), site, tmp_path / "log")
    assert found["ids"] == stock["ids"]
    everything = reference(toy, None)
    assert close(stock, everything, range(PROMPTS))
    fewer = reference(toy, kept)
    agree = [place for place in range(PROMPTS) if fewer[place][2] == found["ids"][place]]
    assert len(agree) > 0.8 * PROMPTS
    assert close(found, fewer, agree)
    assert sum(found["cycles"]) > sum(stock["cycles"])


def reference(toy: Path, vocab: DraftVocab | None) -> list[tuple[int, list[int], list[int]]]:
    """Cycles, cycles that accepted at each depth, and text, of each prompt, by plain PyTorch."""
    from recipes.training.mtp import Target, by_position
    from vocabtrim.tokens.tokenizer import Tokenizer

    target, tokenizer = Target.load(toy), Tokenizer.open(toy)
    kept_ids = None if vocab is None else torch.from_numpy(vocab.ids.copy())
    found = []
    for prompt in toy_prompts(toy):
        ids = torch.tensor(list(tokenizer.encode(prompt)))
        text = target.greedy(ids[None], TOKENS + GAMMA + 1)[0]
        counts = target.accepted(text, ids.numel(), TOKENS, GAMMA, kept_ids)
        emitted = text[ids.numel() : ids.numel() + TOKENS].tolist()
        found.append((len(counts), by_position(counts, GAMMA), emitted))
    return found


def close(
    found: dict[str, Any], wanted: Sequence[tuple[int, list[int], Any]], places: Sequence[int]
) -> bool:
    """Whether counts agree within a hundredth at each depth, over some prompts."""
    for depth in range(GAMMA):
        ours = sum(found["by_position"][place][depth] for place in places)
        theirs = sum(wanted[place][1][depth] for place in places)
        if abs(ours - theirs) > max(1.0, WITHIN * theirs):
            return False
    return True


def test_bench_compares_prediction_layers(
    toy: Path, site: Path, exported: Path, kept: DraftVocab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    texts = toy_prompts(toy)[:2]
    result = bench(
        [Prompt(text, ({"role": "user", "content": text},)) for text in texts],
        serving_named("vllm"),
        str(toy),
        [str(toy), str(exported)],
        gammas=[GAMMA],
        plan=Plan(repeat=1, max_new_tokens=24, raw=True, limits=Limits(start_s=900.0)),
        server_bin=vllm_python().with_name("vllm"),
        arguments=("--dtype", "float32", "--enforce-eager", "--max-model-len", "256"),
    )
    runs = [(one.run.family, one.run.K) for one in result.runs]
    assert runs == [(None, None)] * 2 + [("mtp", V), ("mtp", kept.size)]
    for one in result.runs[2:]:
        assert one.same_text == {"identical": 2, "of": 2}
        assert one.accepted
    assert not result.warnings


def test_vllm_alone_refuses_what_was_trimmed(toy: Path, exported: Path, tmp_path: Path) -> None:
    done = run(toy_job(toy, exported), None, tmp_path / "log")
    assert done.returncode != 0
    assert "qwen3_5_mtp" in (tmp_path / "log").read_text(errors="replace")


LM_TOKENS = 48


def chat(text: str) -> str:
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def lm_job(drafter: Path, **more: Any) -> dict[str, Any]:
    job = {"target": str(demo_target()), "drafter": str(drafter), "method": "draft_model"}
    job |= {"prompts": [chat(one) for one in CHATS], "tokens": LM_TOKENS, "gamma": GAMMA}
    return {**job, "one_by_one": True, "engine": ENGINE, **more}


@pytest.fixture(scope="module")
def lm_kept(demo_cache: Path) -> DraftVocab:
    ids = np.unique(np.concatenate([np.arange(30, 3000), np.arange(3000, 49_152, 997)]))
    return DraftVocab(ids[:2048], 49_152, fingerprint_of(demo_target()))


@pytest.fixture(scope="module")
def lm_exported(lm_kept: DraftVocab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("lm")
    trim(demo_drafter("lm"), lm_kept, place / "less", family="independent")
    export(place / "less", "vllm", place / "out", target="demo")
    return place / "out"


@pytest.fixture(scope="module")
def lm_stock(site: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What vLLM says and accepts with the untrimmed LM."""
    return served(lm_job(demo_drafter("lm")), site, tmp_path_factory.mktemp("lm-stock") / "log")


def test_an_lm_over_all_ids_in_another_order_drafts_the_same(
    site: Path, lm_exported: Path, lm_stock: dict[str, Any], tmp_path: Path
) -> None:
    head = matrix(raw_tensors(demo_drafter("lm"))["model.embed_tokens.weight"])
    drafter = permuted(lm_exported, head, tmp_path / "all")
    found = served(lm_job(drafter, speculative=BEST), site, tmp_path / "log")
    assert found["ids"] == lm_stock["ids"]
    assert found["by_position"] == lm_stock["by_position"]
    assert found["accepted"] > 0


def test_an_lm_over_fewer_ids_accepts_what_our_decoder_does(
    site: Path, lm_exported: Path, lm_stock: dict[str, Any], lm_kept: DraftVocab, tmp_path: Path
) -> None:
    found = served(lm_job(lm_exported, speculative=BEST), site, tmp_path / "log")
    assert found["ids"] == lm_stock["ids"]
    ours = decoded_here(lm_kept)
    agree = [place for place, one in enumerate(ours) if one[2] == found["ids"][place]]
    assert len(agree) >= 2
    assert close(found, ours, agree)


def decoded_here(vocab: DraftVocab) -> list[tuple[int, list[int], list[int]]]:
    """Cycles, cycles that accepted at each depth, and text, of each prompt, by our decoder."""
    from recipes.training.mtp import by_position
    from vocabtrim.decode.chain import Chain
    from vocabtrim.decode.model import load_model
    from vocabtrim.decode.target import Target
    from vocabtrim.decode.text import Request, Text
    from vocabtrim.families.independent import PLUGIN
    from vocabtrim.tensors.checkpoint import Checkpoint
    from vocabtrim.tokens.tokenizer import Tokenizer

    model, tokenizer = load_model(demo_target()), Tokenizer.open(demo_target())
    opened = (Checkpoint.open(demo_drafter("lm")), Checkpoint.open(demo_target()))
    drafter, target = PLUGIN.load_drafter(*opened, model, vocab), Target(model)
    found = []
    for prompt in CHATS:
        ids = tuple(tokenizer.encode(chat(prompt)).tolist())
        # beyond what vLLM emits: its last cycle drafts as many tokens as any other
        room = LM_TOKENS + 2 * GAMMA + 2
        text = Text(Request("", ids, room), room)
        chain = Chain(target, drafter, gamma=GAMMA, rows=1, columns=len(ids) + room)
        chain.admit([text])
        while len(text.token_ids) < LM_TOKENS and not text.ended:
            chain.cycle()
        counts = [accepted for _, accepted, _ in text.cycles]
        chain.close()
        emitted = [int(one) for one in text.token_ids[:LM_TOKENS]]
        found.append((len(counts), by_position(counts, GAMMA), emitted))
    return found


def eagle_pair(place: Path) -> tuple[Path, Path]:
    """Write a target of one layer, and an EAGLE-1 drafter that is nearly the same layer.

    Rows of the embedding have the root mean square 1, so that the norm before the
    layer, which EAGLE-1 has not, changes nothing; `fc` passes on the embedding alone;
    and the norm before the head changes no order of logits.
    """
    from vocabtrim.families.eagle import PLUGIN
    from vocabtrim.families.independent import write_tiny_llama

    size = {"vocab_size": 256, "hidden": 128}
    write_tiny_llama(place / "target", layers=1, tied=False, seed=3, **size)
    tensors = {name: numbers(raw) for name, raw in raw_tensors(place / "target").items()}
    embedding = tensors["model.embed_tokens.weight"].copy()
    embedding /= np.sqrt((embedding**2).mean(axis=1, keepdims=True))
    edit(place / "target", add={"model.embed_tokens.weight": embedding})
    PLUGIN.tiny_checkpoint(place / "drafter", **size)
    drafter = raw_tensors(place / "drafter")
    layer = {name: tensors[f"model.{name}"] for name in drafter if f"model.{name}" in tensors}
    H = size["hidden"]
    layer["fc.weight"] = np.eye(H, 2 * H, dtype=np.float32)
    drop = [name for name in drafter if name == "fc.bias"]
    edit(place / "drafter", add=layer, drop=drop, config={"bias": False})
    return place / "target", place / "drafter"


def test_eagle_1(site: Path, tmp_path: Path) -> None:
    target, drafter = eagle_pair(tmp_path)
    random = np.random.default_rng(0)
    prompts = random.integers(0, 256, size=(4, 12)).tolist()
    job = {"target": str(target), "drafter": str(drafter), "method": "eagle", "gamma": GAMMA}
    job |= {"prompts": prompts, "tokens": TOKENS, "one_by_one": True}
    job |= {"engine": ENGINE | {"skip_tokenizer_init": True}}
    stock = served(job, site, tmp_path / "stock.log")
    assert stock["accepted"] > 0.3 * stock["drafted"]

    said = {one for text in stock["ids"] for one in text}
    kept = DraftVocab.from_ids(sorted({*sorted(said)[::2], 0, 255}), 256)
    trim(drafter, kept, tmp_path / "less", target=target, family="eagle")
    export(tmp_path / "less", "vllm", tmp_path / "out", target=str(target))
    head = matrix(raw_tensors(target)["lm_head.weight"])
    everything = permuted(tmp_path / "out", head, tmp_path / "all")
    same = served(
        job | {"drafter": str(everything), "speculative": BEST}, site, tmp_path / "all.log"
    )
    assert (same["ids"], same["by_position"]) == (stock["ids"], stock["by_position"])

    fewer = served(job | {"drafter": str(tmp_path / "out")}, site, tmp_path / "out.log")
    assert fewer["ids"] == stock["ids"]
    assert 0 < fewer["accepted"] < stock["accepted"]
