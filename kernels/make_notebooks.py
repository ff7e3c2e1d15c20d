"""Write each kernel's notebook from its script, and with `--owner NAME` the kernels under a name, to be pushed.

A line `# %%` begins a cell of code, `# %% [markdown]` one of text.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.kaggle.bundle import NO_OWNER, check_owner

KERNELS = ("finetune", "predict")
METADATA = "kernel-metadata.json"
TEXT = "[markdown]"


def notebook(script: str) -> dict[str, Any]:
    """The notebook of a script, without outputs, as Kaggle makes it for two T4 and without internet."""
    cells = [_cell(number, part) for number, part in enumerate(script.split("# %%")[1:], 1)]
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "kaggle": {
                "accelerator": "nvidiaTeslaT4",
                "isGpuEnabled": True,
                "isInternetEnabled": False,
                "language": "python",
                "sourceType": "notebook",
            },
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(number: int, part: str) -> dict[str, Any]:
    """A cell; `part` is what follows its `# %%`."""
    marker, _, body = part.partition("\n")
    lines = body.strip().splitlines()
    is_text = marker.strip() == TEXT
    if is_text:
        lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
    source = [line + "\n" for line in lines[:-1]] + lines[-1:]
    cell: dict[str, Any] = {
        "cell_type": "markdown" if is_text else "code",
        "id": f"cell-{number}",
        "metadata": {},
        "source": source,
    }
    return cell if is_text else cell | {"execution_count": None, "outputs": []}


def write_notebooks() -> None:
    """Write the notebooks beside their scripts."""
    for name in KERNELS:
        folder = Path(__file__).parent / name
        content = notebook((folder / f"{name}.py").read_text(encoding="utf8"))
        (folder / f"{name}.ipynb").write_text(json.dumps(content, indent=1) + "\n", encoding="utf8")


def write_kernels(output: Path, owner: str, *, finetuned: bool) -> None:
    """Write the kernels with an owner's name in their metadata; what they were to take from other kernels stays.

    If `finetuned`, the one that predicts takes the network of the one that fine-tunes.
    """
    for name in KERNELS:
        folder = output / name
        before = json.loads((folder / METADATA).read_text(encoding="utf8")) if (folder / METADATA).is_file() else {}
        shutil.copytree(Path(__file__).parent / name, folder, dirs_exist_ok=True)
        metadata = json.loads((folder / METADATA).read_text(encoding="utf8").replace(NO_OWNER, owner))
        sources = set(before["kernel_sources"]) if before.get("id") == metadata["id"] else set()
        if finetuned and name == "predict":
            sources.add(json.loads((output / "finetune" / METADATA).read_text(encoding="utf8"))["id"])
        metadata["kernel_sources"] = sorted(sources)
        (folder / METADATA).write_text(json.dumps(metadata, indent=1) + "\n", encoding="utf8")


def main() -> None:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--owner", help="Your user name, as in kaggle.com/NAME.")
    parser.add_argument("--output", type=Path, default=Path("build/kernels"), help="Folder for the kernels.")
    parser.add_argument("--finetuned", action="store_true", help="Predict with the network that was fine-tuned.")
    asked = parser.parse_args()
    try:
        check_owner(asked.owner or "")
    except InputError as error:
        parser.error(str(error))
    write_notebooks()
    if asked.owner:
        write_kernels(asked.output, asked.owner, finetuned=asked.finetuned)


if __name__ == "__main__":
    main()
