import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models import store
from kaggle_cryoet.models.calibration import Calibration
from kaggle_cryoet.models.folder import weights_digest
from kaggle_cryoet.models.hybrid import HybridModel
from kaggle_cryoet.models.store import (
    DESCRIPTION_FILE,
    TRAINING_FOLDER,
    WEIGHTS_FILE,
    UNetModel,
    YoloModel,
    load_hybrid,
    load_unet,
    load_yolo,
    save_hybrid,
    save_unet,
    save_yolo,
)
from kaggle_cryoet.models.unet3d import UNetSettings, build_unet
from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo
from kaggle_cryoet.particles import PARTICLE_NAMES

SETTINGS = UNetSettings(channels=(4, 6))
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
CALIBRATION = Calibration(slope=(1.0, 1.1, 1.2, 1.3, 1.4, 1.5), offset=(-1.0, 0.0, 0.5, -2.0, 3.0, 0.25))


def a_model(seed=0, settings=SETTINGS):
    """A network whose norms have seen data, so that nothing in it is at its default."""
    torch.manual_seed(seed)
    network = build_unet(settings)
    network(torch.randn(2, 1, 8, 12, 16))
    return UNetModel(
        network=network,
        settings=settings,
        thresholds=THRESHOLDS,
        calibration=CALIBRATION,
        provenance={"seed": seed, "scores": [0.5, None]},
    )


@pytest.fixture
def saved(tmp_path):
    save_unet(tmp_path / "model", a_model())
    return tmp_path / "model"


def change_description(folder, change):
    description = json.loads((folder / DESCRIPTION_FILE).read_text())
    change(description)
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description))


@pytest.mark.parametrize("settings", [SETTINGS, UNetSettings(preset="host", channels=(4, 6, 6))])
def test_a_model_comes_back_from_its_folder_within_half_precision(tmp_path, settings):
    model = a_model(settings=settings)
    save_unet(tmp_path / "a" / "b", model)
    loaded = load_unet(tmp_path / "a" / "b")
    assert (loaded.settings, loaded.thresholds, loaded.calibration) == (settings, THRESHOLDS, CALIBRATION)
    assert loaded.provenance == {"seed": 0, "scores": [0.5, None]}
    assert not loaded.network.training
    values = loaded.network.state_dict()
    assert list(values) == list(model.network.state_dict())
    for name, expected in model.network.state_dict().items():
        assert values[name].dtype == expected.dtype, name
        np.testing.assert_allclose(values[name], expected.detach(), rtol=2**-11, atol=2**-25, err_msg=name)
        if expected.ndim <= 1:
            assert torch.equal(values[name], expected), name
    x = torch.randn(1, 1, 16, 24, 32)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.network(x), model.network.eval()(x), rtol=0.02, atol=0.02)


def test_a_folder_holds_two_files_that_everybody_can_read_and_weights_of_two_bytes(saved):
    assert sorted(path.name for path in saved.iterdir()) == [DESCRIPTION_FILE, WEIGHTS_FILE]
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in saved.iterdir())
    assert saved.stat().st_mode & 0o055 == 0o055
    kernels = sum(p.numel() for p in a_model().network.parameters() if p.ndim > 1)
    assert 2 * kernels < (saved / WEIGHTS_FILE).stat().st_size < 2.5 * kernels + 10_000
    assert json.loads((saved / DESCRIPTION_FILE).read_text())["thresholds"] == dict(
        zip(PARTICLE_NAMES, THRESHOLDS, strict=True)
    )


def test_a_model_of_before_there_were_calibrations_has_none(saved):
    change_description(saved, lambda description: description.pop("calibration"))
    assert load_unet(saved).calibration is None


def test_a_model_replaces_the_one_before_and_leaves_nothing_else(saved):
    save_unet(saved, a_model(seed=3))
    assert load_unet(saved).provenance["seed"] == 3
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("when", ["weights", "description", "replacing"])
def test_an_interrupted_save_leaves_the_previous_model(saved, monkeypatch, when, error):
    def fail(*args, **kwargs):
        raise error

    rename = Path.rename

    def rename_but_not_to_the_model(self, target):
        return fail() if Path(target).name == "model" and not self.name.endswith("previous") else rename(self, target)

    with monkeypatch.context() as patch:
        if when == "weights":
            patch.setattr("safetensors.torch.save_file", fail)
        elif when == "description":
            patch.setattr(Path, "write_text", fail)
        else:
            patch.setattr(Path, "rename", rename_but_not_to_the_model)
        expected = (InputError, "No space left") if isinstance(error, OSError) else (KeyboardInterrupt, None)
        with pytest.raises(expected[0], match=expected[1]):
            save_unet(saved, a_model(seed=3))
    assert load_unet(saved).provenance["seed"] == 0
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_folder_that_holds_something_else_is_not_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="no model folder"):
        save_unet(tmp_path, a_model())
    with pytest.raises(InputError, match="no model folder"):
        save_unet(tmp_path / "notes.txt", a_model())
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(InputError, match="cannot be written"):
        save_unet(tmp_path / "notes.txt" / "model", a_model())


@pytest.mark.parametrize("missing", [DESCRIPTION_FILE, WEIGHTS_FILE])
def test_an_incomplete_folder_is_an_input_error_that_names_the_file(saved, missing):
    (saved / missing).unlink()
    with pytest.raises(InputError, match=f"{missing} is missing"):
        load_unet(saved)


def test_no_folder_at_all_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such model folder"):
        load_unet(tmp_path / "nowhere")


@pytest.mark.parametrize(("field", "value"), [("format", 2), ("format", None), ("kind", "yolo11")])
def test_another_format_or_kind_is_an_input_error(saved, field, value):
    change_description(saved, lambda description: description.update({field: value}))
    with pytest.raises(InputError, match="format and kind are"):
        load_unet(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("settings"),
        lambda d: d.pop("provenance"),
        lambda d: d["thresholds"].pop("ribosome"),
        lambda d: d["calibration"].pop("ribosome"),
        lambda d: d["calibration"].update(ribosome=[1.0]),
        lambda d: d["calibration"].update(ribosome=[1.0, float("inf")]),
        lambda d: d["thresholds"].update(ribosome="high"),
        lambda d: d["thresholds"].update(ribosome=float("nan")),
        lambda d: d["settings"].update(preset="paper"),
        lambda d: d["settings"].update(channels=["many", 6]),
        lambda d: d["settings"].update(channels=None),
    ],
)
def test_a_description_without_what_is_needed_is_an_input_error(saved, change):
    change_description(saved, change)
    with pytest.raises(InputError, match=DESCRIPTION_FILE):
        load_unet(saved)


@pytest.mark.parametrize("content", [b"{", b"[1, 2]", b"\xff\xfe"])
def test_a_description_that_is_no_json_object_is_an_input_error(saved, content):
    (saved / DESCRIPTION_FILE).write_bytes(content)
    with pytest.raises(InputError, match="not valid JSON"):
        load_unet(saved)


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_truncated_weights_are_an_input_error(saved, keep):
    whole = (saved / WEIGHTS_FILE).read_bytes()
    (saved / WEIGHTS_FILE).write_bytes(whole[:keep])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_unet(saved)


def test_weights_of_another_architecture_are_an_input_error(saved, tmp_path):
    save_unet(tmp_path / "wider", a_model(settings=UNetSettings(channels=(4, 8))))
    shutil.copy(tmp_path / "wider" / WEIGHTS_FILE, saved / WEIGHTS_FILE)
    with pytest.raises(InputError, match=r"do not fit .*size mismatch"):
        load_unet(saved)
    change_description(saved, lambda description: description["settings"].update(channels=[4, 6, 8]))
    with pytest.raises(InputError, match=r"do not fit .*Missing key"):
        load_unet(saved)


def test_there_is_one_threshold_for_each_particle(tmp_path):
    model = a_model()
    with pytest.raises(ValueError, match="zip"):
        save_unet(tmp_path / "model", UNetModel(**{**vars(model), "thresholds": (0.5,) * 5}))
    assert list(tmp_path.iterdir()) == []
    assert store.FORMAT == 1


def test_a_yolo_comes_back_from_its_folder_within_half_precision_and_in_its_order_of_classes(tmp_path):
    settings = YoloSettings(neighbour_voxels=3, darkest=-5.0)
    torch.manual_seed(6)
    network = build_yolo(settings)
    save_yolo(
        tmp_path / "yolo", YoloModel(network=network, settings=settings, thresholds=THRESHOLDS, provenance={"seed": 6})
    )
    loaded = load_yolo(tmp_path / "yolo")
    assert (loaded.settings, loaded.thresholds, loaded.provenance) == (settings, THRESHOLDS, {"seed": 6})
    for name, expected in network.state_dict().items():
        value = loaded.network.state_dict()[name]
        np.testing.assert_allclose(value, expected.detach(), rtol=2**-11, atol=2**-24, err_msg=name)
    assert json.loads((tmp_path / "yolo" / DESCRIPTION_FILE).read_text())["classes"] == list(PARTICLE_NAMES)
    save_yolo(tmp_path / "small", YoloModel(**{**vars(loaded), "network": torch.nn.Linear(2, 3)}))
    with pytest.raises(InputError, match="do not fit"):
        load_yolo(tmp_path / "small")
    with pytest.raises(InputError, match="format and kind are"):
        load_unet(tmp_path / "yolo")


@pytest.mark.parametrize("wrong", [{"size": "q"}, {"colour": 3}, {"darkest": "deep"}])
def test_settings_that_no_yolo_has_are_an_input_error(tmp_path, wrong):
    model = YoloModel(network=torch.nn.Linear(2, 3), settings=YoloSettings(), thresholds=THRESHOLDS, provenance={})
    save_yolo(tmp_path / "yolo", model)
    change_description(tmp_path / "yolo", lambda description: description["settings"].update(wrong))
    with pytest.raises(InputError, match=DESCRIPTION_FILE):
        load_yolo(tmp_path / "yolo")


def test_a_hybrid_comes_back_from_its_folder_as_it_was(tmp_path):
    rows = tuple(tuple(0.1 * i + 0.01 * j for j in range(5)) for i in range(6))
    model = HybridModel(coefficients=rows, thresholds=THRESHOLDS, provenance={"runs": ["a"]}, calibration=CALIBRATION)
    save_hybrid(tmp_path / "hybrid", model)
    assert [path.name for path in (tmp_path / "hybrid").iterdir()] == [DESCRIPTION_FILE]
    loaded = load_hybrid(tmp_path / "hybrid")
    assert (loaded.coefficients, loaded.thresholds, loaded.provenance) == (rows, THRESHOLDS, {"runs": ["a"]})
    assert loaded.calibration == CALIBRATION
    change_description(tmp_path / "hybrid", lambda description: description["coefficients"].update(ribosome=[1.0]))
    with pytest.raises(InputError, match=r"model\.json.*coefficients"):
        load_hybrid(tmp_path / "hybrid")


def test_the_record_of_a_training_stays_when_the_model_is_replaced(saved):
    (saved / TRAINING_FOLDER).mkdir()
    (saved / TRAINING_FOLDER / "results.csv").write_text("epoch,loss")
    save_unet(saved, a_model(seed=3))
    assert load_unet(saved).provenance["seed"] == 3
    assert (saved / TRAINING_FOLDER / "results.csv").read_text() == "epoch,loss"
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_weights_are_told_from_others_by_their_digest(saved, tmp_path):
    save_unet(tmp_path / "other", a_model(seed=3))
    shutil.copytree(saved, tmp_path / "same")
    assert weights_digest(saved) == weights_digest(tmp_path / "same") != weights_digest(tmp_path / "other")


def test_weights_that_were_altered_are_an_input_error(saved):
    digest = weights_digest(saved)
    with (saved / WEIGHTS_FILE).open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))  # a whole file of the right length, off by one bit
    with pytest.raises(InputError, match=rf"weights\.safetensors: not the weights that .*expected {digest}"):
        load_unet(saved)
    change_description(saved, lambda description: description.pop("weights_sha256"))
    load_unet(saved)  # models of earlier versions do not say
