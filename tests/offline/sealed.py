"""A machine like Kaggle's, for one command after the other: no network, inputs read-only, everything written is known.

To be run by `prove.py` in namespaces of its own: `unshare --net --mount --pid --fork --kill-child`.
The machine's files are the lower layer of an overlay, so that nothing is really changed, and what has been written is
what is found in the upper layer.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIST_VERSIONS = (
    "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The sealed machine."""

    root: Path
    """What it sees as `/`."""
    layer: Path
    """What has been written to it, but for the environment and the working folder."""
    environment: Path
    """The Python environment, as it was."""
    environment_layer: Path
    """What has been written into that."""
    working: Path
    """Its `/kaggle/working`."""

    def run(
        self,
        *command: object,
        on_line: Callable[[float, str], None] | None = None,
        kill_at: str = "",
        guarded: bool = True,
    ) -> int:
        """Run a command as on Kaggle; its lines are printed, timed, and it is killed when one contains a text.

        If it is guarded, it dies when it opens a socket.
        """
        variables = {"PATH": "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin", "HOME": "/root", "LANG": "C.UTF-8"}
        guard = (self.python, HERE / "guard.py") if guarded else ()
        began = time.monotonic()
        with subprocess.Popen(
            ["chroot", str(self.root), *map(str, (*guard, *command))],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=variables,
            start_new_session=True,
        ) as process:
            for line in process.stdout or ():
                seconds = time.monotonic() - began
                print(f"  {seconds:6.1f} s  {line.rstrip()}", flush=True)
                if on_line is not None:
                    on_line(seconds, line)
                if kill_at and kill_at in line:
                    os.killpg(process.pid, 9)
        return process.returncode

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.environment / "bin" / "python"

    def versions(self) -> dict[str, str]:
        """Version of each installed package."""
        command = ["chroot", str(self.root), str(self.python), "-c", LIST_VERSIONS]
        content: dict[str, str] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return content

    def written(self) -> list[str]:
        """Files written or removed outside the environment and the working folder."""
        return sorted(str(path.relative_to(self.layer)) for path in self.layer.rglob("*") if not path.is_dir())

    def written_into_environment(self) -> list[Path]:
        """Files written into the environment."""
        layer = self.environment_layer
        return sorted(path.relative_to(layer) for path in layer.rglob("*") if not path.is_dir())


def mount(*arguments: object) -> None:
    """Mount."""
    subprocess.run(["mount", *map(str, arguments)], check=True)


def seal(scratch: Path, environment: Path, inputs: dict[str, str], working: Path) -> Machine:
    """Put the machine together in this process's mount namespace.

    `inputs` maps places below `/kaggle/input` to the folders that are shown there.
    """
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "none", scratch)
    for name in ("layer", "work", "root", "environment", "environment-work"):
        (scratch / name).mkdir()
    root = scratch / "root"
    overlay(Path("/"), scratch / "layer", scratch / "work", root)
    mount("--rbind", "/dev", root / "dev")
    mount("-t", "proc", "proc", root / "proc")
    inside = root / environment.relative_to("/")
    inside.mkdir(parents=True, exist_ok=True)
    overlay(environment, scratch / "environment", scratch / "environment-work", inside)
    for place, folder in inputs.items():
        target = root / "kaggle" / "input" / place
        target.mkdir(parents=True)
        mount("--bind", folder, target)
        mount("-o", "remount,bind,ro", target)
    (root / "kaggle" / "working").mkdir()
    mount("--bind", working, root / "kaggle" / "working")
    return Machine(
        root=root,
        layer=scratch / "layer",
        environment=environment,
        environment_layer=scratch / "environment",
        working=working,
    )


def overlay(lower: Path, upper: Path, work: Path, target: Path) -> None:
    """Show a folder with a layer over it that takes what is written."""
    mount("-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", target)


def attach(machine: Machine, place: str, folder: Path) -> None:
    """Show one more folder below `/kaggle/input`, read-only."""
    target = machine.root / "kaggle" / "input" / place
    target.mkdir(parents=True)
    mount("--bind", folder, target)
    mount("-o", "remount,bind,ro", target)


SUBMISSION = ["submission.csv", "submission.csv.state.json"]


def expect(what: str, holds: bool, detail: object = "") -> None:
    """Print one thing that was to be proved; end if it does not hold."""
    print(f"{'ok' if holds else 'NOT'}: {what}{f' ({detail})' if detail != '' else ''}", flush=True)
    if not holds:
        sys.exit(1)


def left_in(working: Path) -> list[str]:
    """What is in a folder, by the alphabet."""
    return sorted(path.name for path in working.iterdir())


def clear(working: Path) -> None:
    """Remove a submission and its note."""
    for name in SUBMISSION:
        (working / name).unlink(missing_ok=True)


def prove(plan: dict[str, Any]) -> None:
    """Everything that is to be shown of one Python and one form of mounts."""
    machine = seal(Path(plan["scratch"]), Path(plan["environment"]), plan["inputs"], Path(plan["working"]))
    interfaces = [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
    expect("there is no network interface but an unconfigured loopback", interfaces == ["lo"], interfaces)
    opens_socket = machine.run("python3", "-c", "import socket; socket.socket()")
    expect("whoever opens a socket dies", opens_socket != 0, f"status {opens_socket}")
    before = machine.versions()

    times: dict[str, float] = {}

    def note(seconds: float, line: str) -> None:
        if line.startswith("ready after"):
            times["installed"] = seconds
        if "1/" in line and "picking" in line and "picked" not in times:
            times["picked"] = seconds

    status = machine.run(machine.python, plan["predict"], on_line=note, guarded=False)
    expect("without a network the notebook that predicts ends well", status == 0, f"status {status}")
    submission = machine.working / "submission.csv"
    expect("it leaves submission.csv, its note and nothing else", left_in(machine.working) == SUBMISSION)
    submission.replace(Path(plan["result"]))
    clear(machine.working)
    expect("installed in less than 60 s", times["installed"] < 60, f"{times['installed']:.0f} s")
    since = times["picked"] - times["installed"]
    expect("the first tomogram is done less than 2 minutes after that", since < 120, f"{since:.0f} s")

    after = machine.versions()
    changed = {name: (version, after.get(name)) for name, version in before.items() if after.get(name) != version}
    expect("no package that was there has changed its version", not changed, changed or f"{len(before)} packages")
    print("  new:", ", ".join(f"{name} {after[name]}" for name in sorted(set(after) - set(before))))
    replaced = [str(path) for path in machine.written_into_environment() if (machine.environment / path).exists()]
    expect("no file of theirs has been written to", not replaced, replaced or "the environment only got new files")
    expect("nothing was written outside working folder and environment", not machine.written(), machine.written() or "")
    installed = len(machine.written_into_environment())
    status = machine.run(machine.python, plan["predict"])  # pip, which there is no need of now, would try a socket
    expect("once the package is installed, no socket is opened", status == 0, f"status {status}")
    expect("and the result is the same", submission.read_text() == Path(plan["result"]).read_text())
    clear(machine.working)
    for step in plan["further"]:
        FURTHER[step](machine, plan)
    expect("nor was anything written there by all this", not machine.written(), machine.written() or "")
    expect("nor into the environment", len(machine.written_into_environment()) == installed)


def fine_tune_and_predict(machine: Machine, plan: dict[str, Any]) -> None:
    """The notebook that fine-tunes, and its output as an input of the notebook that predicts."""
    status = machine.run(machine.python, plan["finetune"])
    expect("the notebook that fine-tunes ends well", status == 0, f"status {status}")
    model = machine.working / "unet3d"
    expect("it leaves a model", sorted(p.name for p in model.iterdir()) == ["model.json", "weights.safetensors"])
    expect("and no more folders", {p.name for p in machine.working.iterdir()} <= {"unet3d", "leave_one_out.json"})
    output = machine.working.with_name(machine.working.name + "-of-finetune")
    machine.working.rename(output)
    machine.working.mkdir()
    mount("--bind", machine.working, machine.root / "kaggle" / "working")
    attach(machine, plan["kernel_place"], output)
    lines: list[str] = []
    status = machine.run(machine.python, plan["predict"], on_line=lambda _, line: lines.append(line))
    used = next((line for line in lines if line.startswith("weights:")), "")
    expect("the notebook that predicts takes it", status == 0 and plan["kernel_place"] in used, used.strip())
    clear(machine.working)


def kill_and_go_on(machine: Machine, plan: dict[str, Any]) -> None:
    """Killed after a tomogram, started again."""
    status = machine.run(machine.python, plan["predict"], kill_at="1/")
    left = left_in(machine.working)
    expect("when it is killed, a csv and a note of what is done are left", status != 0, left)
    lines: list[str] = []
    status = machine.run(machine.python, plan["predict"], on_line=lambda _, line: lines.append(line))
    bars = [line for line in lines if line.startswith("picking")]
    expect("started again, it goes on", status == 0 and " 0/" not in bars[0], bars[0].strip())
    same = (machine.working / "submission.csv").read_text() == Path(plan["result"]).read_text()
    expect("and the csv is that of an unbroken run", same)
    expect("beside which nothing is left but its note", left_in(machine.working) == SUBMISSION)
    clear(machine.working)


def bad_inputs(machine: Machine, plan: dict[str, Any]) -> None:
    """What can be wrong with the inputs is said in clear words."""
    bundle = Path(plan["bundle"])
    spoiled = machine.root / "tmp" / "spoiled"

    def install(change: Callable[[], None], *words: str) -> None:
        subprocess.run(["cp", "-r", str(bundle), str(spoiled)], check=True)
        change()
        lines: list[str] = []
        status = machine.run(machine.python, "/tmp/spoiled/install.py", on_line=lambda _, line: lines.append(line))
        said = " ".join(lines)
        expect(f"said: {' '.join(words)}", status == 2 and all(word in said for word in words), f"status {status}")
        subprocess.run(["rm", "-r", str(spoiled)], check=True)

    own = next(bundle.glob("kaggle_cryoet-*.whl")).name
    install(lambda: (spoiled / own).write_bytes((spoiled / own).read_bytes()[:-1]), own, "altered")
    install(lambda: next(spoiled.glob("zarr-*.whl")).unlink(), "zarr", "missing")
    install(lambda: (spoiled / "MANIFEST.json").unlink(), "MANIFEST.json", "missing")

    competition = next(place for place in plan["inputs"] if "czii" in place)
    subprocess.run(["umount", str(machine.root / "kaggle" / "input" / competition)], check=True)
    (machine.root / "kaggle" / "input" / competition).rmdir()
    lines: list[str] = []
    status = machine.run(machine.python, plan["predict"], on_line=lambda _, line: lines.append(line))
    expect("a kernel without the competition says so", status != 0 and "not attached" in lines[-1], lines[-1].strip())
    attach(machine, competition, Path(plan["inputs"][competition]))

    mount("-t", "tmpfs", "-o", "size=4m", "none", machine.root / "kaggle" / "working")
    working = machine.root / "kaggle" / "working"
    lines.clear()

    def fill(_: float, line: str) -> None:
        lines.append(line)
        if "1/" in line and "picking" in line and not (working / "ballast").exists():
            with (working / "ballast").open("wb", buffering=0) as file:
                while True:
                    try:
                        file.write(bytes(4096))
                    except OSError:
                        break

    status = machine.run(machine.python, plan["predict"], on_line=fill)
    said = [line for line in lines if "No space left" in line]
    expect("a disk that fills up is said", bool(said), said[0].strip() if said else f"status {status}")
    rows = (working / "submission.csv").read_text().splitlines()
    expect("and the csv holds what was done", rows[0] == "id,experiment,particle_type,x,y,z", f"{len(rows) - 1} rows")
    subprocess.run(["umount", str(working)], check=True)


def both_networks(machine: Machine, plan: dict[str, Any]) -> None:
    """Attached models of both networks, and the hybrid of them, as it is after fine-tuning everything oneself."""
    attach(machine, plan["models_place"], Path(plan["models"]))
    lines: list[str] = []
    status = machine.run(machine.python, plan["predict"], on_line=lambda _, line: lines.append(line))
    used = next((line for line in lines if line.startswith("weights:")), "")
    wanted = f"{plan['models_place']} --branch hybrid"
    together = status == 0 and wanted in used
    expect("attached models of both networks pick together", together, used.strip())
    rows = (machine.working / "submission.csv").read_text().splitlines()
    expect("and find something", len(rows) > 1, f"{len(rows) - 1} particles")
    clear(machine.working)


FURTHER: dict[str, Callable[[Machine, dict[str, Any]], None]] = {
    "fine-tune": fine_tune_and_predict,
    "kill": kill_and_go_on,
    "bad inputs": bad_inputs,
    "both networks": both_networks,
}

if __name__ == "__main__":
    prove(json.loads(sys.argv[1]))
