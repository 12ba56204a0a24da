"""BERT's tokenizer for uncased models: words into pieces of its vocabulary, longest first."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LONGEST_WORD = 100
"""Characters; a longer word is unknown, as in BERT."""


class WordPiece:
    """Sentences to token ids."""

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self._ids = dict(vocabulary)
        self._unknown = self._ids["[UNK]"]

    @classmethod
    def from_file(cls, path: Path) -> WordPiece:
        """Out of a `tokenizer.json`."""
        return cls(json.loads(path.read_text("utf-8"))["model"]["vocab"])

    def __call__(self, text: str, tokens: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """``input_ids`` and ``attention_mask``, (1, tokens) each: [CLS], the pieces that fit, [SEP], padding."""
        pieces = self.ids(text)[: tokens - 2]
        row = [self._ids["[CLS]"], *pieces, self._ids["[SEP]"]]
        ids, mask = np.zeros((1, tokens), np.int64), np.zeros((1, tokens), np.int64)
        ids[0, : len(row)], mask[0, : len(row)] = row, 1
        return ids, mask

    def ids(self, text: str) -> list[int]:
        """Pieces of a sentence, without [CLS] and [SEP]."""
        return [piece for word in _words(text) for piece in self._pieces(word)]

    def _pieces(self, word: str) -> list[int]:
        if len(word) > LONGEST_WORD:
            return [self._unknown]
        pieces: list[int] = []
        start = 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = self._ids.get(("##" if start else "") + word[start:end])
                if piece is not None:
                    pieces.append(piece)
                    start = end
                    break
            else:
                return [self._unknown]
        return pieces


def _words(text: str) -> list[str]:
    """Lower case, accents off, punctuation and Chinese characters on their own."""
    plain = unicodedata.normalize("NFD", text.lower())
    spaced = []
    for character in plain:
        category = unicodedata.category(character)
        if category == "Mn":
            continue
        if character in "\t\n\r" or category == "Zs":
            spaced.append(" ")
        elif category.startswith("C") or character == "\ufffd":
            continue
        elif category.startswith("P") or _ascii_symbol(character) or 0x4E00 <= ord(character) <= 0x9FFF:
            spaced.append(f" {character} ")
        else:
            spaced.append(character)
    return "".join(spaced).split()


def _ascii_symbol(character: str) -> bool:
    return character < "\x7f" and character.isprintable() and not character.isalnum() and character != " "
