"""A policy on disk: one folder with config.json, model.safetensors and tokenizer.json. Nothing is ever unpickled."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from plait.config import from_dict, to_dict
from plait.encoders.tokenizer import Tokenizer
from plait.files import flush
from plait.policy import Policy, PolicyConfig
from plait.spec import Spec

FORMAT_VERSION = 1
CONFIG, MODEL, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
WITHOUT: dict[str, dict[str, Any]] = {  # settings that came later, as they were before: off
    "bottleneck": {"stages": [], "where": False},
    "cross_attention": {"stages": []},
    "experts": {"stages": []},
    "unified": {"stages": []},
}
CHECKPOINTS = "checkpoints"  # where a run folder keeps its checkpoints, by step
M = TypeVar("M", bound=nn.Module)


def save(
    policy: Policy,
    folder: Path | str,
    provenance: dict[str, Any] | None = None,
    extra: Callable[[Path], None] | None = None,
) -> Path:
    """Write a checkpoint. It appears under its name only when it is complete and on the disk itself.

    Args:
        policy: what to save; its parameters and buffers are written as they are.
        folder: where; an existing checkpoint there is replaced.
        provenance: anything JSON can hold that tells how the policy came to be.
        extra: writes further files into the same folder before it appears.
    """
    described = {"policy": to_dict(policy.config), "spec": to_dict(policy.spec), "provenance": provenance or {}}
    return write(policy, policy.tokenizer, described, Path(folder), extra)


def load(path: Path | str) -> Policy:
    """The policy of a checkpoint folder, or of a run folder's newest checkpoint, in evaluation mode on the CPU.

    Raises:
        ValueError: there is no checkpoint, it is newer than this version of plait, or its files do not fit together.
    """
    folder = find(path)
    description = describe(folder)
    if "alignment" in description:
        raise ValueError(f"checkpoint {folder}: aligned encoders, no policy; plait train --init {path} starts one")
    if missing := {"policy", "spec"} - description.keys():
        raise ValueError(f"checkpoint {folder}: {CONFIG} says nothing of {sorted(missing)}; copy the folder again")
    config = from_dict(PolicyConfig, _completed(description["policy"]), "policy")
    spec = from_dict(Spec, description["spec"], "spec")
    return read(folder, lambda tokenizer: config.build(spec, tokenizer, pretrained=False))


def _completed(policy: Any) -> Any:
    """What was written before a fusion had one of these settings says nothing of it: it goes without."""
    fusion = policy.get("fusion") if isinstance(policy, dict) else None
    if isinstance(fusion, dict) and fusion.get("type") in WITHOUT:
        return policy | {"fusion": WITHOUT[fusion["type"]] | fusion}
    return policy


def write(
    model: nn.Module,
    tokenizer: Tokenizer,
    described: dict[str, Any],
    folder: Path,
    extra: Callable[[Path], None] | None = None,
) -> Path:
    """A model's weights and words, and what describes it: what every kind of checkpoint consists of."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(state, temporary / MODEL)
        tokenizer.save(temporary / TOKENIZER)
        told = {"format_version": FORMAT_VERSION, **described}
        (temporary / CONFIG).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if extra:
            extra(temporary)
        flush(temporary)  # before an older one goes
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def read(folder: Path, build: Callable[[Tokenizer], M]) -> M:
    """The model that ``build`` makes for the saved words, with the saved weights, in evaluation mode.

    Raises:
        ValueError: a file is missing or damaged, or the weights do not fit the model.
    """
    try:
        tokenizer = Tokenizer.load(folder / TOKENIZER)
        state = load_file(folder / MODEL)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"checkpoint {folder}: a file is missing or damaged ({error}); copy the folder again"
        ) from error
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise ValueError(f"checkpoint {folder}: {TOKENIZER} is missing or damaged ({error})") from error
    model = build(tokenizer)
    _check_fit(model, state, folder)
    model.load_state_dict(state)
    return model.eval()


def find(path: Path | str) -> Path:
    """The checkpoint folder that ``path`` names: itself, or the newest one of a run folder."""
    path = Path(path)
    if (path / CONFIG).is_file():
        return path
    steps = sorted(step for step in (path / CHECKPOINTS).glob("[0-9]*") if (step / CONFIG).is_file())
    if steps:
        return steps[-1]
    what = "does not exist" if not path.exists() else f"holds neither {CONFIG} nor {CHECKPOINTS}/"
    raise ValueError(f"checkpoint {path}: {what}; give a folder that `plait train` wrote")


def describe(folder: Path) -> dict[str, Any]:
    """What config.json says, once its version is known to be readable."""
    try:
        description = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        version = int(description["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"checkpoint {folder}: {CONFIG} is not a plait config ({error!r})") from error
    if version > FORMAT_VERSION:
        raise ValueError(
            f"checkpoint {folder}: format version {version}, this plait reads up to {FORMAT_VERSION}; upgrade plait"
        )
    return description


def provenance(path: Path | str) -> dict[str, Any]:
    """How the policy of a checkpoint or a run came to be, as ``save`` was told; {} when it was told nothing."""
    return describe(find(path)).get("provenance", {})


def fingerprint(path: Path | str) -> str:
    """A short hash of the weights, to name in an evaluation's protocol."""
    with (find(path) / MODEL).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _check_fit(model: nn.Module, state: dict[str, Any], folder: Path) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"checkpoint {folder}: {MODEL} does not fit {CONFIG}: {len(wrong)} tensors differ, for example {name!r} "
            f"is {found.get(name, 'missing')} where the config wants {wanted.get(name, 'none')}"
        )
