"""What is done with a selection: trained on, augmented, or appended as augmented copies."""

from __future__ import annotations

from dataclasses import dataclass

from .schedule import checked_count

_HOW = {
    "train": ("sampler", "only selected samples are drawn"),
    "augment": ("before augment", "only selected samples are augmented"),
    "append": ("after augment", "augmented copies of the selected rows are appended"),
}
_ORIGINALS = ("all", "selected", "random")


@dataclass(frozen=True)
class Use:
    """The arguments ``apply``, ``originals``, ``copies`` and ``weights`` of `Coreset`.

    Raises ValueError for other words, and for settings that do not go together.
    """

    apply: str
    originals: str
    copies: int
    weights: bool | float

    def __post_init__(self) -> None:
        checked_word("apply", self.apply, tuple(_HOW))
        checked_word("originals", self.originals, _ORIGINALS)
        checked_count("copies", self.copies, 1, "copies")
        weights = self.weights
        if not isinstance(weights, (bool, int, float)) or not weights >= 0 or (weights and weights < 1):
            raise ValueError(f"weights must be False, True or a multiple of the mean ≥ 1, got {weights!r}")
        if self.apply != "append" and (self.originals != "all" or self.copies != 1):
            raise ValueError(
                f'originals and copies are for apply="append", got apply={self.apply!r}; write apply="append", or '
                "leave them out"
            )
        if weights and not self.restricts:
            raise ValueError(
                f'weights are for apply="train", and for apply="append" with originals="selected", got '
                f"apply={self.apply!r} and originals={self.originals!r}; leave weights out"
            )

    @property
    def restricts(self) -> bool:
        """Whether only selected samples are trained on."""
        return self.apply == "train" or self.originals == "selected"

    def explain(self, name: str) -> list[tuple[str, str, str]]:
        """Rows for the loader's table; name: of the criterion."""
        rows = [(f"coreset: {name}", *_HOW[self.apply])]
        if self.originals != "all":
            rows.append((f"    originals: {self.originals}", "sampler", "trained on beside the augmented copies"))
        return rows

    def __repr__(self) -> str:
        more = f", originals={self.originals!r}, copies={self.copies}"
        return f"apply={self.apply!r}{more if (self.originals, self.copies) != ('all', 1) else ''}"


def checked_word(name: str, given: str, known: tuple[str, ...]) -> str:
    """``given`` if it is one of the ``known`` words, else a ValueError naming the argument."""
    if given not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {given!r}; write {name}={known[0]!r}")
    return given
