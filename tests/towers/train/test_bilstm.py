"""The export-safe BiLSTM is torch's own on packed sequences: padding changes nothing, both directions are right."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from towers.train.bilstm import BiLstm, reversal

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def mask_of(lengths: list[int], *, more: int = 0) -> torch.Tensor:
    places = torch.arange(max(lengths) + more)
    return (places < torch.tensor(lengths)[:, None]).long()


def twin(ours: BiLstm) -> nn.LSTM:
    """Torch's bidirectional LSTM with the same weights."""
    both = nn.LSTM(ours.forwards.input_size, ours.forwards.hidden_size, batch_first=True, bidirectional=True)
    there = dict(ours.forwards.named_parameters())
    back = {f"{name}_reverse": value for name, value in ours.backwards.named_parameters()}
    both.load_state_dict({name: value.detach() for name, value in {**there, **back}.items()})
    return both


@settings(max_examples=40)
@given(lengths=LENGTHS, more=st.integers(0, 3))
def test_it_is_torchs_lstm_on_packed_rows(lengths: list[int], more: int) -> None:
    """The twin: a bidirectional nn.LSTM on packed sequences, which cannot be exported."""
    torch.manual_seed(len(lengths))
    ours = BiLstm(6, 5)
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
    lstm = BiLstm(4, 3).backwards
    assert lstm.bias_ih_l0[3:6].tolist() == [1.0, 1.0, 1.0]
    assert lstm.bias_hh_l0[3:6].tolist() == [0.0, 0.0, 0.0]
