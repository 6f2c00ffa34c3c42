"""``denoise calibrate``: dark and flat frames in, a camera profile and its report out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import console

if TYPE_CHECKING:
    from noise_models.calibration.estimate import Calibration


def calibrate_command(
    darks: Annotated[
        list[str] | None, typer.Option("--darks", help="Folder, glob or file of dark frames; may be repeated.")
    ] = None,
    flats: Annotated[
        list[str] | None, typer.Option("--flats", help="Folder, glob or file of flat frames; may be repeated.")
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(
            "--frames",
            metavar="FILE.csv",
            help="A table instead: file, kind (dark or flat), exposure_s or exposure_ns, iso, photons_per_pixel.",
        ),
    ] = None,
    photos: Annotated[
        list[str] | None,
        typer.Option("--photos", help="RAW photographs of the camera: its gain, where there are no flats."),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            "--region",
            metavar="NAME=T:B,L:R",
            help="Part of the sensor with its own readout, and ';overscan=T:B,L:R'; repeated: one profile each.",
        ),
    ] = None,
    camera: Annotated[str, typer.Option(help='"MAKE MODEL", where the files do not say it.')] = "",
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="CAMERA", help="Say which frames to shoot, and stop.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The profile to write.")] = Path("camera.json"),
    report: Annotated[
        Path | None, typer.Option("--report", help="Also write a page of curves and numbers (.html).")
    ] = None,
    proxy: Annotated[
        bool, typer.Option("--proxy", help="Also train a noise proxy on the darks: minutes; noise model 'pnnp'.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error arose.")] = False,
) -> None:
    """Measure a camera's sensor.

    Example: denoise calibrate --darks darks/ --flats flats/ -o camera.json --report camera.html
    """
    console.start_logging(False, quiet)
    if plan is not None:
        from noise_models.calibration.plan import plan_text

        typer.echo(plan_text(plan))
        return
    if not (darks or frames):
        raise console.usage_error("Nothing to measure: give --darks (and --flats), or --frames FILE.csv, or --plan.")
    with console.errors_as_lines(traceback):
        from noise_models.calibration.regions import Region

        regions = [Region.parse(text) for text in region] if region else [None]
    targets = _targets(output, report, [part.name if part else "" for part in regions], overwrite)
    make, _, model = camera.partition(" ")
    go = True
    for part, (target, page) in zip(regions, targets, strict=True):
        with console.errors_as_lines(traceback):
            from denoise.calibration import calibrate_files

            found = calibrate_files(
                darks=darks or (), flats=flats or (), table=frames, photos=photos or (), region=part,
                make=make, model=model or (target.stem if make else ""),
                proxy_folder=target.with_suffix(".proxy-training") if proxy else None,
                progress=None if quiet else console.say,
            )  # fmt: skip
            _write(found, target, page)
            _tell(found, target, page, as_json, quiet)
        go = go and found.go
    if not go:
        console.say("error: no-go: no profile was written. Follow the remedies above and shoot those frames again.")
        raise typer.Exit(console.FAILED)


def _targets(output: Path, report: Path | None, names: list[str], overwrite: bool) -> list[tuple[Path, Path | None]]:
    """Return profile and page of every region; several have its name in theirs."""
    if len(set(names)) < len(names):
        raise console.usage_error("Several regions need names: --region A=0:520,0:1024 --region B=0:520,1024:2048.")
    targets = [(_named(output, name), _named(report, name) if report else None) for name in names]
    taken = [path for pair in targets for path in pair if path is not None and path.exists()]
    if taken and not overwrite:
        raise console.usage_error(f"{taken[0]} exists already. Pass --overwrite or another name.")
    return targets


def _named(path: Path, name: str) -> Path:
    return path.with_name(f"{path.stem}.{name}{path.suffix}") if name else path


def _write(found: Calibration, target: Path, page: Path | None) -> None:
    """Write the page, and the profile if it is sound."""
    if page is not None:
        from noise_models.calibration.report import write_report

        write_report(found, page)
    if found.go:
        found.save(target)


def _tell(found: Calibration, target: Path, page: Path | None, as_json: bool, quiet: bool) -> None:
    """Show the verdict, what was found, and a line for each ISO."""
    from noise_models.calibration.summary import as_record, as_text

    if as_json:
        console.emit(as_record(found, target, page))
    elif not quiet:
        for line in as_text(found, target, page):
            console.say(line)
