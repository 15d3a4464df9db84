"""Everything that only a GPU can tell, in one run of a few minutes: ``python -m tests.gpu.check_gpu``.

Parity of all networks and modules with the CPU in three precisions, the memory of a training step beside its bill,
samples per second and the share of the time in which a training waits for data, and a training that is resumed, bit for
bit. What was found goes to a JSON file; what is wrong is named, and the exit code is 1. Without a GPU one sentence says
so. Nothing is downloaded, and pytest is not needed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch import Tensor, nn

from custom_networks import nets
from custom_networks.bundle_folder import read_config
from custom_networks.registry import ATTENTION
from custom_networks.workflow.infer.inferers import autocast_forward
from custom_networks.workflow.memory.bill import training_bill
from custom_networks.workflow.train.deep_supervision import StackedDeepSupervisionLoss
from tests.small_nets import CLASSIFIERS, IN_CHANNELS, OUT_CHANNELS, SEGMENTERS, SIZE

ROOT = Path(__file__).resolve().parents[2]
NO_GPU = "there is no CUDA device here, so nothing was tried; run this on a machine with an NVIDIA GPU"
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 6e-2, torch.float16: 1e-2}
"""The largest relative distance from the CPU, in the norm of all values, by precision."""
GRADIENTS = 1e-3
"""The same of the gradients of all parameters in float32."""
BILL_SHARE = 0.3
"""How far the memory of a step may be from its bill, as a share of what was taken."""
CHANNELS = 16
LARGE = (2, CHANNELS, 12, 16, 8)
CLASSIFIED = (20, 24, 18)
TRAINING = {"epochs": 4, "val_interval": 2, "batch_size": 2, "num_workers": 4, "cache_rate": 1.0}
SPEED_LINE = re.compile(r"epoch \d+/\d+: .*?([\d.e+]+) samples/s, (\d+) % waiting for data")

Found = dict[str, Any]


def modules() -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Give every attention module and every network, small, with an input."""
    torch.manual_seed(0)
    for name, kind in ATTENTION.items():
        yield name, kind(3, CHANNELS), torch.randn(LARGE)
    for name, arguments in (*SEGMENTERS.items(), *CLASSIFIERS.items()):
        size = SIZE if name in SEGMENTERS else CLASSIFIED
        network = getattr(nets, name)(3, IN_CHANNELS, OUT_CHANNELS, **arguments)
        yield name, network, torch.randn(2, IN_CHANNELS, *size)


def distance(got: Tensor, want: Tensor) -> float:
    """Return the relative distance of two tensors, in the norm of all values."""
    got, want = got.detach().cpu().double(), want.detach().cpu().double()
    return float((got - want).norm() / want.norm().clamp_min(1e-30))


def gradients(module: nn.Module, output: Tensor) -> Tensor:
    """Return the gradients of all parameters of a fixed sum of the output, as one vector."""
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output)
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        return torch.zeros(1)
    found = torch.autograd.grad((output * weights).sum(), parameters, allow_unused=True)
    return torch.cat(
        [torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(parameters, found, strict=True)]
    )


def parity(device: torch.device) -> Found:
    """Compare every module on the device with itself on the CPU."""
    found: Found = {}
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for name, module, x in modules():
        module.eval()
        for parameter in module.parameters():
            if not parameter.any():  # of an attention that starts as nothing
                nn.init.normal_(parameter, std=0.1)
        want = module(x)
        wanted = gradients(module, want)
        module.to(device)
        y = x.to(device)
        row = {}
        for dtype, limit in TOLERANCES.items():
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32), torch.no_grad():
                row[str(dtype).removeprefix("torch.")] = {"distance": distance(module(y), want), "limit": limit}
        row["gradients"] = {"distance": distance(gradients(module, module(y)), wanted), "limit": GRADIENTS}
        for one in row.values():
            one["fails"] = not one["distance"] <= one["limit"]
        found[name] = row
    return found


def memory(device: torch.device) -> Found:
    """Take three steps of every bundle's network at its patch and batch, and compare the peak with the bill."""
    found: Found = {}
    for bundle in sorted(ROOT.glob("bundles/*_segmentation")):
        config = read_config(bundle, "train")
        config["bundle_root"] = str(bundle)
        network = config.get_parsed_content("network_def")
        patch, batch = config["patch_size"], config["batch_size"]
        bill = training_bill(network, in_channels=1, patch_size=patch, batch_size=batch, amp=True, device=device)
        expected = sum(size for what, size in bill.items() if what != "allocator and kernels")
        network = network.to(device)
        loss = StackedDeepSupervisionLoss(_dice_ce())
        optimizer = torch.optim.AdamW(network.parameters())
        image = torch.randn(batch, 1, *patch, device=device)
        label = torch.zeros(batch, 1, *patch, device=device)
        torch.cuda.reset_peak_memory_stats(device)
        for _ in range(3):
            optimizer.zero_grad(set_to_none=True)
            logits = autocast_forward(network, image, True)
            loss(logits, label).backward()
            optimizer.step()
        taken = torch.cuda.max_memory_allocated(device)
        reserved = torch.cuda.max_memory_reserved(device)
        fails = abs(expected - taken) > BILL_SHARE * taken
        found[bundle.name] = {"bill": expected, "taken": taken, "reserved": reserved, "fails": fails}
        del network, optimizer, image, label, logits
        torch.cuda.empty_cache()
    return found


def _dice_ce() -> nn.Module:
    from monai.losses import DiceCELoss

    return DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)


def write_data(folder: Path, cases: int = 10) -> Path:
    """Write a data set of spheres in noise, larger than the patch of the bundles."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (48, 64, 48)), indexing="ij"), -1)
    for number in range(cases):
        generator = np.random.default_rng(number)
        centre = generator.uniform(18, 30, 3)
        radius = np.sqrt(((grid - centre) ** 2).sum(-1))
        label = (radius < 12).astype(np.uint8) + (radius < 6)
        image = label + generator.normal(0, 0.3, label.shape)
        for kind, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", label.astype(np.uint8))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / kind / f"case_{number}.nii.gz")
    return folder


def run_training(bundle: Path, data: Path, out: Path, device: torch.device, **knobs: Any) -> str:
    """Train a bundle by its command line, and return what it said."""
    given = {
        "dataset_dir": data,
        "image_glob": "imagesTr/*",
        "label_glob": "labelsTr/*",
        "label_names": ["background", "shell", "core"],
        "output_dir": out,
        "ckpt_dir": out,
        "device": device,
        **TRAINING,
        **knobs,
    }
    config = bundle / "configs" / "train.json"
    words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), "--bundle_root", str(bundle)]
    words += [word for name, value in given.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout


def speed(device: torch.device, data: Path, work: Path) -> Found:
    """Train every bundle for some epochs, and take samples per second and the share of waiting of the last one."""
    found: Found = {}
    for bundle in sorted(ROOT.glob("bundles/*_segmentation")):
        said = run_training(bundle, data, work / bundle.name, device, val_interval=4)
        samples, waiting = SPEED_LINE.findall(said)[-1]
        found[bundle.name] = {"samples_per_second": float(samples), "idle_percent": int(waiting), "fails": False}
    return found


def resume(device: torch.device, data: Path, work: Path) -> Found:
    """Compare, bit for bit, a deterministic training that was interrupted and resumed with one that was not."""
    found: Found = {}
    for bundle in sorted(ROOT.glob("bundles/*_segmentation")):
        straight, parts = work / f"{bundle.name}_straight", work / f"{bundle.name}_parts"
        knobs = {"deterministic": True}
        run_training(bundle, data, straight, device, **knobs)
        run_training(bundle, data, parts, device, **knobs, **{"train#trainer#max_epochs": 2})
        run_training(bundle, data, parts, device, **knobs, resume_ckpt=parts / "last_checkpoint.pt")
        states = [
            torch.load(f / "last_checkpoint.pt", weights_only=True, map_location="cpu") for f in (straight, parts)
        ]
        one, other = (state["model"] for state in states)
        unequal = [name for name in one if not torch.equal(one[name], other[name])]
        found[bundle.name] = {"tensors": len(one), "unequal": len(unequal), "fails": bool(unequal)}
    return found


def failures(found: Found, name: str = "") -> list[str]:
    """Return the names of what fails, with the names around it."""
    if "fails" in found:
        return [name.strip(": ")] * bool(found["fails"])
    inside = [(f"{name}: {key}", value) for key, value in found.items() if isinstance(value, dict)]
    return [text for key, value in inside for text in failures(value, key)]


def check(device: torch.device, parts: dict[str, Callable[[], Found]], minutes: float) -> Found:
    """Run the parts one after the other; one that breaks ends no other, and none begins after the time."""
    began, found = time.monotonic(), {}
    for name, part in parts.items():
        start = time.monotonic()
        if start - began > 60 * minutes:
            found[name] = {"error": "no time was left", "fails": True}
            continue
        try:
            found[name] = part()
        except Exception as error:
            found[name] = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500], "fails": True}
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    return found


def main(argv: list[str] | None = None) -> int:
    """Check, write the JSON file, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "eval" / "gpu.json")
    parser.add_argument("--minutes", type=float, default=7.0, help="no part begins after so many")
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print(NO_GPU)
        return 0
    device = torch.device("cuda", 0)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data = write_data(work / "data")
        parts = {
            "parity": lambda: parity(device),
            "memory": lambda: memory(device),
            "resume": lambda: resume(device, data, work),
            "speed": lambda: speed(device, data, work),
        }
        found = check(device, parts, options.minutes)
    found["torch"] = torch.__version__
    found["gpu"] = torch.cuda.get_device_name(device)
    found["failed"] = failures(found)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=2) + "\n")
    print(f"wrote {options.output}; " + (f"wrong: {', '.join(found['failed'])}" if found["failed"] else "all is well"))
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
