"""The policy: encoders, fusion and head, and the normalisation that travels with them."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from plait.config import refuse_small, unknown
from plait.data.images import resize
from plait.encoders.language import Language, LstmConfig
from plait.encoders.observation import ObservationEncoder
from plait.encoders.recall import Recall
from plait.encoders.state import StateConfig
from plait.encoders.tokenizer import Tokenizer
from plait.encoders.vision import PatchConfig, Vision
from plait.fusion import FilmConfig, Fusion
from plait.heads import Head, RegressionConfig
from plait.heads.keyframe import KeyframeConfig, KeyframeHead
from plait.memory import Memory
from plait.memory.history import History, MemoryPart
from plait.memory.join import joined_shape, remember, remember_window
from plait.nn.device import Precision, convert_weights, pick_autocast
from plait.nn.normaliser import Normaliser
from plait.spec import INSTRUCTION, STATE, Spec, camera_modality
from plait.types import Batch, Fused, FusionPart, HeadPart, Inputs, Observation, Tokens

Statistics = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class PolicyConfig:
    """Everything that defines a policy besides its embodiment; each part is swapped by one word.

    Attributes:
        image_size: every camera's picture is resized to this square, in pixels.
        action_horizon: length of the predicted chunk, in control steps.
        execute: control steps that are run before replanning, 1 to action_horizon.
        vision, language, state, fusion, head: the parts.
        memory: what is remembered of earlier moments, or None. It binds the policy to its ``execute``: in training,
            the moments of a window are so many steps apart.
        keyframe: the auxiliary head, or None.
    """

    image_size: int = 64
    action_horizon: int = 8
    execute: int = 4
    vision: Vision = field(default_factory=PatchConfig)
    language: Language = field(default_factory=LstmConfig)
    state: StateConfig = field(default_factory=StateConfig)
    fusion: Fusion = field(default_factory=FilmConfig)
    memory: Memory | None = None
    head: Head = field(default_factory=RegressionConfig)
    keyframe: KeyframeConfig | None = field(default_factory=KeyframeConfig)

    def __post_init__(self) -> None:
        refuse_small(image_size=(self.image_size, 8), action_horizon=(self.action_horizon, 1))
        if not 1 <= self.execute <= self.action_horizon:
            raise ValueError(f"execute: {self.execute} is not between 1 and action_horizon ({self.action_horizon})")
        if self.memory and getattr(self.head, "form", "") == "tokens":
            rule = "step k is read from fused token k, so that what is remembered, one more token, would reach none"
            raise ValueError(f"head.form: 'tokens' with a memory: {rule}; say --head.form parallel, or --memory none")

    def build(
        self, spec: Spec, tokenizer: Tokenizer, statistics: Statistics | None = None, pretrained: bool = True
    ) -> "Policy":
        """Compose the parts for one embodiment.

        Args:
            spec: cameras, state and actions of the data.
            tokenizer: built from the data's sentences; a pretrained language encoder brings its own instead.
            statistics: mean and std of ``observation.state`` and ``action``; identity when omitted.
            pretrained: False skips pretrained weights, for a checkpoint that is about to be loaded.
        """
        language, tokenizer = self.language.resolve(tokenizer) if pretrained else (self.language, tokenizer)
        size = (self.image_size, self.image_size)
        encoder = ObservationEncoder(
            {camera: self.vision.build(size, pretrained) for camera in spec.cameras},
            language.build(len(tokenizer.vocabulary), tokenizer.length, pretrained),
            self.state.build(len(spec.state)) if spec.state else None,
        )
        fusion = self.fusion.build(encoder.shapes)
        shape, memory = fusion.shape, None
        if self.memory:
            memory, shape = self.memory.build(shape.n * shape.dim, shape.dim), joined_shape(shape)
        head = self.head.build(shape, self.action_horizon, len(spec.actions))
        normalise_state = _normaliser(statistics, "observation.state", len(spec.state))
        normalise_action = _normaliser(statistics, "action", len(spec.actions))
        keyframe = None
        if self.keyframe and spec.position:
            keyframe = self.keyframe.build(shape, normalise_state.select(spec.position))
        config = replace(self, language=language)
        parts = encoder, fusion, memory, head, keyframe
        return Policy(config, spec, tokenizer, *parts, normalise_state, normalise_action)


class Policy(nn.Module):
    """Images, words and state in; a chunk of actions out."""

    fusion: FusionPart
    memory: MemoryPart | None
    head: HeadPart
    keyframe: KeyframeHead | None

    def __init__(
        self,
        config: PolicyConfig,
        spec: Spec,
        tokenizer: Tokenizer,
        encoder: ObservationEncoder,
        fusion: FusionPart,
        memory: MemoryPart | None,
        head: HeadPart,
        keyframe: KeyframeHead | None,
        normalise_state: Normaliser,
        normalise_action: Normaliser,
    ):
        super().__init__()
        self.config, self.spec, self.tokenizer = config, spec, tokenizer
        self.encoder, self.fusion, self.memory, self.head, self.keyframe = encoder, fusion, memory, head, keyframe
        self.normalise_state, self.normalise_action = normalise_state, normalise_action
        self.precision: Precision = "float32"  # see ``convert``
        self._warned: set[str] = set()

    @property
    def horizon(self) -> int:
        return self.config.action_horizon

    @property
    def moments(self) -> int:
        """How many moments, ``config.execute`` steps apart, make one training sample: 1 without a memory."""
        return 1 if self.memory is None else self.memory.steps

    @property
    def device(self) -> torch.device:
        return self.normalise_action.mean.device

    def prepare(self, observation: Observation) -> Inputs:
        """Turn raw values into tensors: resize, tokenise, and note what is absent. The device is left alone.

        Raises:
            ValueError: a state of another size or with an entry that is not finite, an image of another shape or type,
                or an instruction that is too long.
        """
        rows = len(observation)
        present = {name: _flags(observation.present.get(name), rows) for name in self.spec.modalities}
        images = {}
        for camera in self.spec.cameras:
            name = camera_modality(camera)
            images[camera], present[name] = self._prepare_image(observation.images.get(camera), present[name])
        state, present_state = self._prepare_state(observation.state, rows)
        if STATE in present:
            present[STATE] = present[STATE] & present_state
            self._refuse_infinite(state, present[STATE])
        words, word_mask = self.tokenizer.encode(observation.instruction)
        present[INSTRUCTION] = present[INSTRUCTION] & word_mask.any(dim=1)
        return Inputs(images, state, words, word_mask, present)

    @torch.inference_mode()
    def tell(self, inputs: Inputs, recall: Recall) -> Inputs:
        """The inputs on the policy's device, their words encoded: what follows needs no language encoder, which a robot
        hears say the same at every step. ``recall``: of ``encoder.language``, whose sentences are encoded once.
        """
        moved = inputs.to(self.device, non_blocking=True)
        language = self.encoder.language
        encode = lambda words, mask: language(words.to(self.device), mask.to(self.device)).data  # noqa: E731
        return replace(moved, told=recall(inputs.words, inputs.word_mask, encode))

    def encode(self, inputs: Inputs) -> dict[str, Tokens]:
        """The tokens of each modality, before they meet."""
        return self.encoder(replace(inputs, state=self.normalise_state.normalise(inputs.state), window=None))

    def fuse(self, inputs: Inputs, reads: bool = False) -> Fused:
        """Encode and fuse each moment. ``reads=True`` also returns what the fusion looked at (attention, gates)."""
        return self.fusion(self.encode(inputs), reads)

    def remember(self, fused: Fused, inputs: Inputs) -> Tokens:
        """What the head acts on: the fused tokens; with a memory, those of the last moment and the memory's one."""
        return fused.tokens if self.memory is None else remember_window(self.memory, fused.tokens, inputs.window)

    def forward(self, inputs: Inputs) -> Float[Tensor, "b horizon a"]:
        """The chunk of actions in the units of the ``Spec``; with a memory, as at the first moment of an episode or,
        where ``inputs`` hold windows, at the last one of each window.
        """
        return self._chunk(self.remember(self.fuse(inputs), inputs))

    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The loss under ``"loss"``, and its parts under their names."""
        fused = self.fuse(batch.inputs)
        tokens = self.remember(fused, batch.inputs)
        action = self.normalise_action.normalise(batch.action)
        error = self.head.loss(tokens, action, batch.action_mask)
        parts = {"action": _weighted(error, batch.action_mask, batch.action_valid), **fused.losses}
        total = torch.stack(list(parts.values())).sum()
        if self.keyframe is not None and batch.keyframe is not None and batch.keyframe_mask is not None:
            error = self.keyframe.loss(tokens, batch.keyframe, batch.keyframe_mask)
            known = batch.keyframe_mask[:, : self.keyframe.ahead]
            parts["keyframe"] = _weighted(error, known, batch.keyframe_valid)
            total = total + self.keyframe.weight * parts["keyframe"]
        return {"loss": total, **parts}

    @torch.inference_mode()
    def predict(self, inputs: Inputs) -> Float[Tensor, "b horizon a"]:
        """``forward`` on the policy's device, without gradients."""
        return self(inputs.to(self.device))

    def start(self, rows: int) -> History | None:
        """What is remembered before the first ``step``: nothing yet, or None where there is no memory."""
        return None if self.memory is None else self.memory.start(rows)

    @torch.inference_mode()
    def step(
        self, inputs: Inputs, state: History | None, reset: Bool[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b horizon a"], History | None]:
        """``predict`` for robots that go on: the chunk, and what is remembered from here on.

        Args:
            state: from ``start`` or the last ``step``.
            reset: True for each row whose episode begins now.
        """
        if self.memory is None or state is None:
            return self.predict(inputs), None
        tokens = self.fuse(inputs.to(self.device)).tokens
        tokens, state = remember(self.memory, tokens, state, reset.to(self.device))
        return self._chunk(tokens), state

    def compile(self, *arguments: Any, **options: Any) -> None:
        """``torch.compile`` what ``predict`` and ``step`` compute; ``nn.Module.compile`` would miss the latter."""
        for name in ("fuse", "_chunk"):
            setattr(self, name, torch.compile(getattr(self, name), *arguments, **options))

    def convert(self, precision: Precision) -> "Policy":
        """Multiply in this number format from now on, on the device where it is, and train no more: weights of linear
        layers and convolutions are converted once. Norms, sums and what actions are scaled with stay float32.
        """
        self.precision = precision
        if precision != "float32":
            convert_weights(self, torch.bfloat16)
            for name in ("encode", "fuse", "forward", "tell", "predict", "step"):
                setattr(self, name, _within(getattr(self, name), precision, self.device))
        return self

    def act(self, images: Mapping[str, Any], instruction: str, state: Any = None) -> "Action":
        """One moment in, one named action out, within the limits of ``spec``. A policy with a memory remembers nothing
        from call to call: that is what ``control.Controller`` is for.

        Args:
            images: camera -> uint8 ``[height, width, 3]``, RGB. A camera that is left out is treated as absent.
            instruction: what to do, in plain words; ``""`` for none.
            state: float ``[s]`` in the units of ``spec``, or None when it is not measured.

        Warns:
            UserWarning: something is left out, words are unknown, or pictures are squeezed; each once per policy.

        Raises:
            ValueError: a camera that the policy does not have, or as ``prepare``.
        """
        for camera in images:
            if camera not in self.spec.cameras:
                raise ValueError(f"image: {unknown('camera', camera, self.spec.cameras)}")
            if np.asarray(images[camera]).dtype.kind not in "biuf":  # no numbers
                found = type(images[camera]).__name__
                raise ValueError(f"image {camera!r} is {found}: expected uint8 [height, width, 3]; read a file first")
        batched = {camera: np.asarray(image)[None] for camera, image in images.items()}
        batched_state = None if state is None else np.asarray(state, dtype=np.float32)[None]
        inputs = self.prepare(Observation(batched, batched_state, [instruction]))
        sizes = {camera: image.shape[1:3] for camera, image in batched.items()}
        for line in _unusual(self, sizes, instruction, state is not None):
            if line not in self._warned:
                self._warned.add(line)
                warnings.warn(line, stacklevel=2)
        was_training = self.training
        chunk = self.eval().predict(inputs)
        self.train(was_training)
        return Action(self.spec.clipped(chunk[0].cpu().numpy()), self.spec)

    def _chunk(self, tokens: Tokens) -> Float[Tensor, "b horizon a"]:
        return self.normalise_action.denormalise(self.head.act(tokens).float())

    def _prepare_image(self, image: Any, present: Tensor) -> tuple[Tensor, Tensor]:
        size = (self.config.image_size, self.config.image_size)
        if image is None:
            return torch.zeros(len(present), *size, 3, dtype=torch.uint8), torch.zeros_like(present)
        tensor = torch.as_tensor(image)
        if tensor.ndim != 4 or tensor.shape[-1] != 3 or tensor.dtype != torch.uint8:
            raise ValueError(
                f"image of shape {tuple(tensor.shape[1:])}, {tensor.dtype}: expected [height, width, 3], torch.uint8"
            )
        return resize(tensor, size), present

    def _prepare_state(self, state: Any, rows: int) -> tuple[Tensor, Tensor]:
        entries = len(self.spec.state)
        if state is None:
            return torch.zeros(rows, entries), torch.zeros(rows, dtype=torch.bool)
        tensor = torch.as_tensor(state, dtype=torch.float32)
        if tensor.shape[-1] != entries:
            names = ", ".join(self.spec.state)
            raise ValueError(f"state of {tensor.shape[-1]} entries: this policy was trained with {entries} ({names})")
        return tensor, torch.ones(rows, dtype=torch.bool)

    def _refuse_infinite(self, state: Tensor, present: Tensor) -> None:
        """A command must not come from a sensor that fails. States on a GPU are a dataset's, which was checked."""
        if state.is_cpu and not (finite := state[present].isfinite()).all():
            row, entry = (~finite).nonzero()[0].tolist()
            raise ValueError(
                f"state: {self.spec.state[entry]} is {state[present][row, entry]:g}; each entry must be finite. "
                "Leave the state out where it is not measured"
            )


@dataclass(frozen=True)
class Action:
    """A chunk of actions of one robot; the named parts are those of its first step.

    Attributes:
        chunk: float ``[horizon, a]``, in the units of ``spec``.
        spec: names and conventions of the entries.
    """

    chunk: np.ndarray
    spec: Spec

    @property
    def named(self) -> dict[str, float]:
        """Every entry of the first step by its name."""
        return dict(zip(self.spec.actions, map(float, self.chunk[0]), strict=True))

    @property
    def position(self) -> np.ndarray | None:
        """x, y, z, or None when the embodiment does not name them."""
        return self._entries(("x", "y", "z"))

    @property
    def rotation(self) -> np.ndarray | None:
        """The three rotation entries after the position, in the convention of ``spec.rotation``."""
        return self._entries(("rx", "ry", "rz"))

    @property
    def gripper(self) -> float | None:
        """The gripper command; its sign is ``spec.gripper``."""
        return self.named.get("gripper")

    def _entries(self, names: tuple[str, ...]) -> np.ndarray | None:
        named = self.named
        return np.array([named[name] for name in names]) if all(name in named for name in names) else None


def _unusual(policy: Policy, sizes: Mapping[str, tuple[int, int]], instruction: str, felt: bool) -> Iterator[str]:
    """What about this moment is unlike those of the training. ``sizes``: (height, width) of the pictures."""
    spec = policy.spec
    absent = [f"camera {camera}" for camera in spec.cameras if camera not in sizes]
    absent += [f"the state ({len(spec.state)} entries: {', '.join(spec.state)})"] if spec.state and not felt else []
    absent += [] if instruction.strip() else ["the instruction"]
    if absent:
        yield (
            f"left out, though the policy was trained with it: {', '.join(absent)}; a learned token takes its place, "
            "which means something only where the training left it out too (train.modality_dropout)"
        )
    if words := policy.tokenizer.unknown_words(instruction):
        yield f"words that training never saw: {', '.join(words)}; the policy takes each for the same unknown word"
    yield from spec.squeezed(sizes)


def _within(function: Callable[..., Any], precision: Precision, device: torch.device) -> Callable[..., Any]:
    @wraps(function)
    def computed(*arguments: Any, **options: Any) -> Any:
        with pick_autocast(precision, device):  # anew each time: one that is entered twice would not be left
            return function(*arguments, **options)

    return computed


def _flags(value: Any, rows: int) -> Tensor:
    return torch.ones(rows, dtype=torch.bool) if value is None else torch.as_tensor(value, dtype=torch.bool)


def _weighted(
    mean: Float[Tensor, ""], mask: Bool[Tensor, "b n"], valid: Float[Tensor, " k"] | None
) -> Float[Tensor, ""]:
    """One process's mean over the valid entries of its rows, so that the mean over the processes is that of the whole
    batch: who has more of them counts more. ``valid``: of each column, the average over the processes.
    """
    return mean if valid is None else mean * (mask.sum() / valid[: mask.shape[1]].sum().clamp(min=1e-6))


def _normaliser(statistics: Statistics | None, feature: str, entries: int) -> Normaliser:
    if statistics is None or not entries:
        return Normaliser.identity(entries)
    return Normaliser(statistics[feature]["mean"], statistics[feature]["std"])
