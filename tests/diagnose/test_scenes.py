import numpy as np
import torch

from plait.diagnose.scenes import views
from plait.diagnose.subject import Subject
from policies import small_policy

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
