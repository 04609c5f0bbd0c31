"""Pretrained text models of the Hugging Face hub as language encoders, each with its own tokeniser."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from plait.config import refuse_outside
from plait.encoders.hub import reach_hub
from plait.encoders.recall import Recall
from plait.encoders.tokenizer import Tokenizer
from plait.types import Shape, Tokens


@dataclass(frozen=True)
class HuggingFaceConfig:
    """Any text model that transformers loads, frozen or trained; needs the extra plait[text].

    Attributes:
        name: of a model on the hub, or the folder of a downloaded one (config.json, model.safetensors, tokenizer.json).
        frozen: keep the model exactly as loaded; each sentence is then encoded once.
        length: most tokens of a sentence, the model's own marks included.
        architecture: nothing to set. Read from the model, so that a checkpoint can be loaded without it.
    """

    name: str = "sentence-transformers/all-MiniLM-L6-v2"
    frozen: bool = True
    length: int = 32
    architecture: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refuse_outside(self)

    def resolve(self, tokenizer: Tokenizer) -> tuple["HuggingFaceConfig", Tokenizer]:
        """The config with the model's architecture, and the model's tokeniser in place of the data's."""
        config = _load("AutoConfig", self.name).get_text_config()
        limit = getattr(config, "max_position_embeddings", self.length)
        if self.length > limit:
            raise ValueError(f"language: length = {self.length}: {self.name!r} takes at most {limit} tokens")
        own = Tokenizer(_load("AutoTokenizer", self.name).backend_tokenizer, self.length)
        return replace(self, architecture=json.loads(config.to_json_string())), own

    def build(self, vocabulary: int, length: int, pretrained: bool = True) -> "HuggingFaceEncoder":
        """The encoder of a resolved config; without its weights when not ``pretrained``."""
        return HuggingFaceEncoder(_model(self.architecture, self.name if pretrained else ""), length, self.frozen)


class HuggingFaceEncoder(nn.Module):
    """One token per word piece: the model's last hidden state.

    Where no gradient is wanted (``frozen``, or in evaluation), features are recalled: not when the forward pass is
    compiled, exported or recorded, and not in training on a GPU, where reading the words back would cost more.

    Args:
        model: a module of transformers that maps ``input_ids`` and ``attention_mask`` to ``last_hidden_state``.
        length: tokens of every sentence.
        frozen: no gradient, and evaluation mode even while the policy trains.
    """

    def __init__(self, model: nn.Module, length: int, frozen: bool = True):
        super().__init__()
        self.model: Any = model
        self.frozen = frozen
        if frozen:
            model.requires_grad_(False)
        self.recall = Recall(model)
        self.shape = Shape(length, self.model.config.hidden_size)
        self.train()

    def train(self, mode: bool = True) -> "HuggingFaceEncoder":
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def forward(self, words: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> Tokens:
        encode = self._encode if self._must_compute(words) else self._recall
        return Tokens(encode(words, mask), mask)

    def _must_compute(self, words: Tensor) -> bool:
        learns = not self.frozen and (self.training or torch.is_grad_enabled())
        captured = torch.compiler.is_compiling() or (words.is_cuda and torch.cuda.is_current_stream_capturing())
        return learns or captured or (self.training and words.is_cuda)

    def _recall(self, words: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        return self.recall(words, mask, self._encode)

    def _encode(self, words: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        attended = mask | ~mask.any(dim=1, keepdim=True)  # attention over nothing would be NaN
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.model(input_ids=words, attention_mask=attended.long()).last_hidden_state


def _model(architecture: dict[str, Any], name: str) -> nn.Module:
    """The text model; with random weights when ``name`` is empty."""
    transformers = _transformers()
    config = transformers.AutoConfig.for_model(**architecture)
    config.use_cache = False
    halves = type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING  # of T5 and the like, the encoder
    kind = "AutoModelForTextEncoding" if halves else "AutoModel"
    if name:
        options = {"config": config, "dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
        model, found = _load(kind, name, **options)
        missing = sorted(key for key in found["missing_keys"] if not key.startswith("pooler."))
        if missing:
            raise ValueError(
                f"language: the weights of {name!r} lack {len(missing)} tensors, for example {missing[0]!r}"
            )
    else:
        model = getattr(transformers, kind).from_config(config, dtype=torch.float32)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # a summary of the sentence, which nobody reads
    return model


def _load(kind: str, name: str, **options: Any) -> Any:
    """From the folder, or from the hub's cache on this machine, or else from the hub."""
    load = partial(getattr(_transformers(), kind).from_pretrained, name, **options)
    with _quiet():
        try:
            try:
                return load(local_files_only=True)
            except (OSError, ValueError):
                if Path(name).is_dir():
                    raise
                reach_hub(name)
                return load()
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"language: no text model {name!r}, neither as a folder nor from the hub ({reason}); give the name of "
                "a model on the hub, or the folder of one with config.json, model.safetensors and tokenizer.json"
            ) from error


def _transformers() -> Any:
    try:
        import transformers  # only where it is used: it takes seconds to load
    except ImportError as error:
        raise ValueError("language: hugging_face needs transformers; pip install 'plait[text]'") from error
    return transformers


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no reports about parts of a model that are not used here."""
    logging = _transformers().utils.logging
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
