"""The command `dualtower extend`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from towers.errors import InputError
from towers.train.base import DEFAULT_BASE, load_tower, save_tower
from towers.train.bilingual.dictionary import packaged_dictionary, read_dictionary
from towers.train.bilingual.recipe import BilingualRecipe
from towers.train.bilingual.student import bilingual_student
from towers.train.bilingual.vocabulary import chosen_vocabulary
from towers.train.bodies import body_of
from towers.train.short_texts import read_short_texts

_DEFAULTS = BilingualRecipe()


def extend_command(
    texts: Annotated[
        list[Path],
        typer.Argument(
            help="Chinese texts that say which words are frequent: tables with query, title or text, or txt."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory of the checkpoint to make.")],
    base: Annotated[
        str | None,
        typer.Option(
            "--base", help=f"English tower: checkpoint directory or hub name; default: {DEFAULT_BASE}."
        ),
    ] = None,
    words: Annotated[
        int, typer.Option(min=0, help="Words of two characters and more to add, at most.")
    ] = _DEFAULTS.words,
    least_word: Annotated[
        int, typer.Option(min=1, help="How often a word must occur in the texts.")
    ] = _DEFAULTS.least_word,
    least_character: Annotated[
        int, typer.Option(min=1, help="How often a character must occur in the texts.")
    ] = _DEFAULTS.least_character,
    max_tokens: Annotated[
        int, typer.Option(min=3, help="Longest text in tokens; the table of positions ends there.")
    ] = _DEFAULTS.max_tokens,
) -> None:
    """Give an English tower Chinese words that start from their translations; train or distil it afterwards."""
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise InputError(f"{out} exists already. Choose another directory.")
    tower = load_tower(base)
    dictionary = read_dictionary(packaged_dictionary())
    vocabulary = chosen_vocabulary(
        read_short_texts(texts),
        dictionary,
        tower.tokenizer.get_vocab(),
        words=words,
        least_word=least_word,
        least_character=least_character,
    )
    if not vocabulary.characters:
        raise InputError(
            f"found no Chinese character {least_character} times in {', '.join(map(str, texts))}, expected Chinese "
            "texts. Give more of them, or lower --least-character."
        )
    layers = range(body_of(tower).config.num_hidden_layers)
    made = bilingual_student(tower, vocabulary, dictionary, layers=layers, max_tokens=max_tokens)
    save_tower(made, out)
    print(json.dumps(_summary(out, vocabulary.pieces, vocabulary.characters, vocabulary.words)))


def _summary(out: Path, *tokens: Any) -> dict[str, Any]:
    return {"checkpoint": str(out)} | dict(
        zip(("pieces", "characters", "words"), map(len, tokens), strict=True)
    )
