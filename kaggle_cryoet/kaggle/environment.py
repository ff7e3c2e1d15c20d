"""Where things are on Kaggle: inputs in their old and new places, own weights, folders that can be written to.

Imports nothing heavy, so that it can be the first thing that a notebook does.
"""

import json
import logging
import math
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.yolo11 import OFFLINE
from kaggle_cryoet.picking.branches import MODELS, SHIPPED_WEIGHTS, UNET_FOLDER

logger = logging.getLogger(__name__)

COMPETITION = "czii-cryo-et-object-identification"
MODEL_FILE = "model.json"
DEEPEST_MODEL = 8
"""Folders between `input` and a model's file: `models/<owner>/<slug>/<framework>/<variation>/<version>/any/unet3d`."""
CACHES = {
    "NUMBA_CACHE_DIR": "numba",
    "TORCH_HOME": "torch",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "CUDA_CACHE_PATH": "cuda",
    "MPLCONFIGDIR": "matplotlib",
    "YOLO_CONFIG_DIR": "ultralytics",
    "XDG_CACHE_HOME": "other",
    "XDG_CONFIG_HOME": "other",
    "TMPDIR": "temporary",
}
"""Variables that say where libraries write, and the folders in the cache that they are given."""
SETTINGS = {
    **OFFLINE,
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}
EXIT_BAD_USE, EXIT_SOME_FAILED = 2, 3
GRACE_SECONDS = 900.0
"""So long after its time limit a prediction that has not ended is ended."""
POLL_SECONDS = 1.0
FLIPS = "4"
GPU_FILES = "nvidia[0-9]*"


@dataclass(frozen=True, kw_only=True)
class KaggleEnvironment:
    """The folders of a Kaggle session."""

    root: Path = Path("/kaggle")
    """Holds `input`, which is read-only, and `working`."""
    devices: Path = Path("/dev")
    """Holds the files of the GPUs."""

    @property
    def input(self) -> Path:
        """Everything that is attached."""
        return self.root / "input"

    @property
    def working(self) -> Path:
        """What is kept of a session."""
        return self.root / "working"

    @property
    def competition(self) -> Path:
        """The competition's data.

        Raises
        ------
        InputError
            If it is not attached.
        """
        places = [self.input / COMPETITION, self.input / "competitions" / COMPETITION]
        for place in places:
            if place.is_dir():
                return place
        raise InputError(
            f"the competition's data is not attached: add {COMPETITION} with Add Input, or to competition_sources in "
            f"kernel-metadata.json (looked for {' and '.join(map(str, places))}; attached: {self._attached()})"
        )

    @property
    def test(self) -> Path:
        """The tomograms to pick; in a scored rerun the hidden ones."""
        return self.competition / "test"

    @property
    def train(self) -> Path:
        """The labelled tomograms."""
        return self.competition / "train"

    @property
    def weights(self) -> Path:
        """The models among the inputs, of another notebook or a dataset, or else the package's own.

        A model folder if there is one, the folder with the model folders if they lie side by side under their names.

        Raises
        ------
        InputError
            If there are several of which it is not clear which are to be used.
        """
        found = sorted(self._models(self.input, DEEPEST_MODEL))
        if len(found) < 2:
            return found[0] if found else SHIPPED_WEIGHTS
        if len({model.parent for model in found}) > 1 or not {model.name for model in found} <= set(MODELS["hybrid"]):
            raise InputError(
                f"{len(found)} models are attached, expected one, or {', '.join(MODELS['hybrid'])} in one folder: "
                f"{', '.join(map(str, found))}"
            )
        return found[0].parent

    @property
    def unet(self) -> Path:
        """The model folder of the 3D U-Net among them."""
        weights = self.weights
        return weights / UNET_FOLDER if (weights / UNET_FOLDER).is_dir() else weights

    @property
    def options(self) -> list[str]:
        """Options of `predict` that suit the weights.

        The package's own know simulated tomograms only: the U-Net picks, which stands strange ones best. Attached ones
        were fitted on the competition's tomograms: everything they suffice for. A U-Net is averaged over flips, for
        which there is time on a GPU.
        """
        branch = "unet" if self.weights == SHIPPED_WEIGHTS else self.branch
        return ["--branch", branch, *([] if branch == "yolo" else ["--flips", FLIPS])]

    @property
    def branch(self) -> str:
        """The most thorough branch that `weights` suffice for: `hybrid`, `unet` or `yolo`."""
        weights = self.weights
        kinds = {_kind(path.parent) for path in (weights / MODEL_FILE, *weights.glob(f"*/{MODEL_FILE}"))}
        return next((branch for branch, models in MODELS.items() if set(models) <= kinds), "unet")

    def gpu_note(self) -> str | None:
        """What a user should know if no GPU is attached."""
        if any(self.devices.glob(GPU_FILES)):
            return None
        return (
            "NO GPU IS ATTACHED. Everything is done on the CPU, which takes many times longer. Choose the accelerator "
            "'GPU T4 x2', or machine_shape NvidiaTeslaT4 in kernel-metadata.json"
        )

    def variables(self) -> dict[str, str]:
        """Environment variables that send everything that libraries write into `working/.cache`."""
        cache = self.working / ".cache"
        return {name: str(cache / folder) for name, folder in CACHES.items()} | SETTINGS

    def run(self, *arguments: object) -> Iterator[str]:
        """Run `kaggle-cryoet` with these arguments; yields its lines as they come.

        Raises
        ------
        InputError
            If `working` cannot be written to, or the command ends with another status than 0, or 3, which means that
            some tomograms failed.
        """
        status = yield from self._attempt(arguments)
        if status not in (0, EXIT_SOME_FAILED):
            raise _ended(arguments, status)

    def predict(self, *arguments: object, output: Path, time_limit_seconds: float) -> Iterator[str]:
        """Run `kaggle-cryoet predict` with these arguments and `--continue`; yields its lines as they come.

        A submission counts for what is in it. If the process dies, another one goes on, once; if it does not end by
        itself soon after its time limit, as where an input cannot be read any more, it is ended.

        Raises
        ------
        InputError
            As `run`, if this call has picked nothing.
        """
        began, before = time.monotonic(), _stamp(output)
        for again in (False, True):
            left = time_limit_seconds - (time.monotonic() - began)
            wanted = ("predict", *arguments, "--output", output, "--continue", "--time-limit", max(left, 1.0))
            status = yield from self._attempt(wanted, most_seconds=max(left, 0.0) + GRACE_SECONDS)
            if status == 0:
                return
            is_over = time.monotonic() - began >= time_limit_seconds
            if again or is_over or status in (EXIT_SOME_FAILED, EXIT_BAD_USE):
                break
            yield f"{_ended(wanted, status)}; it is run once more, to go on with what is missing"
        if _stamp(output) == before or not _has_rows(output):
            raise _ended(wanted, status)
        if status != EXIT_SOME_FAILED:
            yield f"{_ended(wanted, status)}; what is in {output.name} counts"

    def _attempt(self, arguments: Sequence[object], *, most_seconds: float = math.inf) -> Generator[str, None, int]:
        """Yield the lines of a command, which is ended if it takes longer than it may; return its status."""
        note = self.gpu_note()
        if note:
            yield note
        variables = self.variables()
        try:
            for name in CACHES:
                Path(variables[name]).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.working}: cannot be written to ({error.strerror})") from error
        began = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-m", "kaggle_cryoet", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | variables,
            cwd=self.working,
        ) as process:
            assert process.stdout is not None
            rest = b""
            while True:
                if time.monotonic() - began > most_seconds:
                    process.kill()
                if not select.select([process.stdout], [], [], POLL_SECONDS)[0]:
                    if process.poll() is None:
                        continue
                    break  # a process of its own that outlives it says nothing more, and may hold the pipe for ever
                said = os.read(process.stdout.fileno(), 2**16)
                if not said:
                    break
                # a progress bar begins its lines with a carriage return and does not end them; a read may end anywhere
                *lines, rest = re.split(rb"[\r\n]+", rest + said)
                yield from (line.decode(errors="replace") for line in lines if line)
            if rest:
                yield rest.decode(errors="replace")
        shutil.rmtree(self.working / ".cache", ignore_errors=True)
        return process.returncode

    def _models(self, directory: Path, depth: int) -> Iterator[Path]:
        """Model folders below a folder; not searched: the competition's data, stores, and what is hidden."""
        if (directory / MODEL_FILE).is_file():
            yield directory
        elif depth and directory.is_dir():
            for entry in directory.iterdir():
                if entry.is_dir() and entry.name != COMPETITION and entry.suffix != ".zarr" and entry.name[0] != ".":
                    yield from self._models(entry, depth - 1)

    def _attached(self) -> str:
        names = sorted(entry.name for entry in self.input.iterdir()) if self.input.is_dir() else []
        return ", ".join(names) or "nothing"


def _ended(arguments: Sequence[object], status: int) -> InputError:
    """What to say of a command that ended with a status."""
    said = " ".join(map(str, ("kaggle_cryoet", *arguments)))
    return InputError(f"{said} ended with status {status}; its last lines say why")


def _stamp(file: Path) -> tuple[int, int] | None:
    """What tells a file from the one it was before; None if there is none."""
    try:
        return file.stat().st_mtime_ns, file.stat().st_ino
    except OSError:
        return None


def _has_rows(submission: Path) -> bool:
    """Whether there is a csv with more than its header."""
    try:
        with submission.open(encoding="utf8") as file:
            return sum(1 for _ in zip(range(2), file, strict=False)) > 1
    except OSError:
        return False


def _kind(folder: Path) -> str:
    """Kind of the model in a folder; empty if it is none, which those who load it will say."""
    try:
        return str(json.loads((folder / MODEL_FILE).read_text(encoding="utf8"))["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
