"""Write each kernel's notebook from its script: `python kernels/make_notebooks.py`.

A line `# %%` begins a cell of code, `# %% [markdown]` one of text.
"""

import json
from pathlib import Path
from typing import Any

KERNELS = ("predict", "finetune")
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


def main() -> None:
    """Write the notebooks."""
    for name in KERNELS:
        folder = Path(__file__).parent / name
        content = notebook((folder / f"{name}.py").read_text(encoding="utf8"))
        (folder / f"{name}.ipynb").write_text(json.dumps(content, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
