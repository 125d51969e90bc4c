"""The BiLSTM that a bilingual tower has to beat: characters, trained from nothing on the same labels.

Its seed and the shares of its lessons are the towers'.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towers.tokens import Ids, batches_by_length, pad
from towers.train.bilingual.lessons import KINDS, Lesson, LessonPlan
from towers.train.bilingual.losses import contrast_loss, order_loss
from towers.train.structures.bilstm import BiLstm

EMBEDDING = 300  # as in word2vec and the BiLSTMs that began with it
PAIRS = 64  # of a step; as many as the towers'
RATE = 1e-3  # Adam's default
DROPOUT = 0.1  # as in the towers
LEAST_CHARACTER = 2
MOST_CHARACTERS = 128  # of a text; queries and titles are shorter
ANSWER_CHARACTERS = 16_384  # padded characters of a batch when it serves; guess, untested

Vectors = NDArray[np.float32]


class CharacterTower(nn.Module):
    """Embeddings of characters, a BiLSTM, and the mean over a text's characters, of length 1.

    Args:
        characters: Those it knows; all others are one. Ids begin at 2: 0 is padding, 1 any other character.
        width: Of the vectors; each direction has half of it.
    """

    def __init__(self, characters: str, *, width: int) -> None:
        super().__init__()
        self._place = {character: place for place, character in enumerate(characters, start=2)}
        self.embedding = nn.Embedding(len(characters) + 2, EMBEDDING, padding_idx=0)
        self.dropout = nn.Dropout(DROPOUT)
        self.lstm = BiLstm(EMBEDDING, width // 2)

    def ids(self, texts: Sequence[str]) -> list[Ids]:
        """The characters' numbers of each text, int64 (length,), at least one."""
        cut_texts = (text.lower()[:MOST_CHARACTERS] or " " for text in texts)
        return [np.array([self._place.get(letter, 1) for letter in text], np.int64) for text in cut_texts]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Vectors (n, width) of rows (n, characters) padded on the right."""
        states = self.lstm(self.dropout(self.embedding(input_ids)), attention_mask)
        sums = (states * attention_mask.unsqueeze(-1)).sum(dim=1)
        return nn.functional.normalize(sums, dim=-1)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors (n, width) of texts."""
        self.eval()
        rows = self.ids(texts)
        vectors = np.empty((len(rows), 2 * self.lstm.hidden), np.float32)
        with torch.inference_mode():
            for batch in batches_by_length(rows, tokens=ANSWER_CHARACTERS):
                input_ids, mask = map(torch.from_numpy, pad([rows[i] for i in batch]))
                vectors[batch] = self(input_ids, mask).numpy()
        return vectors


def made_bilstm(
    lessons: Sequence[Lesson], options: argparse.Namespace, *, width: int, seed: int
) -> CharacterTower | None:
    """The BiLSTM of these lessons, from the folder if it is there; None where there is nothing to learn."""
    if not lessons:
        return None
    counts = Counter(letter for x in lessons for item in x.texts for text in item for letter in text.lower())
    characters = "".join(sorted(letter for letter, count in counts.items() if count >= LEAST_CHARACTER))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tower = CharacterTower(characters, width=width)
        path = options.work / f"bilstm-{_key(lessons, options.bilstm_steps, width, seed)}.pt"
        if path.is_file():
            tower.load_state_dict(torch.load(path, weights_only=True))
            return tower
        teach(tower, lessons, steps=options.bilstm_steps, seed=seed)
    options.work.mkdir(parents=True, exist_ok=True)
    torch.save(tower.state_dict(), path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
    return tower


def _key(lessons: Sequence[Lesson], *settings: int) -> str:
    """What stands for everything that makes a BiLSTM, in 16 digits."""
    constants = (EMBEDDING, PAIRS, RATE, DROPOUT, LEAST_CHARACTER, MOST_CHARACTERS)
    digest = hashlib.sha256(json.dumps([settings, constants]).encode())
    for x in lessons:
        labels = None if x.targets is None else [float(label) for label in x.targets]
        digest.update(json.dumps([x.name, x.kind, x.share, x.texts, labels]).encode())
    return digest.hexdigest()[:16]


def teach(tower: CharacterTower, lessons: Sequence[Lesson], *, steps: int, seed: int) -> None:
    """Train a tower in place: Adam, a rate that falls to 0 in a line."""
    ids = [list(zip(*map(tower.ids, zip(*x.texts, strict=True)), strict=True)) for x in lessons]
    plan = LessonPlan(lessons, ids, steps=steps, batch_texts=2 * PAIRS, seed=seed)
    optimizer = torch.optim.Adam(tower.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    tower.train()
    for step in range(steps):
        loss = loss_of(tower, plan[step])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if (step + 1) % 200 == 0:
            print(f"BiLSTM: step {step + 1} of {steps}", file=sys.stderr, flush=True)


def loss_of(tower: CharacterTower, batch: Mapping[str, Tensor]) -> Tensor:
    """The loss of one batch of `LessonPlan`."""
    vectors = tower(batch["input_ids"], batch["attention_mask"])
    queries, *others = vectors.split(int(batch["items"]))
    if KINDS[int(batch["kind"])] == "contrast":
        return contrast_loss(queries, *others)
    return order_loss((queries * others[0]).sum(dim=-1), batch["targets"])
