"""The most memory that a network's tensors take at once, found without computing any of them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.utils import eval_mode, train_mode
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from custom_networks.workflow.infer.inferers import autocast_forward, network_dtype

# oneDNN, which computes convolutions on the CPU, copies what it takes and makes into a layout of its own
CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


class LiveStorages(TorchDispatchMode):
    """Count the bytes of all storages that operations make, each once, for as long as it lives.

    Example:
        >>> with LiveStorages() as storages:
        ...     x = torch.ones(256)
        ...     del x
        >>> storages.live, storages.peak
        (0, 1024)
    """

    def __init__(self) -> None:
        super().__init__()
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
        if func in CONVOLUTIONS and any(tensor.device.type == "cpu" for tensor in made):
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


def peak_bytes(network: nn.Module, shape: Sequence[int], *, training: bool, amp: bool, device: torch.device) -> int:
    """Return the most bytes that are alive at once in one forward pass, or in one step of training without optimizer.

    The network runs on tensors without contents (``FakeTensorMode``), so nothing is computed and nothing of it changes.
    Parameters, buffers, input, what autograd keeps, gradients and every result in between count, each storage once;
    what an operation allocates inside itself does not.

    Args:
        network: the network; its outputs are ``(B, K, *S)`` or with levels ``(B, levels, K, *S)``.
        shape: shape ``(B, C, *S)`` of its input.
        training: whether to run loss and backward pass, too.
        amp: whether the network runs in mixed precision where the device has it and the network is not thin.
        device: the device that it runs on.

    Raises:
        RuntimeError: if the network needs the values of a tensor (torch raises subclasses of it).

    Example:
        >>> peak_bytes(nn.Identity(), (1, 1, 8, 8, 8), training=False, amp=False, device=torch.device("cpu"))
        2048
    """
    with FakeTensorMode() as fake, LiveStorages() as storages, (train_mode if training else eval_mode)(network):
        real = [*network.named_parameters(), *network.named_buffers()]
        state: dict[str, Tensor] = {name: fake.from_tensor(tensor) for name, tensor in real}
        for tensor in state.values():
            storages.add(tensor)
        image = torch.empty(tuple(shape), device=device)

        def forward(inputs: Tensor) -> Tensor:
            return functional_call(network, state, (inputs,))

        dtype = network_dtype(device, amp, network, shape[2:])
        logits = autocast_forward(forward, image, dtype is not torch.float32)
        if training:
            label = torch.empty(shape[0], 1, *shape[2:], device=device)
            levels = logits.unbind(1) if logits.dim() > len(shape) else (logits,)
            torch.stack([_dice_and_cross_entropy(level, label) for level in levels]).sum().backward()
    return storages.peak
