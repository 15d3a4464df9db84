"""Optimisers that need an extra package."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer


def adan(params: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> Optimizer:
    r"""Return Adan (adaptive Nesterov momentum) as its authors implement it.

    With the gradient :math:`g`, its change :math:`d = g_t - g_{t-1}` (zero in the first step), the betas
    (0.98, 0.92, 0.99), :math:`\epsilon` = 1e-8 and the learning rate :math:`\eta`:

    .. math::
        m &\leftarrow \beta_1 m + (1 - \beta_1) g, \quad
        v \leftarrow \beta_2 v + (1 - \beta_2) d, \quad
        n \leftarrow \beta_3 n + (1 - \beta_3) (g + \beta_2 d)^2 \\
        \theta &\leftarrow \Bigl(\theta - \eta\,
        \frac{m / (1 - \beta_1^t) + \beta_2\, v / (1 - \beta_2^t)}{\sqrt{n / (1 - \beta_3^t)} + \epsilon}\Bigr)
        \Big/ (1 + \eta\,\lambda)

    Args:
        params: the parameters.
        lr: learning rate; the authors' default is 1e-3.
        weight_decay: :math:`\lambda`.

    Raises:
        ValueError: if the package pytorch-optimizer is not installed.

    Cost:
        Memory: four numbers per parameter, twice those of AdamW.

    References:
        X. Xie, P. Zhou, H. Li, Z. Lin, S. Yan, "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep
        Models", IEEE TPAMI 2024, arXiv:2208.06677; https://github.com/sail-sg/Adan (Apache-2.0).
    """
    try:
        from pytorch_optimizer import Adan
    except ModuleNotFoundError as error:
        raise ValueError(
            "Adan needs the package pytorch-optimizer, which is not installed; run pip install "
            "'pytorch-optimizer>=3.5,<5' or choose another profile"
        ) from error
    return Adan(params, lr=lr, weight_decay=weight_decay)
