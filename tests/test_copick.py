"""The copick JSON that holds picks."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_picks import make_picks

from kaggle_cryoet.copick import read_copick, write_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.picks import Picks


def save(directory: Path, content: object, name: str = "ribosome.json") -> Path:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return directory


def copick(*points: dict[str, Any]) -> dict[str, Any]:
    return {"pickable_object_name": "ribosome", "unit": "angstrom", "points": list(points)}


def test_copick_files_keep_positions_labels_and_orientations(tmp_path: Path) -> None:
    picks = make_picks([0, 0, 2, 5], with_orientation=True)
    write_copick(tmp_path / "TS_1" / "Picks", picks, "TS_1")
    again = read_copick(tmp_path / "TS_1" / "Picks")
    np.testing.assert_array_equal(again.position_zyx_angstrom, picks.position_zyx_angstrom)
    np.testing.assert_array_equal(again.label, picks.label)
    np.testing.assert_array_equal(again.score, np.ones(4))
    assert again.orientation_zyx is not None
    assert picks.orientation_zyx is not None
    np.testing.assert_array_equal(again.orientation_zyx, picks.orientation_zyx)


def test_the_files_have_the_form_of_the_competitions(tmp_path: Path) -> None:
    rotation_zyx = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # of x to y, of y to -x
    picks = Picks(
        position_zyx_angstrom=np.array([[604.1671, 5915.906, 468.514]]),
        label=np.array([0]),
        orientation_zyx=rotation_zyx[None],
    )
    write_copick(tmp_path, picks, "TS_5_4")
    assert sorted(file.stem for file in tmp_path.iterdir()) == sorted(PARTICLE_NAMES)
    content = json.loads((tmp_path / "apo-ferritin.json").read_text())
    assert list(content) == [
        "pickable_object_name",
        "user_id",
        "session_id",
        "run_name",
        "voxel_spacing",
        "unit",
        "points",
        "trust_orientation",
    ]
    assert content | {"points": []} == {
        "pickable_object_name": "apo-ferritin",
        "user_id": "curation",
        "session_id": "0",
        "run_name": "TS_5_4",
        "voxel_spacing": None,
        "unit": "angstrom",
        "points": [],
        "trust_orientation": True,
    }
    assert content["points"] == [
        {
            "location": {"x": 468.514, "y": 5915.906, "z": 604.167},
            "transformation_": [[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
            "instance_id": 0,
        }
    ]
    assert json.loads((tmp_path / "ribosome.json").read_text())["points"] == []


def test_identities_alone_mean_that_orientations_are_not_known(tmp_path: Path) -> None:
    write_copick(tmp_path, make_picks([1, 4]), "TS_1")
    assert json.loads((tmp_path / "thyroglobulin.json").read_text())["trust_orientation"] is False
    assert read_copick(tmp_path).orientation_zyx is None


def test_one_known_orientation_makes_the_identities_known_too(tmp_path: Path) -> None:
    orientation = np.stack([np.eye(3), Rotation.from_euler("z", 30, degrees=True).as_matrix()])
    picks = Picks(position_zyx_angstrom=np.ones((2, 3)), label=np.array([0, 3]), orientation_zyx=orientation)
    write_copick(tmp_path, picks, "TS_1")
    again = read_copick(tmp_path)
    assert again.orientation_zyx is not None
    np.testing.assert_allclose(again.orientation_zyx, orientation)


def test_a_run_without_particles_is_read_as_empty(tmp_path: Path) -> None:
    write_copick(tmp_path, make_picks([]), "TS_1")
    assert len(read_copick(tmp_path)) == 0


def test_a_point_without_transformation_has_no_orientation(tmp_path: Path) -> None:
    picks = read_copick(save(tmp_path, copick({"location": {"x": 1, "y": 2.5, "z": 3}})))
    np.testing.assert_array_equal(picks.position_zyx_angstrom, [[3, 2.5, 1]])
    assert picks.label.tolist() == [3]
    assert picks.orientation_zyx is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"points": [', "not a copick picks file"),
        ([1, 2], "not a copick picks file"),
        ({"unit": "angstrom"}, "lacks the field 'points'"),
        (copick({"instance_id": 0}), "lacks the field 'location'"),
        (copick({"location": {"x": 1, "y": 2}}), "lacks the field 'z'"),
        (copick({"location": {"x": 1, "y": 2, "z": "near"}}), "not a copick picks file"),
        (copick({"location": {"x": 1, "y": 2, "z": None}}), "not a copick picks file|not finite"),
        (copick({"location": {"x": 1, "y": 2, "z": float("nan")}}), "1 of 1 points have a location that is not finite"),
        (copick({"location": {"x": 1, "y": float("inf"), "z": 0}}), "1 of 1 points have a location that is not finite"),
        (copick({"location": {"x": 1, "y": 2, "z": 3}, "transformation_": [[1]]}), "not a copick picks file"),
        (
            copick({"location": {"x": 1, "y": 2, "z": 3}, "transformation_": (2 * np.eye(4)).tolist()}),
            "1 of 1 points are turned by what is no rotation",
        ),
        (
            copick({"location": {"x": 1, "y": 2, "z": 3}, "transformation_": np.diag([1.0, 1, -1, 1]).tolist()}),
            "1 of 1 points are turned by what is no rotation",  # but a mirror image
        ),
        (copick() | {"unit": "pixel"}, "expected positions in angstrom, got 'pixel'"),
    ],
)
def test_files_that_are_no_copick_picks_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_copick(save(tmp_path, content))
    assert str(tmp_path / "ribosome.json") in str(caught.value)


def test_a_transformation_moves_the_point(tmp_path: Path) -> None:
    moved = np.eye(4)
    moved[0, 3] = 5.0
    point = {"location": {"x": 1, "y": 2, "z": 3}, "transformation_": moved.tolist()}
    untold = {"location": {"x": 1, "y": 2, "z": 3}, "transformation_": None}
    picks = read_copick(save(tmp_path, copick(point, untold)))
    assert picks.position_zyx_angstrom.tolist() == [[3, 2, 6], [3, 2, 1]]
    assert picks.orientation_zyx is None


def test_hidden_files_are_left_out_and_no_points_are_none(tmp_path: Path) -> None:
    folder = save(tmp_path, copick() | {"points": None})
    (folder / "._u_1_ribosome.json").write_bytes(b"\x00\xff")
    assert len(read_copick(folder)) == 0


def test_picks_of_another_user_are_named_as_copick_names_them_and_have_scores(tmp_path: Path) -> None:
    picks = replace(make_picks([3, 3]), score=np.array([0.5, 0.123456]))
    write_copick(tmp_path, picks, "TS_1", user_id="kaggle-cryoet")
    content = json.loads((tmp_path / "kaggle-cryoet_0_ribosome.json").read_text())
    assert [point["score"] for point in content["points"]] == [0.5, 0.1235]
    assert (content["user_id"], content["session_id"], content["pickable_object_name"]) == (
        "kaggle-cryoet",
        "0",
        "ribosome",
    )
    assert sorted(path.name.split("_")[2] for path in tmp_path.iterdir()) == sorted(
        f"{name}.json" for name in PARTICLE_NAMES
    )
    read = read_copick(tmp_path)
    np.testing.assert_allclose(read.position_zyx_angstrom, picks.position_zyx_angstrom, atol=1e-3)


def test_files_are_of_the_type_that_they_say_and_of_that_of_their_name_if_they_say_none(tmp_path: Path) -> None:
    point = {"location": {"x": 1, "y": 2, "z": 3}}
    save(tmp_path, copick(point), "alice_1_ribosome.json")  # as copick names them, after user and session
    save(tmp_path, {"points": [point, point]}, "thyroglobulin.json")
    assert read_copick(tmp_path).label.tolist() == [3, 4, 4]


def test_types_that_are_not_known_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    point = {"location": {"x": 1, "y": 2, "z": 3}}
    save(tmp_path, copick(point))
    save(tmp_path, copick(point) | {"pickable_object_name": "proteasome"}, "beta-amylase.json")
    assert read_copick(tmp_path).label.tolist() == [3]
    assert "beta-amylase.json: of 'proteasome', which is none of the particles that are known" in caplog.text
    (tmp_path / "ribosome.json").unlink()
    with pytest.raises(InputError, match="holds no picks"):
        read_copick(tmp_path)


def test_two_files_of_one_type_are_refused(tmp_path: Path) -> None:
    for user in ("ada", "bob"):
        save(tmp_path, copick(), f"{user}_1_ribosome.json")
    with pytest.raises(InputError, match=r"ada_1_ribosome\.json and bob_1_ribosome\.json both hold picks of ribosome"):
        read_copick(tmp_path)


def test_a_folder_without_picks_is_refused(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="holds no picks"):
            read_copick(directory)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_copick(tmp_path / "file" / "Picks", make_picks([0]), "TS_1")


def test_orientations_that_a_file_does_not_trust_are_unknown_beside_those_of_others(tmp_path: Path) -> None:
    turn = Rotation.from_euler("z", 30, degrees=True).as_matrix()
    picks = Picks(
        position_zyx_angstrom=np.ones((2, 3)),
        label=np.array([0, 3]),
        orientation_zyx=np.stack([np.full((3, 3), np.nan), turn]),
    )
    write_copick(tmp_path, picks, "TS_1")
    content = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("apo-ferritin", "ribosome")}
    assert [content[name]["trust_orientation"] for name in content] == [False, True]
    assert content["apo-ferritin"]["points"][0]["transformation_"] == np.eye(4).tolist()
    again = read_copick(tmp_path).orientation_zyx
    assert again is not None
    assert np.isnan(again[0]).all()
    np.testing.assert_allclose(again[1], turn)


def test_a_file_that_does_not_say_what_it_is_of_is_known_by_its_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("user_1_ribosome.json", "user_1_beta_amylase.json", "virus-like-particle.json"):
        save(tmp_path / "Picks", {"points": [{"location": {"x": 1, "y": 2, "z": 3}}]}, name)
    assert not caplog.text
    for name in ("mitochondrial_ribosome.json", "not_a_ribosome_but.json"):
        save(tmp_path / "Picks", {"points": []}, name)
    assert read_copick(tmp_path / "Picks").label.tolist() == [1, 3, 5]
    assert "of 'mitochondrial_ribosome', which is none" in caplog.text
    assert "of 'ribosome_but', which is none" in caplog.text


@pytest.mark.parametrize(
    "content", ["[" * 100_000, f'{{"points": [{{"location": {{"x": 1{"0" * 400}, "y": 2, "z": 3}}}}]}}']
)
def test_json_beyond_bounds_is_an_input_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match=r"ribosome\.json: not a copick picks file"):
        read_copick(save(tmp_path / "Picks", content))
