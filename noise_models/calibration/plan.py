"""Which frames to shoot."""

from __future__ import annotations


def plan_text(camera: str) -> str:
    """Return instructions for calibrating a camera, in plain text.

    Parameters
    ----------
    camera : str
        Its name, as the user writes it.

    Returns
    -------
    str
        Lines of at most 100 characters.
    """
    return f"""\
Frames to calibrate {camera}

Set the camera to RAW at its full bit depth (not compressed with loss), manual exposure, manual focus.
Switch off long-exposure and high-ISO noise reduction, lens corrections, and automatic ISO.
Let it lie switched on for ten minutes, so that the sensor's temperature is steady.

1. Dark frames: which noise the sensor makes by itself. No lamp, no lens needed.
   Lens or body cap on, viewfinder covered, dark room.
   At each full-stop ISO that you use (100, 200, 400 ... and the stops around 640 to 3200,
   where many sensors switch their conversion gain):
     16 frames at a short exposure (1/100 s). Two are the least, 50 give a good map of the fixed pattern.
   At one high ISO, for the dark current:
     4 frames each at 1 s, 4 s and 15 s.

2. Flat frames: how many DN an electron makes. Without them the gain comes from --photos, less exactly.
   An even light: a white computer screen or an overcast sky, through white paper on the lens,
   lens fully out of focus. A steady lamp: daylight, or LED with exposures above 1/30 s.
   At each of the same ISOs (every second one is enough):
     8 brightnesses, 2 frames each, by changing the exposure time in steps from
     about 3 % up to 70 % of saturation (histogram from the left edge to just right of the middle),
     and one pair that is fully overexposed.

3. Put darks and flats into two folders and run
     denoise calibrate --darks DARKS --flats FLATS -o {_slug(camera)}.json --report {_slug(camera)}.html

For 9 ISOs these are about 160 dark and 160 flat frames, half an hour with an intervalometer.
"""


def _slug(camera: str) -> str:
    words = "".join(letter if letter.isalnum() else " " for letter in camera.lower()).split()
    return "-".join(words) or "camera"
