"""``expert_env`` with a scene that goes wrong while others are shown; ``broken_scene_env:Broken-v0``.

``folder`` has a file ``fault`` while scene 1 is broken: "raise" raises there, "kill" ends the worker. It does so once
scene 4 was begun, which leaves a file of its number, so that scenes behind it are finished.
"""

import os
import time
from pathlib import Path

import gymnasium

from expert_env import Count


class Broken(Count):
    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)

    def reset(self, *, seed=None, options=None):
        number = (options or {})["number"]
        (self.folder / str(number)).touch()
        if number == 1 and (self.folder / "fault").exists():
            while not (self.folder / "4").exists():
                time.sleep(0.005)
            if (self.folder / "fault").read_text() == "kill":
                os._exit(7)
            raise ArithmeticError("the spring is loose")
        return super().reset(seed=seed, options=options)


gymnasium.register("Broken-v0", Broken)
