"""What cannot work is refused before anything is recorded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium
import pytest

from plait import config
from plait.compare import comparison
from plait.compare.bench import Bench
from plait.compare.cell import CONTRASTS, Contrast, Setup, grid
from plait.compare.comparison import compare
from plait.config import members
from plait.encoders.vision import TimmConfig
from plait.fusion import BottleneckConfig, Fusion
from plait.recipes import RECIPES, Recipe, tabletop_pick
from plait.spec import Spec
from policies import part


class Bare(gymnasium.Env):
    """Feels nothing, always shows its camera, and knows normal instructions alone."""

    observation_space = gymnasium.spaces.Dict({"observation.images.top": gymnasium.spaces.Box(0, 255, (32, 32, 3))})
    action_space = gymnasium.spaces.Box(-1, 1, (2,))
    embodiment = Spec({"top": (32, 32)}, (), ("dx", "dy"))


gymnasium.register("Bare-v0", Bare)


@dataclass(frozen=True)
class NarrowConfig(BottleneckConfig):
    """What another package may offer: cannot be of any width."""

    heads: int = 5


def _recipe(**parts: object) -> Callable[[], Recipe]:
    recipe = tabletop_pick()
    return lambda: replace(recipe, policy=replace(recipe.policy, **parts))


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe without its weights, and a fusion of another package."""
    monkeypatch.setitem(RECIPES, "no-weights", _recipe(vision=TimmConfig("test_vit", weights="/nowhere.safetensors")))
    monkeypatch.setattr(config, "installed", lambda slot: {"narrow": NarrowConfig} if slot == "fusion" else {})


@pytest.mark.parametrize(
    ("env", "recipe", "fusions", "contrasts", "sentence"),
    [
        (
            "Bare-v0",
            "tabletop-pick",
            ["film"],
            ["vision_only"],
            "vision only: .*'absent' is not known.*out with --c",
        ),
        (
            "Bare-v0",
            "tabletop-pick",
            ["film"],
            ["words_only"],
            "words only: .*no argument 'cameras'.*]; or leave it",
        ),
        ("Bare-v0", "tabletop", ["early"], [], "film.conditions: no modality 'state'.* another fusion.$"),
        ("tabletop", "tabletop-pick", ["film", "narrow"], [], "a width of 1024 cannot be split over 5 heads"),
        ("tabletop", "no-weights", ["film"], [], "/nowhere.safetensors"),
    ],
)
@pytest.mark.usefixtures("others")
def test_what_cannot_work_is_told_before_anything_is_recorded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    env: str,
    recipe: str,
    fusions: list[str],
    contrasts: Sequence[Contrast],
    sentence: str,
) -> None:
    monkeypatch.setattr(comparison, "record", lambda *_: pytest.fail("minutes of recording"))
    with pytest.raises(ValueError, match=sentence):
        compare(Setup(env, recipe=recipe), tmp_path / "new", fusions, [9], seeds=1, contrasts=contrasts, device="cpu")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("fusion", members(Fusion))
def test_every_fusion_can_be_the_reference_of_both_contrasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fusion: str
) -> None:
    monkeypatch.setitem(RECIPES, "other", _recipe(fusion=part("fusion", fusion)))
    setup = Setup("tabletop", recipe="other")
    assert setup.reference == fusion
    Bench(tmp_path, setup, "cpu").rehearse(grid(setup, ["film"], [9], 1, contrasts=CONTRASTS))


def test_what_the_environment_cannot_be_told_is_not_tried(tmp_path: Path) -> None:
    setup = Setup("Bare-v0")
    (cell,) = grid(setup, ["film"], [9], 1, contrasts=())
    assert Bench(tmp_path, setup)._trials(cell) == {"seen": ("normal", {})}
