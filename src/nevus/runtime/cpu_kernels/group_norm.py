"""Group normalization with ReLU, forward and backward, in channels_last.

PyTorch's kernel is slow in this layout; in the other one every convolution reorders its input. These go through
each image twice, row by row, and keep the channels' numbers in the nearest cache.

With a = gamma / sigma and b = beta - mu a of the channel's group, y = max(0, a x + b). For the gradient, with d
that of y where y > 0 (else 0), S = sum of gamma d x and B = sum of gamma d over the group's m values,
dx = a d + k x + l with k = (B mu - S) / (m sigma^3) and l = -k mu - B / (m sigma).
"""

# ruff: noqa: ANN001, ANN202 - numba infers the types of what it compiles
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import carray, njit
from torch import Tensor, nn

from nevus.models.timm_library import GroupNormAct
from nevus.runtime.cpu_kernels.intrinsics import FASTMATH, like, load, matrix, real, take
from nevus.runtime.cpu_kernels.openmp import run


@njit(fastmath=FASTMATH)
def _forward(x, y, gamma, beta, mean, inverse, eps, relu):
    rows, channels = x.shape
    groups = mean.shape[0]
    width = channels // groups
    scale = np.zeros(channels, np.float32)  # first the sums
    shift = np.zeros(channels, np.float32)  # first the sums of squares
    by_four = rows // 4 * 4
    for r in range(0, by_four, 4):
        for c in range(channels):
            p, q, s, t = load(x[r, c]), load(x[r + 1, c]), load(x[r + 2, c]), load(x[r + 3, c])
            scale[c] += (p + q) + (s + t)
            shift[c] += (p * p + q * q) + (s * s + t * t)
    for r in range(by_four, rows):
        for c in range(channels):
            p = load(x[r, c])
            scale[c] += p
            shift[c] += p * p
    for g in range(groups):
        total = squares = 0.0  # float64, so that the difference below loses nothing
        for c in range(g * width, (g + 1) * width):
            total += scale[c]
            squares += shift[c]
        m = total / (rows * width)
        i = 1 / np.sqrt(max(squares / (rows * width) - m * m, 0.0) + eps)
        mean[g] = m
        inverse[g] = i
        for c in range(g * width, (g + 1) * width):
            scale[c] = gamma[c] * i
            shift[c] = beta[c] - m * gamma[c] * i
    floor = np.float32(0) if relu else np.float32(-np.inf)
    for r in range(rows):
        for c in range(channels):
            v = load(x[r, c]) * scale[c] + shift[c]
            y[r, c] = like(floor if v < floor else v, y[r, c])  # NaN is not below the floor and stays


@njit(fastmath=FASTMATH)
def _backward(dy, x, dx, gamma, beta, mean, inverse, dgamma, dbeta, relu):
    rows, channels = x.shape
    groups = mean.shape[0]
    width = channels // groups
    scale, shift = np.empty(channels, np.float32), np.empty(channels, np.float32)
    slope, level = np.empty(channels, np.float32), np.empty(channels, np.float32)
    dx_sum, d_sum = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
    for c in range(channels):
        scale[c] = gamma[c] * inverse[c // width]
        shift[c] = beta[c] - mean[c // width] * scale[c]
    zero = np.float32(0)
    floor = zero if relu else np.float32(-np.inf)
    by_two = rows // 2 * 2
    for r in range(0, by_two, 2):
        for c in range(channels):
            v, w = load(x[r, c]), load(x[r + 1, c])
            d = zero if v * scale[c] + shift[c] <= floor else load(dy[r, c])
            e = zero if w * scale[c] + shift[c] <= floor else load(dy[r + 1, c])
            dx_sum[c] += d * v + e * w
            d_sum[c] += d + e
    for r in range(by_two, rows):
        for c in range(channels):
            v = load(x[r, c])
            d = zero if v * scale[c] + shift[c] <= floor else load(dy[r, c])
            dx_sum[c] += d * v
            d_sum[c] += d
    count = rows * width
    for g in range(groups):
        s = t = 0.0
        for c in range(g * width, (g + 1) * width):
            s += dx_sum[c] * gamma[c]
            t += d_sum[c] * gamma[c]
        m, i = np.float64(mean[g]), np.float64(inverse[g])
        k = (t * m - s) * i * i * i / count
        for c in range(g * width, (g + 1) * width):
            slope[c] = k
            level[c] = -k * m - t * i / count
            dgamma[c] = (dx_sum[c] - d_sum[c] * m) * i
            dbeta[c] = d_sum[c]
    for r in range(rows):
        for c in range(channels):
            v = load(x[r, c])
            d = zero if v * scale[c] + shift[c] <= floor else load(dy[r, c])
            dx[r, c] = like(d * scale[c] + v * slope[c] + level[c], dx[r, c])


@njit
def _forward_images(pointer, zero, size):
    a = carray(pointer, (13,))
    images, rows, channels, groups, relu = a[1], a[2], a[3], a[4], a[5] != 0
    gamma, beta = matrix(a[8], 1, channels, np.float32(0))[0], matrix(a[9], 1, channels, np.float32(0))[0]
    mean, inverse = matrix(a[10], images, groups, np.float32(0)), matrix(a[11], images, groups, np.float32(0))
    while True:
        n = take(a.ctypes.data)
        if n >= images:
            break
        offset = n * rows * channels * size
        x, y = matrix(a[6] + offset, rows, channels, zero), matrix(a[7] + offset, rows, channels, zero)
        _forward(x, y, gamma, beta, mean[n], inverse[n], real(a[12]), relu)


@njit
def _backward_images(pointer, zero, size):
    a = carray(pointer, (15,))
    images, rows, channels, groups, relu = a[1], a[2], a[3], a[4], a[5] != 0
    gamma, beta = matrix(a[9], 1, channels, np.float32(0))[0], matrix(a[10], 1, channels, np.float32(0))[0]
    mean, inverse = matrix(a[11], images, groups, np.float32(0)), matrix(a[12], images, groups, np.float32(0))
    dgamma, dbeta = matrix(a[13], images, channels, np.float32(0)), matrix(a[14], images, channels, np.float32(0))
    while True:
        n = take(a.ctypes.data)
        if n >= images:
            break
        offset = n * rows * channels * size
        dy, x = matrix(a[6] + offset, rows, channels, zero), matrix(a[7] + offset, rows, channels, zero)
        dx = matrix(a[8] + offset, rows, channels, zero)
        _backward(dy, x, dx, gamma, beta, mean[n], inverse[n], dgamma[n], dbeta[n], relu)


def _forward_float32(a):
    _forward_images(a, np.float32(0), 4)


def _forward_bfloat16(a):
    _forward_images(a, np.uint16(0), 2)


def _backward_float32(a):
    _backward_images(a, np.float32(0), 4)


def _backward_bfloat16(a):
    _backward_images(a, np.uint16(0), 2)


FORWARD = {torch.float32: _forward_float32, torch.bfloat16: _forward_bfloat16}
BACKWARD = {torch.float32: _backward_float32, torch.bfloat16: _backward_bfloat16}


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, groups: int, eps: float, relu: bool) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        n, channels, height, width = x.shape
        y = torch.empty_like(x)
        mean, inverse = torch.empty(n, groups), torch.empty(n, groups)
        run(FORWARD[x.dtype], n, height * width, channels, groups, relu, x, y, gamma, beta, mean, inverse, eps)
        ctx.save_for_backward(x, gamma, beta, mean, inverse)
        ctx.relu = relu
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, gamma, beta, mean, inverse = ctx.saved_tensors
        dy = dy.to(x.dtype).contiguous(memory_format=torch.channels_last)
        n, channels, height, width = x.shape
        dx = torch.empty_like(x)
        dgamma, dbeta = torch.empty(n, channels), torch.empty(n, channels)
        sizes = (n, height * width, channels, mean.shape[1], ctx.relu)
        run(BACKWARD[x.dtype], *sizes, dy, x, dx, gamma, beta, mean, inverse, dgamma, dbeta)
        return dx, dgamma.sum(0), dbeta.sum(0), None, None, None


class CPUGroupNorm(GroupNormAct):  # type: ignore[misc]
    """timm's GroupNormAct with the kernels above; numbers that they cannot take go the usual way."""

    def forward(self, x: Tensor) -> Tensor:
        """Float (n, channels, height, width), kept in shape and type."""
        relu = isinstance(self.act, nn.ReLU)
        usual = (
            torch.jit.is_tracing()  # type: ignore[attr-defined]  # a graph cannot hold these kernels
            or x.dtype not in FORWARD
            or x.device.type != "cpu"
            or x.ndim != 4
            or x.numel() == 0
            or not self.affine
            or self.weight.dtype != torch.float32
            or not (relu or isinstance(self.act, nn.Identity))
            or not isinstance(self.drop, nn.Identity)
        )
        if usual:
            return super().forward(x)  # type: ignore[no-any-return]
        y: Tensor = _GroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps, relu)
        return y
