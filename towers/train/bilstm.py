"""A bidirectional LSTM over padded rows that survives the export: what stands behind a row changes nothing in it.

Packed sequences, torch's own answer to padding, do not export. So each direction is an LSTM of its own that reads from
the row's first token on: the second reads the row reversed up to its length, and its outputs are put back into order.
Padding then comes after everything that counts, where an LSTM cannot see it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BiLstm(nn.Module):
    """One bidirectional LSTM layer (Hochreiter & Schmidhuber 1997; Schuster & Paliwal 1997).

    Args:
        inputs: Width of the vectors that it reads.
        hidden: Width of each direction; it gives vectors of twice that width.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.forwards = nn.LSTM(inputs, hidden, batch_first=True)
        self.backwards = nn.LSTM(inputs, hidden, batch_first=True)
        for lstm in (self.forwards, self.backwards):
            _remember(lstm)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Read rows both ways.

        Args:
            states: float32 (n, tokens, inputs), padded on the right.
            mask: int64 (n, tokens), 1 for tokens, 0 for padding.

        Returns:
            float32 (n, tokens, 2 * hidden). What it holds at padding is of no meaning.
        """
        order = reversal(mask).unsqueeze(-1)
        there, _ = self.forwards(states)
        back, _ = self.backwards(states.gather(1, order.expand(-1, -1, states.shape[-1])))
        return torch.cat([there, back.gather(1, order.expand(-1, -1, back.shape[-1]))], dim=-1)


def reversal(mask: Tensor) -> Tensor:
    """Return the place, int64 (n, tokens), that each token has when its row is read backwards; padding stays.

    It undoes itself: applied twice, a row is as it was.
    """
    places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    mirrored = mask.sum(dim=1, keepdim=True) - 1 - places
    return torch.where(mirrored < 0, places, mirrored)


@torch.no_grad()
def _remember(lstm: nn.LSTM) -> None:
    """Open the forget gate at the start, so that gradients reach far tokens (Jozefowicz et al. 2015, section 2.3)."""
    hidden = lstm.hidden_size
    forget = slice(hidden, 2 * hidden)  # torch keeps the gates in the order input, forget, cell, output
    lstm.get_parameter("bias_ih_l0")[forget] = 1.0
    lstm.get_parameter("bias_hh_l0")[forget] = 0.0
