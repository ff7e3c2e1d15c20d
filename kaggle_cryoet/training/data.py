"""What is trained on and what is looked at: the runs are divided first, then read."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picking.adapt import AdaptSettings
from kaggle_cryoet.training.hard_negatives import with_hard_places
from kaggle_cryoet.training.stream import StreamSettings
from kaggle_cryoet.training.volumes import (
    LabelledVolume,
    Source,
    check_names,
    every_eighth,
    find_sources,
    load_labelled_volume,
    load_volumes,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which tomograms, and how they are kept."""

    tomogram_types: tuple[str, ...] = ("denoised",)
    """Reconstructions; those after the first, as `wbp@0.3`, are trained on beside it, by their share."""
    adapt: AdaptSettings = field(default_factory=AdaptSettings)
    """What is known better than tomograms say."""
    memory_gb: float = 8.0
    """Tomograms to train on beyond this stay in files, and only what is drawn of them is read."""
    fold: str | None = None
    """Name of the one run that is left out, to validate on."""
    hard_negatives: str | None = None
    """Submission of a former model for the same runs: crops are drawn at what it took for particles and are none."""
    stream: StreamSettings | None = None
    """What is simulated while the training goes on."""
    least_equalised: float = 1.0
    """Tomograms to train on are brought between this share and the whole of the way that prediction brings them to the
    model's spectrum, each its own share; those to look at the whole of it."""

    def __post_init__(self) -> None:
        """Check the share."""
        if not 0 <= self.least_equalised <= 1:
            raise InputError(f"the least share of equalisation lies between 0 and 1, got {self.least_equalised}")


def split_sources(
    directories: Sequence[str | Path],
    validation_directories: Sequence[str | Path],
    settings: DataSettings,
    *,
    hold_out: bool,
) -> tuple[list[Source], list[Source]]:
    """Tomograms to train on and to look at: those for validation, those of the fold, or of every eighth run.

    Raises
    ------
    InputError
        If runs are missing, none is labelled, or some are both trained on and looked at.
    """
    sources = find_sources(directories, settings.tomogram_types)
    if validation_directories and settings.fold is not None:
        raise InputError("a fold and folders for validation exclude each other; give one of them")
    if validation_directories:
        held_out = find_sources(validation_directories, settings.tomogram_types[:1])
    elif settings.fold is not None or hold_out:
        sources, held_out = _divide(sources, settings.fold)
        if settings.fold is None:
            names = ", ".join(source.run.name for source in held_out[:5]) + (", ..." if len(held_out) > 5 else "")
            logger.warning("%s: held out, to look at the score; --validation DIR gives others for that", names)
    else:
        held_out = []
    shared = {source.run.specimen for source in sources} & {source.run.specimen for source in held_out}
    if shared:
        raise InputError(f"{len(shared)} runs are both trained on and validated on, one is {min(shared)}")
    check_names([source.run for source in held_out])
    return sources, held_out


def load_split(
    sources: Sequence[Source],
    held_out: Sequence[Source],
    settings: DataSettings,
    *,
    spectrum: Sequence[float],
    folder: Path,
) -> tuple[list[LabelledVolume], list[LabelledVolume]]:
    """Volumes of both with a spectrum, if there is one; `folder` is for those that memory does not hold.

    Raises
    ------
    InputError
        If a tomogram or its picks are faulty.
    """
    training = load_volumes(
        sources,
        adapt=settings.adapt,
        spectrum=spectrum,
        least_equalised=settings.least_equalised,
        memory_gb=settings.memory_gb,
        folder=folder,
    )
    if settings.hard_negatives is not None:
        training = with_hard_places(training, settings.hard_negatives)
    in_files = settings.memory_gb == 0
    return training, [
        load_labelled_volume(
            source.run,
            adapt=settings.adapt,
            spectrum=spectrum,
            map_to=folder / f"held-out-{number}.npy" if in_files else None,
        )
        for number, source in enumerate(held_out)
    ]


def _divide(sources: Sequence[Source], fold: str | None) -> tuple[list[Source], list[Source]]:
    """Tomograms to train on, and of each other run the first of its tomograms: of a run, or of every eighth."""
    runs = list(dict.fromkeys(source.run.specimen for source in sources))
    if fold is not None:
        chosen = {source.run.specimen for source in sources if source.run.name == fold}
        if not chosen:
            names = sorted({source.run.name for source in sources})
            raise InputError(f"there is no run {fold!r} to leave out; expected one of {', '.join(names[:10])}")
    else:
        chosen = set(every_eighth(runs))
    if len(chosen) == len(runs):
        raise InputError("one run alone leaves none to validate on; give more runs, or a folder for validation")
    first = {source.run.specimen: source for source in reversed(sources)}
    return (
        [source for source in sources if source.run.specimen not in chosen],
        [first[run] for run in runs if run in chosen],
    )
