"""The arithmetic of int8 inference in float, with the gradients that training needs.

As both runtimes compute it (Jacob et al., arXiv:1712.05877): weights are symmetric, in 255 steps
with a scale for each output channel; activations are asymmetric, in 256 steps over one range a
tensor, which holds 0 exactly. Rounding has no gradient of use, so it is passed through as if it
were not there (the straight-through estimator, Bengio et al., arXiv:1308.3432).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

INT8_MIN, INT8_MAX = -128, 127
STEPS = INT8_MAX - INT8_MIN
SMALLEST_SCALE = 1e-9  # as ai-edge-quantizer has it, for a channel or a tensor of zeros

# The gradient of a range is a sum over a tensor; a share of the pictures estimates it well enough.
RANGE_GRADIENT_SHARE = 8


def quantised_weights(weights: Tensor) -> Tensor:
    """Convolution weights (outputs, inputs, h, w) as int8 holds them, a scale each output.

    The scale is the largest magnitude over 127, as both exporters set it.
    """
    largest = weights.detach().abs().amax(dim=(1, 2, 3))
    scale = (largest / INT8_MAX).clamp_min(SMALLEST_SCALE)
    zeros = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weights, scale, zeros, 0, -INT8_MAX, INT8_MAX)


def quantised_activations(x: Tensor, bounds: Tensor) -> Tensor:
    """Activations (N, …) as int8 holds them in the range `bounds`, (2,): low <= 0 <= high.

    Gradients flow to `x` where it is inside the range, and to `bounds`: what is cut off asks for a
    wider range, the rounding errors inside for a narrower one (LSQ, Esser et al.,
    arXiv:1902.08153, with a zero point as in LSQ+, Bhalgat et al., arXiv:2004.09576).
    """
    result: Tensor = _QuantisedActivations.apply(x, bounds)  # type: ignore[no-untyped-call]
    return result


def scale_and_zero_point(low: float, high: float) -> tuple[float, int]:
    """The step and the integer that stands for 0, as the runtimes' quantisers choose them."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / STEPS, SMALLEST_SCALE)
    return scale, round(INT8_MIN - low / scale)


class _QuantisedActivations(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bounds: Tensor) -> Tensor:
        low, high = bounds.tolist()
        scale, zero = scale_and_zero_point(low, high)
        result, inside = torch.ops.aten.fake_quantize_per_tensor_affine_cachemask(
            x, scale, zero, INT8_MIN, INT8_MAX
        )
        few = max(1, len(x) // RANGE_GRADIENT_SHARE)
        ctx.save_for_backward(inside, x[:few], result[:few])
        ctx.scale, ctx.zero, ctx.size, ctx.share = scale, zero, x.numel(), len(x) / few
        assert isinstance(result, Tensor)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        (gradient,) = gradients
        inside, x, result = ctx.saved_tensors
        to_x = gradient * inside
        if not ctx.needs_input_grad[1]:
            return to_x, None
        few = len(x)
        some, within = gradient[:few], inside[:few]
        # A value is scale * integer: inside, its error grows with the scale.
        rounding = (to_x[:few] * (result - x)).sum() / ctx.scale / STEPS
        cut = some * ~within
        above = x > (INT8_MAX - ctx.zero) * ctx.scale
        to_high = (cut * above).sum() + rounding
        to_low = (cut * ~above).sum() - rounding
        # LSQ, section 2.2: keeps a range's steps in proportion to those of weights.
        share = ctx.share / (ctx.size * INT8_MAX) ** 0.5
        return to_x, torch.stack([to_low, to_high]) * share
