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
LARGEST_TABLE = 10_000  # sentences that are remembered


class Tokenizer:
    """Sentences -> word numbers of one fixed length, so that every batch has the same shape.

    Words are split at spaces and punctuation and lower-cased (Unicode NFC, so Korean works); number 0 is padding
    and 1 an unknown word. Encoded sentences are remembered: a policy hears few distinct ones, very often.
    """

    def __init__(self, backend: Backend, length: int):
        self.backend, self.length = backend, length
        self._rows: dict[str, int] = {}  # sentence -> row of the table
        self._table = torch.zeros(0, length, dtype=torch.long)

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
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._rows]
        if len(self._rows) + len(new) > LARGEST_TABLE:  # a stream of ever new sentences must not fill the memory
            self._rows, self._table, new = {}, self._table[:0], list(dict.fromkeys(sentences))
        if new:
            self._table = torch.cat([self._table, torch.tensor([self._encode_one(sentence) for sentence in new])])
            self._rows |= {sentence: len(self._rows) + i for i, sentence in enumerate(new)}
        ids = self._table[[self._rows[sentence] for sentence in sentences]]
        return ids, ids != 0

    def _encode_one(self, sentence: str) -> list[int]:
        ids = self.backend.encode(sentence).ids
        if len(ids) > self.length:
            raise ValueError(
                f"instruction of {len(ids)} words, at most {self.length} are taken; shorten {sentence[:60]!r}..."
            )
        return ids + [0] * (self.length - len(ids))

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
