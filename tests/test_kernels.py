"""The kernels: their metadata, that notebooks are the scripts, and that the scripts do what they should."""

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

from kaggle_cryoet.kaggle.environment import COMPETITION
from kaggle_cryoet.picking.branches import SHIPPED_WEIGHTS
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.submission import read_submission

KERNELS = Path(__file__).parent.parent / "kernels"
NAMES = ("predict", "finetune")
INSTALLER = "from pathlib import Path\nprint('installed from', Path(__file__).parent.name)\n"


@pytest.fixture(scope="module")
def make_notebooks() -> ModuleType:
    spec = util.spec_from_file_location("make_notebooks", KERNELS / "make_notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_a_script_has_at_most_thirty_lines(name: str) -> None:
    assert len((KERNELS / name / f"{name}.py").read_text().splitlines()) <= 30


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_its_script(name: str, make_notebooks: ModuleType) -> None:
    script = (KERNELS / name / f"{name}.py").read_text()
    notebook = json.loads((KERNELS / name / f"{name}.ipynb").read_text())
    assert notebook == make_notebooks.notebook(script), "run `make notebooks`"
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) == 2
    assert all(part in script for part in code)
    assert all(not cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")


@pytest.mark.parametrize("name", NAMES)
def test_the_metadata_asks_for_two_t4_no_internet_and_the_right_inputs(name: str) -> None:
    metadata = json.loads((KERNELS / name / "kernel-metadata.json").read_text())
    owner, slug = metadata["id"].split("/")
    assert slug == metadata["title"].lower().replace(" ", "-")
    assert metadata["code_file"] == f"{name}.ipynb"
    assert (metadata["language"], metadata["kernel_type"]) == ("python", "notebook")
    assert metadata["enable_gpu"] is True
    assert metadata["enable_internet"] is False
    assert metadata["machine_shape"] == "NvidiaTeslaT4"
    assert metadata["competition_sources"] == [COMPETITION]
    assert metadata["dataset_sources"] == [f"{owner}/kaggle-cryoet"]
    assert {"is_private", "kernel_sources", "model_sources"} <= set(metadata)


def test_kernels_under_a_name_take_the_fine_tuned_network_once_they_are_told_to(
    make_notebooks: ModuleType, tmp_path: Path
) -> None:
    def sources() -> list[list[str]]:
        written = [json.loads((tmp_path / name / "kernel-metadata.json").read_text()) for name in NAMES]
        assert [one["id"] for one in written] == [f"ada/kaggle-cryoet-{name}" for name in NAMES]
        assert all(one["dataset_sources"] == ["ada/kaggle-cryoet"] for one in written)
        return [one["kernel_sources"] for one in written]

    make_notebooks.write_kernels(tmp_path, "ada", finetuned=False)
    assert sources() == [[], []]
    make_notebooks.write_kernels(tmp_path, "ada", finetuned=True)
    assert sources() == [["ada/kaggle-cryoet-finetune"], []]
    make_notebooks.write_kernels(tmp_path, "ada", finetuned=False)
    assert sources() == [["ada/kaggle-cryoet-finetune"], []]
    make_notebooks.write_kernels(tmp_path, "bob", finetuned=False)
    assert json.loads((tmp_path / "predict" / "kernel-metadata.json").read_text())["kernel_sources"] == []
    for name in NAMES:
        assert {path.name for path in (tmp_path / name).iterdir()} == {path.name for path in (KERNELS / name).iterdir()}


def stand_in(script: str, root: Path, labelled_runs: Path, *, bundle: str, competition: str) -> Path:
    """The script of a kernel, with another folder in place of `/kaggle`, in which the inputs lie."""
    (root / "working").mkdir(parents=True)
    (root / "input" / bundle).mkdir(parents=True)
    (root / "input" / bundle / "install.py").write_text(INSTALLER)
    if competition:
        place = root / "input" / competition
        place.mkdir(parents=True)
        (place / "test").symlink_to(labelled_runs)
        (place / "train").symlink_to(labelled_runs)
    text = (KERNELS / script / f"{script}.py").read_text()
    assert text.count('"/kaggle/input"') == 1
    assert text.count("KaggleEnvironment()") == 1
    text = text.replace('"/kaggle/input"', repr(str(root / "input")))
    text = text.replace(
        "KaggleEnvironment()", f"KaggleEnvironment(root=Path({str(root)!r}), devices=Path({str(root)!r}))"
    )
    path = root / f"{script}.py"
    path.write_text(text)
    return path


def run(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("bundle", "competition", "weights"),
    [
        ("kaggle-cryoet", COMPETITION, "kaggle-cryoet-finetune/unet3d"),
        ("datasets/ada/kaggle-cryoet", f"competitions/{COMPETITION}", "notebooks/ada/kaggle-cryoet-finetune/unet3d"),
    ],
    ids=["old form of mounts", "new form of mounts"],
)
def test_predict_picks_the_test_tomograms_with_the_attached_weights(
    labelled_runs: Path, small_model: Path, tmp_path: Path, bundle: str, competition: str, weights: str
) -> None:
    root = tmp_path / "kaggle"
    script = stand_in("predict", root, labelled_runs, bundle=bundle, competition=competition)
    (root / "input" / weights).parent.mkdir(parents=True)
    small_model.rename(root / "input" / weights)
    done = run(script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "installed from kaggle-cryoet" in done.stdout
    assert f"weights: {root / 'input' / weights} --branch unet --flips 4\n" in done.stdout
    assert "NO GPU IS ATTACHED" in done.stdout
    assert set(read_submission(root / "working" / "submission.csv")) == {run.name for run in find_runs(labelled_runs)}
    left = sorted(path.name for path in (root / "working").iterdir())
    assert left == ["submission.csv", "submission.csv.state.json"]  # to go on from


def test_predict_picks_with_a_detector_that_is_attached_alone(labelled_runs: Path, tmp_path: Path) -> None:
    root = tmp_path / "kaggle"
    script = stand_in("predict", root, labelled_runs, bundle="kaggle-cryoet", competition=COMPETITION)
    shutil.copytree(SHIPPED_WEIGHTS / "yolo11", root / "input" / "my-detector")
    done = run(script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "my-detector --branch yolo\n" in done.stdout
    assert set(read_submission(root / "working" / "submission.csv")) <= {run.name for run in find_runs(labelled_runs)}


def test_a_kernel_with_weights_that_were_cut_off_says_so_and_leaves_nothing(
    labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    root = tmp_path / "kaggle"
    script = stand_in("predict", root, labelled_runs, bundle="kaggle-cryoet", competition=COMPETITION)
    weights = small_model.rename(root / "input" / "my-weights") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    done = run(script)
    assert done.returncode != 0
    assert "weights.safetensors: not a whole safetensors file" in done.stdout
    assert "ended with status 2; its last lines say why" in done.stderr.splitlines()[-1]
    assert list((root / "working").iterdir()) == []


def test_a_kernel_that_was_killed_goes_on_when_it_is_started_again(
    labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    root = tmp_path / "kaggle"
    script = stand_in("predict", root, labelled_runs, bundle="kaggle-cryoet", competition=COMPETITION)
    small_model.rename(root / "input" / "my-weights")
    runs = find_runs(labelled_runs)
    chunk = next((runs[-1].tomogram_path / "0").rglob("0/0/0"))
    kept = chunk.rename(tmp_path / "chunk")
    os.mkfifo(chunk)  # whoever reads it waits for ever
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "2/3" in line:
                os.killpg(process.pid, signal.SIGKILL)
    assert set(read_submission(root / "working" / "submission.csv")) == {run.name for run in runs[:2]}
    chunk.unlink()
    kept.rename(chunk)
    again = run(script)
    assert again.returncode == 0, again.stdout + again.stderr
    bars = [line for line in again.stdout.splitlines() if line.startswith("picking")]
    assert " 2/3" in bars[0]
    assert set(read_submission(root / "working" / "submission.csv")) == {run.name for run in runs}


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_without_the_dataset_says_so(labelled_runs: Path, tmp_path: Path, name: str) -> None:
    script = stand_in(name, tmp_path / "kaggle", labelled_runs, bundle="datasets/too/deep/kaggle", competition="")
    done = run(script)
    assert done.returncode != 0
    assert "the dataset kaggle-cryoet is not attached" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_without_the_competition_says_so(labelled_runs: Path, tmp_path: Path, name: str) -> None:
    script = stand_in(name, tmp_path / "kaggle", labelled_runs, bundle="kaggle-cryoet", competition="")
    done = run(script)
    assert done.returncode != 0
    assert "the competition's data is not attached" in done.stderr.splitlines()[-1]
