"""Words to numbers: a word-level tokeniser built from a dataset's own sentences, or a pretrained model's."""

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
ENDS = set(".!?…。！？")  # of sentences; they are no words unless the vocabulary has them


class Tokenizer:
    """Sentences -> word numbers of one fixed length, so that every batch has the same shape.

    Encoded sentences are remembered: a policy hears few distinct ones, very often.

    Args:
        backend: from ``build``, or a pretrained text model's own. What it says about padding and cutting is dropped.
        length: of every encoded sentence; longer ones are refused.
    """

    def __init__(self, backend: Backend, length: int):
        backend.no_padding()
        backend.no_truncation()
        self.backend, self.length = backend, length
        self._rows: dict[str, int] = {}  # sentence -> row of the table
        self._table = torch.zeros(0, length, dtype=torch.long)  # -1 is padding; a model may use 0 for a word

    @classmethod
    def build(cls, sentences: Iterable[str]) -> "Tokenizer":
        """A tokeniser whose vocabulary is exactly the words of ``sentences``.

        Words are split at spaces and punctuation and lower-cased (Unicode NFC, so Korean works); number 0 is padding
        and 1 an unknown word. Punctuation counts as words; what ends a sentence only if ``sentences`` have it.
        """
        sentences = sorted(set(sentences))
        splitter = Backend(models.WordLevel({PADDING: 0, UNKNOWN: 1}, unk_token=UNKNOWN))
        splitter.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        splitter.pre_tokenizer = pre_tokenizers.Whitespace()
        split = [_split(splitter, sentence) for sentence in sentences]
        words = sorted({word for sentence in split for word in sentence})
        vocabulary = {word: index for index, word in enumerate([PADDING, UNKNOWN, *words])}
        splitter.model = models.WordLevel(vocabulary, unk_token=UNKNOWN)
        longest = max(map(len, split), default=0)
        return cls(splitter, max(SHORTEST, -(-longest // MULTIPLE) * MULTIPLE))

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        return self.backend.get_vocab()

    def unknown_words(self, sentence: str) -> list[str]:
        """The words of a sentence that the vocabulary does not have."""
        return [word for _, word in self._words(sentence) if word]

    def encode(self, sentences: list[str]) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Word numbers and their mask, False at padding, whose number is 0; nothing is valid where nothing was said.

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
        return ids.clamp(min=0), ids >= 0

    def _encode_one(self, sentence: str) -> list[int]:
        ids = [number for number, _ in self._words(sentence)] if sentence.strip() else []  # no marks around nothing
        if len(ids) > self.length:
            raise ValueError(
                f"instruction of {len(ids)} words, at most {self.length} are taken; shorten {sentence[:60]!r}..."
            )
        return ids + [-1] * (self.length - len(ids))

    def _words(self, sentence: str) -> list[tuple[int, str]]:
        """Every number, and its word where that is unknown (else ""); an unknown full stop or the like is left out."""
        unknown = getattr(self.backend.model, "unk_token", None)
        encoding = self.backend.encode(sentence)
        places = zip(encoding.ids, encoding.tokens, encoding.offsets, strict=True)
        words = [(number, sentence[start:end] if token == unknown else "") for number, token, (start, end) in places]
        return [(number, word) for number, word in words if not word or not ENDS.issuperset(word)]

    def save(self, path: Path) -> None:
        """Write the Hugging Face ``tokenizers`` file; the fixed length is stored in it as truncation length."""
        self.backend.enable_truncation(self.length)
        self.backend.save(str(path))
        self.backend.no_truncation()

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        backend = Backend.from_file(str(path))
        return cls(backend, backend.truncation["max_length"] if backend.truncation else SHORTEST)


def _split(backend: Backend, sentence: str) -> list[str]:
    normalised = backend.normalizer.normalize_str(sentence)
    return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normalised)]
