"""The words are true: every command has help and stands in the README, and the tree there is the tree on disk."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import typer

import denoise
from cli.main import app

HERE = Path(__file__).parents[1]
README = (HERE / "README.md").read_text("utf-8")


def commands(group: click.Group, before: str = "denoise") -> list[tuple[str, click.Command]]:
    """Return every command with its full name."""
    found = []
    for name, command in group.commands.items():
        inner = commands(command, f"{before} {name}") if isinstance(command, click.Group) else []
        found += inner or [(f"{before} {name}", command)]
    return found


COMMANDS = commands(typer.main.get_command(app))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_every_command_has_help_and_an_example_and_stands_in_the_readme(name: str, command: click.Command) -> None:
    assert command.help
    assert "Example: denoise" in command.help
    assert f"`{name}" in README or f"{name} " in README
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name != "help":
            assert parameter.help, f"{name} {parameter.opts} has no help"


def test_every_option_that_the_readme_names_exists() -> None:
    known = {option for _, command in COMMANDS for parameter in command.params for option in parameter.opts}
    known |= {option for _, command in COMMANDS for parameter in command.params for option in parameter.secondary_opts}
    known |= {"--version", "--help"}
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    assert shown - known - {"--data-root", "--extra"} == set()


def test_the_tree_in_the_readme_is_the_tree_on_disk() -> None:
    block = README.split("## The tree", 1)[1].split("```", 2)[1]
    for line in block.splitlines():
        for name in re.findall(r"^\s*([\w./<>*-]+/?)", line):
            path = name.strip()
            if path and "<" not in path and "*" not in path and path != "text":
                assert list(HERE.rglob(path.rstrip("/"))), f"{path} stands in the README's tree but not on disk"
    for package in ("denoise", "noise_models", "cli"):
        for module in (HERE / package).rglob("*.py"):
            if module.name != "__init__.py" and "shipped" not in module.parts:
                assert module.name in README, f"{module.relative_to(HERE)} is missing in the README's tree"


def test_the_pictures_and_files_that_the_readme_links_exist() -> None:
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (HERE / target).exists(), f"{target} is linked in the README but not there"


def test_the_door_opens() -> None:
    for name in denoise.__all__:
        assert getattr(denoise, name) is not None
    assert dir(denoise) == sorted(denoise.__all__)
    with pytest.raises(AttributeError, match="denoize"):
        _ = denoise.denoize  # type: ignore[attr-defined]


def test_the_readme_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from denoise.io import write
    from denoise.simulate import simulate_raw
    from noise_models.profile_shelf import load_profile

    picture = np.full((128, 128, 3), 120, np.uint8)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "night.dng", simulate_raw(picture, load_profile("xiaomi-redmi-k30"), 1600)[0])
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    exec(compile(code.group(1).replace("night.ARW", "night.dng").replace('write("night.dng"', 'write("clean.dng"'),
                 "README", "exec"), {})  # fmt: skip
    assert (tmp_path / "clean.dng").is_file()


def test_every_folder_of_the_house_has_its_plate() -> None:
    for folder in ("denoise/engine", "denoise/io", "denoise/methods", "denoise/networks", "denoise/recipes",
                   "noise_models", "cli", "weights", "data_manifests", "tests/benchmarks"):  # fmt: skip
        assert (HERE / folder / "README.md").is_file(), f"{folder} has no README.md"
