"""Prove that the package installs and works where there is no network: `make offline`, as root on Linux.

For each Python an environment is made with what Kaggle's image has (`kaggle-3.12.txt`, `kaggle-3.13.txt`; 8 GB each,
with the network, once). Then, in a sealed machine (`sealed.py`), the bundle is installed and the kernels' scripts are
run on simulated tomograms, in the old and the new form of mounts. The picks are compared with those made here.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.kaggle.bundle import make_bundle
from kaggle_cryoet.kaggle.environment import COMPETITION, KaggleEnvironment
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.simulation.dataset import simulate
from kaggle_cryoet.submission import read_submission

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
TOLERANCE_VOXELS = 0.5
FINETUNE_SECONDS = 100
FORMS = {
    "old": {"competition": COMPETITION, "bundle": "kaggle-cryoet", "kernel": "kaggle-cryoet-finetune", "models": "own"},
    "new": {
        "competition": f"competitions/{COMPETITION}",
        "bundle": "datasets/someone/kaggle-cryoet",
        "kernel": "notebooks/someone/kaggle-cryoet-finetune",
        "models": "datasets/someone/own",
    },
}


def main() -> None:
    """Make what is needed, prove, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", action="append", help="interpreter; python3.12 and python3.13 if not given")
    parser.add_argument("--weights", type=Path, help="model folder in place of the package's own")
    parser.add_argument("--build", type=Path, default=REPOSITORY / "build" / "offline", help="folder to work in")
    options = parser.parse_args()
    build = options.build.resolve()
    build.mkdir(parents=True, exist_ok=True)
    competition = make_competition(build / "competition")
    bundle = make_bundle(build / "bundle", weights=options.weights).directory
    expected = pick_here(competition / "test", build / "expected.csv", options.weights)
    for number, interpreter in enumerate(options.python or ["python3.12", "python3.13"]):
        environment = make_environment(interpreter, build)
        for form in FORMS:
            print(f"\n=== {environment.name}, {form} form of mounts", flush=True)
            further = (
                ["fine-tune"] if form == "new" else [*(["kill", "bad inputs"] if number == 0 else []), "both networks"]
            )
            result = prove(environment, form, competition, bundle, build, further)
            compare(expected, read_submission(result))
    print("\nproved")


def make_competition(directory: Path) -> Path:
    """Simulated tomograms in the competition's layout: three without picks, three with."""
    if not (directory / "train" / "overlay").is_dir():
        simulate(directory / "test", runs=3, shape_zyx=(96, 176, 192), seed=71)
        shutil.rmtree(directory / "test" / "overlay")
        simulate(directory / "train", runs=3, shape_zyx=(96, 144, 160), seed=72)
    return directory


def pick_here(tomograms: Path, output: Path, weights: Path | None) -> dict[str, Picks]:
    """What this environment finds, with the options of the kernel."""
    command = [
        sys.executable,
        "-m",
        "kaggle_cryoet",
        "predict",
        str(tomograms),
        "--output",
        str(output),
        *KaggleEnvironment(root=output.parent).options,
    ]
    subprocess.run([*command, *(["--weights", str(weights)] if weights else [])], check=True)
    return read_submission(output)


def make_environment(interpreter: str, build: Path) -> Path:
    """A virtual environment with what Kaggle's image has."""
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    tag = subprocess.run([interpreter, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    environment = build / f"python-{tag}"
    wanted = (HERE / f"kaggle-{tag}.txt").read_text(encoding="utf8")
    complete = environment / "complete"
    if not complete.exists() or complete.read_text(encoding="utf8") != wanted:
        print(f"making {environment}: what Kaggle's image has, 8 GB", flush=True)
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([interpreter, "-m", "venv", environment], check=True)
        requirements = HERE / f"kaggle-{tag}.txt"
        subprocess.run([environment / "bin" / "pip", "install", "--quiet", "--requirement", requirements], check=True)
        complete.write_text(wanted, encoding="utf8")
    return environment


def prove(environment: Path, form: str, competition: Path, bundle: Path, build: Path, further: list[str]) -> Path:
    """Run everything in the sealed machine; returns the submission it has made."""
    working, scratch, result = build / "working", build / "scratch", build / f"{environment.name}-{form}.csv"
    for folder in (working, scratch, build / "working-of-finetune"):
        shutil.rmtree(folder, ignore_errors=True)
    working.mkdir()
    scratch.mkdir()
    finetune = build / "finetune.py"
    script = (REPOSITORY / "kernels" / "finetune" / "finetune.py").read_text(encoding="utf8")
    if "5 * 3600" not in script:
        raise RuntimeError("finetune.py does not say its time limit as it used to")
    finetune.write_text(script.replace("5 * 3600", str(FINETUNE_SECONDS)), encoding="utf8")
    plan = {
        "scratch": str(scratch),
        "environment": str(environment),
        "inputs": {FORMS[form]["competition"]: str(competition), FORMS[form]["bundle"]: str(bundle)},
        "working": str(working),
        "bundle": str(bundle),
        "predict": str(REPOSITORY / "kernels" / "predict" / "predict.py"),
        "finetune": str(finetune),
        "kernel_place": FORMS[form]["kernel"],
        "models": str(REPOSITORY / "kaggle_cryoet" / "weights"),
        "models_place": FORMS[form]["models"],
        "result": str(result),
        "further": further,
    }
    began = time.monotonic()
    sealed = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", sys.executable, str(HERE / "sealed.py")]
    subprocess.run([*sealed, json.dumps(plan)], check=True)
    print(f"{time.monotonic() - began:.0f} s in all", flush=True)
    return result


def compare(expected: dict[str, Picks], found: dict[str, Picks]) -> None:
    """Every pick has its counterpart of the same type in the other list, within the tolerance."""
    if set(expected) != set(found):
        raise SystemExit(f"NOT: picks in the same tomograms ({sorted(expected)}, {sorted(found)})")
    total, largest = 0, 0.0
    for run, picks in expected.items():
        for label in np.unique(np.concatenate([picks.label, found[run].label])):
            here = picks.position_zyx_angstrom[picks.label == label]
            there = found[run].position_zyx_angstrom[found[run].label == label]
            apart = np.linalg.norm(here[:, None] - there[None], axis=2) / CZII_VOXEL_ANGSTROM
            if len(here) != len(there):
                raise SystemExit(f"NOT: as many picks of type {label} in {run} ({len(here)}, {len(there)})")
            largest = max(largest, apart.min(0).max(), apart.min(1).max())
            total += len(here)
    if not total:
        raise SystemExit("NOT: any picks to compare")
    if largest > TOLERANCE_VOXELS:
        raise SystemExit(f"NOT: picks in the same places (up to {largest:.2f} voxels apart)")
    print(f"ok: the same {total} picks as in the development environment (at most {largest:.3f} voxels apart)")


if __name__ == "__main__":
    main()
