import numpy as np
import torch

from plait.diagnose.scenes import differing, views
from plait.diagnose.subject import Subject
from policies import small_policy
from reach_env import Reach

ENV = {"family": "pick", "size": 32}


def test_the_named_object_has_the_named_colour() -> None:
    seen = views(Subject(small_policy(), "tabletop", ENV, seed=3), 12)
    assert len(seen.observation) == len(seen.facts) == 12
    assert seen.truth is not None
    for row, facts in enumerate(seen.facts):
        assert facts["target"].split()[0] in seen.observation.instruction[row]
        mask = seen.truth.named["front"][row].numpy()
        red, green, blue = seen.observation.images["front"][row][mask].astype(float).mean(axis=0)
        means = {"red": red - max(green, blue), "green": green - max(red, blue), "blue": blue - max(red, green)}
        means["yellow"] = min(red, green) - blue - abs(red - green)
        assert max(means, key=means.get) == facts["target"].split()[0]
    assert not (seen.truth.named["front"] & seen.truth.others["front"]).any()


def test_what_differs_between_scenes() -> None:
    seen = views(Subject(small_policy(), "tabletop", ENV), 4).observation
    assert differing(seen) == {"images.front", "images.wrist", "instruction", "state"}
    seen.images["front"][:], seen.state[:], seen.instruction[:] = 0, 0, ["go"] * 4
    assert differing(seen) == {"images.wrist"}


def test_scenes_depend_on_the_seed_alone() -> None:
    policy = small_policy()
    few, many = (views(Subject(policy, "tabletop", ENV, seed=1), n) for n in (2, 4))
    assert np.array_equal(few.observation.images["wrist"], many.observation.images["wrist"][:2])
    assert torch.equal(few.truth.named["wrist"], many.truth.named["wrist"][:2])
    other = views(Subject(policy, "tabletop", ENV, seed=2), 2)
    assert not np.array_equal(few.observation.images["front"], other.observation.images["front"])


def test_an_environment_without_masks_has_no_truth() -> None:
    seen = views(Subject(small_policy(), "reach_env:Reach-v0", {}), 2)
    assert seen.truth is None
    assert len(seen.observation) == 2


def test_masks_without_a_word_on_what_is_named_are_no_truth(monkeypatch) -> None:
    monkeypatch.setattr(Reach, "masks", lambda self: {"top": {"point": np.ones((16, 16), bool)}}, raising=False)
    assert views(Subject(small_policy(), "reach_env:Reach-v0", {}), 2).truth is None
