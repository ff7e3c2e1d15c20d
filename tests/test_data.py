"""Which runs are trained on, and which are looked at."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from test_volumes import write_run

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.spectrum import SHELLS
from kaggle_cryoet.picking.equalise import equalise
from kaggle_cryoet.picking.normalise import normalise
from kaggle_cryoet.tomogram import read_tomogram
from kaggle_cryoet.training.data import DataSettings, load_split, split_sources
from kaggle_cryoet.training.volumes import load_labelled_volume


def names_of(tmp_path: Path, *directories: Path, validation: tuple[Path, ...] = (), **settings: object) -> tuple:
    data = DataSettings(**settings)  # type: ignore[arg-type]
    sources = split_sources(directories, validation, data, hold_out=True)
    training, looked_at = load_split(*sources, data, spectrum=(), folder=tmp_path / "volumes")
    return [volume.name for volume in training], [volume.name for volume in looked_at]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        write_run(tmp_path / "data", name, ("denoised", "wbp"))
    return tmp_path / "data"


def test_the_last_run_is_held_out_with_all_its_reconstructions(tmp_path: Path, data: Path) -> None:
    assert names_of(tmp_path, data) == (["a", "b"], ["c"])
    assert names_of(tmp_path, data, tomogram_types=("denoised", "wbp@0.5")) == (["a", "a", "b", "b"], ["c"])


def test_tomograms_of_both_kinds_are_given_the_spectrum_that_prediction_gives_them(tmp_path: Path, data: Path) -> None:
    spectrum = tuple(np.linspace(2.0, 0.5, SHELLS))
    settings = DataSettings(memory_gb=0)  # from files
    sources = split_sources([data], [], settings, hold_out=True)
    volumes = load_split(*sources, settings, spectrum=spectrum, folder=tmp_path / "volumes")
    for source, volume in zip([*sources[0], *sources[1]], [*volumes[0], *volumes[1]], strict=True):
        expected = equalise(normalise(read_tomogram(source.run).data), spectrum)
        np.testing.assert_allclose(volume.volume, expected, atol=2e-3)
        assert not np.allclose(volume.volume, load_labelled_volume(source.run).volume, atol=0.1)


def test_what_is_looked_at_goes_all_the_way_to_the_spectrum_however_little_training_does(
    tmp_path: Path, data: Path
) -> None:
    spectrum = tuple(np.linspace(2.0, 0.5, SHELLS))
    settings = DataSettings(least_equalised=0)
    sources = split_sources([data], [], settings, hold_out=True)
    training, looked_at = load_split(*sources, settings, spectrum=spectrum, folder=tmp_path / "volumes")
    plain = load_labelled_volume(sources[0][0].run)  # the first in a row goes the least share of the way
    np.testing.assert_allclose(training[0].volume, plain.volume, atol=2e-3)
    expected = equalise(normalise(read_tomogram(sources[1][0].run).data), spectrum)
    np.testing.assert_allclose(looked_at[0].volume, expected, atol=2e-3)
    with pytest.raises(InputError, match="least share of equalisation lies between 0 and 1, got"):
        DataSettings(least_equalised=1.5)


def test_a_fold_leaves_out_the_run_of_that_name(tmp_path: Path, data: Path) -> None:
    assert names_of(tmp_path, data, fold="b") == (["a", "c"], ["b"])
    assert names_of(tmp_path, data, fold="a", tomogram_types=("wbp", "denoised")) == (["b", "b", "c", "c"], ["a"])


def test_a_fold_that_cannot_be_left_out_is_an_input_error(tmp_path: Path, data: Path) -> None:
    with pytest.raises(InputError, match="no run 'd' to leave out; expected one of a, b, c"):
        names_of(tmp_path, data, fold="d")
    with pytest.raises(InputError, match="exclude each other"):
        names_of(tmp_path, data, validation=(write_run(tmp_path / "other", "e"),), fold="a")
    with pytest.raises(InputError, match="one run alone leaves none"):
        names_of(tmp_path, write_run(tmp_path / "one", "alone"), fold="alone")


def test_of_every_eight_runs_one_is_held_out_wherever_the_few_real_ones_come(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(13):
        write_run(tmp_path / "simulated", f"s{number:02d}")
    for number in range(4):
        write_run(tmp_path / "real", f"r{number}")
    simulated, real = tmp_path / "simulated", tmp_path / "real"
    for directories, expected in (
        ((simulated, f"{real}@20"), ["s07", "r2"]),
        ((f"{real}@20", simulated), ["s03", "s11"]),
    ):
        caplog.clear()
        trained_on, held_out = split_sources(directories, [], DataSettings(), hold_out=True)
        assert [source.run.name for source in held_out] == expected
        assert len(trained_on) == 15
        assert f"{', '.join(expected)}: held out, to look at the score" in caplog.text


def test_tomograms_that_share_their_picks_are_of_one_specimen(tmp_path: Path) -> None:
    write_run(tmp_path, "a", ("denoised",))
    write_run(tmp_path, "b", ("denoised",))
    shutil.copytree(tmp_path / "static", tmp_path / "static_wbp")  # with the same overlay
    both = [tmp_path / "static", tmp_path / "static_wbp"]
    with pytest.raises(InputError, match="2 runs are both trained on and validated on"):
        split_sources(both[:1], both[1:], DataSettings(), hold_out=False)
    trained_on, held_out = split_sources(both, [], DataSettings(), hold_out=True)
    assert {source.run.name for source in trained_on}.isdisjoint(source.run.name for source in held_out)
