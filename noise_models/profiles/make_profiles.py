"""Make the profiles that ship, from the parameters that their authors published.

Run it by hand: ``python noise_models/profiles/make_profiles.py --parameters DIR``, DIR holding
``eld_camera_params.json``, ``pmn_camera_params.json``, ``pmn_sonya7s2_BLE_iso.json``, ``pmn_imx686_BLE_t.json`` and
``noise_g_SonyA7M4.yaml``.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noise_models.gain_point import ByPosition
from noise_models.profile import CameraProfile, GainPoint, Provenance, Scatter, StandardErrors
from noise_models.tukey_lambda import scale_from_sigma

ELD = 'K. Wei et al., "Physics-based noise modeling for extreme low-light photography", TPAMI 44(11), 2022: released'
PMN = 'H. Feng et al., "Learnability enhancement for low-light raw image denoising", TPAMI 46(1), 2024: released'
LED = 'X. Jin et al., "Lighting every darkness in two pairs", ICCV 2023: released'
ROW_NOTE = (
    "Row noise as published: the mean of a row of W pixels also carries the read noise / sqrt(W), which was not "
    "removed. Of the A7S2, with rows of 800 pixels, it is 2 to 10 % too high, most at high ISO; of the Redmi K30 13 to "
    "15 %; the other cameras' W is not published."
)
LINE_NOTE = (
    "One straight line over all ISOs, as published: where the sensor changes its conversion gain the read noise may be "
    "wrong by a third to four fifths. Gain is proportional to ISO."
)
LOOKUP_NOTE = (
    "Lambda and black-level error are those recorded at each ISO, two frames each, ascending from ISO 100: shown for "
    "the A7S2 by an independent measurement, assumed for the others."
)


@dataclass(frozen=True)
class Line:
    """One camera of ELD's kind: what the file does not say."""

    key: str
    """Name in the file."""
    make: str
    """Maker."""
    model: str
    """Model."""
    aliases: tuple[str, ...]
    """Other names of the model."""
    black_dn: float
    """Nominal black [DN]."""
    unverified: tuple[str, ...]
    """Fields that nobody measured."""
    fit: str = "Profile-1"
    """Which of the published fits."""
    variant: str = ""
    """See `CameraProfile.variant`."""
    notes: tuple[str, ...] = ()
    """What to know besides."""


_BLACK = ("black_dn", "white_dn")
LINES = (
    Line("SonyA7S2", "Sony", "A7S2", ("ILCE-7SM2", "Alpha 7S II"), 512, (), variant="eld-line"),
    Line(
        "NikonD850",
        "Nikon",
        "D850",
        (),
        400,
        _BLACK,
        fit="Profile-2",
        notes=(
            "The second of two published calibrations: its slopes near 1 and its scatter of 0.004 are those of one "
            "gain mode, and it agrees within 16 % with an independent measurement of the same model.",
        ),
    ),
    Line("CanonEOS70D", "Canon", "EOS 70D", ("70D",), 2048, _BLACK),
    Line("CanonEOS700D", "Canon", "EOS 700D", ("700D", "EOS Rebel T5i", "EOS Kiss X7i"), 2048, _BLACK),
    Line("CanonEOS5D4", "Canon", "EOS 5D Mark IV", ("5D4", "EOS 5D4"), 512, _BLACK),
)
# Positions (row, column) of planes in the order red, green, blue, green, in which color_bias is stored; for RGGB.
_RGBG = ((0, 0), (0, 1), (1, 1), (1, 0))
_FULL_STOPS = tuple(100.0 * 2**stop for stop in range(7))


def cell(values: Any) -> ByPosition:
    """Return four values in the order red, green, blue, green as a 2x2 cell of RGGB; one value fills it."""
    filled = np.zeros((2, 2))
    for position, value in zip(_RGBG, np.broadcast_to(np.asarray(values, np.float64), 4), strict=True):
        filled[position] = value
    return (float(filled[0, 0]), float(filled[0, 1])), (float(filled[1, 0]), float(filled[1, 1]))


def on_line(fit: dict[str, float], log_gain: float) -> float:
    """Return exp(slope * ln K + bias)."""
    return math.exp(fit["slope"] * log_gain + fit["bias"])


def sony_a7s2(per_iso: dict[str, dict[str, float]], bias_by_iso: dict[str, float]) -> CameraProfile:
    """Return the camera measured at 28 ISOs."""
    points = []
    for name, values in per_iso.items():
        iso = float(name.rsplit("_", 1)[1])
        errors = StandardErrors(read_scale_dn=values["sigTLsig"], row_sigma_dn=values["sigRsig"])
        points.append(
            GainPoint(
                iso=iso,
                gain_dn_per_e=values["Kmax"],
                read_scale_dn=values["sigTL"],
                read_lambda=values["lam"],
                row_sigma_dn=values["sigR"],
                bias_dn=cell(bias_by_iso[f"{iso:g}"]),
                bias_sigma_dn=values["biassig"],
                errors=errors,
            )
        )
    notes = (
        "Standard errors are the published spread over frames, an upper bound.",
        "The sensor has two conversion gains: read noise falls from 6.3 to 2.7 DN between ISO 1600 and 2000.",
        "The black-level error jumps between neighbouring ISOs (125 and 160, 8000 and 10000) and drifts with exposure; "
        "above 100 ms the camera subtracts a dark frame of its own. The values are those of short exposures.",
        ROW_NOTE,
    )
    return CameraProfile(
        make="Sony",
        model="A7S2",
        aliases=("ILCE-7SM2", "Alpha 7S II"),
        bit_depth=14,
        black_dn=cell(512),
        white_dn=16383,
        points=tuple(points),
        breaks_iso=(2000.0,),
        scatter=Scatter(ln_read=0.00712, ln_row=0.02832),
        provenance=Provenance(date="2023-08-01", sources=(f"{PMN} parameters of the A7S2 by ISO",), notes=notes),
    )


def eld_camera(line: Line, values: dict[str, Any]) -> CameraProfile:
    """Return a camera on ELD's line, at the full stops from ISO 100 to 6400 over which it was fitted."""
    fit, lambdas, biases = values[line.fit], values["G_shape"], np.asarray(values["color_bias"])
    points = []
    for stop, iso in enumerate(_FULL_STOPS):
        rows = slice(2 * stop, 2 * stop + 2)  # two recorded frames for each ISO, ascending
        gain = values["Kmin"] * 2**stop
        points.append(
            GainPoint(
                iso=iso,
                gain_dn_per_e=gain,
                read_scale_dn=on_line(fit["G_scale"], math.log(gain)),
                read_lambda=float(np.mean(lambdas[rows])),
                row_sigma_dn=on_line(fit["R_scale"], math.log(gain)),
                bias_dn=cell(biases[rows].mean(0)),
            )
        )
    return CameraProfile(
        make=line.make,
        model=line.model,
        variant=line.variant,
        aliases=line.aliases,
        bit_depth=14,
        black_dn=cell(line.black_dn),
        white_dn=16383,
        points=tuple(points),
        scatter=Scatter(ln_read=fit["G_scale"]["sigma"], ln_row=fit["R_scale"]["sigma"]),
        provenance=Provenance(
            date="2021-08-01",
            sources=(f"{ELD} parameters, {line.key}, {line.fit}",),
            unverified=line.unverified,
            notes=(*line.notes, LINE_NOTE, LOOKUP_NOTE, ROW_NOTE),
        ),
    )


def sony_a7m4(text: str) -> CameraProfile:
    """Return the camera on LED's line; the file has 30 values of lambda and 18 rows of black-level error."""
    values = read_yaml_numbers(text)
    stops = round(math.log2(values["Kmax"] / values["Kmin"]) * 3) / 3
    lambdas, biases = np.asarray(values["lambda"]), np.asarray(values["ColorBias"])
    points = []
    for stop, iso in enumerate(_FULL_STOPS):
        gain = values["Kmin"] * (values["Kmax"] / values["Kmin"]) ** (stop / 6)
        place = stop / 6
        bias = biases[2 * stop : 2 * stop + 2].mean(0)
        points.append(
            GainPoint(
                iso=iso,
                gain_dn_per_e=gain,
                read_scale_dn=on_line(values["TukeyLambda"], math.log(gain)),
                read_lambda=float(np.interp(place * (len(lambdas) - 1), np.arange(len(lambdas)), lambdas)),
                row_sigma_dn=on_line(values["Row"], math.log(gain)),
                bias_dn=cell(bias),
            )
        )
    notes = (
        f"The file gives the gain's range, 0.518 to 37.5 DN/e- ({stops:.2f} stops), not the ISOs: ISO 100 to 6400 with "
        "the gain growing evenly in stops is assumed, and lambda and black-level error are spread over them in order.",
        LINE_NOTE,
        ROW_NOTE,
    )
    return CameraProfile(
        make="Sony",
        model="A7M4",
        aliases=("ILCE-7M4", "Alpha 7 IV"),
        bit_depth=14,
        black_dn=cell(512),
        white_dn=16383,
        points=tuple(points),
        scatter=Scatter(ln_read=values["TukeyLambda"]["sigma"], ln_row=values["Row"]["sigma"]),
        provenance=Provenance(
            date="2023-10-01",
            sources=(f"{LED} parameters of the A7M4",),
            unverified=("points.iso", "points.read_lambda", "points.bias_dn", *_BLACK),
            notes=notes,
        ),
    )


def read_yaml_numbers(text: str) -> dict[str, Any]:
    """Return the numbers of a file of nested keys with one number or one list each."""
    found: dict[str, Any] = {}
    group: dict[str, Any] = found
    for line in text.splitlines():
        match = re.fullmatch(r"\s*(\w+):\s*(.*)", line)
        if match is None:
            continue
        key, value = match.groups()
        if not value:
            group = found.setdefault(key, {})
        elif re.match(r"[-\d\[]", value):
            target = found if key in ("Kmin", "Kmax", "lambda", "ColorBias") else group
            target[key] = json.loads(value)
    return found


def redmi_k30(line: dict[str, float], bias_by_exposure: dict[str, Any]) -> CameraProfile:
    """Return the phone's IMX686 on PMN's line, at the full ISOs over which it was fitted."""
    gain_per_iso = 1.366021e-3
    at_6400 = [offset for _, offset in bias_by_exposure["6400"]]  # planes red, green, blue, green
    points = []
    for iso in (640.0, 800.0, 1600.0, 3200.0, 6400.0):
        gain = gain_per_iso * iso
        points.append(
            GainPoint(
                iso=iso,
                gain_dn_per_e=gain,
                read_scale_dn=math.exp(line["sigTLk"] * math.log(gain) + line["sigTLb"]),
                read_lambda=line["lam"],
                row_sigma_dn=math.exp(line["sigRk"] * math.log(gain) + line["sigRb"]),
                bias_dn=cell(at_6400) if iso == 6400 else cell(0.0),
            )
        )
    notes = (
        "An author of a later paper says that the line of the read noise's scale has a bug and is to be measured anew: "
        "scale and Gaussian sigma stand in the ratio exp(0.6), which with lambda 0.102 would be exp(0.43), so the "
        "standard deviation here is 16 % below the published Gaussian one.",
        "Black-level error is known at ISO 6400 only, cold, at an exposure near 0; it grows by 3.3 DN a second. "
        "At other ISOs 0 is assumed.",
        ROW_NOTE,
    )
    return CameraProfile(
        make="Xiaomi",
        model="Redmi K30",
        aliases=("IMX686",),
        cfa="RGGB",
        bit_depth=10,
        black_dn=cell(64),
        white_dn=1023,
        points=tuple(points),
        scatter=Scatter(ln_read=line["sigTLsig"], ln_row=line["sigRsig"]),
        provenance=Provenance(
            date="2023-08-01",
            sources=(f"{PMN} parameters of the IMX686",),
            unverified=("points.read_scale_dn", "points.bias_dn", "cfa"),
            notes=notes,
        ),
    )


def finch() -> CameraProfile:
    """Return the pushbroom of the FINCH satellite as its team modelled it before it flew."""
    gain = 2**14 / 19000  # 14 bit over the full well [DN/e-]
    read_lambda = 0.14
    notes = (
        "FINCH EYE: 900 to 1700 nm, 10 nm resolution (about 80 bands), 100 m on the ground; an InGaAs detector of 640 "
        "x 512 elements of 15 um, full well 19000 e-, read noise 500 e-. Design figures, never measured in flight.",
        "They contradict each other: the dark current of 140000 e-/s over the stated integration of 166.7 ms is 23300 "
        "e-, more than the full well. Pass an exposure that leaves room for light, such as 20 ms.",
        "The dark current's own noise is its Poisson noise here; the team's sum takes the square of its mean instead.",
        "The black level of 2048 DN, 4.8 standard deviations of the read noise, is assumed, so that nothing is cut off "
        "in the dark; it leaves 16600 e- below white. ISO 100 stands for the one gain.",
    )
    return CameraProfile(
        make="FINCH",
        model="EYE",
        aliases=("FINCH",),
        geometry="pushbroom",
        cfa="MONO",
        bit_depth=14,
        black_dn=cell(2048),
        white_dn=16383,
        points=(
            GainPoint(
                iso=100.0,
                gain_dn_per_e=gain,
                read_scale_dn=scale_from_sigma(500 * gain, read_lambda),
                read_lambda=read_lambda,
                dark_current_e_per_s=140e3,
            ),
        ),
        provenance=Provenance(
            date="2024-06-08",
            sources=(
                "UTAT Space Systems: models of the FINCH payload (Teledyne FLIR Tau SWIR)",
                "FINCH EYE optics, arXiv 2506.17480",
            ),
            unverified=("black_dn", "white_dn", "points.iso", "points.read_lambda", "points.dark_current_e_per_s"),
            notes=notes,
        ),
    )


def main() -> None:
    """Write every profile beside this file."""
    parser = argparse.ArgumentParser(description="Make the profiles that ship from published parameters.")
    parser.add_argument("--parameters", type=Path, required=True, help="folder of the published files")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="where the profiles go")
    options = parser.parse_args()

    def read(name: str) -> Any:
        return json.loads((options.parameters / name).read_text(encoding="utf-8"))

    pmn, eld = read("pmn_camera_params.json"), read("eld_camera_params.json")
    profiles = [
        sony_a7s2(pmn["per_iso"], read("pmn_sonya7s2_BLE_iso.json")),
        *(eld_camera(line, eld[line.key]) for line in LINES),
        sony_a7m4((options.parameters / "noise_g_SonyA7M4.yaml").read_text(encoding="utf-8")),
        redmi_k30(pmn["loglinear"]["IMX686"], read("pmn_imx686_BLE_t.json")),
        finch(),
    ]
    for profile in profiles:
        profile.save(options.out / f"{profile.id}.json")


if __name__ == "__main__":
    main()
