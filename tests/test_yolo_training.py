"""Training a detector: what it is shown, what it begins with, what it leaves, and that it stays offline."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from label_lines import boxes_of_lines

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.spectrum import SHELLS
from kaggle_cryoet.models.store import load_yolo
from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.report.detector_curves import read_results
from kaggle_cryoet.training import yolo, yolo_record, yolo_trainer
from kaggle_cryoet.training.local_ultralytics import local_ultralytics
from kaggle_cryoet.training.slice_dataset import SliceSettings, write_slices
from kaggle_cryoet.training.slice_folder import read_slice_folder
from kaggle_cryoet.training.yolo import train_yolo
from kaggle_cryoet.training.yolo_images import SliceImages, jitter_levels, outlines
from kaggle_cryoet.training.yolo_recipes import PRESETS, YoloRecipe, ultralytics_arguments
from kaggle_cryoet.training.yolo_start import check_checkpoint, starting_weights
from kaggle_cryoet.training.yolo_trainer import Float32Loss, SliceTrainer

TINY = replace(PRESETS["ours"], batch_size=4, epochs=2, warmup_epochs=0.0)
GUARD = Path(__file__).parent / "offline" / "guard.py"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other take very long where others work too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def slices(labelled_runs: Path, tmp_path: Path) -> Path:
    """A folder with slices of 72 x 88 pixels of three runs."""
    return write_slices([labelled_runs], tmp_path / "slices", settings=SliceSettings(every=8)).parent


def images(slices: Path, part: str = "train", recipe: YoloRecipe = TINY, **changes) -> SliceImages:
    from ultralytics.cfg import get_cfg

    arguments = ultralytics_arguments(recipe, image_pixels=96, seed=0)
    options = {
        "img_path": str(slices / "images" / part),
        "imgsz": 96,
        "batch_size": 4,
        "augment": part == "train",
        "hyp": get_cfg(overrides=arguments),
        "rect": False,
        "stride": 32,
        "task": "detect",
        "data": {"names": dict(enumerate(PARTICLE_NAMES)), "channels": 3},
        "jitter": None,
        "circles": False,
        **changes,
    }
    with local_ultralytics():
        return SliceImages(**options)


def still(recipe: YoloRecipe = TINY, **changes) -> YoloRecipe:
    """A recipe that changes nothing."""
    nothing = {"scale": 0.0, "translation": 0.0, "flip": 0.0, "flip_z": 0.0, "mosaic": 0.0, "jitter": False}
    return replace(recipe, **{**nothing, **changes})


# --- recipes ---


def test_the_papers_preset_is_the_papers_recipe():
    arguments = ultralytics_arguments(PRESETS["paper"], image_pixels=640, seed=8620)
    expected = {"epochs": 100, "warmup_epochs": 10, "batch": 32, "imgsz": 640, "optimizer": "AdamW", "lr0": 3e-4}
    expected |= {"seed": 8620, "degrees": 45, "shear": 5, "fliplr": 0.5, "flipud": 0.5}
    assert {name: arguments[name] for name in expected} == expected
    assert arguments["mixup"] > 0
    assert arguments["copy_paste"] > 0


@pytest.mark.parametrize(
    "bad",
    [
        {"image_pixels": 100},
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": 2.0},
        {"flip": 1.5},
        {"mosaic": -0.1},
        {"shear_degrees": 90.0},
    ],
)
def test_impossible_recipes_are_refused(bad):
    with pytest.raises(InputError):
        YoloRecipe(**bad)


# --- images ---


def test_images_come_at_their_own_scale_with_their_boxes_in_place(slices: Path):
    for part, dataset in (("train", images(slices, recipe=still())), ("val", images(slices, "val"))):
        for number, file in enumerate(dataset.im_files):
            item = dataset[number]
            image = cv2.imread(file)[..., ::-1].transpose(2, 0, 1)  # (3, y, x), red first
            shown = item["img"].numpy()
            assert shown.shape == (3, 96, 96)
            top, left = 12, 4  # 72 x 88 in the middle of 96 x 96
            np.testing.assert_array_equal(shown[:, top : top + 72, left : left + 88], image)
            text = Path(file.replace("/images/", "/labels/").replace(".png", ".txt")).read_text()
            expected = boxes_of_lines(text, (72, 88))
            assert item["cls"].flatten().tolist() == expected.label.tolist(), part
            centre = item["bboxes"].numpy().reshape(-1, 4)[:, 1::-1] * 96
            np.testing.assert_allclose(centre, expected.centre_yx + np.array([top, left]), atol=0.02)


def test_albumentations_has_no_part_in_a_training_where_it_is_installed(slices: Path, monkeypatch: pytest.MonkeyPatch):
    composed: list[list[object]] = []

    class Recorder(ModuleType):
        __version__ = "2.0.8"

        def Compose(self, transforms: list[object], **_: object) -> None:  # noqa: N802
            composed.append(transforms)

        def __getattr__(self, name: str) -> object:
            return lambda *_, **__: name  # a transform, as Blur

    monkeypatch.setitem(sys.modules, "albumentations", Recorder("albumentations"))
    images(slices)
    assert composed == [[]]


def test_an_image_larger_than_the_training_image_is_refused_and_not_shrunk(slices: Path):
    with pytest.raises(InputError, match="smaller tiles"):
        images(slices, imgsz=64)[0]


def test_turned_circles_keep_tight_boxes(slices: Path):
    np.random.seed(0)  # noqa: NPY002 ultralytics draws from the global generators
    random.seed(0)
    widest = {}
    for circles in (True, False):
        dataset = images(slices, recipe=still(rotation_degrees=45.0), circles=circles)
        box = np.array([[0.5, 0.5, 22 / 88, 22 / 72]], dtype=np.float32)  # 22 pixels wide, in the middle
        for label in dataset.labels:
            label |= {"cls": np.zeros((1, 1), dtype=np.float32), "bboxes": box.copy()}
        if circles:
            for label in dataset.labels:
                label["segments"] = outlines(label["bboxes"])
        widest[circles] = max(float(dataset[0]["bboxes"][0, 2:].max()) * 96 for _ in range(40))
    assert 21.5 < widest[True] < 22.5
    assert 29 < widest[False] < 31.5  # that of a square turned by 45 degrees: 22 times the root of 2


def test_jitter_varies_about_the_median_and_keeps_plain_images_plain():
    rng = np.random.default_rng(1)
    plain = np.repeat(rng.normal(178, 25, (64, 80, 1)).clip(0, 255).astype(np.uint8), 3, axis=2)
    changed = [jitter_levels(plain, 178.5, 25.5, np.random.default_rng(seed)) for seed in range(40)]
    for image in changed:
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image[..., 0], image[..., 1])
        np.testing.assert_array_equal(image[..., 0], image[..., 2])
        assert abs(float(np.median(image)) - 178.5) < 0.25 * 25.5 + 4
    spread = [float(image.std()) for image in changed]
    assert min(spread) < 22
    assert max(spread) > 28


# --- the loss ---


def test_the_loss_of_half_precision_answers_is_computed_in_float32():
    from ultralytics.utils.loss import v8DetectionLoss

    torch.manual_seed(0)
    network = build_yolo(YoloSettings()).train()
    network.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)
    batch = {
        "img": torch.rand(2, 3, 64, 96),
        "batch_idx": torch.tensor([0.0, 1.0]),
        "cls": torch.tensor([[1.0], [4.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.2, 0.3], [0.4, 0.6, 0.3, 0.2]]),
    }
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = network(batch["img"])
        assert answer["scores"].dtype == torch.bfloat16
        loss, _ = Float32Loss(network)(answer, batch)
    assert loss.dtype == torch.float32
    exact = {name: value.float() if isinstance(value, torch.Tensor) else value for name, value in answer.items()}
    exact["feats"] = [feature.float() for feature in answer["feats"]]
    expected, _ = v8DetectionLoss(network)(exact, batch)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_training_computes_in_bfloat16_where_the_cpu_has_it(
    native: bool, dtype: torch.dtype, slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    used: set[torch.dtype] = set()

    def loss(self: Float32Loss, preds: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]):
        if torch.is_grad_enabled():
            used.add(preds["scores"].dtype)
        return in_float32(self, preds, batch)

    in_float32 = Float32Loss.__call__
    monkeypatch.setattr(Float32Loss, "__call__", loss)
    monkeypatch.setattr(yolo_trainer, "cpu_has_bfloat16", lambda: native)
    recipe = replace(TINY, epochs=1, images_per_epoch=4)
    train_yolo([slices], tmp_path / "run", recipe=recipe, device="cpu", progress=False)
    assert used == {dtype}


# --- what it begins with ---


def save_pt(path: Path, network: torch.nn.Module) -> Path:
    torch.save({"model": deepcopy(network).half(), "train_args": {}}, path)
    return path


def test_a_pt_file_gives_what_fits_whatever_its_classes(tmp_path: Path):
    from ultralytics.nn.tasks import DetectionModel

    description = dict(build_yolo(YoloSettings(size="s")).yaml) | {"nc": 80}
    foreign = DetectionModel(description, ch=3, nc=80, verbose=False)
    start = starting_weights(save_pt(tmp_path / "yolo11s.pt", foreign), None)
    assert start.size == "s"
    assert start.origin == "yolo11s.pt"
    torch.testing.assert_close(start.weights["model.0.conv.weight"], foreign.model[0].conv.weight.half().float())
    with pytest.raises(InputError, match="of size 's', expected 'n'"):
        starting_weights(tmp_path / "yolo11s.pt", "n")


def test_what_is_no_yolo11_is_refused(tmp_path: Path):
    (tmp_path / "last.ckpt").write_bytes(b"of another training")
    for path in (tmp_path / "yolo11n.pt", tmp_path / "last.ckpt"):
        with pytest.raises(InputError, match=r"is neither a model folder nor a \.pt file"):
            starting_weights(path, None)
    (tmp_path / "broken.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="not a"):
        starting_weights(tmp_path / "broken.pt", None)
    with pytest.raises(InputError, match="unknown YOLO11 size"):
        starting_weights(None, "q")


def test_there_must_be_a_checkpoint_to_resume(tmp_path: Path, slices: Path):
    with pytest.raises(InputError, match="no checkpoint to resume"):
        train_yolo([slices], tmp_path / "run", resume=True, device="cpu")


def test_bad_requests_are_refused_before_anything_is_written(tmp_path: Path, slices: Path, labelled_runs: Path):
    for options, said in (
        ({"preset": "theirs"}, "unknown preset"),
        ({"seed": -1}, "a seed is from 0"),
        ({"seed": 2**32}, "a seed is from 0"),
        ({"time_limit_seconds": 0.0}, "time limit must be positive"),
        ({"validation_directories": [labelled_runs]}, "nothing beside it"),
    ):
        with pytest.raises(InputError, match=said):
            train_yolo([slices], tmp_path / "run", device="cpu", **options)
    assert not (tmp_path / "run").exists()


# --- training ---


@pytest.mark.parametrize(
    ("limit", "epochs", "stops"),
    [(None, 30, False), (110.0, 5, False), (107.0, 4, False), (61.0, 3, False), (59.0, 2, True)],
)
@pytest.mark.parametrize("was_last", [False, True])
def test_as_many_epochs_are_planned_as_fit_into_the_time(limit: float | None, epochs: int, stops: bool, was_last: bool):
    planned = []
    trainer = SimpleNamespace(
        time_limit_seconds=limit,
        started=time.monotonic() - 40,  # for two epochs
        start_epoch=7,
        epoch=8,
        epochs=37,
        recipe=replace(PRESETS["ours"], epochs=37),
        scheduler=SimpleNamespace(last_epoch=0),
        args=SimpleNamespace(close_mosaic=0),
        stop=was_last,  # by a schedule that was judged by a longer epoch
    )
    trainer._setup_scheduler = lambda: planned.append(trainer.epochs)
    SliceTrainer._keep_within_time(trainer)
    assert trainer.epochs == 7 + epochs
    assert trainer.stop is (stops if limit else was_last)
    assert planned == ([] if limit is None else [7 + epochs])
    assert getattr(trainer.args, "epochs", 37) == 7 + epochs  # which the checkpoint keeps
    assert trainer.scheduler.last_epoch == (0 if limit is None else 8)


@pytest.mark.slow
def test_a_training_leaves_a_model_its_record_and_a_checkpoint_to_go_on_from(slices: Path, tmp_path: Path):
    torch.manual_seed(0)
    start = tmp_path / "start.pt"
    network = build_yolo(YoloSettings())
    save_pt(start, network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ultralytics and of matplotlib
        with pytest.raises(KeyboardInterrupt):
            train_interrupted(slices, tmp_path / "run", start, TINY)
        results = tmp_path / "run" / "training" / "results.csv"
        assert [row["epoch"] for row in read_results(results)] == [1]
        header, row = results.read_text().splitlines()
        results.write_text(f"{header}\n{row}\n2{row[1:]}\n")  # of an epoch whose checkpoint could not be written
        with pytest.raises(InputError, match="holds a training already"):
            train_yolo([slices], tmp_path / "run", recipe=TINY, device="cpu", progress=False)
        with pytest.raises(InputError, match="with epochs = 2, got 3"):
            check_checkpoint(tmp_path / "run" / "training" / "weights" / "last.pt", {"epochs": 3})
        others, relabelled = other_runs(slices, tmp_path / "others"), tmp_path / "relabelled"
        shutil.copytree(slices, relabelled)
        next(path for path in sorted((relabelled / "labels").rglob("*.txt")) if path.read_text()).write_text("")
        for data, recipe, said in (
            (slices, replace(TINY, learning_rate=0.5), r"recipe\.learning_rate"),
            (others, TINY, "slices, training_runs"),
            (relabelled, TINY, "slices"),
        ):
            with pytest.raises(InputError, match=f"gone on with as it began, but {said} changed"):
                train_yolo([data], tmp_path / "run", recipe=recipe, resume=True, device="cpu", progress=False)
        description = tmp_path / "run" / "last" / "yolo11" / "model.json"
        content = json.loads(description.read_text())
        content["provenance"]["minutes"] = 100.0
        del content["provenance"]["slices"]  # as of trainings that were begun before it was noted
        description.write_text(json.dumps(content))
        for name in ("yolo11", "last/yolo11"):  # which were being replaced when it was killed
            model = tmp_path / "run" / name
            model.rename(model.with_name(".yolo11.abcdefgh.previous"))
        folder = train_yolo([slices], tmp_path / "run", recipe=TINY, resume=True, device="cpu", progress=False)
    rows = read_results(tmp_path / "run" / "training" / "results.csv")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[0]["lr/pg0"] > rows[1]["lr/pg0"] > 0  # the cosine goes on
    model = load_yolo(folder)
    assert model.thresholds == (0.25,) * 6
    assert model.settings == replace(YoloSettings(), spectrum=read_slice_folder(slices).image.spectrum)
    assert len(model.settings.spectrum) == SHELLS
    assert model.provenance["started_from"] == "start.pt"
    assert len(model.provenance["training_runs"]) == 2
    assert set(model.provenance["validation"]) >= {"metrics/mAP50(B)", "metrics/mAP50-95(B)"}
    moved = model.network.state_dict()["model.0.conv.weight"] - network.state_dict()["model.0.conv.weight"]
    assert 0 < float(moved.abs().max()) < 0.1
    last = load_yolo(tmp_path / "run" / "last" / "yolo11")
    assert last.provenance["epochs"] == 2
    assert last.provenance["minutes"] >= 100  # of before
    checkpoint = torch.load(tmp_path / "run" / "training" / "weights" / "last.pt", weights_only=False)
    averaged = checkpoint["ema"].float().state_dict()["model.0.conv.weight"]
    torch.testing.assert_close(last.network.state_dict()["model.0.conv.weight"], averaged, rtol=1e-3, atol=1e-5)
    record = {path.name for path in (folder / "training").iterdir()}
    assert record >= {"results.csv", "results.png", "confusion_matrix_normalized.png"}
    with pytest.raises(InputError, match="all 2 epochs are done"):
        train_yolo([slices], tmp_path / "run", recipe=TINY, resume=True, device="cpu", progress=False)


@pytest.mark.slow
def test_of_a_first_epoch_that_is_not_finite_nothing_is_kept_and_equalised_slices_are_told(
    labelled_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = SliceSettings(every=8, equalise=True)
    slices = write_slices([labelled_runs], tmp_path / "equalised", settings=settings).parent
    once = replace(TINY, epochs=1, equalise=False)

    def spoilt(self: Float32Loss, preds: object, batch: dict[str, object]) -> object:
        loss, parts = original(self, preds, batch)
        return loss * float("nan"), parts

    original = Float32Loss.__call__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with monkeypatch.context() as patch:
            patch.setattr(Float32Loss, "__call__", spoilt)
            with pytest.raises(InputError, match=r"^epoch 1 left numbers that are not finite; .* before is whole$"):
                train_yolo([slices], tmp_path / "run", recipe=once, device="cpu", progress=False)
        assert not [path for path in (tmp_path / "run").rglob("*") if path.suffix in (".pt", ".safetensors")]
        folder = train_yolo([slices], tmp_path / "run", recipe=once, device="cpu", progress=False)
    assert load_yolo(folder).settings.spectrum == read_slice_folder(slices).image.spectrum != ()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "^CUDA out of memory; .* --size n$"),
        (RuntimeError("Training failed: NaN persisted for 4 epochs"), "NaN persisted .*; expected a lower learning"),
        (OSError(28, "No space left on device"), "cannot be written .*No space left on device"),
    ],
)
def test_what_ends_a_training_from_outside_is_told_in_one_line(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
):
    def failing(self: SliceTrainer) -> None:
        raise error

    monkeypatch.setattr(SliceTrainer, "train", failing)
    with pytest.raises(InputError, match=said) as told:
        train_yolo([slices], tmp_path / "run", recipe=TINY, device="cpu", progress=False)
    assert "\n" not in str(told.value)


@pytest.mark.slow
def test_a_checkpoint_is_not_there_before_the_models_that_it_stands_for(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with monkeypatch.context() as patch:
            patch.setattr(yolo_record, "save_yolo", full)
            with pytest.raises(InputError, match="No space left on device"):
                train_yolo([slices], tmp_path / "run", recipe=TINY, device="cpu", progress=False)
        assert not (tmp_path / "run" / "training" / "weights" / "last.pt").exists()
        once = replace(TINY, epochs=1)
        folder = train_yolo([slices], tmp_path / "run", recipe=once, device="cpu", progress=False)
    assert load_yolo(folder).provenance["epochs"] == 1
    assert [row["epoch"] for row in read_results(tmp_path / "run" / "training" / "results.csv")] == [1]


def test_a_training_is_resumed_on_the_slices_that_it_wrote_and_on_no_others(labelled_runs: Path, tmp_path: Path):
    def folder_of(*data: Path, resume: bool):
        return yolo._slice_folder(
            data, (), tmp_path / "run", PRESETS["ours"], None, None, resume=resume, progress=False
        )

    def written() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in sorted((tmp_path / "run").rglob("*"))}

    made = folder_of(labelled_runs, resume=False)
    before = written()
    assert folder_of(labelled_runs, resume=True) == made
    more = shutil.copytree(labelled_runs, tmp_path / "more")
    for path in [*(more / "static" / "ExperimentRuns").iterdir(), *(more / "overlay" / "ExperimentRuns").iterdir()]:
        path.rename(path.with_name(f"X{path.name}"))
    with pytest.raises(InputError, match=r"gone on with as it began, but .*runs\.X"):
        folder_of(labelled_runs, more, resume=True)
    assert written() == before


def other_runs(slices: Path, folder: Path) -> Path:
    """A copy of a folder of slices, in which the runs to train on bear other names."""
    shutil.copytree(slices, folder)
    for part in ("images", "labels"):
        for run in list((folder / part / "train").iterdir()):
            run.rename(run.with_name(f"another-{run.name}"))
    return folder


def train_interrupted(slices: Path, output: Path, start: Path, recipe: YoloRecipe) -> None:
    """Begin a training that is interrupted in its second epoch."""

    def interrupt(trainer: SliceTrainer) -> None:
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    original = SliceTrainer.set_model_attributes

    def with_interruption(trainer: SliceTrainer) -> None:
        original(trainer)
        trainer.add_callback("on_train_batch_end", interrupt)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SliceTrainer, "set_model_attributes", with_interruption)
        train_yolo([slices], output, recipe=recipe, start_from=start, device="cpu", progress=False)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux")
def test_the_command_trains_with_sockets_forbidden_and_without_a_home(slices: Path, tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("YOLO_")}
    environment |= {"HOME": str(tmp_path / "nowhere"), "OMP_NUM_THREADS": "1", "ULTRALYTICS_API_KEY": "a-key"}
    command = ["-m", "kaggle_cryoet", "train", "yolo", slices, "--output", tmp_path / "run", "--epochs", "1"]
    done = subprocess.run(
        [sys.executable, GUARD, sys.executable, *map(str, command), "--device", "cpu"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == f"model: {tmp_path / 'run' / 'yolo11'}\n"
    description = json.loads((tmp_path / "run" / "yolo11" / "model.json").read_text())
    assert description["kind"] == "yolo11"
    assert (tmp_path / "run" / "training" / "val_batch0_pred.jpg").is_file()  # drawn with a font of its own


@pytest.mark.parametrize("model", ["yolo11", "last/yolo11"])
def test_a_finished_model_in_the_output_is_not_written_over(slices: Path, tmp_path: Path, model: str) -> None:
    (tmp_path / model).mkdir(parents=True)
    (tmp_path / model / "model.json").write_text("mine")
    with pytest.raises(InputError, match=f"holds a model, {model}, and no checkpoint to resume from"):
        train_yolo([slices], tmp_path, recipe=TINY, device="cpu", progress=False)
    assert (tmp_path / model / "model.json").read_text() == "mine"
