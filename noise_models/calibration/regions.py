"""Parts of a sensor: a readout tap, without its overscan; given in words on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from noise_models.base import CalibrationError
from noise_models.calibration.frame import Frame, FrameInfo

Box = tuple[int, int, int, int]
"""Top, bottom, left, right [px]; bottom and right are not part of it."""

_BOX: Final = r"(\d+):(\d+),(\d+):(\d+)"
_REGION: Final = re.compile(rf"(?:(?P<name>[A-Za-z0-9_-]+)=)?{_BOX}(?:;overscan={_BOX})?")


@dataclass(frozen=True)
class Region:
    """A part of the sensor with one readout, and the overscan that tells its black level."""

    name: str
    """Tells several taps apart; part of the profile's name."""
    box: Box
    """Light-sensitive pixels of this tap."""
    overscan: Box | None = None
    """Pixels that never saw light; their mean is subtracted from every frame."""

    @classmethod
    def parse(cls, text: str) -> Region:
        """Read ``[NAME=]TOP:BOTTOM,LEFT:RIGHT[;overscan=TOP:BOTTOM,LEFT:RIGHT]``.

        Raises
        ------
        CalibrationError
            If the text does not follow that form, or a box is empty.
        """
        found = _REGION.fullmatch(text.replace(" ", ""))
        if found is None:
            raise CalibrationError(
                f"The region '{text}' was not understood. Write NAME=TOP:BOTTOM,LEFT:RIGHT in pixels, and if wanted "
                "';overscan=TOP:BOTTOM,LEFT:RIGHT' after it: --region 'A=0:520,50:1074;overscan=0:520,1074:1076'."
            )
        figures = [int(item) for item in found.groups()[1:] if item is not None]
        boxes = [(figures[k], figures[k + 1], figures[k + 2], figures[k + 3]) for k in range(0, len(figures), 4)]
        for top, bottom, left, right in boxes:
            if bottom <= top or right <= left:
                raise CalibrationError(f"The region '{text}' holds no pixel: ends must lie beyond beginnings.")
        return cls(found["name"] or "", boxes[0], boxes[1] if len(boxes) > 1 else None)

    def describe(self, info: FrameInfo, path: Path) -> FrameInfo:
        """Return what the file says of this part.

        Raises
        ------
        CalibrationError
            If the part does not lie within the frame.
        """
        for _, bottom, _, right in filter(None, (self.box, self.overscan)):
            if bottom > info.shape[0] or right > info.shape[1]:
                raise CalibrationError(
                    f"The region {self.name or self.box} ends at row {bottom}, column {right}, but {path} measures "
                    f"{info.shape[1]}x{info.shape[0]}. Correct --region."
                )
        top, bottom, left, right = self.box
        if info.cfa != "MONO" and (top % 2 or left % 2):
            raise CalibrationError(
                f"The region {self.name or self.box} begins at row {top}, column {left}, but within a colour mosaic "
                "both must be even."
            )
        black = ((0.0, 0.0), (0.0, 0.0)) if self.overscan else info.black_dn
        return replace(info, shape=(bottom - top, right - left), black_dn=black)


def cut(frame: Frame, region: Region | None) -> Frame:
    """Return the part of a frame; with an overscan, float32 and above the overscan's mean."""
    if region is None:
        return frame
    top, bottom, left, right = region.box
    part = frame.mosaic[top:bottom, left:right]
    if region.overscan is None:
        return replace(frame, mosaic=part)
    first, last, begin, end = region.overscan
    level_dn = float(np.mean(frame.mosaic[first:last, begin:end], dtype=np.float64))
    return replace(frame, mosaic=part.astype(np.float32) - np.float32(level_dn))
