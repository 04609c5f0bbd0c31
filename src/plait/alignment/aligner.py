"""A policy's vision and language encoders as two towers that learn from pairs of pictures and texts."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from plait.alignment.contrastive import ContrastiveMultiModal, ObjectiveName
from plait.alignment.right import Right
from plait.config import refuse_outside
from plait.data.world import ALONE, World
from plait.encoders.language import Language, LstmConfig
from plait.encoders.tokenizer import Tokenizer
from plait.encoders.vision import PatchConfig, Vision
from plait.nn.pooling import masked_mean
from plait.nn.tower import Tower

ROWS = 256  # pairs that are embedded at once


@dataclass(frozen=True)
class AlignConfig:
    """Two encoders as a policy has them, and what brings them together.

    Attributes:
        image_size: every picture is resized to this square, in pixels.
        vision, language: the encoders, which a policy can start from.
        stages: channels of the residual stages between the vision encoder's grid and its embedding; every stage after
            the first halves the grid. They are left behind when a policy starts from the encoders.
        embed_dim: width of the common space.
        objective: infonce (CLIP) or sigmoid (SigLIP).
        temperature: where it begins, at least 0.01; None: 0.07 for infonce, 0.1 for sigmoid.
    """

    image_size: int = 64
    vision: Vision = field(default_factory=PatchConfig)
    language: Language = field(default_factory=LstmConfig)
    stages: tuple[int, ...] = (64, 128)
    embed_dim: int = 128
    objective: ObjectiveName = "infonce"
    temperature: float | None = None

    def __post_init__(self) -> None:
        refuse_outside(self, image_size="[8, inf)", temperature="[0.01, inf)")

    def build(self, tokenizer: Tokenizer, pretrained: bool = True, world: World = ALONE) -> "Aligner":
        """Compose the towers.

        Args:
            tokenizer: built from the pairs' texts; a pretrained language encoder brings its own instead.
            pretrained: False skips pretrained weights, for a checkpoint that is about to be loaded.
        """
        language, tokenizer = self.language.resolve(tokenizer) if pretrained else (self.language, tokenizer)
        vision = VisionTower(self.vision.build((self.image_size, self.image_size), pretrained), self.stages)
        text = TextTower(language.build(len(tokenizer.vocabulary), tokenizer.length, pretrained))
        return Aligner(replace(self, language=language), tokenizer, vision, text, world)


@dataclass(frozen=True)
class PairBatch:
    """Pictures with a text each; ``text`` and ``true`` say which texts are true of which pictures (see ``Right``)."""

    images: UInt8[Tensor, "b h w 3"]
    words: Int[Tensor, "b l"]
    word_mask: Bool[Tensor, "b l"]
    text: Int[Tensor, " b"]
    true: Int[Tensor, "b k"]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PairBatch":
        return PairBatch(*(getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)))


torch.export.register_dataclass(PairBatch)  # CUDA graphs look inside dataclasses only when they know them


class VisionTower(nn.Module):
    """A vision encoder, then residual convolutions on its (first) grid, ending in one vector that knows places."""

    def __init__(self, encoder: Any, stages: tuple[int, ...], width: int = 256):
        super().__init__()
        self.encoder, self.output_dim = encoder, width
        self.tower = Tower(encoder.shapes[0], stages, width=width)

    def forward(self, images: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b d"]:
        return self.tower(self.encoder(images)[0])


class TextTower(nn.Module):
    """A language encoder and the mean of its tokens, which is what the fusions take of a sentence."""

    def __init__(self, encoder: Any):
        super().__init__()
        self.encoder, self.output_dim = encoder, encoder.shape.dim

    def forward(self, words: tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]) -> Float[Tensor, "b d"]:
        return masked_mean(self.encoder(*words))


class Aligner(ContrastiveMultiModal):
    """Two towers with their settings and their words. ``encode(images, (words, mask))`` gives both embeddings."""

    vision_encoder: VisionTower
    text_encoder: TextTower

    def __init__(
        self, config: AlignConfig, tokenizer: Tokenizer, vision: VisionTower, text: TextTower, world: World = ALONE
    ):
        super().__init__(vision, text, config.embed_dim, config.temperature, config.objective)
        self.config, self.tokenizer, self.world = config, tokenizer, world

    def loss(self, batch: PairBatch) -> dict[str, Float[Tensor, ""]]:
        """The objective over the pairs of all processes, every text being right for each picture that it is true of."""
        vision, text = self.encode(batch.images, (batch.words, batch.word_mask))
        return {"loss": self.objective(vision, text, self.world, Right(batch.text, batch.true))}

    @torch.inference_mode()
    def embed_images(self, images: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n e"]:
        """Of unit length, on the processor; the pictures are of the size of ``config``."""
        device = self.vision_projection.weight.device
        features = [self.vision_encoder(rows.to(device)) for rows in images.split(ROWS)]
        return nn.functional.normalize(self.vision_projection(torch.cat(features)), dim=-1).cpu()

    @torch.inference_mode()
    def embed_texts(self, texts: list[str]) -> Float[Tensor, "n e"]:
        """Of unit length, on the processor; each distinct text is encoded once."""
        device, distinct = self.text_projection.weight.device, list(dict.fromkeys(texts))
        words, mask = (rows.to(device) for rows in self.tokenizer.encode(distinct))
        pieces = zip(words.split(ROWS), mask.split(ROWS), strict=True)
        features = torch.cat([self.text_encoder(piece) for piece in pieces])
        numbers = {text: number for number, text in enumerate(distinct)}
        embeds = nn.functional.normalize(self.text_projection(features), dim=-1).cpu()
        return embeds[[numbers[text] for text in texts]]
