"""The bundle: what is in it, and that it installs only what it should, and only whole."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kaggle_cryoet import __version__
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.kaggle import install
from kaggle_cryoet.kaggle.bundle import DESCRIPTION, locked_wheels, make_bundle
from kaggle_cryoet.kaggle.install import BundleError
from kaggle_cryoet.kaggle.wheel import build_wheel, source_tree
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.submission import read_submission

GUARD = Path(__file__).parent / "offline" / "guard.py"
THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


def make_wheel(folder: Path, name: str, *, tag: str = "py3-none-any", code: str = "") -> Path:
    """A wheel of one package of one file."""
    path = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", code)
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{name}-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{name}-1.0.dist-info/RECORD", f"{name}/__init__.py,,\n{name}-1.0.dist-info/RECORD,,\n")
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lock and its wheels: one pure, one for each of two Pythons."""
    folder = tmp_path_factory.mktemp("wheels")
    pure = make_wheel(folder, "quiet_pure")
    binary = [make_wheel(folder, "quiet_binary", tag=f"cp3{minor}-cp3{minor}-linux_x86_64") for minor in (12, 13)]
    (folder / "requirements.txt").write_text(
        f"# a comment\nquiet-pure==1.0 \\\n    --hash=sha256:{sha256(pure)}\n\n"
        f"quiet-binary==1.0 \\\n    --hash=sha256:{sha256(binary[0])} \\\n    --hash=sha256:{sha256(binary[1])}\n"
    )
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from kaggle_cryoet.models.store import UNetModel, save_unet
    from kaggle_cryoet.models.unet3d import UNetSettings, build_unet

    torch.manual_seed(5)
    settings = UNetSettings(channels=(4, 6))
    folder = tmp_path_factory.mktemp("model") / "unet3d"
    save_unet(folder, UNetModel(network=build_unet(settings), settings=settings, thresholds=(0.2,) * 6, provenance={}))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, wheels: Path, model: Path) -> Path:
    return make_bundle(tmp_path_factory.mktemp("made") / "bundle", wheels=wheels, weights=model, owner="ada").directory


def test_a_bundle_holds_wheels_installer_and_metadata_in_one_folder(bundle: Path) -> None:
    assert sorted(path.name for path in bundle.iterdir()) == [
        "MANIFEST.json",
        "dataset-metadata.json",
        "install.py",
        f"kaggle_cryoet-{__version__}-py3-none-any.whl",
        "quiet_binary-1.0-cp312-cp312-linux_x86_64.whl",
        "quiet_binary-1.0-cp313-cp313-linux_x86_64.whl",
        "quiet_pure-1.0-py3-none-any.whl",
    ]


def test_the_metadata_is_what_kaggle_takes(bundle: Path) -> None:
    metadata = json.loads((bundle / "dataset-metadata.json").read_text())
    assert metadata["id"] == "ada/kaggle-cryoet"
    assert 6 <= len(metadata["title"]) <= 50
    assert 20 <= len(metadata["subtitle"]) <= 80
    assert metadata["licenses"] == [{"name": "other"}]
    assert "LGPL" in metadata["description"]


def test_the_manifest_has_the_hash_of_every_file_that_is_uploaded(bundle: Path) -> None:
    manifest = json.loads((bundle / "MANIFEST.json").read_text())
    uploaded = {path.name for path in bundle.iterdir()} - {"MANIFEST.json", "dataset-metadata.json"}
    assert set(manifest["files"]) == uploaded
    for name, entry in manifest["files"].items():
        assert entry == {"sha256": sha256(bundle / name), "bytes": (bundle / name).stat().st_size}
    pythons = {wheel["file"].split("-")[2]: wheel["python"] for wheel in manifest["wheels"]}
    assert pythons == {"py3": None, "cp312": "3.12", "cp313": "3.13"}
    assert {wheel["name"]: wheel["imports"] for wheel in manifest["wheels"]} == {
        "kaggle-cryoet": ["kaggle_cryoet"],
        "quiet-binary": ["quiet_binary"],
        "quiet-pure": ["quiet_pure"],
    }
    assert [wheel["name"] for wheel in manifest["wheels"] if wheel["own"]] == ["kaggle-cryoet"]


def test_the_wheel_holds_the_package_with_its_weights_and_nothing_else(bundle: Path) -> None:
    with zipfile.ZipFile(next(bundle.glob("kaggle_cryoet-*.whl"))) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"kaggle_cryoet-{__version__}.dist-info/METADATA").decode()
    inside = {name for name in names if name.startswith("kaggle_cryoet/")}
    package = source_tree() / "kaggle_cryoet"
    modules = {f"kaggle_cryoet/{path.relative_to(package).as_posix()}" for path in package.rglob("*.py")}
    assert {name for name in inside if name.endswith(".py")} == modules
    models = {path.name for path in (package / "weights").iterdir()}
    for kind in models:  # every folder of weights, with what a model consists of and no record of its training
        files = {"model.json"} if kind == "hybrid" else {"model.json", "weights.safetensors"}
        assert {Path(name).name for name in inside if name.startswith(f"kaggle_cryoet/weights/{kind}/")} == files
    assert {name.split("/")[2] for name in inside if name.startswith("kaggle_cryoet/weights/")} == models
    allowed = (".py", ".csv", "py.typed", "model.json", "weights.safetensors")
    assert all(name.endswith(allowed) for name in inside)
    assert not any(part in name for name in names for part in ("__pycache__", "test", ".nbi", ".nbc"))
    assert f"Version: {__version__}" in metadata.splitlines()


def test_the_wheels_metadata_is_valid_and_its_record_is_true(bundle: Path) -> None:
    """What `twine check` looks at, and the hashes by which pip knows the files."""
    from packaging.metadata import Metadata
    from packaging.utils import parse_wheel_filename

    path = next(bundle.glob("kaggle_cryoet-*.whl"))
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    info = f"kaggle_cryoet-{__version__}.dist-info"
    metadata = Metadata.from_email(content[f"{info}/METADATA"], validate=True)
    assert parse_wheel_filename(path.name)[:2] == (metadata.name.replace("_", "-"), metadata.version)
    assert metadata.description_content_type == "text/markdown"
    assert metadata.description is not None
    assert metadata.description.startswith("# kaggle_cryoet")
    assert (metadata.license_expression or metadata.license) == "MIT"  # older setuptools know the latter only
    assert metadata.summary
    record = dict(line.rsplit(",", 2)[:2] for line in content[f"{info}/RECORD"].decode().splitlines())
    assert set(record) == set(content)
    for name, data in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        assert record[name] == ("" if name.endswith("/RECORD") else f"sha256={digest}")


def test_models_of_all_kinds_are_put_into_the_wheel(model: Path, tmp_path: Path) -> None:
    import torch

    from kaggle_cryoet.models.hybrid import FEATURES, HybridModel
    from kaggle_cryoet.models.store import YoloModel, save_hybrid, save_yolo
    from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo

    torch.manual_seed(5)
    weights, thresholds, settings = tmp_path / "weights", (0.2,) * 6, YoloSettings()
    shutil.copytree(model, weights / "unet3d")
    yolo = YoloModel(network=build_yolo(settings), settings=settings, thresholds=thresholds, provenance={})
    save_yolo(weights / "yolo11", yolo)
    (weights / "yolo11" / "training").mkdir()
    (weights / "yolo11" / "training" / "results.csv").write_text("epoch,loss\n")
    row = (0.0,) * (len(FEATURES) + 1)
    save_hybrid(weights / "hybrid", HybridModel(coefficients=(row,) * 6, thresholds=thresholds, provenance={}))
    with zipfile.ZipFile(build_wheel(source_tree(), tmp_path, weights)) as archive:
        for path in weights.glob("*/*.*"):
            name = f"kaggle_cryoet/weights/{path.relative_to(weights).as_posix()}"
            assert archive.read(name) == path.read_bytes()
        assert not any("/training/results" in name for name in archive.namelist())
    only = tmp_path / "detector-of-mine"
    (weights / "yolo11").rename(only)
    (only / "weights.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"weights/yolo11/weights\.safetensors: not a whole safetensors file"):
        build_wheel(source_tree(), tmp_path, only)


def test_the_same_tree_gives_the_same_bundle_and_an_earlier_one_is_made_anew_and_the_tree_is_left_alone(
    bundle: Path, wheels: Path, model: Path, tmp_path: Path
) -> None:
    before = sorted(source_tree().iterdir())
    with pytest.raises(InputError, match=r"expected a user name as in kaggle\.com/NAME, .* got 'Ada Lovelace'"):
        make_bundle(tmp_path / "bundle", wheels=wheels, weights=model, owner="Ada Lovelace")
    again = make_bundle(tmp_path / "bundle", wheels=wheels, weights=model, owner="ada").directory
    first = (again / "MANIFEST.json").read_bytes()
    assert first == (bundle / "MANIFEST.json").read_bytes()
    assert sorted(source_tree().iterdir()) == before
    (again / "install.py").write_text("spoiled")
    make_bundle(again, wheels=wheels, weights=model, owner="ada")
    assert (again / "MANIFEST.json").read_bytes() == first


def test_a_folder_with_other_things_is_not_touched(wheels: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep me")
    with pytest.raises(InputError, match="holds something that is no bundle"):
        make_bundle(tmp_path, wheels=wheels, weights=model)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_what_was_put_beside_an_earlier_bundle_is_neither_lost_nor_uploaded(
    wheels: Path, model: Path, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "out", wheels=wheels, weights=model)
    make_bundle(tmp_path / "out", wheels=wheels, weights=model)
    (tmp_path / "out" / "kaggle.json").write_text("a secret")
    with pytest.raises(InputError, match=r"holds kaggle\.json beside an earlier bundle"):
        make_bundle(tmp_path / "out", wheels=wheels, weights=model)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*bundle.sizes, "kaggle.json"}


@pytest.mark.parametrize("manifest", ["{", '{"format": 2, "files": {}}'])
def test_a_bundle_of_another_form_is_not_overwritten(wheels: Path, model: Path, tmp_path: Path, manifest: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "MANIFEST.json").write_text(manifest, encoding="utf8")
    with pytest.raises(InputError, match="holds a bundle that is not known"):
        make_bundle(tmp_path / "out", wheels=wheels, weights=model)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["MANIFEST.json"]


def test_wheels_that_are_absent_or_not_those_of_the_lock_are_named(wheels: Path, tmp_path: Path) -> None:
    lock = (wheels / "requirements.txt").read_text()
    (tmp_path / "requirements.txt").write_text(lock)
    with pytest.raises(InputError, match=r"quiet-pure==1\.0, quiet-binary==1\.0; run `make wheels`"):
        locked_wheels(tmp_path)
    for path in wheels.glob("*.whl"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert len(locked_wheels(tmp_path)) == 3
    with (tmp_path / "quiet_pure-1.0-py3-none-any.whl").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"for quiet-pure==1\.0; run"):
        locked_wheels(tmp_path)


@pytest.mark.parametrize("lock", ["zarr\n", "zarr==3.1.6\n", "zarr>=3 --hash=sha256:" + "0" * 64 + "\n"])
def test_a_lock_without_version_or_hash_is_refused(tmp_path: Path, lock: str) -> None:
    (tmp_path / "requirements.txt").write_text(lock)
    with pytest.raises(InputError, match="expected name==version with hashes"):
        locked_wheels(tmp_path)


def test_without_a_lock_it_is_said_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the lock requirements\.txt cannot be read"):
        locked_wheels(tmp_path)


def test_weights_that_cannot_be_used_make_no_bundle_and_cost_no_earlier_one(
    wheels: Path, bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"model\.json is missing"):
        make_bundle(tmp_path / "bundle", wheels=wheels, weights=tmp_path)
    assert not (tmp_path / "bundle").exists()
    earlier = shutil.copytree(bundle, tmp_path / "earlier")
    with pytest.raises(InputError, match=r"model\.json is missing"):
        make_bundle(earlier, wheels=wheels, weights=wheels)
    assert {path.name: path.read_bytes() for path in earlier.iterdir()} == {
        path.name: path.read_bytes() for path in bundle.iterdir()
    }


def test_the_lock_of_the_package_replaces_nothing_that_kaggle_has() -> None:
    lock = (source_tree() / "wheels" / "requirements.txt").read_text()
    names = {line.split("==")[0] for line in lock.splitlines() if "==" in line}
    assert {"zarr", "numcodecs", "lightning", "monai", "mrcfile", "connected-components-3d"} <= names
    for name in names:  # each with its licence where the dataset is described, and explained
        assert name in DESCRIPTION
        assert f"| {name} " in (source_tree() / "wheels" / "README.md").read_text()
    assert not names & {"torch", "torchvision", "numpy", "pandas", "scipy", "numba", "matplotlib", "pytorch-lightning"}


def test_of_the_requirements_of_ultralytics_the_detector_does_without_those_that_are_not_brought_along() -> None:
    absent = ("polars", "thop", "ultralytics_thop", "ultralytics_platform", "pynvml")
    script = (
        f"import sys\nsys.modules.update(dict.fromkeys({absent!r}))\n"
        "import torch\n"
        "from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo\n"
        "from kaggle_cryoet.picking.detect import prepare\n"
        "prepare(build_yolo(YoloSettings()), torch.device('cpu'))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_what_modules_write_when_they_are_tried_is_gone_and_they_are_told_to_stay_off_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "note"
    (tmp_path / "writer.py").write_text(
        "import os\nfrom pathlib import Path\n"
        "Path(os.environ['YOLO_CONFIG_DIR'], 'settings.json').write_text('{}')\n"
        f"Path({str(note)!r}).write_text(os.environ['YOLO_CONFIG_DIR'] + ' ' + os.environ['YOLO_OFFLINE'])\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    install._import(["writer"])
    folder, offline = note.read_text().split()
    assert not Path(folder).exists()
    assert offline == "true"
    with pytest.raises(BundleError, match=r"installed, but not to be imported: ModuleNotFoundError.*absent_module"):
        install._import(["writer", "absent_module"])


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux")
@pytest.mark.parametrize(
    ("names", "opens"), [(["kaggle_cryoet", "monai", "ultralytics"], False), (["socket_opener"], True)]
)
def test_the_installer_imports_what_it_installed_without_a_socket(
    tmp_path: Path, names: list[str], opens: bool
) -> None:
    (tmp_path / "socket_opener.py").write_text("import socket\nsocket.socket()")
    script = f"from kaggle_cryoet.kaggle import install\ninstall._import({names!r})"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("YOLO_")}
    done = subprocess.run(
        [sys.executable, GUARD, sys.executable, "-c", script],
        env=environment | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) is opens, done.stderr
    assert ("the process ended with status -31" in done.stderr) is opens


def spoil(change: Callable[[Path], object], bundle: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in bundle.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    change(copy)
    return copy


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda folder: next(folder.glob("quiet_pure*")).write_bytes(b"PK"),
            r"quiet_pure-1\.0-py3-none-any\.whl altered",
        ),
        (lambda folder: next(folder.glob("quiet_pure*")).unlink(), r"quiet_pure-1\.0-py3-none-any\.whl missing"),
        (lambda folder: (folder / "MANIFEST.json").unlink(), r"is no bundle: MANIFEST\.json is missing"),
        (lambda folder: (folder / "MANIFEST.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "MANIFEST.json").write_text('{"format": 9}'), "format 9, expected 1"),
    ],
    ids=["altered", "missing", "no manifest", "broken manifest", "other format"],
)
def test_a_bundle_that_is_not_as_it_was_made_is_not_installed(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object], words: str
) -> None:
    monkeypatch.setattr(install, "_pip", lambda *arguments: pytest.fail("must not install"))
    with pytest.raises(BundleError, match=words):
        install.install(spoil(change, bundle, tmp_path))


def test_the_wheel_for_the_python_is_chosen_and_it_is_said_if_there_is_none(bundle: Path) -> None:
    wheels = json.loads((bundle / "MANIFEST.json").read_text())["wheels"]
    for python in ("3.12", "3.13"):
        files = [wheel["file"] for wheel in install.choose_wheels(wheels, python)]
        assert f"quiet_binary-1.0-cp{python.replace('.', '')}-cp{python.replace('.', '')}-linux_x86_64.whl" in files
        assert len(files) == 3
    with pytest.raises(
        BundleError, match=r"no wheels for Python 3\.10 of quiet-binary; there are some for 3\.12 and 3\.13"
    ):
        install.choose_wheels(wheels, "3.10")


def test_only_what_is_not_there_yet_is_installed(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into an environment that has `quiet-binary`, and an older `kaggle-cryoet`, already."""
    there = {"quiet-binary": "0.9", "kaggle-cryoet": "0.0.1", "numpy": "2.0.2"}
    installed: list[tuple[list[str], tuple[str, ...]]] = []

    def pip(files: list[Path], *options: str) -> None:
        installed.append(([path.name.split("-")[0] for path in files], options))
        there.update({path.name.split("-")[0].replace("_", "-"): path.name.split("-")[1] for path in files})

    imported: list[str] = []
    monkeypatch.setattr(install, "_pip", pip)
    monkeypatch.setattr(install, "_import", imported.extend)
    monkeypatch.setattr(install, "installed_versions", lambda: dict(there))
    monkeypatch.setattr(install, "is_installed", lambda name, wheel: False)
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    lines = install.install(bundle)
    assert installed == [(["quiet_pure"], ()), (["kaggle_cryoet"], ("--force-reinstall",))]
    assert "quiet-binary 0.9 is there already" in lines
    assert f"installed kaggle-cryoet {__version__}" in lines
    assert sorted(imported) == ["kaggle_cryoet", "quiet_binary", "quiet_pure"]


def test_what_is_too_old_for_the_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "other 1.0 requires this, which is not installed.\nkaggle-cryoet 0.1.0 has requirement zarr>=3.0, but you have"
    )
    done = subprocess.CompletedProcess([], 1, stdout=f"{said} zarr 2.18.3.\n", stderr="")
    monkeypatch.setattr(install.subprocess, "run", lambda command, **options: done)
    assert install._unmet("kaggle-cryoet") == [f"{said.splitlines()[1]} zarr 2.18.3."]


def test_a_version_that_changes_is_noticed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = iter([{"numpy": "2.0.2"}, {"numpy": "2.4.6"}])
    monkeypatch.setattr(install, "installed_versions", lambda: next(versions))
    monkeypatch.setattr(install, "_pip", lambda *arguments: None)
    monkeypatch.setattr(install, "is_installed", lambda name, wheel: False)
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(BundleError, match="the version of numpy has changed"):
        install.install(bundle)


@pytest.mark.slow
def test_the_wheel_is_installed_by_pip_and_its_command_picks(bundle: Path, labelled_runs: Path, tmp_path: Path) -> None:
    wheel = next(bundle.glob("kaggle_cryoet-*.whl"))
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--target",
        str(tmp_path / "site"),
    ]
    subprocess.run([*pip, str(wheel)], check=True)
    script = "import kaggle_cryoet, kaggle_cryoet.cli as cli, sys; print(kaggle_cryoet.__file__); cli.main()"

    def command(*arguments: object) -> list[str]:
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"},
            cwd=tmp_path,
        ).stdout.splitlines()

    place = str(tmp_path / "site" / "kaggle_cryoet" / "__init__.py")
    assert command("--version") == [place, f"kaggle-cryoet, version {__version__}"]
    said = command("predict", labelled_runs, "--branch", "unet", "--device", "cpu")  # with the weights inside
    assert said[0] == place
    assert "in 3 tomograms: submission.csv" in said[-1]
    assert set(read_submission(tmp_path / "submission.csv")) <= {run.name for run in find_runs(labelled_runs)}


def test_the_installer_stands_alone(bundle: Path, tmp_path: Path) -> None:
    folder = spoil(lambda copy: (copy / "MANIFEST.json").unlink(), bundle, tmp_path)
    found = subprocess.run(
        [sys.executable, "-I", "-S", folder / "install.py"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 2
    assert found.stderr.startswith("install.py: ")
    assert found.stderr.count("\n") == 1
