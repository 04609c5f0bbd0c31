"""``plait align``: vision and language encoders that learn from pictures and what is true of them in words."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from plait.cli.parse import Verb, folder, pairs, parse
from plait.cli.train import HABITS, swap_parts

if TYPE_CHECKING:
    from plait.alignment.aligner import AlignConfig
    from plait.alignment.pairs import Pairs
    from plait.train.config import TrainConfig

REPORT = "align.json"
RECIPE = "tabletop-pick"  # whose encoders are the default


@dataclass(frozen=True)
class Align(Verb):
    """Align vision and language encoders on pictures and texts; a policy can start from them (plait train --init)."""

    kept = "what is saved stays, and the same command continues"

    out: str
    env: str | None
    env_args: tuple[str, ...]
    scenes: int
    pairs: str | None
    dataset: str | None
    camera: str | None
    frames: int
    align: "AlignConfig"
    train: "TrainConfig"

    @classmethod
    def parse(cls, arguments: list[str], program: str) -> "Verb":
        """``[--vision NAME] [--language NAME]``, then their fields, as for ``plait train``."""
        from plait.alignment.aligner import AlignConfig
        from plait.recipes import RECIPES

        _refuse_those_of_policies(arguments)
        policy = RECIPES[RECIPE]().policy
        config: Any = AlignConfig(policy.image_size, policy.vision, policy.language)
        config, rest = swap_parts(config, arguments)
        return cls(**_options(config, rest, program))

    def run(self) -> None:
        from plait.files import json_text, write_whole
        from plait.train import aligned
        from plait.train.align import align, check, divided
        from plait.train.align_metrics import measure
        from plait.train.distributed import launched

        out = folder(self.out, "--out")
        check(self.train)
        learned_from, made_of = self._pairs()
        run = align(self.align, self.train, learned_from, out, made_of)
        if not launched().leads:
            return
        model = aligned.load(run)
        found = {"held_out": measure(model, divided(learned_from, self.train.val_fraction)[1])}
        if (unseen := self._unseen(found["held_out"]["pictures"])) is not None:
            found["unseen"] = measure(model, unseen)
        write_whole(run / REPORT, json_text(found | {"pairs": made_of}))
        print("\n".join(lines(found)))
        print(f"details: {run / REPORT}; plait train RECIPE --init {run} starts a policy from these encoders")

    def _pairs(self) -> tuple["Pairs", dict[str, Any]]:
        """The pairs, and what they are made of."""
        from plait.alignment.pairs import contents, read_pairs, scenes
        from plait.config import refuse_small

        if [self.env, self.pairs, self.dataset].count(None) != 2:
            raise ValueError("align: say one of --env tabletop, --pairs FOLDER and --dataset DATASET.")
        if self.camera is not None and self.dataset is None:
            how = "; say --env-args cameras=" + self.camera if self.env else ""
            raise ValueError(f"--camera {self.camera}: it is one of a --dataset{how}.")
        if self.dataset is not None:
            return self._demonstrations(self.dataset)
        if self.pairs is not None:
            return read_pairs(self.pairs, self.align.image_size), contents(self.pairs)
        refuse_small(scenes=(self.scenes, 20))
        env, env_args = str(self.env), pairs(self.env_args, "--env-args")
        made_of = {"env": env, "env_args": env_args, "scenes": self.scenes}
        return scenes(env, env_args, self.scenes, self.align.image_size), made_of

    def _demonstrations(self, folder: str) -> tuple["Pairs", dict[str, Any]]:
        """The same, of a dataset."""
        from plait.alignment.episodes import pick_camera, read_episodes
        from plait.data.lerobot import Dataset

        dataset = Dataset.open(folder)
        camera = pick_camera(dataset, self.camera)
        made_of = {"dataset": dataset.content(), "camera": camera, "frames": self.frames}
        return read_episodes(dataset, camera, self.frames, self.align.image_size), made_of

    def _unseen(self, count: int) -> "Pairs | None":
        """As many scenes, with combinations that were never seen; None where all of them may have been."""
        from plait.alignment.pairs import scenes

        env_args = pairs(self.env_args, "--env-args")
        if self.env is None or env_args.get("combinations", "seen") != "seen":
            return None
        return scenes(self.env, env_args | {"combinations": "unseen"}, count, self.align.image_size)


def lines(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """What was measured, for people."""
    names = {"held_out": "held-out pictures", "unseen": "a pair of colour and shape never seen together"}
    for key, numbers in found.items():
        size = f"{numbers['pictures']}, {numbers['texts']} texts; R@1 of guessing {numbers['chance_r1']:.1%}"
        yield f"{names[key]} ({size})"
        for way, told in (("vision_to_text", "picture to text"), ("text_to_vision", "text to picture")):
            shares = ", ".join(f"R@{k} {numbers[f'{way}_r{k}']:.1%}" for k in (1, 5, 10))
            yield f"  {told}  {shares}, median rank {numbers[f'{way}_median_rank']:g}"
        if "pc_placed" in numbers:
            low, high = numbers["pc_placed_ci95"]
            yield f"  place of one object among four {numbers['pc_placed']:.1f}% [{low:.1f}, {high:.1f}], guessing 25%"


def _refuse_those_of_policies(arguments: list[str]) -> None:
    """All of them by the same sentence: some need another one of them, which would be refused next."""
    from plait.train.align import POLICIES_ALONE

    for argument in arguments:
        option = argument.partition("=")[0].replace("-", "_")
        names = (f"__train.{name}" for name in POLICIES_ALONE)
        if any(option == name or option.startswith(f"{name}.") for name in (*names, "__train.no_shard")):
            raise ValueError(f"{argument}: it is meant for policies, in plait train; leave it out.")


def _options(config: Any, arguments: list[str], program: str) -> dict[str, Any]:
    """Everything that tyro reads, by the names of the fields of ``Align``."""
    from plait.alignment.aligner import AlignConfig
    from plait.config import members
    from plait.encoders.language import Language
    from plait.encoders.vision import Vision
    from plait.train.align import TRAIN
    from plait.train.config import TrainConfig
    from plait.train.modulation import Modulation

    @dataclass(frozen=True)
    class Shown(TrainConfig):
        """TrainConfig, whose help leaves out what is meant for policies."""

        modulation: tyro.conf.Suppress[Modulation] = TRAIN.modulation
        imbalance_every: tyro.conf.Suppress[int] = TRAIN.imbalance_every
        modality_dropout: tyro.conf.Suppress[float] = TRAIN.modality_dropout
        shard: tyro.conf.Suppress[bool] = TRAIN.shard

    usual = Shown(**vars(TRAIN))

    @dataclass(frozen=True)
    class Options:
        out: str
        """Folder of the run; one that was interrupted is continued."""
        env: str | None = None
        """tabletop: its scenes, with captions made from the simulator's state (English)."""
        env_args: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
        """Arguments of the environment, such as vocabulary=large cameras=wrist."""
        scenes: int = 4_000
        """How many of them, those that are held out included."""
        pairs: str | None = None
        """Instead of --env: a folder with pictures and captions.csv, whose first line is file,text."""
        dataset: str | None = None
        """Instead of --env: folder of a LeRobotDataset v3; what an episode shows is told by its instruction."""
        camera: str | None = None
        """One of the dataset's; its first one when left out."""
        frames: int = 8
        """Of each episode of the dataset, evenly spaced from the first to the last; 1: the first alone."""
        align: Annotated[AlignConfig, tyro.conf.arg(name="")] = field(default=config, metadata={"flat": True})
        train: Shown = usual

    parts = (("vision", Vision), ("language", Language))
    swaps = ", ".join(f"--{slot} {'|'.join(members(union, slot))}" for slot, union in parts)
    what = f"{Align.__doc__}\n\nEncoders are swapped by one word: {swaps}."
    habits = {name: here for name, here in HABITS.items() if not here.startswith("--init")}  # which is not here
    options = parse(Options, arguments, program, what, habits)
    return vars(options) | {"train": TrainConfig(**vars(options.train))}
