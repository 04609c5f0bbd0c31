"""``plait train``: a recipe, any field of which can be overridden, and any part of which is swapped by one word."""

import shlex
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import tyro

from plait.cli.parse import Verb, first_line, folder, parse
from plait.config import members, unknown

if TYPE_CHECKING:
    from plait.policy import PolicyConfig
    from plait.recipes import Recipe

HABITS = {  # what options of other tools are called here
    "lr": "--train.learning-rate",
    "bs": "--train.batch-size",
    "wd": "--train.weight-decay",
    **dict.fromkeys(("epochs", "num-epochs"), "--train.steps, the number of updates"),
    "resume": "the same command again: it goes on from what lies in --out",
    "output-dir": "--out",
    **dict.fromkeys(("pretrained", "checkpoint", "finetune"), "--init, a checkpoint to start from"),
    **dict.fromkeys(("gpu", "gpus", "cuda"), "--train.device, or torchrun for several"),
    **dict.fromkeys(("amp", "fp16", "bf16"), "--train.precision"),
}


@dataclass(frozen=True)
class Train(Verb):
    """Train a policy on a dataset; the same command on the same folder continues."""

    recipe: "Recipe"
    dataset: str
    out: str
    init: str | None

    @classmethod
    def parse(cls, arguments: list[str], program: str) -> "Verb":
        """``RECIPE [--PART NAME ...] [--FIELD VALUE ...]``: the recipe first, then its parts, then their fields."""
        from plait.recipes import RECIPES

        name, rest = _pick_recipe(arguments, list(RECIPES))
        recipe = RECIPES[name]()
        policy, rest = swap_parts(recipe.policy, rest)
        named = arguments[0] == name
        what = "" if named else _all_recipes(RECIPES)
        options = _options(replace(recipe, policy=policy), rest, f"{program} {name if named else 'RECIPE'}", what)
        recipe = replace(recipe, policy=options.policy, train=options.train)
        return cls(recipe, options.dataset, options.out, options.init)

    def run(self) -> None:
        from plait import checkpoint
        from plait.train.distributed import launched
        from plait.train.policy import train
        from plait.train.run import saved

        out = folder(self.out, "--out")
        try:
            run = train(self.recipe.policy, self.recipe.train, self.dataset, out, self.init)
        except KeyboardInterrupt as interruption:
            message = f"interrupted; {saved(out)} and the same command goes on from there"
            raise KeyboardInterrupt(str(interruption) or message) from None
        if not launched().leads:
            return
        how = ["plait", "eval", str(run)]
        if "env" not in checkpoint.provenance(run)["dataset"]["recorded"]:  # in no environment that plait knows
            how += ["--dataset", self.dataset]
        done = f"{self.recipe.train.steps} steps{_typical_speed(run)}"
        print(f"{run} is finished ({done}); {shlex.join(how)} tells how good it is")


def _typical_speed(run: Path) -> str:
    """What the log says about it; nothing where it says nothing."""
    from plait.train.progress import speed
    from plait.train.tracker import usual_speed

    medians = usual_speed(run)
    return f", {speed(medians)}" if medians else ""


def _pick_recipe(arguments: list[str], names: list[str]) -> tuple[str, list[str]]:
    """The recipe's name and the other words; help without a recipe is shown for the first one."""
    if arguments and not arguments[0].startswith("-"):
        if arguments[0] not in names:
            raise unknown("recipe", arguments[0], names)
        return arguments[0], arguments[1:]
    if "--help" in arguments or "-h" in arguments:
        return names[0], arguments
    raise ValueError(f"no recipe is named; say plait train RECIPE --dataset DATASET --out RUN, with one of {names}.")


def _all_recipes(recipes: dict[str, Any]) -> str:
    """What the help tells when no recipe is named."""
    lines = "\n".join(f"- {name}: {first_line(recipe)}" for name, recipe in recipes.items())
    whose = f"The defaults below are those of {next(iter(recipes))}; plait train RECIPE --help shows those of another."
    return f"\n\nRECIPE is one of these:\n{lines}\n\n{whose}"


def swap_parts(config: "PolicyConfig", arguments: list[str]) -> tuple["PolicyConfig", list[str]]:
    """Take ``--PART NAME`` out of ``arguments`` and put that part, with its defaults, into ``config``.

    A part that is named but already there keeps the recipe's values.

    Raises:
        ValueError: no part of this name, or none is named.
    """
    rest, choices = [], _choices(type(config))
    words = iter(word for argument in arguments for word in _split(argument, choices))
    for word in words:
        slot = word.removeprefix("--")
        if not word.startswith("--") or slot not in choices:
            rest.append(word)
            continue
        name = next(words, "").replace("-", "_")
        if not name:
            raise ValueError(f"{word}: its value is missing; choose one of {', '.join(choices[slot])}")
        if name not in choices[slot]:
            raise unknown(f"part for {word}", name, choices[slot])
        current, part = getattr(config, slot), choices[slot][name]
        if not isinstance(current, part):
            config = replace(config, **{slot: None if part is type(None) else part()})
    return config, rest


def _split(argument: str, choices: dict[str, Any]) -> list[str]:
    """``--fusion=film`` as two words, anything else as it is."""
    name, equals, value = argument.partition("=")
    return [name, value] if equals and name.startswith("--") and name[2:] in choices else [argument]


def _choices(config: type) -> dict[str, dict[str, type]]:
    """Slot -> name -> class, for every field of a config whose parts can be swapped; ``none`` where it may be empty."""
    slots = {}
    for slot, hint in get_type_hints(config).items():
        kinds = get_args(hint) or (hint,)
        if any(map(is_dataclass, kinds)):
            slots[slot] = members(hint, slot) | ({"none": type(None)} if type(None) in kinds else {})
    return slots


def _options(recipe: "Recipe", arguments: list[str], program: str, what: str) -> Any:
    """Everything that tyro reads, as one dataclass around the recipe's own configs. ``what``: further help."""
    from plait.policy import PolicyConfig
    from plait.train.config import TrainConfig

    @dataclass(frozen=True)
    class Options:
        dataset: str
        """Folder of a LeRobotDataset v3, such as plait record writes."""
        out: str
        """Folder of the run; one that was interrupted is continued."""
        init: str | None = None
        """Checkpoint to start from, of a policy or of plait align; what does not fit is named and starts anew."""
        policy: Annotated[PolicyConfig, tyro.conf.arg(name="")] = field(default=recipe.policy, metadata={"flat": True})
        train: TrainConfig = recipe.train

    slots = [f"--{slot} {'|'.join(names)}" for slot, names in _choices(PolicyConfig).items() if len(names) > 1]
    swaps = f"Parts are swapped by one word: {', '.join(slots)}."
    return parse(Options, arguments, program, f"{Train.__doc__}\n\n{swaps}{what}", HABITS)
