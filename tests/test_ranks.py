"""Processes that fail end at once, and those that go well end as they would."""

import subprocess
import sys
import time
from types import SimpleNamespace

import lightning
import pytest
import torch

from kaggle_cryoet.training.ranks import LeaveAtOnce

BEGIN = """
import atexit, multiprocessing, sys, time
from types import SimpleNamespace
from kaggle_cryoet.training.ranks import LeaveAtOnce

def wait_for_others():
    print("waits", flush=True)
    time.sleep(60)

def rank(fails):
    leaving = LeaveAtOnce()
    leaving.setup(SimpleNamespace(world_size=WORLD), None, "fit")
    atexit.register(wait_for_others if fails else lambda: print("in order", flush=True))
    if fails:
        multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,)).start()
        sys.exit(1)
    leaving.teardown(None, None, "fit")

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=rank, args=(FAILS,))
    process.start()
    process.join()
    print(process.exitcode)
"""


@pytest.mark.parametrize(("fails", "world"), [(True, 2), (False, 2), (False, 1)])
def test_a_process_that_fails_waits_for_nothing_and_one_that_does_not_ends_in_order(
    tmp_path, fails: bool, world: int
) -> None:
    script = tmp_path / "script.py"
    script.write_text(BEGIN.replace("WORLD", str(world)).replace("FAILS", str(fails)))
    began = time.monotonic()
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert time.monotonic() - began < 55
    said = done.stdout.split()
    assert said[-1] == ("1" if fails else "0"), done.stderr
    assert "waits" not in said
    assert ("order" in said) != fails


def test_a_process_by_itself_is_left_to_end_as_it_likes() -> None:
    leaving = LeaveAtOnce()
    leaving.setup(SimpleNamespace(world_size=1), None, "fit")  # type: ignore[arg-type]
    assert leaving._leaving is None


def test_each_of_several_processes_has_tensors_of_its_own() -> None:
    from kaggle_cryoet.models.unet3d import UNetSettings, build_unet
    from kaggle_cryoet.training.module import UNetModule

    module = UNetModule.__new__(UNetModule)
    lightning.LightningModule.__init__(module)
    module.network = build_unet(UNetSettings(channels=(4, 6)))
    for world, same in ((1, True), (2, False)):
        before = {name: tensor.data_ptr() for name, tensor in module.state_dict().items()}
        values = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        module._trainer = SimpleNamespace(world_size=world)
        module.setup("fit")
        for name, tensor in module.state_dict().items():
            assert (tensor.data_ptr() == before[name]) == same
            torch.testing.assert_close(tensor, values[name])
