"""The embodiment."""

from dataclasses import replace

import numpy as np

from plait.spec import Spec


def test_actions_are_clipped_to_what_is_known_of_their_limits():
    spec = Spec({}, (), ("x", "y"), action_low=(-1.0, -0.5), action_high=(1.0, 0.5))
    assert spec.clipped(np.array([[5000.0, -0.7], [0.25, 0.5]])).tolist() == [[1.0, -0.5], [0.25, 0.5]]
    assert replace(spec, action_high=None).clipped(np.array([9.0, -9.0])).tolist() == [9.0, -0.5]
    assert replace(spec, action_low=None, action_high=None).clipped(np.array([9.0, -9.0])).tolist() == [9.0, -9.0]
