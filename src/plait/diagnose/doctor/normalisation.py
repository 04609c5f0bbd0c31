"""Do the stored statistics agree with the data, and does normalising lose nothing?"""

from collections.abc import Iterator

import numpy as np
import torch

from plait.data import layout, statistics
from plait.diagnose.doctor.case import Case
from plait.diagnose.doctor.finding import Finding, skipped
from plait.nn.normaliser import SMALLEST_STD, Normaliser

CLOSE = 0.02  # standard deviations
SHIFT, STRETCH = 0.5, 1.5  # of a policy's mean, in standard deviations; of its standard deviation, as a factor
KINDS = ("mean", "std", "min", "max")


def stored(case: Case) -> Iterator[Finding]:
    """The statistics in meta/stats.json are those of the data. (plait does not use them; lerobot and others do.)"""
    file = case.dataset.path / layout.STATS
    if not file.exists():
        yield Finding("warning", f"{layout.STATS} is missing; plait does without, lerobot normalises with it: write it")
        return
    written = layout.read_json(file)
    for key, names, values in _vectors(case):
        if key not in written:
            yield Finding("warning", f"{layout.STATS} says nothing of {key}; compute it from the data")
            continue
        true = statistics.of_vectors(values)
        for kind in KINDS:
            found = np.asarray(written[key].get(kind, np.nan), np.float64).reshape(-1)
            found = np.broadcast_to(found, true[kind].shape) if len(found) in (1, len(names)) else true[kind] * np.nan
            off = ~(np.abs(found - true[kind]) <= CLOSE * true["std"] + 1e-5 * (0.1 + np.abs(true[kind])))
            if off.any():
                i = int(np.flatnonzero(off)[0])
                more = f" (and {off.sum() - 1} more entries)" if off.sum() > 1 else ""
                said = f"{found[i]:.4g} in {layout.STATS}, {true[kind][i]:.4g} in the data"
                fix = "compute the statistics from the data again"
                yield Finding(
                    "error", f"{key}: {kind} of {names[i]} is {said}{more}; {fix}", {"entries": int(off.sum())}
                )


def round_trip(case: Case) -> Iterator[Finding]:
    """An action that is normalised and denormalised is the same action."""
    action = case.dataset.action[torch.from_numpy(case.finite)]
    policy = case.policy
    if policy is not None and len(policy.spec.actions) == action.shape[1]:
        normaliser, whose = policy.normalise_action, "the policy's"
    else:
        normaliser, whose = Normaliser(action.mean(0), action.std(0)), "the dataset's"
    error = (normaliser.denormalise(normaliser.normalise(action)) - action).abs().amax(0)
    reach = action.amax(0) - action.amin(0)
    lost = error > 1e-3 * reach + 1e-5 * action.abs().amax(0)
    for i in lost.nonzero().flatten().tolist():
        std, name = float(normaliser.std[i]), case.spec.actions[i]
        rule = f"with {whose} standard deviation {std:.3g}: below {SMALLEST_STD:g} an entry counts as constant"
        fix = "give it in a smaller unit" if whose == "the dataset's" else "train on data in which it varies"
        sentence = f"action: {name} loses {float(error[i]):.3g} by normalising and back, {rule}; {fix}"
        yield Finding("error", sentence, {"error": float(error[i]), "range": float(reach[i]), "std": std})


def normaliser(case: Case) -> Iterator[Finding]:
    """The policy normalises with the mean and the standard deviation that this dataset has."""
    if case.policy is None:
        yield skipped("no policy (--checkpoint) is given")
        return
    normalisers = {layout.STATE: case.policy.normalise_state, layout.ACTION: case.policy.normalise_action}
    for key, names, values in _vectors(case):
        mean, std = normalisers[key].mean.double().numpy(), normalisers[key].std.double().numpy()
        if len(mean) != len(names):
            yield skipped(f"{key}: the policy has {len(mean)} entries, the dataset {len(names)}")
            continue
        wide = np.maximum(values.std(0), SMALLEST_STD)
        shift, stretch = np.abs(mean - values.mean(0)) / wide, np.maximum(std, SMALLEST_STD) / wide
        for i in np.flatnonzero((shift > SHIFT) | (stretch > STRETCH) | (stretch < 1 / STRETCH)):
            said = f"mean {mean[i]:.4g} and standard deviation {std[i]:.4g}, the dataset {values[:, i].mean():.4g}"
            rule = f"more than {SHIFT:g} standard deviations or a factor of {STRETCH:g} apart"
            fix = "check unit and order of the entry, or train on this data"
            sentence = f"{key}: for {names[i]} the policy has {said} and {values[:, i].std():.4g}: {rule}; {fix}"
            yield Finding("error", sentence, {"shift": float(shift[i]), "stretch": float(stretch[i])})


def _vectors(case: Case) -> Iterator[tuple[str, tuple[str, ...], np.ndarray]]:
    """(key, names, values of the finite frames) of state and action."""
    if case.spec.state:
        yield layout.STATE, case.spec.state, case.state[case.finite]
    yield layout.ACTION, case.spec.actions, case.action[case.finite]
