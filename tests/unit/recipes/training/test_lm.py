import numpy as np
import pytest
import torch

from recipes.training.corpus import Document, collate
from recipes.training.lm import LmTask, ShortModel, cut_layers
from recipes.training.teacher import Teacher
from tests.tiny import tiny_target
from tests.unit.recipes.world import world
from vocabtrim.core.errors import DecodeError
from vocabtrim.tensors.checkpoint import Checkpoint


@pytest.fixture
def teacher(tmp_path):
    torch.set_num_threads(1)
    return Teacher(world(tmp_path), dtype="float32", device=torch.device("cpu"))


@pytest.fixture
def lesson(teacher):
    tokens = np.random.default_rng(0).integers(3, 96, 30).astype(np.int32)
    return teacher.teach(collate([[Document(tokens, np.arange(30) >= 5, "00")]], 32))


@torch.no_grad()
def test_all_layers_are_the_target_itself(teacher, lesson):
    (step,) = LmTask(ShortModel(teacher, range(4)), teacher).losses(lesson, None)
    assert step.choices.equal(lesson.greedy)
    assert len(step.choices) == 25  # the first generated token has a draft too


@torch.no_grad()
def test_some_layers_are_the_targets(teacher, lesson, tmp_path):
    model = ShortModel(teacher, (0, 3))
    model.save(tmp_path / "lm")
    saved = Checkpoint.open(tmp_path / "lm")
    assert "model.embed_tokens.weight" not in saved.tensors
    assert saved.config["num_hidden_layers"] == 2
    assert saved.config["architectures"] == ["LlamaForCausalLM"]
    assert str(tmp_path) not in (tmp_path / "lm" / "config.json").read_text()
    last = teacher.model.model.layers[3].mlp.up_proj.weight
    assert model.body.layers[1].mlp.up_proj.weight.equal(last)
    again = ShortModel(teacher, (1, 2))
    again.load(tmp_path / "lm")
    for name, parameter in model.named_parameters():
        assert again.get_parameter(name).equal(parameter.bfloat16().float())


def test_layers_are_cut_from_both_ends():
    assert cut_layers(30) == (0, 1, 28, 29)
    assert cut_layers(5, kept=3) == (0, 1, 4)


def test_a_target_that_does_not_fit_is_refused(teacher, tmp_path):
    with pytest.raises(DecodeError, match="4 layers"):
        ShortModel(teacher, (0, 4))
    untied = tiny_target(tmp_path / "untied", tied=False)
    with pytest.raises(DecodeError, match="head is its embedding"):
        ShortModel(Teacher(untied, dtype="float32", device=torch.device("cpu")), (0,))
