import json
from collections import Counter
from importlib.resources import files

import numpy as np
import pytest
import torch

from recipes import evaluate, train_eagle3
from recipes.training.corpus import Document
from tests.unit.recipes.world import world, write_generated
from vocabtrim.cli.main import run
from vocabtrim.core.metrics import AcceptCounts

KEYS = {"block_efficiency", "interval", "macro", "domains", "depths", "acceptance_by_position"}


@pytest.fixture
def trained(tmp_path):
    torch.set_num_threads(1)
    target = world(tmp_path)
    text = write_generated(tmp_path / "g.jsonl", target)
    work = tmp_path / "work"
    train_eagle3.main(
        [
            *("--target", str(target), "--generated", str(text), "--work", str(work)),
            *("--layers", "1", "2", "3", "--row-tokens", "32", "--rows", "2", "--steps", "2"),
            *("--heldout-share", "0.1", "--sampled", "32"),
        ]
    )
    return target, work / "constant" / "drafter", text


def test_prompts_are_decoded_and_walked_alike(trained, tmp_path):
    target, drafter, _ = trained
    prompts = tmp_path / "prompts.jsonl"
    lines = [
        {"id": f"p{n}", "domain": ("code", "math")[n % 2], "prompt": f"w{n + 5} w{n + 9} w{n + 7}"}
        for n in range(6)
    ]
    prompts.write_text("".join(json.dumps(one) + "\n" for one in lines))
    output = tmp_path / "result.json"
    options = ["--target", str(target), "--prompts", str(prompts), "--max-new-tokens", "12"]
    assert evaluate.main([str(drafter), *options, "--json", str(output), "--gamma", "3"]) == 0
    result = json.loads(output.read_text())
    assert result.keys() >= KEYS
    assert result["how"] == "decoded"
    assert result["walked_block_efficiency"] == result["block_efficiency"] >= 1
    assert set(result["domains"]) == {"code", "math"}
    assert len(result["depths"]) == 3
    assert {one["outside"] for one in result["depths"]} == {None}


def test_counts_tell_what_is_said_outside_of_the_frequent_ids(trained, tmp_path, capsys):
    target, drafter, text = trained
    counted = tmp_path / "counts.safetensors"
    asked = ["count", str(text), "--tokenizer", str(target), "-o", str(counted)]
    assert run([*asked, "--quiet"]) == 0
    options = ["--target", str(target), "--generated", str(text), "--counts", str(counted)]
    assert evaluate.main([str(drafter), *options, "--heldout-share", "0.1", "--gamma", "2"]) == 0
    depths = json.loads(capsys.readouterr().out)["depths"]
    # the tiny target has fewer ids than are called frequent
    assert [one["outside"] for one in depths] == [0.0, 0.0]
    assert [one["frequent_precision"] for one in depths] == [one["agreement"] for one in depths]


def test_a_generated_file_is_walked_through_its_held_out_prompts(trained, capsys):
    target, drafter, text = trained
    options = ["--target", str(target), "--generated", str(text), "--heldout-share", "0.1"]
    assert evaluate.main([str(drafter), *options, "--gamma", "2"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["how"] == "walked"
    assert result["prompts"] == 3  # as many as training held out
    assert evaluate.main([str(drafter), *options[:-1], "0", "--gamma", "2"]) == 2
    assert "held out" in capsys.readouterr().err


def test_repeats_are_left_out_and_sampled_text_is_decoded(trained, tmp_path, capsys):
    target, drafter, text = trained
    prompts = tmp_path / "prompts.jsonl"
    lines = [{"id": f"p{n}", "prompt": f"w{n + 5} w{n + 9} w{n + 7}"} for n in range(4)]
    prompts.write_text("".join(json.dumps(one) + "\n" for one in lines))

    def found(*more):
        asked = ["--target", str(target), "--prompts", str(prompts), "--max-new-tokens", "40"]
        assert evaluate.main([str(drafter), *asked, "--gamma", "2", *more]) == 0
        return json.loads(capsys.readouterr().out)

    greedy, less = found(), found("--without-repeats", "2")
    assert (greedy["how"], less["how"]) == ("decoded", "walked")
    assert 0 < less["tokens"] < greedy["tokens"]
    drawn = [found("--temperature", "1", "--seed", seed) for seed in "11"]
    assert drawn[0] == drawn[1]
    assert drawn[0]["walked_block_efficiency"] is None
    assert drawn[0]["block_efficiency"] != greedy["block_efficiency"]
    wrong = ["--generated", str(text), "--temperature", "1"]
    assert evaluate.main([str(drafter), "--target", str(target), *wrong]) == 2
    assert "with --temperature prompts are decoded" in capsys.readouterr().err


def test_prompts_of_its_own_are_decoded_where_none_are_given(trained, capsys):
    target, drafter, _ = trained
    asked = ["--target", str(target), "--max-new-tokens", "3", "--limit", "11", "--gamma", "2"]
    assert evaluate.main([str(drafter), *asked]) == 0
    domains = json.loads(capsys.readouterr().out)["domains"]
    assert {name: one["prompts"] for name, one in domains.items()} == {"roleplay": 1, "writing": 10}


def test_prompts_of_its_own_are_ten_of_each_of_thirteen_kinds():
    text = files("recipes").joinpath("evaluation_prompts.jsonl").read_text(encoding="utf-8")
    prompts = [json.loads(line) for line in text.splitlines()]
    assert len({one["id"] for one in prompts}) == len({one["prompt"] for one in prompts}) == 130
    assert set(Counter(one["domain"] for one in prompts).values()) == {10}
    package = files("vocabtrim.demo").joinpath("prompts.jsonl").read_text(encoding="utf-8")
    used = {json.loads(line)["prompt"] for line in package.splitlines()}
    assert not used & {one["prompt"] for one in prompts}


def test_domains_are_pooled_apart_and_together():
    texts = [
        Document(np.arange(3, dtype=np.int32), np.ones(3, bool), "0", domain)
        for domain in ("code", "code", "math")
    ]
    counts = [
        AcceptCounts.of_cycles(2, [(2, 1, 2)] * 3),
        AcceptCounts.of_cycles(2, [(2, 2, 3)]),
        AcceptCounts.of_cycles(2, [(2, 0, 1)] * 4),
    ]
    found = evaluate.summary(texts, counts, np.random.default_rng(0))
    assert found["domains"]["code"]["block_efficiency"] == pytest.approx(9 / 4)
    assert found["domains"]["math"]["block_efficiency"] == pytest.approx(1)
    assert found["block_efficiency"] == pytest.approx(13 / 8)
    assert found["macro"] == pytest.approx((9 / 4 + 1) / 2)
    low, high = found["interval"]
    assert low <= 13 / 8 <= high
