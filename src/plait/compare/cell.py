"""One cell of a comparison: one fusion, one number of demonstrations, one seed; and which cells there are."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from plait.config import members, part_name, unknown
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
        learning_rates: of some fusions; the others have the recipe's.
        episodes: of each evaluation.
    """

    env: str
    env_args: dict[str, Any] = field(default_factory=dict)
    recipe: str = "tabletop-pick"
    steps: int | None = None
    batch_size: int | None = None
    learning_rates: dict[str, float] = field(default_factory=dict)
    episodes: int = 100

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise unknown("recipe", self.recipe, RECIPES)
        for name in self.learning_rates:
            refuse_unknown(name)

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
    """

    fusion: str
    demonstrations: int
    seed: int
    mispaired: int = 0
    contrast: Contrast = ""

    @property
    def name(self) -> str:
        parts = [self.fusion, str(self.demonstrations), f"seed{self.seed}"]
        parts += [f"mispaired{self.mispaired}"] if self.mispaired else []
        return "-".join([*parts, self.contrast] if self.contrast else parts)

    def __str__(self) -> str:
        parts = [self.fusion, f"{self.demonstrations} demonstrations", f"seed {self.seed}"]
        parts += [f"{self.mispaired} % mispaired"] if self.mispaired else []
        return ", ".join([*parts, self.contrast.replace("_", " ")] if self.contrast else parts)

    def settings(self, setup: Setup) -> dict[str, Any]:
        """Everything that its numbers depend on."""
        common = asdict(setup)
        del common["learning_rates"]
        return {**common, **asdict(self), "learning_rate": setup.learning_rate(self.fusion)}


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


def refuse_unknown(fusion: str) -> None:
    if fusion not in members(Fusion):
        raise unknown("fusion", fusion, members(Fusion))
