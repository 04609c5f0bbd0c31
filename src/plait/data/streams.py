"""Streams of random numbers: one for each purpose, so that no two decisions of a training are drawn from the same ones.

Each is numpy's SeedSequence of (seed, purpose, step, 0), or of (seed, ORDER, epoch).
"""

import numpy as np

ORDER, AUGMENTATION, MODALITY_DROPOUT, MODEL = range(4)
"""The order of the frames in an epoch; in a step, the changes of the images, what is hidden from the policy, and
whatever the model itself draws (dropout, noise)."""


def stream_seed(seed: int, purpose: int, step: int) -> int:
    """For a generator of torch: a pure function of the arguments, in [0, 2**63)."""
    return int(np.random.SeedSequence((seed, purpose, step, 0)).generate_state(1, np.uint64)[0] >> 1)
