"""Settings changed by name."""

import pytest

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.training.overrides import override
from kaggle_cryoet.training.presets import Recipe, training_preset


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(training=training_preset("half").training)


def test_fields_at_any_depth_are_changed_and_no_others(recipe: Recipe) -> None:
    changes = [
        "training.loss.name=focal",
        "training.augmentation.mixup = 1",
        "crops.shape_zyx=[64, 96, 128]",
        "length.batch_size=8",
        "training.validation.flips=2",
        "training.validation.mixed_precision=false",
    ]
    changed = override(recipe, changes)
    assert changed.training.loss.name == "focal"
    assert changed.training.augmentation.mixup == 1.0
    assert isinstance(changed.training.augmentation.mixup, float)
    assert changed.crops.shape_zyx == (64, 96, 128)
    assert changed.length.batch_size == 8
    assert changed.training.validation.flips == 2
    assert changed.training.validation.mixed_precision is False
    assert changed.training.optimiser == recipe.training.optimiser
    assert recipe == Recipe(training=training_preset("half").training)
    assert override(recipe, []) == recipe


def test_values_that_are_allowed_only_together_may_come_in_any_order(recipe: Recipe) -> None:
    for changes in (
        ["length.crops_per_epoch=10", "length.batch_size=5"],
        ["length.batch_size=5", "length.crops_per_epoch=10"],
    ):
        length = override(recipe, changes).length
        assert (length.crops_per_epoch, length.batch_size) == (10, 5)
    with pytest.raises(InputError, match="multiple of the batch size"):
        override(recipe, changes[1:])
    assert override(recipe, ["length.batch_size=3", "length.batch_size=8"]).length.batch_size == 8


def test_fields_that_are_empty_take_text(recipe: Recipe) -> None:
    changed = override(recipe, ["data.fold=TS_5_4", "data.hard_negatives=12"])
    assert (changed.data.fold, changed.data.hard_negatives) == ("TS_5_4", "12")
    assert override(changed, ["data.fold=null"]).data.fold is None
    with pytest.raises(InputError, match=r"StreamSettings \| None, got 'yes'"):
        override(recipe, ["data.stream=yes"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.loss.name", "expected NAME=VALUE"),
        ("training.los.name=focal", "there is no 'los'; expected one of targets, loss"),
        ("training.loss.name.x=1", "it has no fields"),
        ("training.loss=focal", "expected a value like"),
        ("length.epochs=many", "expected a value like 20"),
        ("length.epochs=2.5", "expected a value like 20"),
        ("length.epochs=true", "expected a value like 20"),
        ("training.loss.name=hinge", "unknown loss"),
        ("crops.scale=0.7", "less than a half"),
        ("crops.scale=NaN", "expected a value like 0.04"),
        ("crops.shape_zyx=[96, 96]", r"expected a value like \(96, 96, 96\), got '\[96, 96\]'"),
        ('crops.shape_zyx=[96, "a", 96]', "expected a value like"),
        ("data.tomogram_types=[1]", "expected a value like"),
        ("data.tomogram_types=denoised", "expected a value like"),
    ],
)
def test_what_cannot_be_set_is_an_input_error(recipe: Recipe, change: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        override(recipe, [change])
