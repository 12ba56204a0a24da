"""Characters that a variant reads alike: edit distance to the float model's text, and to the truth where it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract
from edgesdk_converters.guard.budget import Budget, short_of
from edgesdk_converters.guard.metrics.api import Decoder, Shortfall

Array = NDArray[Any]


def edit_distance(a: str, b: str) -> int:
    """Fewest insertions, deletions and replacements of one character that turn ``a`` into ``b`` (Levenshtein)."""
    if len(a) < len(b):
        a, b = b, a
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


class TextMetric:
    """Character accuracy over all evaluation lines together: 1 minus edits per reference character, at least 0."""

    labelled: ClassVar[bool] = True

    def __init__(self, contract: Contract) -> None:
        self._decode = Decoder(contract)
        self._edits = self._characters = self._lines = 0
        self._truth = self._mine = self._theirs = 0

    def add(self, expected: Sequence[Array], got: Sequence[Array], label: str | None = None) -> None:
        """One inference, which is one line that fits the model's width; ``label`` is what it really says."""
        theirs, mine = self._text(expected), self._text(got)
        self._lines += 1
        self._edits += edit_distance(theirs, mine)
        self._characters += len(theirs)
        if label is not None:
            self._truth += len(label)
            self._mine += edit_distance(label, mine)
            self._theirs += edit_distance(label, theirs)

    def result(self) -> dict[str, float]:
        """``character_agreement`` with float; with labels also ``character_accuracy`` and ``float_character_accuracy``."""
        figures = {}
        if self._characters:
            figures["character_agreement"] = round(_accuracy(self._edits, self._characters), 4)
        if self._truth:
            figures["character_accuracy"] = round(_accuracy(self._mine, self._truth), 4)
            figures["float_character_accuracy"] = round(_accuracy(self._theirs, self._truth), 4)
        return figures

    def missed(self, budget: Budget) -> tuple[Shortfall, ...]:
        """Less agreement with float's text than is asked for; with ``max_drop``, more lost of the accuracy, or of the agreement without labels."""
        if not self._characters:
            text = (
                f"the float model reads nothing in the {self._lines} held-out lines: no character says that this variant still reads. "
                "Give --evaluation lines with text in them"
            )
            return (Shortfall(text=text, margin=-1.0),)
        found = []
        if self._edits > budget.allowed_misses(self._characters):
            reached = _accuracy(self._edits, self._characters)
            text = (
                f"character agreement {short_of(reached, budget.min_agreement, 3)} with the text of the float model, expected at least {budget.min_agreement:g} "
                f"({self._edits} edits in {self._characters} characters)"
            )
            found.append(Shortfall(text=text, margin=reached - budget.min_agreement))
        if budget.max_drop is not None:
            against = "the labels" if self._truth else "the text of the float model"
            count = self._truth or self._characters
            lost = self._mine - self._theirs if self._truth else self._edits
            if lost > budget.allowed_drop(count):
                text = (
                    f"character accuracy against {against}: {100 * lost / count:.2f} percentage points lost, "
                    f"expected at most {100 * budget.max_drop:g} ({count} characters)"
                )
                found.append(Shortfall(text=text, margin=budget.max_drop - lost / count))
        return tuple(found)

    def _text(self, outputs: Sequence[Array]) -> str:
        return str(getattr(self._decode(outputs), "text", ""))


def _accuracy(edits: int, characters: int) -> float:
    return max(0.0, 1 - edits / characters)
