"""Two equally good ways around an obstacle: the toy of benchmarks/multimodal.py, trained for a few seconds."""

import importlib.util
import json
import sys
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest
import torch

from plait.heads import DiffusionConfig, FlowConfig, Head, MixtureConfig, RegressionConfig

TOY = Path(__file__).parents[2] / "benchmarks" / "multimodal.py"
# after so few updates some noise still leads between both ways: every scene has its own, and not the farthest
DIFFUSION = DiffusionConfig(width=32, layers=1, drawn=True, temperature=0.5)
SOONER = {"batch": 64, "rate": 4e-3}


@pytest.fixture(scope="module")
def toy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("multimodal", TOY)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["multimodal"] = module  # dataclasses look their module up
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOY.parent)
        spec.loader.exec_module(module)
    return module


def success(toy: ModuleType, head: Head, steps: int, **training: float) -> float:
    pilot = toy.train(head, toy.demonstrate(10_000), steps, **training)
    return toy.drive(pilot, 100)[1].float().mean().item()


def test_regression_drives_into_the_obstacle(toy: ModuleType) -> None:
    assert success(toy, RegressionConfig(loss="mse"), steps=200) < 0.3


@pytest.mark.parametrize(
    ("head", "steps", "training"),
    [(MixtureConfig(), 400, {}), (DIFFUSION, 400, SOONER), (FlowConfig(width=48, layers=1), 500, {})],
    ids=["mixture", "diffusion", "flow"],
)
def test_mixture_diffusion_and_flow_take_one_way(
    toy: ModuleType, head: Head, steps: int, training: dict[str, float]
) -> None:
    assert success(toy, head, steps, **training) > 0.9


def test_demonstrations_take_both_sides_and_never_touch_the_obstacle(toy: ModuleType) -> None:
    ways = toy.demonstrated(200).ways
    assert 0.3 < (ways[:, toy.STEPS // 2, 1] > 0).float().mean() < 0.7
    assert ((ways - torch.tensor([0.5, 0.0])).norm(dim=-1) > toy.RADIUS + 0.05).all()


def test_what_is_published_tells_both_shares_of_every_seed_with_intervals(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy, "HEADS", {"mixture": MixtureConfig(), "flow": FlowConfig(width=16, layers=1)})
    toy.main("a CPU", seeds=2, steps=20, episodes=10, demonstrations=20, report=tmp_path)
    written = {path.suffix: path for path in tmp_path.iterdir()}
    assert written.keys() == {".json", ".md", ".png"} and written[".png"].name in written[".md"].read_text()
    found = json.loads(written[".json"].read_text())
    assert found["settings"]["seeds"] == 2 and found["versions"]["torch"]
    heads = ("mixture", "flow", "flow, drawn noise")
    assert sorted((each["head"], each["seed"]) for each in found["results"]) == sorted(product(heads, (0, 1)))
    for each in found["results"]:
        passed, above = each["success"], each["above"]
        assert passed["n"] == 10 and above["n"] == passed["count"] and len(passed["pc_ci95"]) == 2
