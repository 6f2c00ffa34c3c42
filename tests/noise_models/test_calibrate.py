"""From frames to profile: found again, told apart, refused with the remedy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from simulated_sensor import A7S2, SimulatedSensor, Truth

from noise_models.base import CalibrationError
from noise_models.calibration.blind_gain import BlindGain, pool
from noise_models.calibration.estimate import Calibration, calibrate
from noise_models.calibration.frames import Frame, FrameFile, from_csv, group
from noise_models.calibration.plan import plan_text
from noise_models.calibration.readers import ImageReader
from noise_models.calibration.regions import Region
from noise_models.calibration.summary import as_record, as_text
from noise_models.profile import CameraProfile

ONE = {800: A7S2[800]}


def of(sensor: SimulatedSensor, files: list[FrameFile], **options) -> Calibration:
    return calibrate(group(files, sensor), maps=False, **options)


def names(found: Calibration) -> set[str]:
    return {check.name for check in found.checks if check.severity != "ok"}


def test_dual_gain_camera_is_found_again(tmp_path):
    sensor = SimulatedSensor(A7S2, seed=4, shape=(192, 192))
    found = calibrate(group([*sensor.darks(), *sensor.flats()], sensor))
    assert found.go
    assert found.profile.breaks_iso == (3200.0,)
    for point in found.profile.points:
        truth = A7S2[int(point.iso)]
        assert point.gain_dn_per_e == pytest.approx(truth.gain, rel=0.015)
        assert point.read_sigma_dn == pytest.approx(truth.sigma, rel=0.02)
        assert point.read_lambda == pytest.approx(truth.shape, abs=0.02)
        assert point.row_sigma_dn == pytest.approx(truth.row, rel=0.12)
        assert np.abs(np.array(point.bias_dn) - sensor.bias).max() < 3 * (point.errors.bias_dn or 0)
    saved = found.save(tmp_path / "sim.json")
    loaded = CameraProfile.load(saved)
    assert loaded.load_fixed_pattern() is not None
    assert loaded.points == found.profile.points
    assert loaded.noise_level(800).shot[0] == pytest.approx(A7S2[800].gain / (16383 - 512), rel=0.015)
    assert as_record(found, saved, None)["verdict"] == "go"
    assert "verdict: go" in as_text(found, saved, None)


def test_dark_frames_alone_leave_the_gain_unknown():
    sensor = SimulatedSensor(ONE, shape=(96, 96))
    found = of(sensor, sensor.darks())
    assert found.go
    assert found.profile.points[0].gain_dn_per_e is None
    assert "dark frames alone" in found.profile.provenance.notes[0]
    assert "gain" in names(found)


def test_gain_from_photographs():
    def estimate(path: Path) -> BlindGain:
        if path.name == "bad":
            raise CalibrationError("no flat area")
        return BlindGain(1600, 1600 * 9.5e-4 * (1 + 0.02 * int(path.name)), 0.05)

    gains = pool([Path(name) for name in ("-1", "0", "1", "bad")], estimate)
    sensor = SimulatedSensor(ONE, shape=(96, 96))
    point = of(sensor, sensor.darks(), photos=gains).profile.points[0]
    assert point.gain_dn_per_e == pytest.approx(0.76, rel=0.02)
    assert point.errors.gain_dn_per_e is not None
    with pytest.raises(CalibrationError, match=r"no flat area.*--flats"):
        pool([Path("bad")], estimate)


def test_gain_between_isos_follows_from_their_neighbours():
    sensor = SimulatedSensor({iso: A7S2[iso] for iso in (200, 400, 800)}, shape=(128, 128))
    flats = [file for file in sensor.flats() if "_400_" not in file.path.name]
    found = of(sensor, [*sensor.darks(), *flats])
    assert found.profile.points[1].gain_dn_per_e == pytest.approx(A7S2[400].gain, rel=0.02)
    assert "flats at every ISO" in names(found)
    assert found.profile.provenance.unverified == ("gain_dn_per_e",)


def test_light_in_the_darks_is_refused():
    sensor = SimulatedSensor(ONE, shape=(96, 96), leak=3000)
    with pytest.raises(CalibrationError, match=r"hold light.*Cap the lens"):
        of(sensor, sensor.darks())


@pytest.mark.parametrize("states_levels", [True, False])
def test_one_dark_frame_with_light_in_it_is_named(states_levels):
    sensor = SimulatedSensor(ONE, shape=(96, 96), states_levels=states_levels)
    files = sensor.darks()
    files[3] = FrameFile(Path("dark_800_0.01_400_003"), "dark")  # 400 electrons: 2 % of the range
    with pytest.raises(CalibrationError, match=r"hold light.*dark_800_0.01_400_003 is 8\d\d DN.*others 51\d DN"):
        of(sensor, [*files, *sensor.flats()])


def test_clipped_darks_are_no_go_and_nothing_is_written(tmp_path):
    sensor = SimulatedSensor(ONE, shape=(96, 96), black=0.0, bias=np.zeros((2, 2)))
    found = of(sensor, sensor.darks())
    assert not found.go
    assert "dark frames not clipped" in names(found)
    with pytest.raises(CalibrationError, match="No profile was written"):
        found.save(tmp_path / "bad.json")
    assert list(tmp_path.iterdir()) == []


def test_no_darks_no_frames():
    sensor = SimulatedSensor(ONE, shape=(64, 64))
    with pytest.raises(CalibrationError, match="No frame was given"):
        group([], sensor)
    with pytest.raises(CalibrationError, match="--darks"):
        of(sensor, sensor.flats())


@pytest.mark.parametrize(
    ("change", "words"),
    [({"model": "Other"}, "one camera"), ({"shape": (64, 66)}, "size"), ({"cfa": "BGGR"}, "colour filter")],
)
def test_mixed_cameras_sizes_and_patterns_are_refused(change, words):
    sensor = SimulatedSensor(ONE, shape=(64, 64))
    plain = sensor.describe
    sensor.describe = lambda path: replace(plain(path), **change) if path.name.endswith("3") else plain(path)
    with pytest.raises(CalibrationError, match=words):
        group(sensor.darks(), sensor)


@pytest.mark.parametrize("kind", ["nan", "constant", "size"])
def test_broken_frames_are_refused(kind):
    sensor = SimulatedSensor(ONE, shape=(64, 64))
    plain = sensor.read

    def read(path: Path) -> Frame:
        frame = plain(path)
        if kind == "nan":
            mosaic = frame.mosaic.astype(np.float32)
            mosaic[3, 4] = np.nan
        elif kind == "constant":
            mosaic = np.full_like(frame.mosaic, 512)
        else:
            mosaic = frame.mosaic[:32]
        return replace(frame, mosaic=mosaic)

    sensor.read = read
    with pytest.raises(
        CalibrationError, match={"nan": "not finite", "constant": "same value", "size": "measures"}[kind]
    ):
        of(sensor, sensor.darks())


def test_flickering_light_is_told():
    sensor = SimulatedSensor(ONE, shape=(96, 96))
    files = [*sensor.darks(), *sensor.flats((0.1, 0.2, 0.4, 0.6))]
    flats = [
        FrameFile(file.path.with_name(_brighter(file.path.name)), "flat") if file.kind == "flat" else file
        for file in files
    ]
    found = of(sensor, flats)
    assert "light steady" in names(found)
    assert found.profile.points[0].gain_dn_per_e == pytest.approx(A7S2[800].gain, rel=0.03)


def _brighter(name: str) -> str:
    kind, iso, exposure, light, number = name.split("_")
    return f"{kind}_{iso}_{exposure}_{float(light) * (1 + 0.04 * int(number))}_{number}"


def test_levels_that_no_file_states_come_from_the_frames():
    sensor = SimulatedSensor(ONE, shape=(96, 96), cfa="MONO", states_levels=False)
    found = of(sensor, [*sensor.darks(), *sensor.flats((0.1, 0.3, 0.5, 0.65, 1.3))], make="Some", model="Thing")
    assert found.profile.white_dn == 16383
    assert np.mean(found.profile.black_dn) == pytest.approx(513.65, abs=1)
    assert found.profile.geometry == "mono"
    assert found.profile.id == "some-thing"


def test_a_tail_cut_off_at_zero_is_named():
    sensor = SimulatedSensor({800: Truth(3.0, 20.0, -0.2, 1.0)}, black=100, shape=(192, 192))  # zero is 5 sigma below
    found = of(sensor, sensor.darks())
    check = next(check for check in found.checks if check.name == "dark frames not clipped")
    assert check.severity == "note"
    assert "are 0 DN" in check.found
    assert "dark frames not clipped" not in names(of(SimulatedSensor(ONE, shape=(192, 192)), sensor.darks()))


def test_white_is_found_wherever_the_brightest_frame_stands():
    sensor = SimulatedSensor(ONE, shape=(96, 96), cfa="MONO", states_levels=False)
    flats = sensor.flats((0.1, 0.3, 0.5, 0.65))
    alike = [replace(file, exposure_s=0.01) for file in flats]  # no metadata: one stack, the darkest first
    found = of(sensor, [*sensor.darks(), *alike])
    assert (found.profile.white_dn, found.profile.bit_depth) == (16383, 14)
    assert found.profile.points[0].gain_dn_per_e == pytest.approx(A7S2[800].gain, rel=0.05)
    assert "white level" in names(found)
    darks_alone = of(sensor, sensor.darks())
    assert darks_alone.profile.white_dn == 65535
    assert "no flat frame" in next(check.found for check in darks_alone.checks if check.name == "white level")


def test_table_of_png_frames(tmp_path):
    sensor = SimulatedSensor({100: Truth(0.3, 3.0, 0.14, 0.3)}, shape=(96, 96), white=4095, black=64)
    lines = ["file,kind,exposure_ns,photons_per_pixel"]
    for number, file in enumerate([*sensor.darks(4), *sensor.flats((0.1, 0.2, 0.4, 0.6, 1.4))]):
        _, _, exposure, light, _ = file.path.name.split("_")
        cv2.imwrite(str(tmp_path / f"{number}.png"), sensor.read(file.path).mosaic)
        lines.append(f"{number}.png,{file.kind},{float(exposure) * 1e9:.0f},{light}")
    (tmp_path / "frames.csv").write_text("\n".join(lines))
    found = calibrate(group(from_csv(tmp_path / "frames.csv"), ImageReader()), maps=False)
    assert found.profile.points[0].gain_dn_per_e == pytest.approx(0.3, rel=0.03)
    assert found.profile.white_dn == 4095


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,kind\na,dark", "exposure_s"),
        ("file,kind,exposure_s,colour\n", "colour"),
        ("file,kind,exposure_s\na,grey,1", "dark or flat"),
        ("file,kind,exposure_s\na,dark,-1", "from 0 up"),
        ("file,kind,exposure_s\n", "no file"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, words):
    (tmp_path / "frames.csv").write_text(text)
    with pytest.raises(CalibrationError, match=words):
        from_csv(tmp_path / "frames.csv")


def test_pictures_are_no_frames(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "b.jpg").write_bytes(b"x")
    (tmp_path / "c.png").write_bytes(b"not a picture")
    for name, words in (("a.png", "one channel"), ("b.jpg", "JPEG"), ("c.png", "damaged"), ("d.tif", "cannot be read")):
        with pytest.raises(CalibrationError, match=words):
            ImageReader().read(tmp_path / name)


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"EXPTIME": (2.5, "exposure in seconds")}, (2.5, None, "MONO")),
        ({"XPOSURE": (0.25, "")}, (0.25, None, "MONO")),
        ({"EXP_TIME": (40, "[ms] integration")}, (0.04, None, "MONO")),
        ({"IMG_EXP": (1999, "Exposure (ms)")}, (1.999, None, "MONO")),
        ({"EXPOSURE": (1500, "exposure time in microseconds")}, (0.0015, None, "MONO")),
        ({"EXPTIME": (3, "us")}, (3e-6, None, "MONO")),
        ({"EXPTIME": (1.0, "[s] sums of exposures"), "ISOSPEED": (800, "")}, (1.0, 800.0, "MONO")),
        ({"EXPTIME": (1.0, ""), "GAIN": (120, "Sensor gain"), "BAYERPAT": ("GRBG", "")}, (1.0, 120.0, "GRBG")),
        ({"EXPTIME": (1.0, ""), "GAIN": (0, ""), "BAYERPAT": ("RGGB", ""), "XBAYROFF": (1, "")}, (1.0, 1.0, "MONO")),
        ({"EXPTIME": (1.0, ""), "GAIN": (2, "e-/ADU")}, (1.0, None, "MONO")),
        ({}, (None, None, "MONO")),
    ],
)
def test_fits_keywords(tmp_path, cards, expected):
    fits = pytest.importorskip("astropy.io.fits", reason="FITS needs the extra [astro]")
    unit = fits.PrimaryHDU(np.zeros((8, 6), np.uint16))
    for name, (value, comment) in cards.items():
        unit.header[name] = (value, comment)
    unit.writeto(tmp_path / "frame.fits")
    info = ImageReader().describe(tmp_path / "frame.fits")
    assert info.shape == (8, 6)
    assert (info.exposure_s, info.iso, info.cfa) == (pytest.approx(expected[0]), *expected[1:])


def test_regions():
    region = Region.parse("A=0:64,2:66;overscan=0:64,66:70")
    assert (region.name, region.box, region.overscan) == ("A", (0, 64, 2, 66), (0, 64, 66, 70))
    for text in ("0:0,1:2", "A=1,2,3,4", ""):
        with pytest.raises(CalibrationError, match="region"):
            Region.parse(text)
    sensor = SimulatedSensor(ONE, shape=(64, 96), cfa="MONO")
    found = calibrate(group(sensor.darks(5), sensor, region=region), maps=False)
    assert found.profile.variant == "A"
    assert np.abs(found.profile.points[0].bias_dn).max() < 1
    assert found.profile.points[0].read_sigma_dn == pytest.approx(A7S2[800].sigma, rel=0.05)
    with pytest.raises(CalibrationError, match="Correct --region"):
        group(sensor.darks(2), sensor, region=Region.parse("0:99,0:99"))


def test_plan_names_the_camera_and_the_command():
    text = plan_text("Sony A7S II")
    assert "Sony A7S II" in text
    assert "denoise calibrate --darks" in text
    assert "sony-a7s-ii.json" in text
