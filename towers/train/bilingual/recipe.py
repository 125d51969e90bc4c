"""The settings of a bilingual tower."""

from __future__ import annotations

from dataclasses import dataclass, field

from towers.errors import InputError

KINDS = ("imitate", "contrast", "order")  # of lessons, see `lessons`
_LEAST = {
    "words": 0,
    "max_tokens": 3,  # [CLS], a token, [SEP]
    "train_tokens": 3,
    "steps": 1,
    "batch_texts": 2,
    "short_dim": 1,
    "english": 1,
    "chinese": 1,
    "entries": 1,
    "save_steps": 1,
}


@dataclass(frozen=True)
class BilingualRecipe:
    """How an English tower learns Chinese. Goes into the manifest as it is.

    Source: Reimers and Gurevych 2020, "Making monolingual sentence embeddings multilingual", section 2, for imitation
    through translations; the start from a dictionary is measured in docs/experiments.md.

    Attributes:
        layers: Layers of the English tower that stay.
        words: Chinese words of two characters and more in the vocabulary, at most.
        least_word: How often a word must occur in the texts.
        least_character: How often a character must occur in the texts.
        max_tokens: Longest text in tokens when it serves; the table of positions ends there.
        train_tokens: Longest text in tokens in training.
        steps: Steps of the optimiser.
        batch_texts: Texts of a step.
        learning_rate: Peak of a linear schedule.
        warmup: Share of the steps in which the rate rises.
        short_dim: So many first numbers of a vector are usable alone.
        english: At most so many English texts to imitate.
        chinese: At most so many Chinese texts to imitate.
        entries: At most so many words of the dictionary to imitate.
        shares: Of the steps, for each kind of lesson in `KINDS`, relative to each other.
        finish_steps: Steps of a last stage, in which the embeddings stay as they are and English counts more: Chinese
            lessons alone cost it 5 points of AUC on QQP (docs/experiments.md). 0 leaves it out.
        finish_rate: Peak of its schedule.
        finish_shares: Share of its steps of each kind of lesson.
        seed: Of every choice and order.
        bf16: Multiply in bfloat16, weights stay float32. Slower than float32 where the processor emulates it: measure
            first.
        save_steps: Steps between checkpoints.
    """

    layers: tuple[int, ...] = (0, 2, 5)
    words: int = 12000
    least_word: int = 20
    least_character: int = 5
    max_tokens: int = 256
    train_tokens: int = 64
    steps: int = 6000
    batch_texts: int = 128
    learning_rate: float = 3e-4
    warmup: float = 0.05
    short_dim: int = 128
    english: int = 90_000
    chinese: int = 120_000
    entries: int = 50_000
    shares: dict[str, float] = field(default_factory=lambda: {"imitate": 0.4, "contrast": 0.2, "order": 0.4})
    finish_steps: int = 1500
    finish_rate: float = 1.5e-4
    finish_shares: dict[str, float] = field(
        default_factory=lambda: {"imitate": 0.6, "contrast": 0.1, "order": 0.3}
    )
    seed: int = 13
    bf16: bool = False
    save_steps: int = 500

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        object.__setattr__(self, "layers", tuple(self.layers))  # TOML gives a list
        for shares in (self.shares, self.finish_shares):
            given = shares.values()
            if set(shares) != set(KINDS) or not all(share >= 0 for share in given) or not sum(given):
                raise InputError(
                    f"bilingual: found shares {shares}, expected {', '.join(KINDS)}, none below 0 and not all 0"
                )
        low = [name for name, least in _LEAST.items() if getattr(self, name) < least]
        if low:
            expected = ", ".join(f"{name} of {_LEAST[name]} or more" for name in low)
            raise InputError(
                f"bilingual: found {', '.join(f'{name} = {getattr(self, name)}' for name in low)}, expected {expected}"
            )
        if not min(self.learning_rate, self.finish_rate) > 0 or not 0 <= self.warmup < 1:
            raise InputError(
                f"bilingual: found learning_rate = {self.learning_rate}, finish_rate = {self.finish_rate} and warmup = "
                f"{self.warmup}, expected rates above 0 and a share from 0 to below 1"
            )
