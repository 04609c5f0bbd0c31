"""Fine-tuning: start a policy from the weights of another one, whatever cameras, state and actions that one had, or
from encoders that ``plait align`` has trained.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from plait import checkpoint
from plait.alignment.aligner import Aligner
from plait.config import to_dict
from plait.policy import Policy
from plait.train import aligned

# statistics belong to the dataset, not to the weights
DATA = ("normalise_state.", "normalise_action.", "keyframe.normalise.")
LOADED = ("weights", "frozen")  # what an encoder's settings say of its start and its training, not of its shape
LISTED = 8  # at most, of what is named in a line


def start_from(policy: Policy, path: Path | str) -> str:
    """``initialise``, or ``initialise_encoders``, from whatever the checkpoint or the run holds."""
    if aligned.is_aligned(path):
        return initialise_encoders(policy, aligned.load(path))
    return initialise(policy, checkpoint.load(path))


@torch.no_grad()
def initialise(policy: Policy, source: Policy) -> str:
    """Copy every tensor that has the same name and shape; word vectors go by their word.

    Returns:
        A few lines that name what ``policy`` keeps as built, and what of ``source`` finds no place.

    Raises:
        ValueError: nothing fits.
    """
    mine, theirs = _weights(policy), _weights(source)
    tables = {f"encoder.language.{name}" for name in _word_tables(policy) & _word_tables(source)}
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


@torch.no_grad()
def initialise_encoders(policy: Policy, source: Aligner) -> str:
    """Every camera starts from the aligned vision encoder, the instruction's encoder from the aligned language encoder.

    Word vectors go by their word, vectors of the places in a sentence by their place.

    Returns:
        What was taken, and the words of the policy that no aligned text had.

    Raises:
        ValueError: the policy has other encoders, or resizes its pictures to another size.
    """
    _refuse_other_encoders(policy, source)
    for encoder in policy.encoder.cameras.values():
        encoder.load_state_dict(source.vision_encoder.encoder.state_dict())
    mine, theirs = policy.encoder.language.state_dict(), source.text_encoder.encoder.state_dict()
    vocabulary, known = policy.tokenizer.vocabulary, source.tokenizer.vocabulary
    for name in mine:
        if name in _word_tables(policy):
            _copy_words(mine[name], vocabulary, theirs[name], known)
        elif mine[name].shape == theirs[name].shape:
            mine[name].copy_(theirs[name])
        else:  # places: the longest sentences of the two differ in length
            both = min(len(mine[name]), len(theirs[name]))
            mine[name][:both] = theirs[name][:both]
    cameras, new = ", ".join(policy.encoder.cameras), sorted(vocabulary.keys() - known.keys())
    told = f"init: the encoders of cameras ({cameras}) and words start from the aligned ones; all else starts anew"
    return "\n".join([told, *([f"init: words that were not aligned: {_few(new)}"] if new else [])])


def _refuse_other_encoders(policy: Policy, source: Aligner) -> None:
    """Raise the ValueError that names the first setting that differs, and the option that makes it the same."""
    mine, theirs = to_dict(policy.config), to_dict(source.config)
    settings = [("image_size", mine["image_size"], theirs["image_size"])]
    for part in ("vision", "language"):
        settings += [(part, mine[part]["type"], theirs[part]["type"])]
        settings += [(f"{part}.{name}", mine[part].get(name), theirs[part][name]) for name in theirs[part]]
    for name, here, there in settings:
        if here != there and not name.endswith(LOADED):
            option = f"--{name.replace('_', '-')} {there}"
            raise ValueError(f"init: {name} is {here!r} here and {there!r} in the aligned encoders; say {option}.")


def _weights(policy: Policy) -> dict[str, Tensor]:
    return {name: value for name, value in policy.state_dict().items() if not name.startswith(DATA)}


def _word_tables(policy: Policy) -> set[str]:
    """Of the language encoder the embeddings with a row for each word; a text model also has some for places."""
    embeddings = {f"{n}.weight": m for n, m in policy.encoder.language.named_modules() if isinstance(m, nn.Embedding)}
    return {name for name, each in embeddings.items() if each.num_embeddings == len(policy.tokenizer.vocabulary)}


def _copy_words(mine: Tensor, vocabulary: dict[str, int], theirs: Tensor, source: dict[str, int]) -> None:
    known = [word for word in vocabulary if word in source]
    mine[[vocabulary[word] for word in known]] = theirs[[source[word] for word in known]]


def _listed(what: str, names: Iterable[str]) -> list[str]:
    """One line: the modules that ``names`` lie in, with the number of tensors each."""
    modules = Counter(".".join(name.split(".")[:3]) for name in sorted(names))
    rows = [f"{module} ({count})" for module, count in modules.items()]
    return [f"init: {what}: {_few(rows)}"] if rows else []


def _few(names: list[str]) -> str:
    more = [f"and {len(names) - LISTED} more"] if len(names) > LISTED else []
    return ", ".join(names[:LISTED] + more)
