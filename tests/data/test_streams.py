from plait.data.streams import AUGMENTATION, MODALITY_DROPOUT, MODEL, stream_seed


def test_every_purpose_and_step_has_a_seed_of_its_own():
    purposes = (AUGMENTATION, MODALITY_DROPOUT, MODEL)
    seeds = {stream_seed(seed, purpose, step) for seed in range(3) for purpose in purposes for step in range(500)}
    assert len(seeds) == 3 * 3 * 500 and min(seeds) >= 0 and max(seeds) < 2**63
    assert stream_seed(1, MODEL, 7) == stream_seed(1, MODEL, 7)


def test_the_seeds_stay_what_they_were():
    assert stream_seed(1, MODEL, 7) == 6740733380162919617
