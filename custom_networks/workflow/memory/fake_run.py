"""The most memory that a network's tensors take at once, found without computing any of them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from monai.networks.utils import eval_mode, train_mode
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from custom_networks.workflow.infer.inferers import network_dtype
from custom_networks.workflow.infer.thin_grids import without_contents

# oneDNN, which computes convolutions on the CPU, copies what it takes and makes into a layout of its own
CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)
CPU = torch.device("cpu")
# what CUDA's autocast computes in float32 and the CPU's does not, and the other way round
FLOAT32_ON_CUDA = (F.group_norm, F.layer_norm, F.softmax, torch.softmax, Tensor.softmax)
FLOAT32_ON_CPU = (F.interpolate,)


class CudaAutocast(TorchFunctionMode):
    """Make the CPU's autocast choose the precisions that CUDA's chooses, so that a bill needs no GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch."""
        if func in FLOAT32_ON_CUDA:
            args = tree_map_only(Tensor, lambda tensor: tensor.float(), args)
        if func in FLOAT32_ON_CPU:
            with torch.autocast("cpu", enabled=False):
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class LiveStorages(TorchDispatchMode):
    """Count the bytes of all storages that operations make, each once, for as long as it lives.

    Args:
        device: the device that they are for; on a CPU convolutions copy what they take and make.

    Example:
        >>> with LiveStorages() as storages:
        ...     x = torch.ones(256)
        ...     del x
        >>> storages.live, storages.peak
        (0, 1024)
    """

    def __init__(self, device: torch.device = CPU) -> None:
        super().__init__()
        self.copying = CONVOLUTIONS if device.type == "cpu" else ()
        self.live = 0
        self.peak = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def add(self, tensor: Tensor) -> None:
        """Count the storage of a tensor, unless it is counted already.

        Args:
            tensor: any tensor.
        """
        storage = tensor.untyped_storage()
        if storage not in self._seen:
            self._seen.add(storage)
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._remove, storage.nbytes())

    def _remove(self, size: int) -> None:
        self.live -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it returns."""
        result = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        for tensor in made:
            self.add(tensor)
        if func in self.copying:
            taken = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
            copies = sum(tensor.numel() * tensor.element_size() for tensor in (*taken, *made))
            self.peak = max(self.peak, self.live + copies)
        return result


def _dice_and_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Take the memory of the recipe's loss, in operations that need no values."""
    one_hot = torch.zeros_like(logits).scatter_(1, label.long(), 1.0)
    probability = logits.softmax(1)
    overlap = (probability * one_hot).sum() / (probability.sum() + one_hot.sum())
    return F.cross_entropy(logits, label[:, 0].long()) - overlap


class _Step(nn.Module):
    """A forward pass, in training with loss and backward pass, too, which checkpointing computes a part of again."""

    def __init__(self, network: nn.Module, half: bool, training: bool) -> None:
        super().__init__()
        self.network, self.lower_precision, self.trains = network, half, training

    def forward(self, image: Tensor) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.lower_precision):
            logits = self.network(image).float()
        if not self.trains:
            return
        label = torch.empty(image.shape[0], 1, *image.shape[2:])
        levels = logits.unbind(1) if logits.dim() > image.dim() else (logits,)
        loss = torch.stack([_dice_and_cross_entropy(level, label) for level in levels]).sum()
        # not loss.backward(), during which no mode would see what is computed again
        engine: Any = torch.autograd.Variable._execution_engine
        engine.run_backward((loss,), (torch.ones_like(loss),), False, False, (), True, accumulate_grad=True)


def peak_bytes(network: nn.Module, shape: Sequence[int], *, training: bool, amp: bool, device: torch.device) -> int:
    """Return the most bytes that are alive at once in one forward pass, or in one step of training without optimizer.

    The network runs on tensors without contents (``FakeTensorMode``), so nothing is computed and nothing of it changes;
    for a GPU, which need not be there, in the precisions of CUDA's autocast. Parameters, buffers, input, what autograd
    keeps, gradients and every result in between count, each storage once; what an operation allocates inside itself
    does not.

    Args:
        network: the network; its outputs are ``(B, K, *S)`` or with levels ``(B, levels, K, *S)``.
        shape: shape ``(B, C, *S)`` of its input.
        training: whether to run loss and backward pass, too.
        amp: whether the network runs in half precision: on a GPU always, on a CPU where it has bfloat16 and the network
            is not thin.
        device: the device that it runs on.

    Raises:
        RuntimeError: if the network needs the values of a tensor (torch raises subclasses of it).

    Example:
        >>> peak_bytes(nn.Identity(), (1, 1, 8, 8, 8), training=False, amp=False, device=torch.device("cpu"))
        2048
    """
    on_gpu = device.type == "cuda"
    half = amp if on_gpu else network_dtype(device, amp, network, shape[2:]) is torch.bfloat16
    with (
        FakeTensorMode(),
        LiveStorages(device) as storages,
        CudaAutocast() if on_gpu else nullcontext(),
        (train_mode if training else eval_mode)(network),
    ):
        state = {f"network.{name}": own for name, own in without_contents(network).items()}
        functional_call(_Step(network, half, training), state, torch.empty(tuple(shape)), tie_weights=False)
    return storages.peak
