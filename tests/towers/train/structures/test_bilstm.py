"""The export-safe BiLSTM is torch's own on packed sequences: padding changes nothing, both directions are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from towers.train.exporting.export import export_graph, run_graph
from towers.train.structures.bilstm import BiLstm, reversal

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def mask_of(lengths: list[int], *, more: int = 0) -> torch.Tensor:
    places = torch.arange(max(lengths) + more)
    return (places < torch.tensor(lengths)[:, None]).long()


def twin(ours: BiLstm) -> nn.LSTM:
    """Torch's bidirectional LSTM with the same weights, whose gates come in another order."""

    def reordered(gates: torch.Tensor) -> torch.Tensor:
        into, out, forget, cell = gates.chunk(4)
        return torch.cat([into, forget, cell, out]).detach()

    both = nn.LSTM(ours.from_inputs.shape[2], ours.hidden, batch_first=True, bidirectional=True)
    state = {}
    for direction, suffix in enumerate(("", "_reverse")):
        beside_inputs, beside_states = ours.bias[direction].chunk(2)
        state[f"weight_ih_l0{suffix}"] = reordered(ours.from_inputs[direction])
        state[f"weight_hh_l0{suffix}"] = reordered(ours.from_states[direction])
        state[f"bias_ih_l0{suffix}"] = reordered(beside_inputs)
        state[f"bias_hh_l0{suffix}"] = reordered(beside_states)
    both.load_state_dict(state)
    return both


@settings(max_examples=40)
@given(lengths=LENGTHS, more=st.integers(0, 3))
def test_it_is_torchs_lstm_on_packed_rows(lengths: list[int], more: int) -> None:
    """The twin: a bidirectional nn.LSTM on packed sequences, which cannot be exported."""
    torch.manual_seed(len(lengths))
    ours = BiLstm(6, 5)
    nn.init.normal_(ours.bias)
    mask = mask_of(lengths, more=more)
    states = torch.randn(*mask.shape, 6)
    packed = pack_padded_sequence(states, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(twin(ours)(packed)[0], batch_first=True)
    found = ours(states, mask)[:, : max(lengths)] * mask[:, : max(lengths), None]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@given(lengths=LENGTHS, more=st.integers(0, 3))
def test_reversal_undoes_itself(lengths: list[int], more: int) -> None:
    mask = mask_of(lengths, more=more)
    places = torch.arange(mask.shape[1]).expand_as(mask)
    order = reversal(mask)
    assert torch.equal(order.gather(1, order), places)
    for row, length in zip(order.tolist(), lengths, strict=True):
        assert row[:length] == list(range(length))[::-1]


def test_the_forget_gate_starts_open() -> None:
    """An LSTM that forgets at once learns nothing from far tokens."""
    both = dict(twin(BiLstm(4, 3)).named_parameters())
    for suffix in ("", "_reverse"):
        assert both[f"bias_ih_l0{suffix}"].tolist() == [0.0] * 3 + [1.0] * 3 + [0.0] * 6
        assert both[f"bias_hh_l0{suffix}"].tolist() == [0.0] * 12


class Reader(nn.Module):
    """The sum of a BiLSTM's outputs over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm = nn.Embedding(9, 6), BiLstm(6, 4)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.lstm(self.words(input_ids), attention_mask)
        return (states * attention_mask[:, :, None]).sum(dim=1)


def test_it_exports_again_and_again() -> None:
    """The second graph of a process takes any number of rows and tokens as the first does."""
    reader = Reader()
    for _ in range(2):
        graph = export_graph(reader, output="vectors", max_tokens=16)
        for lengths in ([1], [2, 2, 2], [3, 11, 7, 1]):
            mask = mask_of(lengths)
            ids = torch.randint(0, 9, mask.shape)
            expected = reader(ids, mask).detach()
            np.testing.assert_allclose(run_graph(graph, [(ids, mask)]), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_trains_in_mixed_precision(dtype: torch.dtype) -> None:
    """Under autocast as without, every weight gets a gradient, and the outcome is near."""
    reader = Reader()
    ids, mask = torch.randint(0, 9, (3, 7)), mask_of([7, 3, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = reader(ids, mask)
    found.float().square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in reader.parameters())
    torch.testing.assert_close(found.float(), reader(ids, mask), atol=0.1, rtol=0.1)
