"""Fine-tuning: start a policy from the weights of another one, whatever cameras, state and actions that one had."""

from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from plait.policy import Policy

# statistics belong to the dataset, not to the weights
DATA = ("normalise_state.", "normalise_action.", "keyframe.normalise.")


@torch.no_grad()
def initialise(policy: Policy, source: Policy) -> str:
    """Copy every tensor that has the same name and shape; word vectors go by their word.

    Returns:
        A few lines that name what ``policy`` keeps as built, and what of ``source`` finds no place.

    Raises:
        ValueError: nothing fits.
    """
    mine, theirs = _weights(policy), _weights(source)
    tables = _word_tables(policy) & _word_tables(source)
    words = {name for name in tables if mine[name].shape[1] == theirs[name].shape[1]}
    fits = {name for name in mine if name in theirs and mine[name].shape == theirs[name].shape} | words
    if not fits:
        raise ValueError("init: no tensor of the checkpoint fits this policy; choose the parts it was made with.")
    for name in fits - words:
        mine[name].copy_(theirs[name])
    for name in words:
        _copy_words(mine[name], policy.tokenizer.vocabulary, theirs[name], source.tokenizer.vocabulary)
    return "\n".join(
        [
            f"init: {len(fits)} of {len(mine)} tensors are taken from the checkpoint",
            *_listed("starts anew", mine.keys() - fits),
            *_listed("not used from the checkpoint", theirs.keys() - fits),
        ]
    )


def _weights(policy: Policy) -> dict[str, Tensor]:
    return {name: value for name, value in policy.state_dict().items() if not name.startswith(DATA)}


def _word_tables(policy: Policy) -> set[str]:
    """The embeddings with a row for each word; a text model also has some for places and the like."""
    modules = policy.encoder.language.named_modules(prefix="encoder.language")
    embeddings = {f"{name}.weight": module for name, module in modules if isinstance(module, nn.Embedding)}
    return {name for name, each in embeddings.items() if each.num_embeddings == len(policy.tokenizer.vocabulary)}


def _copy_words(mine: Tensor, vocabulary: dict[str, int], theirs: Tensor, source: dict[str, int]) -> None:
    known = [word for word in vocabulary if word in source]
    mine[[vocabulary[word] for word in known]] = theirs[[source[word] for word in known]]


def _listed(what: str, names: Iterable[str], longest: int = 8) -> list[str]:
    """One line: the modules that ``names`` lie in, with the number of tensors each."""
    modules = Counter(".".join(name.split(".")[:3]) for name in sorted(names))
    rows = [f"{module} ({count})" for module, count in modules.items()]
    more = [f"and {len(rows) - longest} more"] if len(rows) > longest else []
    return [f"init: {what}: {', '.join(rows[:longest] + more)}"] if rows else []
