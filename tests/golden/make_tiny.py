"""Makes tests/golden/tiny: a real bundle of 2 layers, 16 wide, with a vocabulary of about 200 words and characters.

Its weights are random, its form is that of any bundle: int8 matrices, 4-bit embeddings, a residual scorer, a sentiment
head whose first layer is the tower's own. It is committed, so that tests of the index and the service need no torch.

    python tests/golden/make_tiny.py          # writes it again; tests/towers/train/test_tiny.py compares
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

TINY = Path(__file__).parent / "tiny"

# Split by hand rather than listed, so that the words stay readable.
WORDS = (
    "a about after all also and any app apple are as at bank bill black blue book cable can cancel card case change "
    "charge cheap coat coffee color cotton credit date day delivery do does dress fast fee find for free from gift "
    "girl good great green hair hat have headphones home hot how i in is it jacket kids large late leather light long "
    "lost make men milk my new not of office old on online open or order parcel password pay payment phone price red "
    "refund reset return room run running sale school screen set ship shipping shirt shoes short size small soft store "
    "summer tea the to tracking usb warm watch water what when where white wireless winter with women wool work yellow "
    "you your ##s ##ing ##er ##ed ##ly ##c terrible love bad"
).split(" ")
CHARACTERS = (
    "的一是不了在有我他这中大来上个国到说们为你好吗怎么手机订单取消信用卡还款快递鞋红蓝黑白大小多少钱新旧款式"
)


def tiny_tokenizer() -> Any:
    """Return a lower-casing WordPiece tokenizer over the words, characters and letters above."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,?!'-"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters[:36])]
    pieces = list(dict.fromkeys([*pieces, *WORDS, *CHARACTERS]))
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names)


def tiny_config(vocabulary: int) -> Any:
    """Return the configuration of a BERT of 2 layers, 16 wide."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        attn_implementation="eager",
        initializer_range=0.5,  # wide, so that random weights still tell texts apart
    )


def save_checkpoint(directory: Path, *, seed: int = 7) -> Path:
    """Save the tiny BERT as a plain transformers checkpoint, the form that most checkpoints have."""
    import torch
    from transformers import BertModel

    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    BertModel(tiny_config(len(tokenizer))).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def make(out: Path) -> None:
    """Make the bundle at `out`."""
    import tempfile

    import torch

    from towers.bundle import LAYOUT
    from towers.train.base import load_classifier, load_tower
    from towers.train.exporting.export import (
        Precision,
        SentimentGraph,
        TowerGraph,
        export_graph,
        quantize,
        tokenizer_json,
    )
    from towers.train.scorer import ResidualScorer, export_scorer
    from towers.train.write import Parts, write_bundle

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = save_checkpoint(Path(folder) / "checkpoint")
        tower = load_tower(checkpoint, max_tokens=32)
        torch.manual_seed(8)
        classifier, _ = load_classifier(checkpoint)
        with (
            torch.no_grad()
        ):  # the head's second layer is its own, as after fine-tuning with one frozen layer
            for parameter in classifier.bert.encoder.layer[1].parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        scorer = ResidualScorer(16, hidden=8)
        with torch.no_grad():
            for parameter in scorer.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        scorer_graph = export_scorer(scorer, Path(folder) / LAYOUT.scorer)
    precision = Precision()
    graphs = {
        LAYOUT.encoder: quantize(export_graph(TowerGraph(tower), output="vectors", max_tokens=32), precision),
        LAYOUT.scorer: scorer_graph,
        LAYOUT.sentiment: quantize(
            export_graph(SentimentGraph(classifier, temperature=1.5), output="probabilities", max_tokens=32),
            precision,
        ),
    }
    facts = {
        "dim": 16,
        "max_tokens": 32,
        "threshold": 0.5,
        "scorer": "residual",
        "base_model": {"name": "tiny random BERT"},
        "licence": "Apache-2.0",
        "labels": (-1, 0, 1),
        "sentiment_max_tokens": 32,
    }
    parts = Parts(graphs=graphs, tokenizer=tokenizer_json(tower.tokenizer), facts=facts)
    write_bundle(out, parts, replace=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    make(TINY)
