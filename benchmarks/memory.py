"""A task that needs a memory: what is reached without one, and with each.

    python benchmarks/memory.py --out runs/memory --hardware H100 --jobs 4

A lamp shows a colour, goes dark, and "the ball of the colour that was shown" is to be picked up; two balls lie there
(tabletop, family ``recall``). All policies get the same demonstrations, updates and samples per update (a frame without
a memory, a window of frames with one); what differs is what they remember.
"""

from dataclasses import replace
from typing import Any

import tyro
from variants import Options, Study, Trial, Variant, run

from plait.heads import FlowConfig
from plait.memory import MemoryAttentionConfig, RecurrentConfig
from plait.recipes import RECIPES, Recipe

EXECUTE = 4  # control steps between two looks
MOMENTS = 8  # now and the 7 looks before it: 28 control steps, from the flash to where the hand is at its target
MEMORIES: dict[str, dict[str, Any]] = {  # what differs from the base
    "none": {},
    "none, flow head": {"head": FlowConfig(drawn=True)},  # draws one of several ways, where the base averages them
    "LSTM": {"memory": RecurrentConfig(steps=MOMENTS)},
    "GRU": {"memory": RecurrentConfig(steps=MOMENTS, cell="gru")},
    "attention": {"memory": MemoryAttentionConfig(steps=MOMENTS)},
}
BASE = RECIPES["tabletop-pick"]()
DEMONSTRATIONS = 4000
RECALL = {"family": "recall"}
TRAIN = replace(BASE.train, steps=8000, batch_size=256, learning_rate=2e-3, warmup_steps=200)


def other_colour(row: dict[str, Any]) -> bool:
    """The object that was lifted first has the named shape and the colour that was not shown."""
    first = row["lifted"].split(",")[0]
    return first != row["target"] and first.split()[-1:] == row["target"].split()[-1:]


STUDY = Study(
    "memory",
    "Memory",
    f"Recall, 64 pixels, {DEMONSTRATIONS:,} demonstrations, {TRAIN.steps:,} updates of {TRAIN.batch_size} samples; "
    f"with a memory a sample is a window of {MOMENTS} frames.",
    {
        name: Variant(Recipe(replace(BASE.policy, execute=EXECUTE, **changes), TRAIN), DEMONSTRATIONS, RECALL)
        for name, changes in MEMORIES.items()
    },
    {"success": Trial(), "lifted the other colour first": Trial(hit=other_colour)},
    "Chance is 50 %: two objects have the named shape, and nothing in the dark tells which is meant.",
)

if __name__ == "__main__":
    run(STUDY, tyro.cli(Options))
