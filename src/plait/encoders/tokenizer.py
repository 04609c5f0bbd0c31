"""Words to numbers: a word-level tokeniser built from a dataset's own sentences."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers
from torch import Tensor

PADDING, UNKNOWN = "<pad>", "<unk>"
SHORTEST = 16  # room for sentences longer than those of the dataset
MULTIPLE = 8


class Tokenizer:
    """Sentences -> word numbers of one fixed length, so that every batch has the same shape.

    Words are split at spaces and punctuation and lower-cased (Unicode NFC, so Korean works); number 0 is padding
    and 1 an unknown word. Encoded sentences are remembered: a policy hears few distinct ones, very often.
    """

    def __init__(self, backend: Backend, length: int):
        self.backend, self.length = backend, length
        self._cache: dict[str, tuple[Tensor, Tensor]] = {}

    @classmethod
    def build(cls, sentences: Iterable[str]) -> "Tokenizer":
        """A tokeniser whose vocabulary is exactly the words of ``sentences``."""
        sentences = sorted(set(sentences))
        splitter = Backend(models.WordLevel({PADDING: 0, UNKNOWN: 1}, unk_token=UNKNOWN))
        splitter.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        splitter.pre_tokenizer = pre_tokenizers.Whitespace()
        split = [cls(splitter, 0).split(sentence) for sentence in sentences]
        words = sorted({word for sentence in split for word in sentence})
        vocabulary = {word: index for index, word in enumerate([PADDING, UNKNOWN, *words])}
        splitter.model = models.WordLevel(vocabulary, unk_token=UNKNOWN)
        longest = max(map(len, split), default=0)
        return cls(splitter, max(SHORTEST, -(-longest // MULTIPLE) * MULTIPLE))

    def split(self, sentence: str) -> list[str]:
        """The words of a sentence, as the vocabulary spells them."""
        normalised = self.backend.normalizer.normalize_str(sentence)
        return [word for word, _ in self.backend.pre_tokenizer.pre_tokenize_str(normalised)]

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        return self.backend.get_vocab()

    def unknown_words(self, sentence: str) -> list[str]:
        """The words of a sentence that training never saw."""
        return [word for word in self.split(sentence) if word not in self.vocabulary]

    def encode(self, sentences: list[str]) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Word numbers and their mask.

        Raises:
            ValueError: a sentence has more words than ``length``.
        """
        pairs = [self._cache.get(sentence) or self._encode_one(sentence) for sentence in sentences]
        return torch.stack([ids for ids, _ in pairs]), torch.stack([mask for _, mask in pairs])

    def _encode_one(self, sentence: str) -> tuple[Tensor, Tensor]:
        ids = self.backend.encode(sentence).ids
        if len(ids) > self.length:
            raise ValueError(
                f"instruction of {len(ids)} words, at most {self.length} are taken; shorten {sentence[:60]!r}..."
            )
        row = torch.zeros(self.length, dtype=torch.long)
        row[: len(ids)] = torch.tensor(ids, dtype=torch.long)
        if len(self._cache) < 10_000:  # a stream of ever new sentences must not fill the memory
            self._cache[sentence] = (row, torch.arange(self.length) < len(ids))
        return row, torch.arange(self.length) < len(ids)

    def save(self, path: Path) -> None:
        """Write the Hugging Face ``tokenizers`` file; the fixed length is stored in it as truncation length."""
        self.backend.enable_truncation(self.length)
        self.backend.save(str(path))
        self.backend.no_truncation()

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        backend = Backend.from_file(str(path))
        length = backend.truncation["max_length"] if backend.truncation else SHORTEST
        backend.no_truncation()
        return cls(backend, length)
