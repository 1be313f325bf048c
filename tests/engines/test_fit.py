"""From traffic to a served drafter: what `fit` leaves drafts in vLLM and in llama.cpp."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.engines.llama_cpp import require
from tests.engines.test_llama_cpp import answers
from tests.engines.test_vllm import FLOOR, decoded
from tools.engines import llama_source, vllm_python
from vocabtrim.engines.base import Container, engine_named
from vocabtrim.pipeline.fit import Fit, fit

pytestmark = pytest.mark.engine

PAGES = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def log(demo_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Exchanges about this project: its pages, a paragraph an answer."""
    require("llama.cpp", "vllm")
    path = tmp_path_factory.mktemp("traffic") / "requests.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        for page in sorted(PAGES.rglob("*.md")):
            for part in page.read_text(encoding="utf-8").split("\n\n"):
                asked = {"role": "user", "content": f"What does {page.name} say?"}
                answer = {"role": "assistant", "content": part}
                stream.write(json.dumps({"messages": [asked, answer]}) + "\n")
    return str(path)


def test_vllm_serves_what_fit_leaves(log: str, tmp_path: Path) -> None:
    result = fit(Fit("demo-eagle3", "demo", [log], "vllm", tmp_path / "out", gamma=2))
    assert result.made is not None
    assert result.made.exported is not None
    served = json.loads(shlex.split(result.made.exported.command or "")[-1])["model"]
    assert Path(served).is_relative_to(tmp_path / "out")
    found = decoded(Path(served), tmp_path / "log")
    assert found["texts"] == decoded(None, tmp_path / "plain.log")["texts"]
    assert found["accepted"] > FLOOR * found["drafted"] > 0


def test_llama_cpp_serves_what_fit_leaves(log: str, tmp_path: Path) -> None:
    converter = shlex.join([str(vllm_python()), str(llama_source() / "convert_hf_to_gguf.py")])
    result = fit(
        Fit("demo-eagle3", "demo", [log], "llama.cpp", tmp_path / "out", converter=converter)
    )
    assert result.made is not None
    assert result.made.exported is not None
    words = shlex.split(result.made.exported.command or "")
    served = Path(words[words.index("-md") + 1])
    reads = engine_named("llama.cpp").read_back(served, Container.GGUF)
    assert reads.rows == result.choice.K < result.rows
    drafted, plain = answers(served, tmp_path / "log"), answers(None, tmp_path / "plain.log")
    assert [one.text[:40] for one in drafted] == [one.text[:40] for one in plain]
    assert sum(one.accepted for one in drafted) > FLOOR * sum(one.drafted for one in drafted)
