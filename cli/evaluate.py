"""``denoise evaluate``: how good a model is, with the protocol beside every figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import console


def evaluate(
    model: Annotated[str, typer.Argument(help="An id, a method's name, or a .safetensors file.")],
    manifest: Annotated[str, typer.Argument(help="A dataset of data_manifests/, or a .toml of your own.")],
    case: Annotated[
        list[str] | None,
        typer.Option(help="sigma=25 (of 255), or iso=12800,ratio=4[,profile=P]; repeatable. Default: by the model."),
    ] = None,
    peer: Annotated[
        list[str] | None, typer.Option(help="bm3d, nlm or wavelet on the same inputs, in the same run; repeatable.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first images.")] = None,
    blind: Annotated[
        bool, typer.Option("--blind", help="The model estimates the noise instead of being told the true level.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for evaluation.md, .csv, .json and .html.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an evaluation in that folder.")] = False,
    data_root: Annotated[
        Path | None, typer.Option(envvar="DENOISE_DATA", help="Folder that holds the datasets.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch what is missing, if it can be checked.")] = False,
    views: Annotated[int, typer.Option(min=0, help="Images of each case shown on the page.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    device: Annotated[str, typer.Option(envvar="DENOISE_DEVICE", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    json_: Annotated[bool, typer.Option("--json", help="One JSON record instead of Markdown.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No line for each image.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error arose.")] = False,
) -> None:
    """Measure a model on a set of images, with peers on the same inputs.

    Example: denoise evaluate supervised-unet.photo kodak24 --case sigma=25 --peer bm3d --limit 3 -o report
    """
    console.start_logging(verbose=False, quiet=False)
    if output is not None and (output / "evaluation.json").exists() and not overwrite:
        raise console.usage_error(f"{output} holds an evaluation already. Pass --overwrite or another -o.")
    with console.errors_as_lines(traceback):
        from denoise.batch import check_device
        from denoise.downloads import fetch_files
        from denoise.engine import Engine
        from denoise.engine.device import keep_memory
        from denoise.evaluation.cases import parse_case
        from denoise.evaluation.evaluate import evaluate as run
        from denoise.evaluation.report import check_place, markdown, write_evaluation
        from denoise.manifests import data_root as find_root

        check_device(device)
        keep_memory()
        root = find_root(data_root)
        cases = [parse_case(text) for text in case or []]
        if output is not None:
            check_place(output)
        if download:
            fetch_files(manifest, root)
        found = run(
            model, manifest, root, cases=cases, peers=peer or [], limit=limit, blind=blind, seed=seed,
            engine=Engine(device), views=views if output is not None else 0, progress=None if quiet else console.say,
        )  # fmt: skip
        paths = write_evaluation(found, output) if output is not None else []
        if json_:
            console.emit(found.to_dict())
        else:
            typer.echo(markdown(found, images=False), nl=False)
        for path in paths:
            console.say(f"wrote {path}")
        for file, why in found.failed.items():
            console.say(f"error: {file} failed, and the figures are without it: {' '.join(why.split())}")
        if found.failed:
            raise typer.Exit(console.FAILED)
