"""A bidirectional LSTM over padded rows that survives the export: what stands behind a row changes nothing in it.

Packed sequences, torch's own answer to padding, do not export; and torch's exporter to ONNX, when it meets an nn.LSTM a
second time in a process, freezes the number of tokens (seen with torch 2.13). So the weights are kept as ONNX lays them
out, the exporter is handed ONNX's own LSTM with the lengths of the rows, and torch computes the same with two LSTMs, of
which the second reads each row reversed up to its length.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BiLstm(nn.Module):
    """One bidirectional LSTM layer (Hochreiter & Schmidhuber 1997; Schuster & Paliwal 1997).

    Attributes:
        from_inputs: float32 (2, 4 * hidden, inputs): for each direction the gates input, output, forget, cell.
        from_states: float32 (2, 4 * hidden, hidden), likewise.
        bias: float32 (2, 8 * hidden): four gates beside the inputs, then four beside the states.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        """Draw weights from U(-1, 1) / sqrt(hidden), as torch's LSTM, and open the forget gates.

        Args:
            inputs: Width of the vectors that it reads.
            hidden: Width of each direction; it gives vectors of twice that width.
        """
        super().__init__()
        self.hidden = hidden
        self.from_inputs = nn.Parameter(torch.empty(2, 4 * hidden, inputs))
        self.from_states = nn.Parameter(torch.empty(2, 4 * hidden, hidden))
        self.bias = nn.Parameter(torch.zeros(2, 8 * hidden))
        for weights in (self.from_inputs, self.from_states):
            nn.init.uniform_(weights, -(hidden**-0.5), hidden**-0.5)
        with torch.no_grad():  # so that gradients reach far tokens (Jozefowicz et al. 2015, section 2.3)
            self.bias[:, 2 * hidden : 3 * hidden] = 1.0

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Read rows both ways.

        Args:
            states: float32 (n, tokens, inputs), padded on the right.
            mask: int64 (n, tokens), 1 for tokens, 0 for padding.

        Returns:
            float32 (n, tokens, 2 * hidden). What it holds at padding is of no meaning.
        """
        if torch.onnx.is_in_onnx_export():
            return self._in_onnx(states, mask)
        order = reversal(mask).unsqueeze(-1)
        there = self._one_way(states, direction=0)
        back = self._one_way(states.gather(1, order.expand(-1, -1, states.shape[-1])), direction=1)
        return torch.cat([there, back.gather(1, order.expand(-1, -1, self.hidden))], dim=-1)

    def _one_way(self, states: Tensor, *, direction: int) -> Tensor:
        first = states.new_zeros(1, len(states), self.hidden)
        beside_inputs, beside_states = self.bias[direction].chunk(2)
        weights = (self.from_inputs[direction], self.from_states[direction], beside_inputs, beside_states)
        outputs: Tensor = torch.lstm(
            states,
            (first, first),
            [_as_torch(gates) for gates in weights],
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=self.training,
            bidirectional=False,
            batch_first=True,
        )[0]
        return outputs

    def _in_onnx(self, states: Tensor, mask: Tensor) -> Tensor:
        rows, tokens = mask.shape
        lengths = mask.sum(dim=1).to(torch.int32)
        inputs = (states.transpose(0, 1), self.from_inputs, self.from_states, self.bias, lengths)
        found = torch.onnx.ops.symbolic(
            "LSTM",
            inputs,
            {"direction": "bidirectional", "hidden_size": self.hidden},
            dtype=states.dtype,
            shape=(tokens, 2, rows, self.hidden),
            version=14,  # of the operator; unchanged up to opset 21
        )
        return found.permute(2, 0, 1, 3).flatten(2)


def reversal(mask: Tensor) -> Tensor:
    """Return the place, int64 (n, tokens), that each token has when its row is read backwards; padding stays.

    It undoes itself: applied twice, a row is as it was.
    """
    places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    mirrored = mask.sum(dim=1, keepdim=True) - 1 - places
    return torch.where(mirrored < 0, places, mirrored)


def _as_torch(gates: Tensor) -> Tensor:
    """Put the gates input, output, forget, cell into torch's order: input, forget, cell, output."""
    into, out, forget, cell = gates.chunk(4)
    return torch.cat([into, forget, cell, out])
