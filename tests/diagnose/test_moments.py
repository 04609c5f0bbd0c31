import numpy as np

from plait.diagnose.moments import moments


def test_moments_are_of_the_policys_own_episodes_and_the_same_each_time(black_wrist):
    found, again = moments(black_wrist, 15), moments(black_wrist, 15)
    assert len(found) == 15 and found.images["wrist"].shape == (15, 16, 16, 3)
    np.testing.assert_array_equal(found.state, again.state)
    assert found.instruction == again.instruction
    assert (abs(found.state) < 0.21).any() and (abs(found.state) > 0.5).any(), "first moments, and later ones"
    assert len(moments(black_wrist, 1000)) == 20, "two looks in an episode, each kept of ten episodes"
