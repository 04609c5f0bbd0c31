"""Worse as soon as asked, better only after a while and one step at a time, and never out of stopped by itself."""

import random

import pytest

from plait.safety.modes import Machine, Mode

N, D, H, S = Mode


def run(machine: Machine, asked: list[Mode]) -> list[Mode]:
    return [machine.tick(mode) for mode in asked]


def test_it_gets_worse_at_the_first_evidence_and_better_only_after_a_while():
    machine = Machine(recover_after=3)
    assert run(machine, [N, D, N, N, N, N]) == [N, D, D, D, N, N]
    assert run(machine, [D, N, N, D, N, N, N]) == [D, D, D, D, D, D, N], "evidence in between starts the count anew"


def test_out_of_hold_the_way_leads_through_degraded():
    assert run(Machine(recover_after=2), [H, N, N, N, N]) == [H, H, D, D, N]
    assert run(Machine(recover_after=2), [H, D, D, D, D, N, N]) == [H, H, D, D, D, D, N]


def test_thresholds_count_ticks_in_a_row():
    machine = Machine(degrade_after=2, hold_after=3)
    assert run(machine, [D, N, D, D]) == [N, N, N, D]
    assert run(machine, [H, H, D, H, H, H]) == [D, D, D, D, D, H]
    assert run(Machine(degrade_after=2, hold_after=3), [H, H, H]) == [N, D, H], (
        "evidence to hold is evidence to degrade"
    )


def test_too_long_in_hold_is_stopped_until_reset():
    machine = Machine(stop_after=3, recover_after=2)
    assert run(machine, [H, H, H, N, N, N, N]) == [H, H, S, S, S, S, S]
    machine.reset()
    assert (machine.mode, machine.tick(N)) == (N, N)
    assert run(Machine(stop_after=4, recover_after=2), [H, H, N, N, H, H]) == [H, H, H, D, H, H], "it counts in a row"
    assert Machine().tick(S) is S


def test_no_sequence_leads_out_of_stopped_or_to_better_by_more_than_a_step():
    rng = random.Random(0)
    for _ in range(300):
        machine = Machine(*(rng.randint(1, 4) for _ in range(4)))
        before, stopped = machine.mode, False
        for _ in range(60):
            after = machine.tick(rng.choice([N, N, N, D, H]))
            assert after.rank >= before.rank - 1
            assert after is S or not stopped
            before, stopped = after, after is S


def test_numbers_below_one_are_refused():
    with pytest.raises(ValueError, match="hold_after: 0 is too small; at least 1"):
        Machine(hold_after=0)
