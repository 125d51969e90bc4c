"""Where a bilingual tower starts: some layers of an English one, and Chinese words that look like their translations.

A new word's embedding is the mean of its translation's word pieces. So a Chinese sentence first looks like its
translation word by word, and the English layers above make some sense of it before any training.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towers.train.bilingual.dictionary import Entry
from towers.train.bilingual.vocabulary import SPECIAL, Vocabulary, tokenizer_with
from towers.train.bodies import body_of
from towers.train.structures.cut import cut

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_GLOSSES = 3  # translations that a word starts from: later ones are rarer meanings
# Words of a translation that say nothing of what is translated, unless they are all there is.
_FILLERS = frozenset(
    "a an the to of be is in on at for with and or by from as sb somebody something one's it".split()  # noqa: SIM905
)


def bilingual_student(
    teacher: SentenceTransformer,
    vocabulary: Vocabulary,
    dictionary: Sequence[Entry],
    *,
    layers: Sequence[int],
    max_tokens: int,
    rotation: NDArray[np.float32] | None = None,
) -> SentenceTransformer:
    """Make an untrained bilingual tower in the teacher's space, turned by a rotation if one is given.

    Args:
        teacher: An English tower on a BERT: transformer, mean pooling, unit length. It is not changed.
        vocabulary: The tokens of the student.
        dictionary: Translations that new words start from.
        layers: Which of the teacher's layers the student has.
        max_tokens: Longest text in tokens, at most what the teacher has positions for; their table is cut there.
        rotation: (dim, dim) orthogonal: the student's vectors approach the teacher's times this, so that their first
            numbers hold most of it. None: the student has the teacher's modules, and no more.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    tokenizer = _transformers_tokenizer(
        tokenizer_with(vocabulary, teacher.tokenizer.backend_tokenizer.to_str())
    )
    student = deepcopy(teacher)
    cut(student, tuple(layers))
    body = body_of(student)
    table = start_embeddings(
        vocabulary,
        dictionary,
        old=body.get_input_embeddings().weight.detach().numpy(),
        old_ids=teacher.tokenizer.get_vocab(),
        pieces_of=lambda text: teacher.tokenizer(text, add_special_tokens=False)["input_ids"],
    )
    body.set_input_embeddings(_embedding(torch.from_numpy(table), padding_idx=0))
    body.config.vocab_size = len(table)
    body.config.pad_token_id = 0
    max_tokens = min(max_tokens, body.config.max_position_embeddings)
    _cut_positions(body, max_tokens)
    transformer: Any = student[0]
    transformer.processor = tokenizer
    if rotation is None:
        student.max_seq_length = max_tokens
        return student
    dim = rotation.shape[0]
    turn = Dense(in_features=dim, out_features=dim, bias=False, activation_function=nn.Identity())
    turn.linear.weight.data = torch.from_numpy(np.ascontiguousarray(rotation.T))
    kept = [module for module in student if not isinstance(module, Normalize)]
    made = SentenceTransformer(modules=[*kept, turn, Normalize()], device="cpu")
    made.max_seq_length = max_tokens
    return made


def start_embeddings(
    vocabulary: Vocabulary,
    dictionary: Sequence[Entry],
    *,
    old: NDArray[np.float32],
    old_ids: Mapping[str, int],
    pieces_of: Callable[[str], Sequence[int]],
) -> NDArray[np.float32]:
    """Return the embeddings (tokens, width) that a bilingual tower starts from.

    Pieces keep theirs. A Chinese word takes the mean of its translation's pieces, stretched to the usual length of a
    piece; without a translation the mean of its characters, and a character without one the mean of all that have one.

    Args:
        vocabulary: The tokens.
        dictionary: Translations.
        old: (old tokens, width) embeddings of the English tower.
        old_ids: Its tokens.
        pieces_of: English text -> ids of its pieces.
    """
    glosses = {entry.traditional: entry.glosses for entry in dictionary}
    glosses |= {
        entry.simplified: entry.glosses for entry in dictionary
    }  # 么 is itself before it is another's old form
    pieces = old[[old_ids[piece] for piece in vocabulary.pieces if piece not in SPECIAL]]
    length = float(np.linalg.norm(pieces, axis=1).mean())
    found: dict[str, NDArray[np.float32]] = {}
    for word in (*vocabulary.characters, *vocabulary.words):
        numbers = [number for gloss in translation(glosses.get(word, ())) for number in pieces_of(gloss)]
        if numbers:
            found[word] = old[numbers].mean(axis=0)
    translated = [found[letter] for letter in vocabulary.characters if letter in found]
    mean: NDArray[np.float32] = np.mean(translated or [old.mean(axis=0)], axis=0)
    for letter in vocabulary.characters:
        found.setdefault(letter, mean)
    for word in vocabulary.words:
        if word not in found:
            found[word] = np.mean([found.get(letter, mean) for letter in word], axis=0)
    table = [old[old_ids[piece]] for piece in vocabulary.pieces]
    table += [_stretched(found[word], length) for word in (*vocabulary.characters, *vocabulary.words)]
    return np.asarray(table, np.float32)


def translation(glosses: Sequence[str]) -> list[str]:
    """Return the first translations without filling words: ["to lose", "to be lost"] becomes ["lose", "lost"]."""
    short = []
    for gloss in glosses[:_GLOSSES]:
        words = [word for word in re.findall(r"[\w'-]+", gloss) if word.lower() not in _FILLERS]
        short.append(" ".join(words) or gloss)
    return short


def principal_rotation(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return the rotation (dim, dim) to principal axes, the strongest first, without moving the origin.

    Vectors (n, dim) times it have the same cosines, and their first numbers hold as much of them as any as many can.
    """
    exact = np.asarray(vectors, np.float64)
    _, axes = np.linalg.eigh(exact.T @ exact)
    return np.ascontiguousarray(axes[:, ::-1], np.float32)


def _stretched(vector: NDArray[np.float32], length: float) -> NDArray[np.float32]:
    return vector * (length / max(float(np.linalg.norm(vector)), 1e-6))


def _embedding(table: Tensor, *, padding_idx: int | None = None) -> nn.Embedding:
    made: nn.Embedding = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
        table, freeze=False, padding_idx=padding_idx
    )
    return made


def _cut_positions(body: Any, max_tokens: int) -> None:
    embeddings = body.embeddings
    kept = embeddings.position_embeddings.weight.detach()[:max_tokens].clone()
    embeddings.position_embeddings = _embedding(kept)
    for name in ("position_ids", "token_type_ids"):
        if hasattr(embeddings, name):
            embeddings.register_buffer(
                name, getattr(embeddings, name)[:, :max_tokens].clone(), persistent=False
            )
    body.config.max_position_embeddings = max_tokens


def _transformers_tokenizer(content: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(content, encoding="utf-8")
        pad, unknown, first, last, mask = SPECIAL
        return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_file=str(path),
            pad_token=pad,
            unk_token=unknown,
            cls_token=first,
            sep_token=last,
            mask_token=mask,
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        )
