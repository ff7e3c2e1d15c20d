"""Ultralytics' trainer, bound to our network, our images and this machine."""

from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import nn
from torch.utils.data import RandomSampler

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.precision import cpu_has_bfloat16
from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo, offline_ultralytics
from kaggle_cryoet.training.time_limit import fitting_epochs
from kaggle_cryoet.training.yolo_images import SliceImages
from kaggle_cryoet.training.yolo_recipes import YoloRecipe
from kaggle_cryoet.training.yolo_record import BEFORE_CHECKPOINT
from kaggle_cryoet.whole_file import whole_file

offline_ultralytics()  # before ultralytics is imported; a class cannot be derived from it otherwise

from ultralytics.data.build import InfiniteDataLoader, build_dataloader, seed_worker  # noqa: E402
from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402
from ultralytics.utils.loss import v8DetectionLoss  # noqa: E402

UltralyticsTrainer: Any = DetectionTrainer
UltralyticsLoss: Any = v8DetectionLoss
"""Without types, which ultralytics has only in part."""


class Float32Loss(UltralyticsLoss):
    """Ultralytics' loss, in float32 whatever the network computes in."""

    def __call__(self, preds: Any, batch: dict[str, Any]) -> Any:
        """Loss of a batch, and its parts."""
        with torch.autocast(self.device.type, enabled=False):
            return super().__call__(_to_float32(preds), batch)


def _to_float32(value: Any) -> Any:
    """Tensors of half precision anywhere in dicts, lists and tuples as float32."""
    if isinstance(value, torch.Tensor):
        return value.float()
    if isinstance(value, dict):
        return {key: _to_float32(item) for key, item in value.items()}
    return type(value)(_to_float32(item) for item in value) if isinstance(value, list | tuple) else value


class SliceTrainer(UltralyticsTrainer):
    """Trains a `build_yolo` network on a slice folder."""

    last: Path
    """Where the checkpoint is written."""
    epochs: int
    """Of the schedule, which a time limit may shorten."""

    def __init__(
        self,
        arguments: dict[str, Any],
        *,
        recipe: YoloRecipe,
        settings: YoloSettings,
        weights: dict[str, torch.Tensor],
        time_limit_seconds: float | None = None,
    ) -> None:
        """Prepare; `weights` overwrite those of the fresh network that have the same name and shape."""
        self.recipe = recipe
        self.settings = settings
        self.initial_weights = weights
        self.scaler_before: dict[str, Any] = {}  # of a checkpoint, on a GPU
        self.started = monotonic()
        self.time_limit_seconds = time_limit_seconds
        threads = torch.get_num_threads()
        super().__init__(overrides=arguments)
        torch.set_num_threads(threads)  # on a CPU it takes one fewer than there are, of two only one
        self.args.close_mosaic = round(recipe.closing_share * self.epochs)  # of a schedule that may have been shortened

    def get_model(self, cfg: Any = None, weights: nn.Module | None = None, verbose: bool = True) -> nn.Module:
        """Our network; with the weights of a checkpoint when going on from one."""
        network = build_yolo(self.settings)
        start = self.initial_weights if weights is None else weights.state_dict()
        own = network.state_dict()
        fitting = {name: value for name, value in start.items() if name in own and value.shape == own[name].shape}
        network.load_state_dict(fitting, strict=weights is not None)
        return network.to(memory_format=torch.channels_last)

    def set_model_attributes(self) -> None:
        """Ultralytics' attributes, and the loss in float32."""
        super().set_model_attributes()
        self.model.criterion = Float32Loss(self.model)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Images as floats, channels last, in which half precision is fastest."""
        batch = super().preprocess_batch(batch)
        batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)
        return batch

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> SliceImages:
        """Images to train on or to look at."""
        training = mode == "train"
        return SliceImages(
            img_path=img_path,
            imgsz=self.args.imgsz,
            batch_size=batch,
            augment=training,
            hyp=self.args,
            rect=False,
            stride=32,
            prefix=f"{mode}: ",
            task="detect",
            data=self.data,
            jitter=self.settings if training and self.recipe.jitter else None,
            circles=training and (self.recipe.rotation_degrees > 0 or self.recipe.copy_paste > 0),
        )

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Batches; those of training are a new draw of `images_per_epoch` images in each epoch."""
        dataset = self.build_dataset(dataset_path, mode, batch_size)
        if mode != "train":
            return build_dataloader(
                dataset, batch_size, self.args.workers, shuffle=False, rank=rank, device=self.device
            )
        generator = torch.Generator().manual_seed(self.args.seed + 1_000_003 * self._epochs_logged())
        images = min(self.recipe.images_per_epoch or len(dataset), len(dataset))
        return InfiniteDataLoader(
            dataset=dataset,
            batch_size=batch_size,
            sampler=RandomSampler(dataset, num_samples=images, generator=generator),
            num_workers=self.args.workers,
            collate_fn=dataset.collate_fn,
            worker_init_fn=seed_worker,
            pin_memory=self.device.type == "cuda",
            drop_last=images > batch_size,
        )

    def _epochs_logged(self) -> int:
        """Epochs that are done already; the images drawn after an interruption are others than before it."""
        return max(len(self.csv.read_text(encoding="utf8").splitlines()) - 1, 0) if self.csv.is_file() else 0

    def _setup_train(self) -> None:
        """Ultralytics' preparations, then half precision: float16 on a GPU, bfloat16 on a CPU that has it."""
        super()._setup_train()
        self.amp = self.device.type == "cuda" or cpu_has_bfloat16()
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.amp and self.device.type == "cuda")
        if self.scaler_before:
            self.scaler.load_state_dict(self.scaler_before)

    def validate(self) -> Any:
        """Look at the validation images; with plots the last time."""
        self.validator.args.plots = self.args.plots
        return super().validate()

    def final_eval(self) -> None:
        """Nothing is left to do: the last look was plotted, and the best model is kept elsewhere."""

    def save_model(self) -> bool:
        """Shorten the schedule if need be, keep models, then write the checkpoint; the one before stays until then.

        Raises
        ------
        InputError
            If loss or weights are not finite; nothing is written then.
        """
        average = self.ema.ema.state_dict().values()
        if not all(bool(value.isfinite().all()) for value in (self.loss, *average) if value.is_floating_point()):
            raise InputError(
                f"epoch {self.epoch + 1} left numbers that are not finite; expected a lower learning rate; what was "
                "saved before is whole"
            )
        self._keep_within_time()
        path = self.last
        self.last = path.with_name("unfinished.pt")
        try:
            saved: bool = super().save_model()
            self.run_callbacks(BEFORE_CHECKPOINT)
            self.last.replace(path)
        finally:
            self.last = path
        return saved

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Ultralytics' return to a checkpoint; its table loses what was written after it."""
        super().resume_training(ckpt)
        self.scaler_before = (ckpt or {}).get("scaler") or {}
        if self.csv.is_file():
            lines = self.csv.read_text(encoding="utf8").splitlines(keepends=True)
            with whole_file(self.csv) as partial:
                partial.write_text("".join(lines[: 1 + self.start_epoch]), encoding="utf8")

    def _keep_within_time(self) -> None:
        """Shorten the schedule to the epochs that fit into the time limit."""
        if self.time_limit_seconds is None:
            return
        used = monotonic() - self.started
        each = used / (self.epoch + 1 - self.start_epoch)
        left = self.time_limit_seconds - used
        fitting = fitting_epochs(self.epoch + 1, self.recipe.epochs, left_seconds=left, epoch_seconds=each)
        if fitting != self.epochs:
            self.epochs = self.args.epochs = fitting  # which the checkpoint keeps
            self.args.close_mosaic = round(self.recipe.closing_share * fitting)
            self._setup_scheduler()
            self.scheduler.last_epoch = self.epoch
        self.stop = self.epoch + 1 >= self.epochs  # also where the epoch that was to be the last leaves time for more
