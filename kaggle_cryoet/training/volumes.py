"""Labelled tomograms to train on: where they are, how often each is drawn from, and how they are kept."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.labels import labelled, read_labels
from kaggle_cryoet.picking.adapt import AdaptSettings, read_adapted
from kaggle_cryoet.picking.equalise import SHARE, equalise, mean_spectrum
from kaggle_cryoet.picking.normalise import normalise
from kaggle_cryoet.picks import Picks, check_inside
from kaggle_cryoet.runs import find_runs, reconstructions_beside
from kaggle_cryoet.tomogram import RunLocation

Item = TypeVar("Item")
MOST_FOR_SPECTRUM = 24
"""So many tomograms tell the mean spectrum well enough."""
MOST_CUT_VOXELS = 3
"""A tomogram that was resampled, from voxels of up to 40 Å, ends so many of its own before that of its file at most."""
GOLDEN_RATIO = (1 + 5**0.5) / 2
"""The fractional parts of its multiples are spread evenly, however many there are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledVolume:
    """A normalised tomogram with its particles."""

    name: str
    volume: NDArray[np.float16]
    """`(z, y, x)`, normalised; in memory, or mapped from a file."""
    picks: Picks
    voxel_angstrom: float
    weight: float = 1.0
    """How often it is drawn from, in proportion to others of its size."""
    hard_zyx_angstrom: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 3)))
    """`(n, 3)` places in Å that are taken for particles and are none."""
    exchanged: bool = False
    """Whether y and x are those of the file exchanged, see `facing_y`."""

    def __deepcopy__(self, memo: object) -> "LabelledVolume":
        """Itself, since nothing in it changes."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """For another process: of a mapped volume where it is, not what it holds."""
        mapped = isinstance(self.volume, np.memmap)
        return {**self.__dict__, "volume": Path(str(self.volume.filename))} if mapped else self.__dict__  # type: ignore[attr-defined]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map what was mapped."""
        self.__dict__.update(state)
        if isinstance(state["volume"], Path):
            self.__dict__["volume"] = np.load(state["volume"], mmap_mode="r")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One tomogram of a run, and its weight."""

    run: RunLocation
    weight: float


def find_labelled_runs(directories: Sequence[Path], tomogram_type: str = "denoised") -> list[RunLocation]:
    """Every run with picks below the directories, with the reconstruction as of `find_runs`; each of its own name.

    Raises
    ------
    InputError
        If no run of a directory has picks, two are of the same name, or a directory has a weight.
    """
    sources = find_sources(directories, (tomogram_type,))
    if any(source.weight != 1 for source in sources):
        got = ", ".join(map(str, directories))
        raise InputError(f"all runs count alike here; expected folders without weights, got {got}")
    runs = [source.run for source in sources]
    check_names(runs)
    return runs


def check_names(runs: Sequence[RunLocation]) -> None:
    """Raise `InputError` if two runs are of the same name."""
    twice = sorted(name for name, number in Counter(run.name for run in runs).items() if number > 1)
    if twice:
        raise InputError(f"runs need different names, got twice: {', '.join(twice[:3])}")


def find_sources(directories: Sequence[str | Path], tomogram_types: Sequence[str] = ("denoised",)) -> list[Source]:
    """Every tomogram to train on below the directories; runs without picks are left out, with a warning.

    Parameters
    ----------
    directories
        Folders with runs. Crops are drawn from `DIR@5` five times as often.
    tomogram_types
        Reconstructions. The first is taken of every run, or another if it is absent; those that follow are taken beside
        it where they are present. `wbp@0.3` is drawn from 0.3 times as often.

    Raises
    ------
    InputError
        If no run of a directory has picks, a type after the first is nowhere, or a weight is not positive.
    """
    types = [split_weight(text) for text in tomogram_types]
    if not types:
        raise InputError("expected one type of tomogram or more, got none")
    sources, kinds = [], set[str]()
    for text in directories:
        directory, weight = (str(text), 1.0) if Path(text).exists() else split_weight(str(text))
        for run in labelled(find_runs(directory, tomogram_type=types[0][0]), directory):
            sources.append(Source(run=run, weight=weight * types[0][1]))
            present = reconstructions_beside(run.tomogram_path)
            kinds |= present.keys()
            for name, share in types[1:]:
                path = present.get(name, run.tomogram_path)
                if path != run.tomogram_path:
                    version = RunLocation(name=run.name, tomogram_path=path, picks_directory=run.picks_directory)
                    sources.append(Source(run=version, weight=weight * share))
    for name, _ in types[1:]:
        if name not in kinds:
            raise InputError(f"no run has a tomogram of the type {name!r}; there are {', '.join(sorted(kinds))}")
    return sources


def split_weight(text: str) -> tuple[str, float]:
    """What is before the `@` and the number after it; 1 if there is none."""
    name, at, number = text.rpartition("@")
    if not at:
        return text, 1.0
    try:
        weight = float(number)
    except ValueError:
        return text, 1.0
    if not 0 < weight < float("inf"):
        raise InputError(f"{text}: expected a positive weight after the @")
    return name, weight


def load_labelled_volume(
    run: RunLocation,
    *,
    adapt: AdaptSettings | None = None,
    spectrum: Sequence[float] = (),
    share: float = SHARE,
    weight: float = 1.0,
    map_to: Path | None = None,
) -> LabelledVolume:
    """Read a run, adapt and normalise it, bring it a share of the way to a spectrum, if there is one.

    It is kept in float16, in memory or in a file `map_to`.

    Raises
    ------
    InputError
        If the run has no picks, or they or its tomogram are faulty, or the file cannot be written.
    """
    if run.picks_directory is None:
        raise InputError(f"run {run.name} has no picks")
    tomogram, exchanged = read_adapted(run, adapt, says_doubt=False)
    if not tomogram.voxel_known:
        raise InputError(
            f"{run.tomogram_path}: has no voxel size that can be right, so that it is not known where its picks in "
            "ångström are; expected one in the file, or --voxel"
        )
    picks = read_labels(run.picks_directory)
    if exchanged:
        picks = picks.with_y_and_x_exchanged()
    what = f"picks of run {run.name}"
    check_inside(picks, tomogram.data.shape, tomogram.voxel_angstrom, what, cut_voxels=MOST_CUT_VOXELS)
    volume = normalised_volume(tomogram.data, spectrum=spectrum, share=share)
    if map_to is not None:
        try:
            map_to.parent.mkdir(parents=True, exist_ok=True)
            np.save(map_to, volume)
            volume = np.load(map_to, mmap_mode="r")
        except OSError as error:
            raise InputError(f"{map_to}: cannot be written ({error})") from error
    return LabelledVolume(
        name=run.name,
        volume=volume,
        picks=picks,
        voxel_angstrom=tomogram.voxel_angstrom,
        weight=weight,
        exchanged=exchanged,
    )


def normalised_volume(
    data: NDArray[np.float32], *, spectrum: Sequence[float] = (), share: float = SHARE
) -> NDArray[np.float16]:
    """A tomogram as crops are drawn from it: normalised, and a share of the way to a spectrum if there is one."""
    return equalise(normalise(data), spectrum, share=share).astype(np.float16)


def evenly(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Every n-th item, so that there are no more than so many."""
    return items[:: max(-(-len(items) // most), 1)]


def every_eighth(items: Sequence[Item]) -> Sequence[Item]:
    """Every eighth item, or the last if there are less than eight."""
    return items[7::8] or items[-1:]


def spectrum_of(volumes: Iterable[LabelledVolume]) -> tuple[float, ...]:
    """Mean spectrum of volumes."""
    return mean_spectrum(volume.volume.astype(np.float32) for volume in volumes)


def equalised_share(number: int, least: float) -> float:
    """How far tomogram `number` goes to the model's spectrum, any few in a row evenly spread.

    It is at least the share `least` of `SHARE`, by which prediction goes.
    """
    return SHARE * (least + (1 - least) * (number * GOLDEN_RATIO % 1))


def load_volumes(
    sources: Sequence[Source],
    *,
    adapt: AdaptSettings | None = None,
    spectrum: Sequence[float] = (),
    least_equalised: float = 1.0,
    memory_gb: float,
    folder: Path,
) -> list[LabelledVolume]:
    """Read tomograms as `load_labelled_volume`, each with its own share of the way to the spectrum.

    Those beyond a limit are kept in files in a folder, of which only what is drawn is read.

    Raises
    ------
    InputError
        As `load_labelled_volume`, or if the limit is negative.
    """
    if not memory_gb >= 0:
        raise InputError(f"the memory for tomograms must not be negative, got {memory_gb} GB")
    volumes: list[LabelledVolume] = []
    kept = 0
    for number, source in enumerate(sources):
        full = kept >= memory_gb * 1e9
        path = folder / f"{number}.npy" if full else None
        share = equalised_share(number, least_equalised)
        volume = load_labelled_volume(
            source.run, adapt=adapt, spectrum=spectrum, share=share, weight=source.weight, map_to=path
        )
        volumes.append(volume)
        kept += 0 if full else volume.volume.nbytes
    return volumes
