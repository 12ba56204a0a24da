"""Task `mean-colour`: the mean colour of a picture. It lives outside edgesdk, and edgesdk finds it by its entry point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgesdk.tasks.options import TaskOptions
from edgesdk.tasks.results import check_array
from edgesdk.tasks.vision.base import PictureTask
from edgesdk.tasks.vision.placement import Placement


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeanColour:
    """What the task makes of a picture; `to_json` is what goes out over MQTT."""

    kind: ClassVar[str] = "mean_colour"
    rgb: NDArray[np.float32]
    """(3,) red, green, blue; 0..1."""
    is_dark: bool

    def __post_init__(self) -> None:
        check_array("MeanColour", "rgb", self.rgb, dtype=np.float32, shape=(3,))  # refuses NaN as well

    def to_json(self) -> dict[str, Any]:
        """``{"kind", "hex": "#rrggbb", "is_dark"}``."""
        red, green, blue = (int(value) for value in np.rint(self.rgb.clip(0, 1) * 255))
        return {"kind": self.kind, "hex": f"#{red:02x}{green:02x}{blue:02x}", "is_dark": self.is_dark}


class MeanColourOptions(TaskOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model spec may say below `options:`; a misspelt one is refused with the nearest."""

    dark_below: float = 0.25
    """Mean of red, green and blue below which a picture is dark, 0..1."""


class MeanColourTask(PictureTask[MeanColourOptions, MeanColour]):
    """`PictureTask` prepares the picture, runs the model, checks shapes and dequantizes; the meaning is ours."""

    Options: ClassVar[type[TaskOptions]] = MeanColourOptions

    def prepare(self) -> None:
        """Refuse a model whose outputs are no colour, when it is loaded and not at its first picture."""
        if len(self.contract.outputs) != 1 or int(np.prod(self.contract.outputs[0].shape)) != 3:
            raise self.refuse(
                "one output of three elements: red, green, blue", "Choose another task in the model spec."
            )

    def decode(self, outputs: Sequence[NDArray[np.float32]], placement: Placement) -> MeanColour:
        """Real numbers of the outputs into the typed result."""
        del placement  # would map the model's coordinates back to the picture's
        rgb = outputs[0].reshape(3)
        return MeanColour(rgb=rgb, is_dark=bool(rgb.mean() < self.options.dark_below))
