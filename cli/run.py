"""``denoise run``: files in, cleaner files out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import console


def run(
    inputs: Annotated[list[str], typer.Argument(metavar="IN...", help="Files, folders, globs, or @list.txt.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file (for one input) or a folder; default: beside IN.")
    ] = None,
    model: Annotated[
        str, typer.Option(envvar="DENOISE_MODEL", help="auto, fast, an id, a method's name, or a .safetensors file.")
    ] = "auto",
    noise: Annotated[
        str,
        typer.Option(help="auto, file (the DNG's own), profile, blind, or SHOT,READ: var = SHOT*x + READ, x in 0..1."),
    ] = "auto",
    profile: Annotated[
        str,
        typer.Option(
            help="A camera.json or an id; auto: by make and model; none. Default: yours of that camera, if any."
        ),
    ] = "",
    strength: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="1 removes all that the model removes; 0.7 leaves 0.3 sigma.")
    ] = 1.0,
    format_: Annotated[
        str | None,
        typer.Option("--format", help="dng, tiff, png, jpeg, envi or npy; default: dng for RAW, else as IN."),
    ] = None,
    suffix: Annotated[str, typer.Option(help="Added to the name of each output.")] = "_dn",
    keep_tree: Annotated[bool, typer.Option("--keep-tree", help="Keep the folders below IN within OUT.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave out inputs already done.")] = False,
    device: Annotated[str, typer.Option(envvar="DENOISE_DEVICE", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    tile: Annotated[
        str, typer.Option(help="auto, or the largest side of a tile in pixels of a colour plane.")
    ] = "auto",
    max_memory: Annotated[
        str | None, typer.Option(envvar="DENOISE_MAX_MEMORY", help="Most memory to hold, such as 2GiB or 900MiB.")
    ] = None,
    compression: Annotated[str, typer.Option(help="Of the DNG: lossless-jpeg or none.")] = "lossless-jpeg",
    variable: Annotated[str, typer.Option(help="Which array of a .mat, .h5 or .nc file that holds several.")] = "",
    band_axis: Annotated[
        str, typer.Option(help="Where a .npy, .mat or .h5 has its bands: auto, first or last.")
    ] = "auto",
    sidecar: Annotated[bool, typer.Option(help="Write OUT.json: what was done, how, and how well it fits.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, its memory and time, and stop.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first file that fails.")] = False,
    views: Annotated[
        int, typer.Option(help="2 or 4: the mean over so many mirrored views, a little better, for as much more time.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of models that draw random numbers.")] = 0,
    json_: Annotated[bool, typer.Option("--json", help="One JSON record an event on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error arose.")] = False,
) -> None:
    """Denoise files.

    Example: denoise run night.ARW -o night.dng
    """
    console.start_logging(verbose, quiet)
    if overwrite and skip_existing:
        raise console.usage_error("--overwrite and --skip-existing say different things; give one of them.")
    with console.errors_as_lines(traceback):
        from denoise.jobs import Options, parse_size, plan_jobs

        options = Options(
            model=model, noise=noise, profile=profile, strength=strength, format=format_, device=device,
            precision=precision, tile=tile, max_memory=parse_size(max_memory), compression=compression,
            variable=variable, band_axis=band_axis, sidecar=sidecar, seed=seed,
            views=views,
        )  # fmt: skip
        jobs = plan_jobs(inputs, output, options, suffix=suffix, keep_tree=keep_tree)
    if skip_existing:
        for job in jobs:
            if job.target.exists():
                _tell(json_, quiet, {"event": "skipped", "input": str(job.source), "output": str(job.target)})
        jobs = [job for job in jobs if not job.target.exists()]
    taken = [path for job in jobs for path in job.writes if path.exists()]
    if taken and not overwrite and not dry_run:
        names = ", ".join(map(str, taken[:3])) + (" ..." if len(taken) > 3 else "")
        raise console.usage_error(
            f"{len(taken)} output{'s' if len(taken) > 1 else ''} already there ({names}). "
            "Pass --overwrite, --skip-existing or another -o."
        )
    there = [job for job in jobs if job.source.exists()]
    own = [job.source for job in there for path in job.writes if path.exists() and path.samefile(job.source)]
    if own:
        raise console.usage_error(f"{own[0]} would overwrite itself, which is never done. Pass another -o.")
    failures = _run_all(jobs, options, dry_run, fail_fast, json_, quiet, traceback)
    if failures and len(jobs) > 1:
        console.say(f"{len(failures)} of {len(jobs)} files failed:")
        for job, error in failures:
            console.say(f"  {job.source}: {console.reason(error)}")
        raise typer.Exit(console.FAILED)
    if failures:
        raise typer.Exit(console.exit_code(failures[0][1]))


def _run_all(
    jobs: list[Any], options: Any, dry_run: bool, fail_fast: bool, as_json: bool, quiet: bool, traceback: bool
) -> list[tuple[Any, Exception]]:
    """Do one job after the other; returns those that failed, with their errors."""
    failures: list[tuple[Any, Exception]] = []
    with console.errors_as_lines(traceback), _runner(jobs, options) as runner:
        for job in jobs:
            try:
                if dry_run:
                    record = runner.plan(job)
                else:
                    with _progress(job.source.name, quiet or as_json) as progress:
                        record = runner.run(job, progress)
            except Exception as error:  # whatever it is, the other files are done
                if traceback:
                    raise
                failures.append((job, error))
                why = console.reason(error)
                _tell(as_json, False, {"event": "failed", "input": str(job.source), "error": why})
                if fail_fast:
                    break
                continue
            _tell(as_json, quiet, record)
    return failures


def _runner(jobs: list[Any], options: Any) -> Any:
    """Return what does the jobs; the first file is read while torch loads, which takes longer."""
    from concurrent.futures import ThreadPoolExecutor

    from denoise.jobs import read_input

    pool = ThreadPoolExecutor(1, "read")
    ahead = {job.source: pool.submit(read_input, job.source, options) for job in jobs[:1]}
    pool.shutdown(wait=False)
    from denoise.batch import Runner
    from denoise.engine.device import keep_memory

    keep_memory()
    return Runner(options, ahead)


def _progress(name: str, silent: bool) -> Any:
    """Return a context manager that yields a function (done, total) drawing a bar with the time left."""
    from contextlib import contextmanager

    @contextmanager
    def bar() -> Any:
        import sys

        if silent or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
                   TimeRemainingColumn())  # fmt: skip
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(name, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    return bar()


def _tell(as_json: bool, quiet: bool, record: dict[str, Any]) -> None:
    """Show an event: as a JSON record, or as lines for people."""
    if as_json:
        console.emit(record)
        return
    event = record["event"]
    if event == "failed":
        where = "" if Path(record["input"]).name in record["error"] else f"{record['input']}: "
        console.say(f"error: {where}{record['error']}")
        return
    if quiet:
        return
    if event == "skipped":
        console.say(f"{record['input']}: already done, skipped")
    elif event == "planned":
        plan = record["plan"]
        seconds = plan.get("seconds")
        time = f", about {seconds:.0f} s" if seconds else ""
        console.say(f"{record['input']} -> {record['output']}")
        console.say(f"  model {record['model']['id']}, noise {record['noise']['text']}")
        console.say(f"  peak {plan['peak_gib']:.2f} GiB{time}")
        for reason in plan["reasons"]:
            console.say(f"  {reason}")
    else:
        fidelity = record["fidelity"]
        console.say(f"{record['input']} -> {record['output']}")
        console.say(f"  model {record['model']['id']}, strength {record['strength']:g}")
        console.say(f"  noise {record['noise']['text']}")
        console.say(f"  residual {fidelity['verdict']}" + "".join(f"; {reason}" for reason in fidelity["reasons"]))
        console.say(f"  {record['timings']['total_s']:.1f} s")
