"""Sets of simulated runs: the competition's layout, seeds, interruptions, requests that cannot be met."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from kaggle_cryoet import __version__
from kaggle_cryoet.copick import read_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.particles import PARTICLE_NAMES, label_of
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.runs import TOMOGRAM_TYPES, find_runs
from kaggle_cryoet.simulation import dataset, run_folder
from kaggle_cryoet.simulation.beads import BeadModel, load_bead_model, render
from kaggle_cryoet.simulation.dataset import simulate, simulate_tomogram, simulate_tomograms
from kaggle_cryoet.simulation.nuisance_ranges import TRAINING
from kaggle_cryoet.simulation.placement import MOST_PACKED
from kaggle_cryoet.simulation.population import HABITS, contact_radii_voxels
from kaggle_cryoet.simulation.request import check_structures
from kaggle_cryoet.simulation.structure import background_spread
from kaggle_cryoet.simulation.user_maps import fit_user_maps
from kaggle_cryoet.tomogram import read_tomogram
from kaggle_cryoet.whole_file import sole_folder

SHAPE = (40, 56, 72)
COUNTS = {"apo-ferritin": 2, "ribosome": 1}


def files_in(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def at(z: float) -> Picks:
    """A ribosome at a height in voxels."""
    return Picks(position_zyx_angstrom=np.array([[z, 28, 36]]) * CZII_VOXEL_ANGSTROM, label=np.array([3]))


def enlarged(name: str, times: float) -> BeadModel:
    """A shipped structure, blown up."""
    model = load_bead_model(name)
    return replace(
        model,
        position_zyx_angstrom=times * model.position_zyx_angstrom,
        sigma_angstrom=times * model.sigma_angstrom,
        source="drawn",
        correlation=0.5,
    )


def make(directory: Path, **changes: object) -> list[str]:
    request: dict[str, object] = {"runs": 2, "shape_zyx": SHAPE, "seed": 7, "counts": COUNTS}
    return simulate(directory, **(request | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("simulated") / "set"
    assert make(directory) == ["SIM_7_0", "SIM_7_1"]
    return directory


def test_a_set_has_the_layout_of_the_competition_and_reads_back(made: Path) -> None:
    assert {path.name for path in made.iterdir()} == {"static", "overlay", "provenance"}
    for root in (made, made / "static", made / "static" / "ExperimentRuns"):
        assert [run.name for run in find_runs(root)] == ["SIM_7_0", "SIM_7_1"]
    for run in find_runs(made):
        spacing = made / "static" / "ExperimentRuns" / run.name / "VoxelSpacing10.000"
        assert run.tomogram_path == spacing / "denoised.zarr"
        assert [path.name for path in spacing.parent.iterdir()] == ["VoxelSpacing10.000"]
        assert sorted(path.name for path in run.tomogram_path.iterdir()) == [".zattrs", ".zgroup", "0", "1", "2"]
        tomogram = read_tomogram(run)
        assert tomogram.data.shape == SHAPE
        assert tomogram.voxel_angstrom == pytest.approx(CZII_VOXEL_ANGSTROM)
        assert run.picks_directory == made / "overlay" / "ExperimentRuns" / run.name / "Picks"
        assert sorted(path.stem for path in run.picks_directory.iterdir()) == sorted(PARTICLE_NAMES)
        picks = read_copick(run.picks_directory)
        assert np.bincount(picks.label, minlength=6).tolist() == [2, 0, 0, 1, 0, 0]
        assert picks.orientation_zyx is not None


def test_what_is_read_back_is_what_was_simulated(made: Path) -> None:
    drawn = TRAINING.draw_of_set(7, 1)
    tomogram, picks, nuisances = simulate_tomogram(
        "SIM_7_1", seed=(7, 1), nuisances=drawn, shape_zyx=SHAPE, counts=COUNTS
    )
    assert nuisances == drawn
    run = find_runs(made)[1]
    np.testing.assert_array_equal(read_tomogram(run).data, tomogram.data)
    assert run.picks_directory is not None
    stored = read_copick(run.picks_directory)
    np.testing.assert_allclose(stored.position_zyx_angstrom, picks.position_zyx_angstrom, atol=6e-4)
    provenance = json.loads((made / "provenance" / "SIM_7_1.json").read_text())
    assert provenance["nuisances"]["defocus_angstrom"] == nuisances.defocus_angstrom
    assert provenance["number"] == 1


def test_same_seed_gives_the_same_bytes_and_others_differ(made: Path, tmp_path: Path) -> None:
    make(tmp_path / "again")
    assert files_in(tmp_path / "again") == files_in(made)
    make(tmp_path / "other", seed=8)
    runs = [*find_runs(made), *find_runs(tmp_path / "other")]
    volumes = [read_tomogram(run).data for run in runs]
    picks = [read_copick(run.picks_directory).position_zyx_angstrom for run in runs if run.picks_directory is not None]
    for first in range(4):
        for second in range(first):
            assert np.corrcoef(volumes[first].ravel(), volumes[second].ravel())[0, 1] < 0.7  # both may see carbon
            assert np.abs(picks[first] - picks[second]).max() > 10.0


@pytest.mark.slow
def test_bytes_are_the_same_where_the_code_is_compiled_and_where_it_is_loaded(tmp_path: Path) -> None:
    script = f"""
import hashlib
from kaggle_cryoet.simulation.dataset import simulate_tomograms
from kaggle_cryoet.simulation.nuisance_ranges import NUISANCE_RANGES
nuisances = NUISANCE_RANGES["wide"].draw_of_set(7, 2)
assert min(nuisances.slow_withheld, nuisances.background_loss) > 0.05
tomograms, _, _ = simulate_tomograms(
    "run", seed=(7, 2), shape_zyx={SHAPE}, nuisances=nuisances, tomogram_types={TOMOGRAM_TYPES}
)
print([(name, hashlib.sha256(tomogram.data.tobytes()).hexdigest()) for name, tomogram in tomograms.items()])
"""
    caches = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    compiled, loaded = (
        subprocess.run([sys.executable, "-c", script], env=caches, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert any(tmp_path.rglob("*.nbc"))
    assert loaded == compiled


def test_a_longer_set_begins_with_the_same_runs_and_leaves_them_alone(made: Path, tmp_path: Path) -> None:
    make(tmp_path, runs=1)
    before = {name: path.stat().st_mtime_ns for name, path in _paths(tmp_path).items()}
    make(tmp_path, runs=2)
    assert files_in(tmp_path) == files_in(made)
    assert before.items() <= {name: path.stat().st_mtime_ns for name, path in _paths(tmp_path).items()}.items()


def test_a_set_that_is_completed_by_other_source_code_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dataset, "source_commit", lambda: "before")
    make(tmp_path, runs=1)
    make(tmp_path, runs=1)
    monkeypatch.setattr(dataset, "source_commit", lambda: "after")
    make(tmp_path, runs=1)  # nothing to come
    assert not caplog.records
    make(tmp_path, runs=2)
    assert "SIM_7_0 were simulated by other source code than runs to come will be" in caplog.text
    commits = [json.loads((tmp_path / "provenance" / f"SIM_7_{n}.json").read_text())["commit"] for n in (0, 1)]
    assert commits == ["before", "after"]


def _paths(directory: Path) -> dict[str, Path]:
    return {str(path): path for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("interrupted", ["write_tomogram", "write_copick"])
def test_interruption_leaves_whole_runs_only_and_the_same_call_completes_the_set(
    interrupted: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine: Callable[..., None] = getattr(run_folder, interrupted)
    calls = []

    def break_second(*arguments: object) -> None:
        calls.append(arguments)
        genuine(*arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(run_folder, interrupted, break_second)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)
    assert [run.name for run in find_runs(tmp_path)] == ["SIM_7_0"]
    assert not list(tmp_path.rglob("*SIM_7_1*"))
    assert not (tmp_path / ".unfinished").exists()
    monkeypatch.undo()
    make(tmp_path)
    assert files_in(tmp_path) == files_in(made)


def test_leftovers_of_a_killed_process_are_no_runs_and_are_cleared(made: Path, tmp_path: Path) -> None:
    spacing = tmp_path / ".unfinished" / "static" / "SIM_7_0" / "VoxelSpacing10.000"
    spacing.mkdir(parents=True)
    (spacing / "denoised.zarr").mkdir()
    (tmp_path / "overlay" / "ExperimentRuns" / "SIM_7_0" / "Picks").mkdir(parents=True)
    make(tmp_path)
    assert files_in(tmp_path) == files_in(made)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": {"virus-like-particle": 500}}, "at most 35 % fit"),
        ({"counts": {"virus": 1}}, "unknown particle 'virus'; expected one of apo-ferritin"),
        ({"counts": {"ribosome": -1}}, "number of ribosome that is not negative, got -1"),
        ({"bead_models": {"virus": None}}, "unknown particle 'virus'"),
        ({"shape_zyx": (20, 56, 72)}, r"edges of 32 voxels or more to hold particles, got \(20, 56, 72\)"),
        ({"runs": 0}, "got 0 runs and seed 7"),
        ({"seed": -1}, "got 2 runs and seed -1"),
        ({"setting": "easy"}, "unknown setting 'easy'; expected one of training, wide, shifted"),
        ({"difficulty": 1.5}, "expected a difficulty from -1 to 1, got 1.5"),
        ({"tomogram_types": ("raw",)}, "expected one or more of the tomogram types denoised"),
        ({"counts": None, "picks": []}, "expected the picks of one run or more, got none"),
        ({"counts": None, "picks": [at(20.0), at(90.0)]}, "number 1 from 0: 1 of 1 picks lie outside the volume"),
        (
            {"bead_models": {"ribosome": enlarged("ribosome", 2.0)}},
            "ribosome is 70 voxels across",
        ),
    ],
)
def test_impossible_requests_are_refused_and_leave_nothing(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        make(tmp_path / "set", **changes)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_made_is_noticed_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(dataset, "simulate_tomograms", None)
    with pytest.raises(InputError, match=r"file/set: cannot be made: Not a directory"):
        make(tmp_path / "file" / "set")


def test_particles_that_fit_into_the_thick_ice_of_some_runs_alone_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = (TRAINING.draw_of_set(7, number).ice_thickness_angstrom for number in range(4))
    assert first > 1.1 * min(others)
    radius = HABITS["ribosome"].contact_radius_angstrom
    area = (64 * CZII_VOXEL_ANGSTROM) ** 2
    most = {"ribosome": int(MOST_PACKED * first * area / (4.19 * radius**3))}
    monkeypatch.setattr(dataset, "simulate_tomograms", None)
    with pytest.raises(TypeError):  # at the work
        make(tmp_path / "set", runs=1, counts=most, shape_zyx=(184, 64, 64))
    with pytest.raises(InputError, match="the particles asked for would fill"):
        make(tmp_path / "set", runs=4, counts=most, shape_zyx=(184, 64, 64))
    assert not (tmp_path / "set").exists()


def test_two_processes_cannot_simulate_into_one_directory(tmp_path: Path) -> None:
    with sole_folder(tmp_path / "set"):
        with pytest.raises(InputError, match="set: is being written by another process"):
            make(tmp_path / "set")
        make(tmp_path / "other", runs=1)
    assert len(make(tmp_path / "set", runs=1)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"set", "other"}


def test_the_provenance_says_what_made_a_run_also_without_a_source_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dataset, "source_commit", lambda: None)
    models = {"apo-ferritin": enlarged("apo-ferritin", 1.5)}
    make(tmp_path, runs=1, bead_models=models, counts={"apo-ferritin": np.int64(1)})
    provenance = json.loads((tmp_path / "provenance" / "SIM_7_0.json").read_text())
    assert (provenance["version"], provenance["commit"]) == (__version__, None)
    assert provenance["structures"] == {"apo-ferritin": {"source": "drawn", "correlation": 0.5}}
    monkeypatch.setattr(dataset, "__version__", "9.0")
    make(tmp_path, bead_models=models, counts={"apo-ferritin": 1})
    assert "SIM_7_0 were simulated by other source code than runs to come will be" in caplog.text


def test_a_directory_with_something_else_is_refused_and_left_as_it_was(made: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"is not empty and holds something else: notes\.txt"):
        make(tmp_path)
    assert files_in(tmp_path) == {"notes.txt": b"mine"}
    with pytest.raises(InputError, match="is a file; expected a folder"):
        make(tmp_path / "notes.txt")
    before = files_in(made)
    for changes in (
        {"counts": {"ribosome": 1}},
        {"shape_zyx": (44, 56, 72)},
        {"setting": "shifted"},
        {"difficulty": 0.5},
    ):
        with pytest.raises(InputError, match="holds run SIM_7_0 of another request; choose an empty directory"):
            make(made, **changes)
    with pytest.raises(InputError, match="another request"):
        make(made, seed=9)
    assert files_in(made) == before


def test_other_reconstructions_show_the_same_specimen(tmp_path: Path) -> None:
    types = ("wbp", "denoised", "isonetcorrected", "ctfdeconvolved")
    make(tmp_path, runs=1, tomogram_types=types)
    volumes = {name: read_tomogram(find_runs(tmp_path, tomogram_type=name)[0]).data for name in types}
    drawn = TRAINING.draw_of_set(7, 0)
    alone, _, _ = simulate_tomogram("SIM_7_0", seed=(7, 0), nuisances=drawn, shape_zyx=SHAPE, counts=COUNTS)
    np.testing.assert_array_equal(volumes["denoised"], alone.data)
    for name in types:
        assert np.corrcoef(volumes[name].ravel(), volumes["denoised"].ravel())[0, 1] > 0.15
    assert not np.array_equal(volumes["wbp"], volumes["ctfdeconvolved"])


def test_given_picks_are_kept_to_the_bit_and_runs_go_through_them_in_turn(tmp_path: Path) -> None:
    picks = [
        Picks(
            position_zyx_angstrom=np.array([[200.0, 250.0, offset], [220.0, 420.0, 520.0]]),
            label=np.array([label_of("ribosome"), label_of("apo-ferritin")]),
        )
        for offset in (180.0, 200.0)
    ]
    make(tmp_path, runs=3, counts=None, picks=picks)
    for number, run in enumerate(find_runs(tmp_path)):
        assert run.picks_directory is not None
        stored = read_copick(run.picks_directory)
        expected = picks[number % 2].position_zyx_angstrom[[1, 0]]
        np.testing.assert_allclose(stored.position_zyx_angstrom, expected)
        assert stored.orientation_zyx is not None


def test_particles_are_dark_at_their_picks() -> None:
    tomograms, picks, _ = simulate_tomograms("dark", seed=5, shape_zyx=(48, 90, 100), counts={"ribosome": 4})
    volume = tomograms["denoised"].data
    index = np.round(picks.position_zyx_angstrom / CZII_VOXEL_ANGSTROM).astype(int)
    rows = np.stack(np.indices(volume.shape), axis=-1)
    contrast = []
    for centre in index:
        distance = np.linalg.norm(rows - centre, axis=-1)
        around = np.median(volume[(distance > 12) & (distance < 18)])  # the mean of all includes the carbon film
        contrast.append(volume[distance < 7].mean() - around)
    assert max(contrast) < -0.5 * background_spread(volume)


def test_a_users_map_takes_the_place_of_the_structure(tmp_path: Path) -> None:
    model = load_bead_model("apo-ferritin")
    bar = np.zeros((20, 22, 24), dtype=np.float32)
    bar[8:12, 9:13, 3:21] = 1.0
    with mrcfile.new(tmp_path / "bar.mrc") as file:
        file.set_data(bar)
        file.voxel_size = 10.0
    models = fit_user_maps({"apo-ferritin": tmp_path / "bar.mrc"})
    fitted = models["apo-ferritin"]
    assert fitted.mass.sum() == pytest.approx(model.mass.sum())
    rendered = render(fitted, np.eye(3), bar.shape, 10.0, (9.5, 10.5, 11.5))
    assert np.corrcoef(rendered.ravel(), bar.ravel())[0, 1] > 0.95
    with_map, plain = (
        simulate_tomogram("map", seed=3, shape_zyx=SHAPE, counts={"apo-ferritin": 1}, bead_models=chosen)[0].data
        for chosen in (models, None)
    )
    assert not np.array_equal(with_map, plain)


def test_noise_in_a_users_map_changes_no_distance(tmp_path: Path) -> None:
    shipped = load_bead_model("apo-ferritin")
    density = render(shipped, np.eye(3), (32, 32, 32), 10.0, (15.5,) * 3)
    density += np.random.default_rng(1).normal(0, 0.02 * density.max(), density.shape).astype(np.float32)
    with mrcfile.new(tmp_path / "noisy.mrc") as file:
        file.set_data(density)
        file.voxel_size = 10.0
    models = fit_user_maps({"apo-ferritin": tmp_path / "noisy.mrc"})
    assert models["apo-ferritin"].radius_angstrom > 1.15 * shipped.radius_angstrom  # by beads of hardly any mass
    found, expected = (contact_radii_voxels(used, 10.0)[0] for used in (models, {}))
    assert found == pytest.approx(expected, rel=0.03)
    check_structures(models, (16, 16, 16))


def test_maps_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    grains = np.random.default_rng(0).random((20, 20, 20)).astype(np.float32) ** 8
    with mrcfile.new(tmp_path / "grains.mrc") as file:
        file.set_data(grains)
        file.voxel_size = 10.0
    with pytest.raises(
        InputError, match=r"grains\.mrc: no bead model fits it, the best correlates 0\.\d+; expected one"
    ):
        fit_user_maps({"apo-ferritin": tmp_path / "grains.mrc"})
    grains[:] = 0
    grains[9, 9, 9:11] = 1  # two voxels at fault, or all of a particle
    with mrcfile.open(tmp_path / "grains.mrc", mode="r+") as file:
        file.set_data(grains)
    with pytest.raises(InputError, match=r"grains\.mrc: what is bright in it is 0\.\d+ times as large as ribosome"):
        fit_user_maps({"ribosome": tmp_path / "grains.mrc"})
    with pytest.raises(InputError, match="unknown particle 'bar'"):
        fit_user_maps({"bar": tmp_path / "bar.mrc"})
    (tmp_path / "broken.mrc").write_bytes(b"not a map")
    with pytest.raises(InputError, match=r"broken\.mrc: cannot be read as an MRC map"):
        fit_user_maps({"ribosome": tmp_path / "broken.mrc"})
