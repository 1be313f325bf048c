import json

from recipes.card import Run, card, main


def write_run(work, *, tokens: int, agreement: float, phase: str = "decayed"):
    folder = work / phase
    (folder / "drafter").mkdir(parents=True)
    (folder / "drafter" / "model.safetensors").write_bytes(b"weights" * 1000)
    points = [
        {
            "step": 10 * one,
            "minutes": 20.0 * one,
            "visits": 40_000 * one,
            "loss": 4.0 - 0.1 * one,
            "rate": 6e-4,
            "agreement": [agreement * one / 10, agreement * one / 20],
        }
        for one in range(11)
    ]
    (folder / "curve.jsonl").write_text("".join(json.dumps(one) + "\n" for one in points))
    kind = {"share": 0.8, "files": {}, "documents": 12, "learnt_tokens": tokens}
    document = {
        "target": "demo",
        "init": None,
        "feature_layers": [2, 15, 27],
        "device": "cpu",
        "threads": 2,
        "batch_tokens": 4096,
        "sampled": 3072,
        "settings": {"rate": 6e-4, "full_share": 0.05},
        "data": {"generated": kind | {"learnt_tokens_by_domain": {"code": tokens}}},
    }
    (work / "run.json").write_text(json.dumps(document))
    return work


def evaluation():
    share = {"outside": 0.1, "outside_precision": None, "frequent_precision": 0.6}
    pooled = {"block_efficiency": 1.987, "interval": [1.9, 2.05], "cycles": 9}
    return {
        **pooled,
        "gamma": 4,
        "temperature": 0.0,
        "without_repeats": None,
        "how": "decoded",
        "frequent_ids": 4096,
        "domains": {"math": {**pooled, "prompts": 10, "tokens": 1280}},
        "depths": [{"agreement": 0.5, **share}],
    }


def test_a_card_says_what_was_measured(tmp_path):
    run = Run(write_run(tmp_path / "run", tokens=1_000_000, agreement=0.5))
    text = card(run, [evaluation()], {}, name="A drafter", note="Good.")
    assert text.startswith("# A drafter\n\nGood.\n")
    assert "**1.99 (1.90 to 2.05)**" in text
    assert "| math | 10 | 1280 | 1.99 | 1.90 to 2.05 |" in text
    assert "| 200 | 0.40M | 3.000 | 50.0% / 25.0% |" in text
    assert "| 1 | 50.0% | 10.0% | – | 60.0% |" in text
    assert "3.3 hours" in text
    assert "last 5% of the steps saw the full softmax" in text
    assert "Greedy, decoded; all prompts" in text
    assert "$" not in text


def test_a_card_says_how_each_evaluation_was_made(tmp_path):
    work = write_run(tmp_path / "run", tokens=1000, agreement=0.5)
    document = json.loads((work / "run.json").read_text())
    document["settings"]["full_share"] = 0.0
    (work / "run.json").write_text(json.dumps(document))
    sampled = evaluation() | {"temperature": 0.7, "block_efficiency": 1.7}
    greedy = evaluation() | {"without_repeats": 8, "how": "walked"}
    text = card(Run(work), [sampled, greedy], {}, name="", note="")
    assert "Sampled at temperature 0.7, decoded; all prompts pooled, **1.70" in text
    assert "Greedy, without tokens in runs of 8 that the text had before, walked" in text
    assert "same texts, those that are sampled at temperature 0.7." in text
    assert "full softmax." not in text.replace("prompts, full softmax.", "")


def test_runs_are_compared_at_equal_visits(tmp_path):
    run = Run(write_run(tmp_path / "run", tokens=1_000_000, agreement=0.5))
    less = write_run(tmp_path / "less", tokens=250_000, agreement=0.4, phase="constant")
    curve = less / "constant" / "curve.jsonl"
    curve.write_text("".join(line + "\n" for line in curve.read_text().splitlines()[:6]))
    text = card(run, [evaluation()], {"a quarter": Run(less)}, name="", note="")
    assert "| this run | 1.00M | 0.20M | 25.0% / 12.5% |" in text
    assert "| a quarter | 0.25M | 0.20M | 20.0% / 10.0% |" in text
    # 5 points for two doublings: 2.5 each, so 25 + 2.5 · log2(10)
    assert "added 2.5 points" in text
    assert "predicts 33%" in text


def test_a_card_names_the_weights_that_the_run_started_from(tmp_path):
    work = write_run(tmp_path / "run", tokens=1000, agreement=0.5)
    document = json.loads((work / "run.json").read_text())
    assert "| starts from | untrained weights |" in card(
        Run(work), [evaluation()], {}, name="", note=""
    )
    document |= {"init": "recipes/start/eagle3", "init_hash": "sha256:e332"}
    (work / "run.json").write_text(json.dumps(document))
    text = card(Run(work), [evaluation()], {}, name="", note="")
    assert "| starts from | recipes/start/eagle3, `sha256:e332` |" in text


def test_a_card_continues_the_curve(tmp_path):
    work = write_run(tmp_path / "run", tokens=1000, agreement=0.5)
    curve = work / "decayed" / "curve.jsonl"
    rate, points = 6e-4, []
    for one in range(1, 9):
        # six points for each doubling while the rate is constant, then a decay with its own gain
        points.append({"visits": 1000 * 2**one, "agreement": [0.06 * one], "rate": rate})
    points.append({"visits": 300_000, "agreement": [0.55], "rate": rate / 2})
    points = [one | {"step": n, "minutes": n, "loss": 3.0} for n, one in enumerate(points)]
    curve.write_text("".join(json.dumps(one) + "\n" for one in points))
    text = card(Run(work), [evaluation()], {}, name="", note="")
    assert "each doubling added 6.0 points" in text
    assert "would be 75% on a straight line" in text  # 0.55 + 0.06 · log2(10)
    curve.write_text("".join(json.dumps(one) + "\n" for one in points[:2]))
    assert "too short" in card(Run(work), [evaluation()], {}, name="", note="")


def test_the_command_writes_the_card(tmp_path, capsys):
    work = write_run(tmp_path / "run", tokens=1000, agreement=0.5)
    result = tmp_path / "result.json"
    result.write_text(json.dumps(evaluation()))
    output = tmp_path / "CARD.md"
    options = ["--evaluation", str(result), "-o", str(output)]
    assert main([str(work), *options, "--ablation", f"same={work}", "--name", "X"]) == 0
    assert "| same |" in output.read_text()
    assert main([str(tmp_path / "nothing"), *options]) == 2
    assert "no finished run" in capsys.readouterr().err
