"""One cell of a comparison: one fusion, one number of demonstrations, one seed; and which cells there are."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf
from typing import Any, Literal

from plait.config import members, part_name, refuse_small, to_dict, unknown
from plait.fusion import Fusion
from plait.recipes import RECIPES

Contrast = Literal["", "vision_only", "words_only"]
CONTRASTS: tuple[Contrast, ...] = ("vision_only", "words_only")


@dataclass(frozen=True)
class Setup:
    """What all cells have in common.

    Attributes:
        env, env_args: where is recorded and evaluated.
        recipe: of the policy and its training; its own fusion is the reference for the size.
        steps, batch_size: of the training; the recipe's when None.
        keyframe: False leaves the recipe's auxiliary keyframe head out.
        learning_rates: of some fusions; the others have the recipe's.
        rates: each other fusion has one of these instead, whichever leaves the least held-out action loss.
        episodes: of each evaluation.
    """

    env: str
    env_args: dict[str, Any] = field(default_factory=dict)
    recipe: str = "tabletop-pick"
    steps: int | None = None
    batch_size: int | None = None
    keyframe: bool = True
    learning_rates: dict[str, float] = field(default_factory=dict)
    rates: tuple[float, ...] = ()
    episodes: int = 100

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise unknown("recipe", self.recipe, RECIPES)
        for name in self.learning_rates:
            refuse_unknown(name)
        for rate in (*self.learning_rates.values(), *self.rates):
            if not isinstance(rate, int | float) or not 0 < rate < inf:
                raise ValueError(f"learning rate {rate!r}: give a number above 0, such as 3e-3")
        refuse_small(steps=(self.steps, 1), batch_size=(self.batch_size, 1), episodes=(self.episodes, 1))

    @property
    def reference(self) -> str:
        """The recipe's own fusion."""
        return part_name(type(RECIPES[self.recipe]().policy.fusion))

    def learning_rate(self, fusion: str) -> float:
        return self.learning_rates.get(fusion, RECIPES[self.recipe]().train.learning_rate)


@dataclass(frozen=True)
class Cell:
    """One training and its evaluations.

    Attributes:
        seed: of the training; the demonstrations and the scenes of the evaluation are the same for all.
        mispaired: percent of the episodes that have another episode's instruction.
        contrast: what is missing, in training and in evaluation.
        rate: learning rate that is tried, in a search for the best; the setup's when None.
    """

    fusion: str
    demonstrations: int
    seed: int
    mispaired: int = 0
    contrast: Contrast = ""
    rate: float | None = None

    @property
    def name(self) -> str:
        parts = [self.fusion, str(self.demonstrations), f"seed{self.seed}"]
        parts += [f"mispaired{self.mispaired}"] if self.mispaired else []
        parts += [self.contrast] if self.contrast else []
        return "-".join(parts if self.rate is None else [*parts, f"rate{self.rate:g}"])

    def __str__(self) -> str:
        parts = [self.fusion, f"{self.demonstrations} demonstrations", f"seed {self.seed}"]
        parts += [f"{self.mispaired} % mispaired"] if self.mispaired else []
        parts += [self.contrast.replace("_", " ")] if self.contrast else []
        return ", ".join(parts if self.rate is None else [*parts, f"learning rate {self.rate:g}"])

    def at_rate(self, setup: Setup) -> "Cell":
        """The same with its learning rate said."""
        return self if self.rate is not None else replace(self, rate=setup.learning_rate(self.fusion))

    def settings(self, setup: Setup) -> dict[str, Any]:
        """Everything that its numbers depend on; the width follows from the rest."""
        common = asdict(setup)
        del common["learning_rates"], common["rates"]
        recipe = RECIPES[setup.recipe]()
        part = recipe.policy.fusion if self.fusion == setup.reference else members(Fusion)[self.fusion]()
        made_with = to_dict(replace(recipe, policy=replace(recipe.policy, fusion=part)))
        made_with["policy"]["fusion"].pop("width", None)
        return {**common, **asdict(self.at_rate(setup)), "made_with": made_with}


def grid(
    setup: Setup,
    fusions: Sequence[str],
    demonstrations: Sequence[int],
    seeds: int,
    mispaired: Sequence[int] = (),
    contrasts: Sequence[Contrast] = CONTRASTS,
) -> list[Cell]:
    """All cells; those of the first seed come first, so that an unfinished comparison says something.

    Mispaired instructions and contrasts (with the recipe's own fusion) are tried with the most demonstrations.

    Raises:
        ValueError: an unknown fusion or contrast, or a number out of range.
    """
    for name in fusions:
        refuse_unknown(name)
    for name in contrasts:
        if name not in CONTRASTS:
            raise unknown("contrast", name, CONTRASTS)
    if seeds < 1 or not fusions or not demonstrations or min(demonstrations) < 1:
        raise ValueError(f"seeds {seeds}, demos {list(demonstrations)}, fusion {list(fusions)}: at least 1 of each")
    if any(not 0 <= share <= 100 for share in mispaired):
        raise ValueError(f"mispaired: {list(mispaired)}; shares are percent, 0 to 100")
    most, shares = max(demonstrations), sorted({*mispaired} - {0})
    cells = []
    for seed in range(seeds):
        cells += [Cell(name, count, seed) for count in demonstrations for name in fusions]
        cells += [Cell(name, most, seed, share) for share in shares for name in fusions]
        cells += [Cell(setup.reference, most, seed, 0, contrast) for contrast in contrasts]
    return list(dict.fromkeys(cells))


def search(setup: Setup, cells: Sequence[Cell], known: Sequence[Cell]) -> list[Cell]:
    """The trainings from which the learning rates are chosen: the first seed with the most demonstrations.

    Args:
        cells: of this call.
        known: of earlier calls, their searches too, which are part of this one.
    """
    most = max(cell.demonstrations for cell in cells)
    before = [cell for cell in known if cell.rate is not None]
    with_most = {cell.fusion: most for cell in cells if cell.fusion not in setup.learning_rates}
    with_most |= {cell.fusion: cell.demonstrations for cell in before if cell.fusion in with_most}
    tries = [Cell(name, count, 0, rate=rate) for rate in setup.rates for name, count in with_most.items()]
    return list(dict.fromkeys([*before, *tries]))


def refuse_unknown(fusion: str) -> None:
    if fusion not in (known := members(Fusion, "fusion")):
        raise unknown("fusion", fusion, known)
