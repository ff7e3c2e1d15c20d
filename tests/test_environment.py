"""Inputs in old and new places, weights of other notebooks, caches, and running the command."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.kaggle import environment
from kaggle_cryoet.kaggle.environment import CACHES, COMPETITION, KaggleEnvironment
from kaggle_cryoet.picking.branches import MODELS, SHIPPED_WEIGHTS


@pytest.fixture
def kaggle(tmp_path: Path) -> KaggleEnvironment:
    for folder in ("input", "working", "dev"):
        (tmp_path / folder).mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    return KaggleEnvironment(root=tmp_path, devices=tmp_path / "dev")


def place_model(folder: Path, kind: str = "unet3d") -> Path:
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"kind": kind}))
    return folder


@pytest.mark.parametrize("place", [COMPETITION, f"competitions/{COMPETITION}"], ids=["old form", "new form"])
def test_the_competition_is_found_in_both_forms_of_mounts(kaggle: KaggleEnvironment, place: str) -> None:
    (kaggle.input / place).mkdir(parents=True)
    assert kaggle.competition == kaggle.input / place
    assert kaggle.test == kaggle.input / place / "test"
    assert kaggle.train == kaggle.input / place / "train"


def test_a_competition_that_is_not_attached_is_said_with_what_is(kaggle: KaggleEnvironment) -> None:
    (kaggle.input / "datasets").mkdir()
    with pytest.raises(InputError, match=r"not attached.*competition_sources.*attached: datasets\)"):
        _ = kaggle.competition
    with pytest.raises(InputError, match="attached: nothing"):
        _ = KaggleEnvironment(root=kaggle.root / "nowhere").competition


@pytest.mark.parametrize(
    "place",
    [
        "kaggle-cryoet-finetune/unet3d",
        "notebooks/ada/kaggle-cryoet-finetune/unet3d",
        "my-weights",
        "datasets/ada/my-weights",
        "datasets/ada/my-weights/best/unet3d",
        "models/ada/my-model/pytorch/default/1",
        "models/ada/my-model/pytorch/default/1/unet3d",
    ],
)
def test_weights_of_another_notebook_or_dataset_are_found(kaggle: KaggleEnvironment, place: str) -> None:
    model = place_model(kaggle.input / place)
    assert kaggle.weights == model


def test_without_weights_among_the_inputs_the_packages_own_are_taken(kaggle: KaggleEnvironment) -> None:
    place_model(kaggle.input / COMPETITION / "train")
    place_model(kaggle.input / "datasets" / "ada" / "volume.zarr" / "unet3d")
    place_model(kaggle.input / "datasets" / "ada" / "slug" / "a" / "b" / "c" / "d" / "e" / "unet3d")
    assert kaggle.weights == SHIPPED_WEIGHTS


def test_of_two_models_none_is_taken_silently(kaggle: KaggleEnvironment) -> None:
    for name in ("one", "other"):
        place_model(kaggle.input / name / "unet3d")
    with pytest.raises(InputError, match="2 models are attached"):
        _ = kaggle.weights
    (kaggle.input / "other" / "unet3d").rename(kaggle.input / "one" / "my-own")  # side by side, under another name
    with pytest.raises(InputError, match="2 models are attached, expected one, or unet3d, yolo11, hybrid in one"):
        _ = kaggle.weights


@pytest.mark.parametrize(
    ("kinds", "branch"),
    [
        (("unet3d",), "unet"),
        (("yolo11",), "yolo"),
        (("unet3d", "yolo11"), "unet"),
        (("unet3d", "yolo11", "hybrid"), "hybrid"),
    ],
)
def test_models_that_lie_side_by_side_are_taken_together_and_the_branch_is_what_they_suffice_for(
    kaggle: KaggleEnvironment, kinds: tuple[str, ...], branch: str
) -> None:
    folder = kaggle.input / "datasets" / "ada" / "mine"
    for kind in kinds:
        place_model(folder / kind, kind)
    assert kaggle.weights == (folder if len(kinds) > 1 else folder / kinds[0])
    assert kaggle.branch == branch
    assert kaggle.unet == (folder / "unet3d" if "unet3d" in kinds else folder / "yolo11")


def test_the_branch_of_a_model_under_another_name_or_that_cannot_be_read_is_found(kaggle: KaggleEnvironment) -> None:
    model = place_model(kaggle.input / "my-detector", "yolo11")
    assert kaggle.branch == "yolo"
    (model / "model.json").write_text("{")  # the command will say so
    assert kaggle.branch == "unet"


def test_the_packages_own_models_suffice_for_a_branch(kaggle: KaggleEnvironment) -> None:
    models = {path.name for path in SHIPPED_WEIGHTS.iterdir()}
    assert set(MODELS[kaggle.branch]) <= models


def test_the_packages_own_weights_pick_by_the_unet_and_attached_ones_by_all_there_is(kaggle: KaggleEnvironment) -> None:
    assert kaggle.options == ["--branch", "unet", "--flips", "4"]
    for kind in MODELS["hybrid"]:
        place_model(kaggle.input / "mine" / kind, kind)
    assert kaggle.options == ["--branch", "hybrid", "--flips", "4"]


def test_a_detector_that_is_attached_alone_is_not_told_of_flips(kaggle: KaggleEnvironment) -> None:
    place_model(kaggle.input / "mine" / "yolo11", "yolo11")
    assert kaggle.options == ["--branch", "yolo"]


def test_the_lack_of_a_gpu_is_noted_loudly(kaggle: KaggleEnvironment) -> None:
    assert kaggle.gpu_note() is None
    (kaggle.devices / "nvidia0").unlink()
    (kaggle.devices / "nvidiactl").touch()
    note = kaggle.gpu_note()
    assert note is not None
    assert "NO GPU" in note
    assert "T4" in note


def test_everything_that_libraries_write_goes_into_the_working_folder(kaggle: KaggleEnvironment) -> None:
    variables = kaggle.variables()
    for name in ("NUMBA_CACHE_DIR", "TORCH_HOME", "MPLCONFIGDIR", "YOLO_CONFIG_DIR", "CUDA_CACHE_PATH", "TMPDIR"):
        assert Path(variables[name]).is_relative_to(kaggle.working)
    assert variables["YOLO_AUTOINSTALL"] == "false"
    assert variables["YOLO_OFFLINE"] == "true"


def test_a_command_runs_with_these_variables_in_the_working_folder_and_leaves_no_cache(
    kaggle: KaggleEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = kaggle.root / "python"
    script.write_text(
        f"#!{sys.executable}\n"
        "import os, sys, tempfile\n"
        "print(' '.join(sys.argv[1:]))\n"
        "print(os.getcwd(), os.environ['NUMBA_CACHE_DIR'], os.path.isdir(os.environ['NUMBA_CACHE_DIR']))\n"
        "print(tempfile.gettempdir())\n"
        "print('\\r 0%\\r50%\\r100%', file=sys.stderr)\n"
        "sys.exit(3)\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    lines = list(kaggle.run("predict", "TOMOGRAMS", "--flips", 4))
    cache = kaggle.working / ".cache"
    assert lines[0] == "-m kaggle_cryoet predict TOMOGRAMS --flips 4"
    assert lines[1] == f"{kaggle.working} {cache / 'numba'} True"
    assert lines[2] == str(cache / "temporary")
    assert lines[3:] == [" 0%", "50%", "100%"]
    assert list(kaggle.working.iterdir()) == []


def test_a_command_that_fails_is_an_error_after_its_last_line(
    kaggle: KaggleEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = kaggle.root / "python"
    script.write_text("#!/bin/sh\necho it is broken\nexit 2\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    lines = kaggle.run("predict")
    assert next(lines) == "it is broken"
    with pytest.raises(InputError, match="kaggle_cryoet predict ended with status 2"):
        next(lines)


def predict_with(
    kaggle: KaggleEnvironment, monkeypatch: pytest.MonkeyPatch, body: str, limit: float = 60.0
) -> list[str]:
    """Lines of a prediction whose process does, with the number of times it was begun in `n`, what a script says."""
    script = kaggle.root / "python"
    script.write_text(f"#!/bin/sh\necho >> {kaggle.root}/begun\nn=$(wc -l < {kaggle.root}/begun)\n{body}")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    output = kaggle.working / "submission.csv"
    return list(kaggle.predict("TOMOGRAMS", output=output, time_limit_seconds=limit))


def times_begun(kaggle: KaggleEnvironment) -> int:
    return len((kaggle.root / "begun").read_text().splitlines())


ROWS, HEADER = "printf 'id\n0\n' > submission.csv\n", "echo id > submission.csv\n"


def test_a_prediction_that_dies_is_gone_on_with_once(
    kaggle: KaggleEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = predict_with(kaggle, monkeypatch, f"{ROWS}echo $@\n[ $n = 1 ] && kill -9 $$\nexit 3\n")
    assert times_begun(kaggle) == 2
    asked = [line for line in lines if line.startswith("-m kaggle_cryoet")]
    wanted = f"-m kaggle_cryoet predict TOMOGRAMS --output {kaggle.working}/submission.csv --continue --time-limit "
    first, second = (float(line.removeprefix(wanted)) for line in asked)  # seconds that are left
    assert 60 >= first > second > 0
    assert any("ended with status -9" in line and "it is run once more" in line for line in lines)


def test_what_a_prediction_that_dies_twice_has_picked_counts(
    kaggle: KaggleEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = predict_with(kaggle, monkeypatch, f"{ROWS}kill -9 $$\n")
    assert times_begun(kaggle) == 2
    assert "ended with status -9" in lines[-1]
    assert lines[-1].endswith("what is in submission.csv counts")


def test_what_was_picked_counts_also_where_going_on_is_refused(
    kaggle: KaggleEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = predict_with(kaggle, monkeypatch, f"[ $n = 2 ] && exit 2\n{ROWS}kill -9 $$\n")
    assert lines[-1].endswith("ended with status 2; its last lines say why; what is in submission.csv counts")


@pytest.mark.parametrize("status", [1, 2, 3])
def test_what_another_call_has_picked_does_not_count(
    kaggle: KaggleEnvironment, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    (kaggle.working / "submission.csv").write_text("id\n0\n")
    with pytest.raises(InputError, match=f"ended with status {status}"):
        predict_with(kaggle, monkeypatch, f"exit {status}\n")


@pytest.mark.parametrize(
    ("body", "status", "begun"),
    [
        (f"{HEADER}kill -9 $$\n", -9, 2),
        ("exit 1\n", 1, 2),
        (f"{HEADER}exit 3\n", 3, 1),  # every tomogram failed
        ("exit 2\n", 2, 1),  # what was asked for cannot be done
    ],
)
def test_a_prediction_of_nothing_is_an_error(
    kaggle: KaggleEnvironment, monkeypatch: pytest.MonkeyPatch, body: str, status: int, begun: int
) -> None:
    with pytest.raises(InputError, match=f"ended with status {status}; its last lines say why"):
        predict_with(kaggle, monkeypatch, body)
    assert times_begun(kaggle) == begun


def test_a_prediction_without_a_particle_is_no_error(
    kaggle: KaggleEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_with(kaggle, monkeypatch, f"{HEADER}exit 0\n")
    assert times_begun(kaggle) == 1


def test_a_prediction_that_does_not_end_after_its_time_limit_is_ended(
    kaggle: KaggleEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "GRACE_SECONDS", 0.5)
    began = time.monotonic()
    lines = predict_with(kaggle, monkeypatch, f"{ROWS}sleep 120 &\nexec sleep 60\n", limit=0.5)  # one holds the pipe
    assert time.monotonic() - began < 30
    assert times_begun(kaggle) == 1
    assert lines[-1].endswith("what is in submission.csv counts")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_working_folder_that_cannot_be_written_to_is_said(kaggle: KaggleEnvironment) -> None:
    kaggle.working.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written to"):
        list(kaggle.run("predict"))


def test_a_file_in_place_of_the_working_folder_is_said(kaggle: KaggleEnvironment) -> None:
    kaggle.working.rmdir()
    kaggle.working.touch()
    with pytest.raises(InputError, match="cannot be written to"):
        list(kaggle.run("predict"))


def test_a_full_working_folder_is_said_before_anything_is_run(
    kaggle: KaggleEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **options: pytest.fail("must not run"))
    with pytest.raises(InputError, match=r"working: cannot be written to \(No space left on device\)"):
        list(kaggle.run("predict"))


def test_the_environment_is_known_before_anything_heavy_is_loaded() -> None:
    script = (
        "import sys, kaggle_cryoet.kaggle.environment\n"
        "print(sorted({'torch', 'numpy', 'numba', 'pandas', 'scipy', 'zarr', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_cache_has_a_folder() -> None:
    assert all(folder and "/" not in folder for folder in CACHES.values())
