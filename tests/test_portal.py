"""Annotations of the CryoET Data Portal as labels."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kaggle_cryoet.copick import USER_ID, write_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.labels import read_labels
from kaggle_cryoet.metric import read_truth
from kaggle_cryoet.particles import OTHER_NAMES, PARTICLE_NAMES, label_called
from kaggle_cryoet.picks import NO_PICKS, Picks
from kaggle_cryoet.portal import holds_annotations
from kaggle_cryoet.runs import find_picks, find_runs
from kaggle_cryoet.tomogram import Tomogram, write_tomogram
from kaggle_cryoet.training.data import DataSettings, split_sources
from kaggle_cryoet.training.volumes import load_labelled_volume

SPACING = "TS_5_4/Reconstructions/VoxelSpacing10.012"
PORTAL = {
    "apo-ferritin": ("ferritin complex", "GO:0070288"),
    "beta-amylase": ("beta-amylase", "UniProtKB:P10537"),
    "beta-galactosidase": ("beta-galactosidase", "UniProtKB:P00722"),
    "ribosome": ("cytosolic ribosome", "GO:0022626"),
    "thyroglobulin": ("thyroglobulin", "UniProtKB:P01267"),
    "virus-like-particle": ("pp7 vlp", "UniProtKB:P03630"),
}
"""Names and identifiers of objects in the annotations of datasets 10440 to 10446."""


def point(x: float, y: float, z: float, rotation: Any = None) -> dict[str, Any]:
    location = {"type": "point" if rotation is None else "orientedPoint", "location": {"x": x, "y": y, "z": z}}
    return location if rotation is None else location | {"xyz_rotation_matrix": np.asarray(rotation).tolist()}


def annotate(
    spacing: Path, number: int, name: str, *points: dict[str, Any] | str, shape: str = "point", **said: Any
) -> Path:
    """Write an annotation as the portal does, without a line's end at the end of the file."""
    folder = spacing / "Annotations" / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace(' ', '_')}-{said.get('version', '1.0')}"
    (folder / f"{stem}.json").write_text(json.dumps({"annotation_object": {"name": name}, "version": "1.0"} | said))
    path = folder / f"{stem}_{shape}.ndjson"
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in points))
    return path


def test_particles_are_known_by_the_portals_names_and_identifiers() -> None:
    assert set(PORTAL) == set(PARTICLE_NAMES)
    for particle, names in PORTAL.items():
        for name in (particle, *names, names[0].replace(" ", "_").upper()):
            assert label_called(name) == PARTICLE_NAMES.index(particle)
    assert label_called("ribosomes") is label_called("") is label_called("GO:0005840") is None
    names_of_all = [name for own in PARTICLE_NAMES for name in (own, *OTHER_NAMES[own])]
    assert len(set(names_of_all)) == len(names_of_all)
    assert all(name == name.lower() and not {" ", "_"} & set(name) for name in names_of_all)


def test_locations_in_voxels_become_positions_in_angstrom(tmp_path: Path) -> None:
    annotate(tmp_path / SPACING, 104, "cytosolic ribosome", point(10, 20, 30), point(1.5, 0, 100))
    annotate(tmp_path / SPACING, 101, "ferritin complex", point(7, 8, 9))
    annotate(tmp_path / SPACING, 107, "membrane", "not even read")
    annotate(tmp_path / SPACING, 106, "pp7 vlp")
    annotate(tmp_path / SPACING, 103, "beta-galactosidase", point(1, 1, 1), shape="instancesegmentation")
    picks = read_labels(tmp_path / SPACING / "Annotations")
    assert picks.label.tolist() == [0, 3, 3]
    expected = np.array([[9, 8, 7], [30, 20, 10], [100, 0, 1.5]]) * 10.012
    np.testing.assert_allclose(picks.position_zyx_angstrom, expected, rtol=1e-12)
    np.testing.assert_array_equal(picks.score, 1)
    assert picks.orientation_zyx is None


def test_the_object_is_told_by_its_identifier_or_else_by_its_name_or_the_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    by_id = {"annotation_object": {"id": "UniProtKB:P03630", "name": "major capsid protein"}}
    annotate(tmp_path / SPACING, 1, "major capsid protein", point(1, 1, 1), **by_id)
    annotate(tmp_path / SPACING, 2, "beta amylase", point(2, 2, 2), annotation_object=None)
    path = annotate(tmp_path / SPACING, 3, "thyroglobulin", point(3, 3, 3))
    path.with_name("thyroglobulin-1.0.json").unlink()
    path = annotate(tmp_path / SPACING, 4, "ferritin complex", point(4, 4, 4))
    path.with_name("ferritin_complex-1.0.json").write_text('{"ground_tr')
    assert holds_annotations(tmp_path / SPACING / "Annotations")  # of which it says nothing
    assert not caplog.text
    contradicted = {"annotation_object": {"id": "GO:0005739", "name": "mitochondrial ribosome"}}
    annotate(tmp_path / SPACING, 5, "cytosolic ribosome", point(5, 5, 5), **contradicted)
    assert read_labels(tmp_path / SPACING / "Annotations").label.tolist() == [0, 1, 4, 5]
    assert caplog.text.count("cannot be read") == 1
    assert "4/ferritin_complex-1.0.json: cannot be read (" in caplog.text


def test_oriented_points_are_as_copick_has_them(tmp_path: Path) -> None:
    rotation = Rotation.random(2, rng=np.random.default_rng(3)).as_matrix()
    position = np.array([[30.0, 20.0, 10.0], [3.0, 2.0, 1.0]])
    true = Picks(
        position_zyx_angstrom=position * 10.0,
        label=np.array([3, 3]),
        orientation_zyx=rotation[:, ::-1, ::-1],
    )
    write_copick(tmp_path / "Picks", true, "TS_5_4")
    spacing = tmp_path / "TS_5_4/Reconstructions/VoxelSpacing10.000"
    annotate(spacing, 104, "cytosolic ribosome", *[point(*at[::-1]) for at in position])
    points = [point(*at[::-1], turned) for at, turned in zip(position, rotation, strict=True)]
    annotate(spacing, 104, "cytosolic ribosome", *points, shape="orientedpoint")
    for picks in (read_labels(tmp_path / "Picks"), read_labels(spacing / "Annotations")):
        np.testing.assert_allclose(picks.position_zyx_angstrom, true.position_zyx_angstrom)
        assert picks.orientation_zyx is not None
        np.testing.assert_allclose(picks.orientation_zyx, rotation[:, ::-1, ::-1])


@pytest.mark.parametrize(
    ("said_of_each", "taken"),
    [
        ([{}, {"ground_truth_status": True}, {"is_curator_recommended": True, "version": "9.0"}], 1),
        ([{"is_curator_recommended": True}, {"is_curator_recommended": False}, {}], 0),
        ([{"version": "1.0"}, {"version": "10.0"}, {"version": "2.0"}], 1),
        ([{"version": "1.9"}, {"version": "1.10"}, {"version": "1.9.1"}], 1),
        ([{"version": 2.0}, {"version": None}, {"version": [1]}], 0),
        ([{"version": "999999999"}, {"version": "1234567890"}, {"version": ""}], 1),
    ],
)
def test_of_several_annotations_the_truth_then_the_recommended_then_the_latest_is_taken(
    tmp_path: Path, said_of_each: list[dict[str, Any]], taken: int, caplog: pytest.LogCaptureFixture
) -> None:
    for number, said in enumerate(said_of_each):
        annotate(tmp_path / SPACING, number, "thyroglobulin", point(number, 0, 0), **said)
    picks = read_labels(tmp_path / SPACING / "Annotations")
    np.testing.assert_allclose(picks.position_zyx_angstrom, [[0, 0, taken * 10.012]])
    assert not caplog.text


def test_of_annotations_that_nothing_sets_apart_the_first_is_taken_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (105, 110):
        annotate(tmp_path / SPACING, number, "thyroglobulin", point(number, 0, 0))
    picks = read_labels(tmp_path / SPACING / "Annotations")
    np.testing.assert_allclose(picks.position_zyx_angstrom, [[0, 0, 105 * 10.012]])
    assert "holds 2 annotations of thyroglobulin that nothing sets apart; 105/thyroglobulin-1.0_point" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not a point of the CryoET Data Portal: Expecting"),
        ('{"type": "point"}', "line 2: not a point of the CryoET Data Portal: lacks the field 'location'"),
        ('{"location": {"x": 1, "y": 2}}', "lacks the field 'z'"),
        ('{"location": {"x": 1, "y": 2, "z": null}}', "line 2: not a point"),
        ('{"location": {"x": 1, "y": 2, "z": NaN}}', "1 of 2 points have a location that is not finite"),
        ("[]", "line 2: not a point"),
        (f'{{"location": {{"x": 1, "y": 2, "z": 1{"0" * 400}}}}}', "line 2: not a point"),
    ],
)
def test_a_broken_annotation_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = annotate(tmp_path / SPACING, 104, "cytosolic ribosome", point(1, 2, 3), line)
    with pytest.raises(InputError, match=message) as caught:
        read_labels(tmp_path / SPACING / "Annotations")
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("rotation", "message"),
    [
        (2 * np.eye(3), "1 of 1 points are turned by what is no rotation"),
        (np.full((3, 3), np.nan), "1 of 1 points are turned by what is no rotation"),
        (np.eye(2), "line 1: not a point"),
    ],
)
def test_a_matrix_that_is_no_rotation_is_refused(tmp_path: Path, rotation: Any, message: str) -> None:
    path = annotate(tmp_path / SPACING, 4, "cytosolic ribosome", point(1, 2, 3, rotation), shape="orientedpoint")
    with pytest.raises(InputError, match=message):
        read_labels(tmp_path / SPACING / "Annotations")
    path.write_text(json.dumps(point(1, 2, 3)))
    with pytest.raises(InputError, match=r"line 1: .* lacks the field 'xyz_rotation_matrix'"):
        read_labels(tmp_path / SPACING / "Annotations")


def test_a_folder_without_known_particles_or_spacing_is_refused(tmp_path: Path) -> None:
    annotate(tmp_path / SPACING, 1, "membrane", point(1, 2, 3))
    assert not holds_annotations(tmp_path / SPACING / "Annotations")
    with pytest.raises(InputError, match="Annotations: holds no picks; expected files"):
        read_labels(tmp_path / SPACING / "Annotations")
    for name in ("VoxelSpacing", "VoxelSpacingÅ", "VoxelSpacing0", "VoxelSpacing-5.0", "VoxelSpacinginf"):
        annotate(tmp_path / name, 1, "cytosolic ribosome", point(1, 2, 3))
        with pytest.raises(InputError, match=r"expected to lie in a folder VoxelSpacing<Å>"):
            read_labels(tmp_path / name / "Annotations")


def test_a_folder_of_copick_files_may_be_called_annotations(tmp_path: Path) -> None:
    own = Picks(position_zyx_angstrom=np.array([[1.0, 2.0, 3.0]]), label=np.array([2]))
    write_copick(tmp_path / "Annotations", own, "TS_1")
    assert read_truth(tmp_path / "Annotations")["Annotations"].label.tolist() == [2]


def test_unturned_particles_have_no_known_orientation_as_in_copick_files(tmp_path: Path) -> None:
    annotate(tmp_path / SPACING, 4, "cytosolic ribosome", point(1, 2, 3, np.eye(3)), shape="orientedpoint")
    assert read_labels(tmp_path / SPACING / "Annotations").orientation_zyx is None


def test_tomograms_and_annotations_of_several_alignments_are_told(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    described = dataset / SPACING / "Tomograms/100/tomogram_metadata.json"
    first, second = ({"alignment_metadata_path": f"10440/TS_5_4/Alignments/{number}"} for number in (100, 101))
    described.write_text(json.dumps(first))
    read_labels(dataset / SPACING / "Annotations")
    annotate(dataset / SPACING, 104, "cytosolic ribosome", point(10, 20, 12), **first)
    read_labels(dataset / SPACING / "Annotations")
    assert not caplog.text
    annotate(dataset / SPACING, 101, "ferritin complex", point(1, 2, 3), **second)
    read_labels(dataset / SPACING / "Annotations")
    assert "Annotations: tomograms and annotations are not all of one alignment" in caplog.text
    caplog.clear()
    for number in (101, 104):
        shutil.rmtree(dataset / SPACING / "Annotations" / str(number))
    annotate(dataset / SPACING, 101, "ferritin complex", point(1, 2, 3), **second)
    read_labels(dataset / SPACING / "Annotations")
    assert "Annotations: tomograms and annotations are not all of one alignment" in caplog.text


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of the portal with two runs, of which one is labelled, at two voxel spacings."""
    root = tmp_path / "10440"
    for run in ("TS_5_4", "TS_6_4"):
        for spacing, voxel in (("VoxelSpacing10.012", 10.012), ("VoxelSpacing20.024", 20.024)):
            folder = root / run / "Reconstructions" / spacing / "Tomograms/100"
            data = np.random.default_rng(1).normal(size=(24, 32, 40)).astype(np.float32)
            write_tomogram(folder / f"{run}.zarr", Tomogram(data=data, voxel_angstrom=voxel, name=run), levels=1)
            (folder / "tomogram_metadata.json").write_text('{"processing": "denoised"}')
    annotate(root / SPACING, 104, "cytosolic ribosome", point(10, 20, 12))
    annotate(root / "TS_5_4/Reconstructions/VoxelSpacing20.024", 104, "cytosolic ribosome", point(5, 10, 6))
    return root


def test_annotations_beside_the_tomogram_are_its_picks(dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    labelled, other = find_runs(dataset)
    assert labelled.picks_directory == dataset / SPACING / "Annotations"
    assert other.picks_directory is None
    coarse = dataset / "TS_5_4/Reconstructions/VoxelSpacing20.024"
    assert find_runs(coarse)[0].picks_directory == coarse / "Annotations"
    assert find_picks(dataset) == {"TS_5_4": dataset / SPACING / "Annotations"}
    assert "1 of 2 runs have no picks" in caplog.text
    assert find_picks(coarse / "Annotations") == {"TS_5_4": coarse / "Annotations"}
    volume = load_labelled_volume(labelled)
    np.testing.assert_allclose(volume.picks.position_zyx_angstrom, [[120.144, 200.24, 100.12]])
    assert volume.volume.shape == (24, 32, 40)


def test_annotations_of_another_spacing_are_taken_where_there_are_no_others(dataset: Path) -> None:
    (dataset / SPACING / "Annotations").rename(dataset / "away")
    coarse = dataset / "TS_5_4/Reconstructions/VoxelSpacing20.024/Annotations"
    [run] = find_runs(dataset / "TS_5_4")
    assert run.picks_directory == coarse
    assert run.tomogram_path.parts[-4] == "VoxelSpacing10.012"
    np.testing.assert_allclose(read_labels(coarse).position_zyx_angstrom, [[120.144, 200.24, 100.12]])


def test_picks_of_ones_own_come_before_the_portals_in_their_run(dataset: Path) -> None:
    own = Picks(position_zyx_angstrom=np.array([[1.0, 2.0, 3.0]]), label=np.array([2]))
    write_copick(dataset / "TS_5_4/Picks", own, "TS_5_4")
    annotate(dataset / "TS_6_4/Reconstructions/VoxelSpacing10.012", 104, "cytosolic ribosome", point(1, 2, 3))
    expected = {
        "TS_5_4": dataset / "TS_5_4/Picks",
        "TS_6_4": dataset / "TS_6_4/Reconstructions/VoxelSpacing10.012/Annotations",
    }
    assert {run.name: run.picks_directory for run in find_runs(dataset)} == expected == find_picks(dataset)


@pytest.mark.parametrize("left", ["nothing", "others", "predictions"])
def test_a_folder_of_picks_without_labels_does_not_hide_annotations(dataset: Path, left: str) -> None:
    folder = dataset / "TS_5_4/Picks"
    folder.mkdir()
    if left == "others":
        (folder / "user_1_membrane.json").write_text('{"pickable_object_name": "membrane", "points": []}')
    if left == "predictions":
        write_copick(folder, NO_PICKS, "TS_5_4", user_id=USER_ID)
    expected = dataset / SPACING / "Annotations"
    assert find_runs(dataset)[0].picks_directory == expected
    assert find_picks(dataset / "TS_5_4") == find_picks(dataset) == {"TS_5_4": expected}


def test_a_broken_file_of_ones_own_is_not_passed_over(dataset: Path) -> None:
    (dataset / "TS_5_4/Picks").mkdir()
    (dataset / "TS_5_4/Picks/ribosome.json").write_text("{")
    [picks_directory] = [run.picks_directory for run in find_runs(dataset / "TS_5_4")]
    assert picks_directory is not None
    with pytest.raises(InputError, match=r"ribosome\.json: not a copick picks file"):
        read_labels(picks_directory)


def test_two_voxel_spacings_of_a_run_are_one_specimen_to_a_training(dataset: Path) -> None:
    fine, coarse = sorted((dataset / "TS_5_4/Reconstructions").iterdir())
    assert find_runs(fine)[0].picks_directory != find_runs(coarse)[0].picks_directory
    with pytest.raises(InputError, match="1 runs are both trained on and validated on"):
        split_sources([fine], [coarse], DataSettings(), hold_out=False)
    assert find_runs(dataset)[1].specimen == dataset / "TS_6_4"  # it has no labels


def test_the_truth_may_be_a_dataset_without_tomograms(tmp_path: Path) -> None:
    annotate(tmp_path / "10440" / SPACING, 104, "cytosolic ribosome", point(10, 20, 12))
    truth = read_truth(tmp_path / "10440")
    assert list(truth) == ["TS_5_4"]
    assert truth["TS_5_4"].label.tolist() == [3]
