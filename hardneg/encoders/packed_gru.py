"""A GRU over packed rows, for training on a CPU: the gradient of each weight is one matrix product.

``torch.nn.GRU`` makes one product for every time step and adds it to a gradient as large as the weights, and so moves
those from and to memory as often as the longest row has steps. Here the steps only collect what the products need. A
gradient of a gradient raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["gru_over_packed", "pays"]


class Steps(NamedTuple):
    """What the forward pass keeps of every time step of every row, in the packed order."""

    gates: Float[Tensor, "t 2h"]
    """Reset and update gates, r and z."""
    new: Float[Tensor, "t h"]
    """The proposed state n = tanh(W_in x + b_in + r * recurrent)."""
    recurrent: Float[Tensor, "t h"]
    """W_hn h + b_hn, which the reset gate scales."""
    before: Float[Tensor, "t h"]
    """The state before the step, h; its first rows are 0."""


def pays(rnn: nn.GRU, inputs: Tensor) -> bool:
    """Whether a GRU is trained on a CPU by ordinary autograd, where this is the faster way."""
    plain = not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())
    trained = torch.is_grad_enabled() and any(one.requires_grad for one in rnn.parameters())
    return plain and trained and rnn.bias and inputs.device.type == "cpu"


def gru_over_packed(
    rnn: nn.GRU, packed: PackedSequence
) -> tuple[PackedSequence, Float[Tensor, "directions n d"]]:
    """As ``rnn(packed)``: the states, and the final state of each direction of the last layer.

    Both are in the order that ``packed`` has: the final states in that of the rows before packing.
    """
    sizes = packed.batch_sizes.tolist()
    last, turn = packed_positions(packed.batch_sizes)
    inputs, final = packed.data, []
    for layer in range(rnn.num_layers):
        states = [PackedGRU.apply(inputs, sizes, *weights(rnn, f"l{layer}"))]
        if rnn.bidirectional:
            turned = PackedGRU.apply(inputs[turn], sizes, *weights(rnn, f"l{layer}_reverse"))
            states.append(turned[turn])
            final = [states[0][last], turned[last]]
        else:
            final = [states[0][last]]
        inputs = torch.cat(states, dim=1) if rnn.bidirectional else states[0]
    rows = packed.unsorted_indices
    ends = torch.stack(final) if rows is None else torch.stack(final)[:, rows]
    return packed._replace(data=inputs), ends


def weights(rnn: nn.GRU, name: str) -> list[Tensor]:
    """The four parameters of a layer and direction."""
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [getattr(rnn, f"{kind}_{name}") for kind in kinds]


def packed_positions(sizes: Int[Tensor, " steps"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " t"]]:
    """Where each row's last step is, and where each step would be if every row were read backwards."""
    starts = sizes.cumsum(0) - sizes
    step = torch.arange(len(sizes)).repeat_interleave(sizes)
    row = torch.arange(len(step)) - starts[step]
    lengths = torch.bincount(row)
    return starts[lengths - 1] + torch.arange(len(lengths)), starts[lengths[row] - 1 - step] + row


class PackedGRU(torch.autograd.Function):
    """One layer in one direction, from packed inputs to packed states; it starts from 0."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Float[Tensor, "t f"],
        sizes: Sequence[int],
        weight_ih: Float[Tensor, "3h f"],
        weight_hh: Float[Tensor, "3h h"],
        bias_ih: Float[Tensor, " 3h"],
        bias_hh: Float[Tensor, " 3h"],
    ) -> Float[Tensor, "t h"]:
        """The states; products are made in autocast's type where it is on, all else in that of the weights."""
        kind = inputs.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight_hh.dtype
        with torch.autocast(kind, enabled=False):
            rows = product(inputs, weight_ih.T, low, weight_hh.dtype).add_(bias_ih)
            states, steps = read(rows, sizes, weight_hh.to(low), bias_hh)
        ctx.sizes, ctx.low = sizes, low
        ctx.save_for_backward(inputs, weight_ih, weight_hh, *steps)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, "t h"]) -> tuple[Tensor | None, ...]:
        """The gradients of inputs and weights."""
        inputs, weight_ih, weight_hh, *kept = ctx.saved_tensors
        steps, low, high = Steps(*kept), ctx.low, weight_hh.dtype
        with torch.autocast(gradient.device.type, enabled=False):
            of_gates, of_new, of_recurrent = backwards(
                gradient, steps, ctx.sizes, weight_hh.to(low)
            )
            of_rows = torch.cat([of_gates, of_new], dim=1)
            of_states = torch.cat([of_gates, of_recurrent], dim=1)
            of_inputs = None
            if ctx.needs_input_grad[0]:
                of_inputs = product(of_rows, weight_ih, low, inputs.dtype)
            of_ih = product(of_rows.T, inputs, low, high)
            of_hh = product(of_states.T, steps.before, low, high)
        return of_inputs, None, of_ih, of_hh, of_rows.sum(0), of_states.sum(0)


def product(
    left: Float[Tensor, "n k"], right: Float[Tensor, "k m"], low: torch.dtype, result: torch.dtype
) -> Float[Tensor, "n m"]:
    """A product of matrices in one type, given in another."""
    return (left.to(low) @ right.to(low)).to(result)


def read(
    rows: Float[Tensor, "t 3h"],
    sizes: Sequence[int],
    weight: Float[Tensor, "3h h"],
    bias: Float[Tensor, " 3h"],
) -> tuple[Float[Tensor, "t h"], Steps]:
    """The states of all steps, from what the inputs contribute to each."""
    width = weight.shape[1]
    states = rows.new_empty(len(rows), width)
    steps = Steps(*(rows.new_empty(len(rows), many * width) for many in (2, 1, 1, 1)))
    steps.before[: sizes[0]] = 0
    start, state = 0, states[:0]
    for size in sizes:
        here = slice(start, start + size)
        if start:
            steps.before[here] = state[:size]
            hidden = product(steps.before[here], weight.T, weight.dtype, rows.dtype).add_(bias)
        else:
            hidden = bias.expand(size, -1)
        state = states[here]
        read_step(rows[here], hidden, state, Steps(*(one[here] for one in steps)))
        start += size
    return states, steps


def read_step(rows: Tensor, hidden: Tensor, state: Tensor, step: Steps) -> None:
    """One step of the rows that have it: h' = n + z (h - n)."""
    width = state.shape[1]
    torch.add(rows[:, : 2 * width], hidden[:, : 2 * width], out=step.gates).sigmoid_()
    reset, update = step.gates.split(width, dim=1)
    step.recurrent.copy_(hidden[:, 2 * width :])
    torch.addcmul(rows[:, 2 * width :], reset, step.recurrent, out=step.new).tanh_()
    torch.lerp(step.new, step.before, update, out=state)


def backwards(
    gradient: Float[Tensor, "t h"],
    steps: Steps,
    sizes: Sequence[int],
    weight: Float[Tensor, "3h h"],
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of the gates before their sigmoid, of n before its tanh, and of ``recurrent``."""
    found = tuple(torch.empty_like(one) for one in (steps.gates, steps.new, steps.recurrent))
    of_state = gradient.new_zeros(0, gradient.shape[1])
    stop = len(gradient)
    for size in reversed(sizes):
        here = slice(stop - size, stop)
        arriving = gradient[here].clone()
        arriving[: len(of_state)] += of_state
        parts = tuple(one[here] for one in found)
        kept = step_backwards(arriving, Steps(*(one[here] for one in steps)), *parts)
        if here.start:
            of_hidden = torch.cat([parts[0], parts[2]], dim=1)
            of_state = product(of_hidden, weight, weight.dtype, gradient.dtype).add_(kept)
        stop -= size
    return found[0], found[1], found[2]


def step_backwards(
    arriving: Tensor, step: Steps, of_gates: Tensor, of_new: Tensor, of_recurrent: Tensor
) -> Tensor:
    """Fill in the gradients of one step; gives what passes on to the state before, past the gates."""
    reset, update = step.gates.split(arriving.shape[1], dim=1)
    of_reset, of_update = of_gates.split(arriving.shape[1], dim=1)
    passed: Tensor = arriving * update
    torch.sub(arriving, passed, out=of_new).mul_(1 - step.new.square())
    torch.mul(of_new, reset, out=of_recurrent)
    torch.mul(of_recurrent, step.recurrent, out=of_reset).mul_(1 - reset)
    torch.mul(passed, step.before - step.new, out=of_update).mul_(1 - update)
    return passed
