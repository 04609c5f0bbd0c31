"""Language encoders: word numbers in, one token per word out. Padding takes no part. The union is the registry.

A config's ``resolve`` is asked once, before a new policy is built: it returns the config with everything in it that
a checkpoint needs to be loaded on its own, and the tokeniser whose numbers the encoder reads.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from plait.config import refuse_outside
from plait.encoders.hugging_face import HuggingFaceConfig
from plait.encoders.tokenizer import Tokenizer
from plait.nn.transformer import TransformerLayer
from plait.types import Shape, Tokens


@dataclass(frozen=True)
class LstmConfig:
    """Word embedding, a one-directional LSTM and layer norm.

    Attributes:
        width: of the embedding and of each token.
        layers: of the LSTM.
    """

    width: int = 64
    layers: int = 1

    def __post_init__(self) -> None:
        refuse_outside(self)

    def resolve(self, tokenizer: Tokenizer) -> tuple["LstmConfig", Tokenizer]:
        return self, tokenizer

    def build(self, vocabulary: int, length: int, pretrained: bool = True) -> "LstmEncoder":
        return LstmEncoder(vocabulary, length, self.width, self.layers)


@dataclass(frozen=True)
class TextTransformerConfig:
    """Word and position embeddings and a small bidirectional transformer.

    Attributes:
        width: of the embedding and of each token.
        layers: number of transformer layers.
        heads: attention heads; must divide width.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        refuse_outside(self)

    def resolve(self, tokenizer: Tokenizer) -> tuple["TextTransformerConfig", Tokenizer]:
        return self, tokenizer

    def build(self, vocabulary: int, length: int, pretrained: bool = True) -> "TextTransformer":
        return TextTransformer(vocabulary, length, self.width, self.layers, self.heads)


Language = LstmConfig | TextTransformerConfig | HuggingFaceConfig


class LstmEncoder(nn.Module):
    """Sentences are padded on the right and the LSTM reads left to right, so padding cannot reach a word.

    That needs no packing: shapes stay fixed, and the encoder compiles and exports. The norm matters: an untrained
    LSTM's outputs have a seventh of image features' size, and a policy then finds out late what words are for.
    """

    def __init__(self, vocabulary: int, length: int, width: int = 64, layers: int = 1):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.shape = Shape(length, width)

    def forward(self, words: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> Tokens:
        hidden, _ = self.lstm(self.embedding(words))
        return Tokens(self.norm(hidden), mask)


class TextTransformer(nn.Module):
    """Every word sees every other word of its sentence."""

    def __init__(self, vocabulary: int, length: int, width: int = 64, layers: int = 2, heads: int = 4):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.ModuleList(TransformerLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.shape = Shape(length, width)

    def forward(self, words: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> Tokens:
        x = self.embedding(words) + self.position[: words.shape[1]]
        for layer in self.layers:
            x = layer(x, mask)
        return Tokens(self.norm(x), mask)
