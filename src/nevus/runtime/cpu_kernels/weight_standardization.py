"""Weight standardization, forward and backward, with the rounding to bfloat16 in the same pass.

For a filter's weights w with mean m, biased variance v and s = 1 / sqrt(v + eps), z = (w - m) s (Qiao et al.
2019, equation 5), and with g the gradient of z, dw = s (g - mean(g) - z mean(g z)).
"""

# ruff: noqa: ANN001, ANN202 - numba infers the types of what it compiles
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numba import carray, njit
from torch import Tensor

from nevus.models.timm_library import StdConv2d
from nevus.runtime.cpu_kernels.intrinsics import FASTMATH, like, load, matrix, real, take
from nevus.runtime.cpu_kernels.openmp import run

STRETCH = 8
"""Filters that a thread takes at once."""
PLACES = 1
"""Places (pixels of all images) by channels in and out, up to which a 1x1 convolution is a matrix product."""


@njit(fastmath=FASTMATH)
def _forward(w, z, moments, eps):
    count = w.shape[0]
    total = np.float32(0)
    for k in range(count):
        total += w[k]
    m = total / np.float32(count)
    squares = np.float32(0)
    for k in range(count):
        squares += (w[k] - m) * (w[k] - m)
    s = np.float32(1 / np.sqrt(squares / count + eps))
    for k in range(count):
        z[k] = like((w[k] - m) * s, z[k])
    moments[0] = m
    moments[1] = s


@njit(fastmath=FASTMATH)
def _backward(g, w, dw, moments):
    count = w.shape[0]
    m, s = moments[0], moments[1]
    total = along = np.float32(0)
    for k in range(count):
        d = load(g[k])
        total += d
        along += d * (w[k] - m)
    mean = total / np.float32(count)
    slope = along * s * s / np.float32(count)
    for k in range(count):
        dw[k] = s * (load(g[k]) - mean - (w[k] - m) * slope)


@njit
def _forward_filters(pointer, zero):
    a = carray(pointer, (7,))
    filters, count = a[1], a[2]
    w, z, moments = (
        matrix(a[3], filters, count, np.float32(0)),
        matrix(a[4], filters, count, zero),
        matrix(a[5], filters, 2, np.float32(0)),
    )
    while True:
        first = take(a.ctypes.data) * STRETCH
        if first >= filters:
            break
        for f in range(first, min(first + STRETCH, filters)):
            _forward(w[f], z[f], moments[f], real(a[6]))


@njit
def _backward_filters(pointer, zero):
    a = carray(pointer, (7,))
    filters, count = a[1], a[2]
    g, w = matrix(a[3], filters, count, zero), matrix(a[4], filters, count, np.float32(0))
    dw, moments = matrix(a[5], filters, count, np.float32(0)), matrix(a[6], filters, 2, np.float32(0))
    while True:
        first = take(a.ctypes.data) * STRETCH
        if first >= filters:
            break
        for f in range(first, min(first + STRETCH, filters)):
            _backward(g[f], w[f], dw[f], moments[f])


def _forward_float32(a):
    _forward_filters(a, np.float32(0))


def _forward_bfloat16(a):
    _forward_filters(a, np.uint16(0))


def _backward_float32(a):
    _backward_filters(a, np.float32(0))


def _backward_bfloat16(a):
    _backward_filters(a, np.uint16(0))


FORWARD = {torch.float32: _forward_float32, torch.bfloat16: _forward_bfloat16}
BACKWARD = {torch.float32: _backward_float32, torch.bfloat16: _backward_bfloat16}


class _Standardize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        w = w.contiguous(memory_format=torch.channels_last)
        z = torch.empty_like(w, dtype=dtype, memory_format=torch.channels_last)
        filters = w.shape[0]
        moments = torch.empty(filters, 2)
        run(FORWARD[dtype], filters, w.numel() // filters, w, z, moments, eps)
        ctx.save_for_backward(w, moments)
        ctx.dtype = dtype
        return z

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        w, moments = ctx.saved_tensors
        g = g.to(ctx.dtype).contiguous(memory_format=torch.channels_last)
        dw = torch.empty_like(w, memory_format=torch.channels_last)
        filters = w.shape[0]
        run(BACKWARD[ctx.dtype], filters, w.numel() // filters, g, w, dw, moments)
        return dw, None, None


class CPUStdConv2d(StdConv2d):  # type: ignore[misc]
    """timm's StdConv2d with the kernels above; numbers that they cannot take go the usual way."""

    def forward(self, x: Tensor) -> Tensor:
        """Float (n, in, height, width) to (n, out, height, width)."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if dtype not in FORWARD or self.weight.dtype != torch.float32 or self.weight.device.type != "cpu":
            return super().forward(x)  # type: ignore[no-any-return]
        weight = _Standardize.apply(self.weight, self.eps, dtype)
        if self._is_product(x):
            taken = x[:, :, :: self.stride[0], :: self.stride[1]].permute(0, 2, 3, 1)
            return F.linear(taken, weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def _is_product(self, x: Tensor) -> bool:
        """Whether a 1x1 convolution is better computed as a matrix product: with many weights for few places.

        A convolution puts its weights and their gradient into another order at every call.
        """
        if self.kernel_size != (1, 1) or self.groups != 1 or self.padding not in (0, (0, 0)):
            return False
        places = x.shape[0] * -(-x.shape[2] // self.stride[0]) * -(-x.shape[3] // self.stride[1])
        return bool(places <= PLACES * (self.in_channels + self.out_channels))
