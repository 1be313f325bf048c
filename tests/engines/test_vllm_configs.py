"""The class that vLLM's own code makes of each export's config, the plug-in beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clean_drafters import K, sidecar
from tests.engines.plugged import built_wheel, in_engine, installed
from tests.tiny import edit
from tools.engines import PARTS
from vocabtrim.engines.vllm.architectures import OF_TARGET
from vocabtrim.pipeline.export import export
from vocabtrim.tensors.checkpoint import Checkpoint
from vocabtrim.tensors.mtp_sidecar import REMEMBERED, TARGET_CONFIG

pytestmark = pytest.mark.engine

OPENED = """
import json, sys
from vllm import ModelRegistry
from vllm.config import SpeculativeConfig
from vllm.plugins import load_general_plugins
from vllm.transformers_utils.config import get_config
load_general_plugins()
found = {}
for directory in sys.argv[1:]:
    config = get_config(
        directory, trust_remote_code=False, hf_overrides_fn=SpeculativeConfig.hf_config_override
    )
    (name,) = config.architectures
    drafter = ModelRegistry.models[name].load_model_cls()
    found[directory] = {
        "class": name,
        "stock": [one.__name__ for one in drafter.__mro__[1:4]],
        "best": hasattr(drafter, "get_top_tokens"),
        "rows": config.draft_vocab_size,
    }
print(json.dumps(found))
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    if not PARTS["vllm"].complete:
        pytest.skip("vllm is not there: run `make engines`")
    return installed(built_wheel(tmp_path / "wheel"), tmp_path / "site")


def test_vllm_makes_our_class_of_the_prediction_layers_of_every_target(
    site: Path, tmp_path: Path
) -> None:
    made = sidecar(tmp_path / "sidecar")
    remembered = dict(Checkpoint.open(made).config[REMEMBERED])
    expected = {}
    for model_type, name in OF_TARGET.items():
        text = remembered[TARGET_CONFIG] | {"model_type": model_type}
        edit(made, config={REMEMBERED: remembered | {TARGET_CONFIG: text}})
        out = tmp_path / model_type
        export(made, "vllm", out)
        stock = ["ReducedPrediction", "ReducedHead", name.removeprefix("Trimmed")]
        expected[str(out)] = {"class": name, "stock": stock, "best": True, "rows": K}
    assert in_engine(OPENED, *expected, site=site) == expected
