"""Heads start where the trained model stands, see no padding, train, and survive export and int8."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.towers.train.structures.test_bilstm import LENGTHS, mask_of
from towers import InputError
from towers.train.base import load_classifier, load_tower
from towers.train.bodies import body_of, set_body
from towers.train.exporting.export import (
    Precision,
    SentimentGraph,
    TowerGraph,
    export_graph,
    parity,
    quantize,
    run_graph,
)
from towers.train.sources import checked
from towers.train.structures.heads import KINDS, HeadRecipe, with_head
from towers.train.structures.poolers import PoolerShape, make_pooler, mean_of

TEXTS = ["red shoes", "怎么取消订单", "the delivery of my large blue winter coat is late", "", "a"]
Batch = tuple[torch.Tensor, torch.Tensor]


def batch(tokenizer: Any, texts: list[str]) -> Batch:
    encoded = tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")
    return encoded["input_ids"], encoded["attention_mask"]


def shaken(model: Any) -> Any:
    """What training does to weights that start at zero: they move."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if float(parameter.abs().max()) == 0.0:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def pooler(kind: str, *, width: int = 16) -> Any:
    torch.manual_seed(3)
    return make_pooler(PoolerShape(kind, width, hidden=8, heads=2)).eval()


@pytest.fixture(scope="module")
def classifier(checkpoint: Path) -> tuple[Any, Any]:
    """A classifier of three classes on the tiny BERT, with its tokenizer."""
    torch.manual_seed(4)
    model, tokenizer = load_classifier(checkpoint)
    return model.eval(), tokenizer


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(lengths=LENGTHS, more=st.integers(1, 4))
def test_padding_changes_nothing(kind: str, lengths: list[int], more: int) -> None:
    """A row's vector is the same alone, in a batch, and whatever stands in its padding."""
    head = shaken(pooler(kind))
    mask = mask_of(lengths, more=more)
    states = torch.randn(*mask.shape, 16)
    together = head(torch.where(mask[:, :, None] == 1, states, 1e3), mask)
    for row, length in enumerate(lengths):
        alone = head(states[row : row + 1, :length], torch.ones(1, length, dtype=torch.int64))
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["mean", "attention", "rcnn", "layer"])
def test_a_head_starts_as_mean_pooling(kind: str) -> None:
    """What a model trained with mean pooling knows is there before any training."""
    mask = mask_of([3, 7, 1])
    states = torch.randn(3, 7, 16)
    torch.testing.assert_close(pooler(kind)(states, mask), mean_of(states, mask))


@pytest.mark.parametrize("kind", ["attention", "rcnn", "layer"])
def test_what_starts_at_zero_can_leave_it(kind: str) -> None:
    """A zero in the right place still gets a gradient; after two steps everything in the head has one."""
    head = pooler(kind)
    steps = torch.optim.SGD(head.parameters(), lr=0.1)
    mask, states, goal = mask_of([3, 7, 2]), torch.randn(3, 7, 16), torch.randn(3, 16)
    for _ in range(2):
        steps.zero_grad()
        (head(states, mask) - goal).square().sum().backward()
        steps.step()
    idle = [name for name, value in head.named_parameters() if not value.grad.abs().sum() > 0]
    # a softmax does not see the shift that a key's bias gives to all its logits
    assert [name for name in idle if not name.endswith("key.bias")] == []


def test_attention_by_hand() -> None:
    """softmax(v · tanh(W h)) as written down: two tokens, one of them twice as heavy."""
    head = make_pooler(PoolerShape("attention", width=1, hidden=1))
    with torch.no_grad():
        head.project.weight.fill_(1.0)
        head.project.bias.zero_()
        head.weigh.weight.fill_(float(np.log(2.0) / np.tanh(1.0)))
    states = torch.tensor([[[0.0], [1.0], [9.0]]])
    found = head(states, torch.tensor([[1, 1, 0]]))
    assert found.item() == pytest.approx(2.0 / 3.0)


@pytest.mark.parametrize(
    "kind", ["attention", "rcnn", "layer"]
)  # mean and CLS are in one or the other already
def test_a_tower_with_a_head_exports(tower: Any, kind: str) -> None:
    """The graph computes what torch does at any number of rows and tokens, and int8 stays near."""
    ours = with_head(tower, HeadRecipe(kind)).eval()
    shaken(ours[1])
    expected = ours.encode(TEXTS)
    graph = export_graph(TowerGraph(ours), output="vectors", max_tokens=32)
    rows = [
        batch(tower.tokenizer, TEXTS[:3]),
        batch(tower.tokenizer, TEXTS[3:4]),
        batch(tower.tokenizer, TEXTS[4:]),
    ]
    np.testing.assert_allclose(run_graph(graph, rows), expected, atol=1e-5)
    small = quantize(graph, Precision())
    assert parity(expected, run_graph(small, rows))["least_cosine"] > 0.95
    assert len(small.SerializeToString()) < len(graph.SerializeToString())


@pytest.mark.parametrize("kind", ["mean", "attention", "rcnn", "layer"])
def test_a_tower_keeps_its_vectors_at_the_start(tower: Any, kind: str) -> None:
    """The given tower is left alone, and the new one gives the same vectors until it is trained."""
    before = tower.encode(TEXTS)
    ours = with_head(tower, HeadRecipe(kind))
    np.testing.assert_allclose(ours.encode(TEXTS), before, atol=1e-5)
    assert ours.get_embedding_dimension() == tower.get_embedding_dimension()
    assert body_of(ours) is not body_of(tower)
    assert type(tower[1]).__name__ == "Pooling"


def test_cls_is_the_first_token(tower: Any) -> None:
    ours = with_head(tower, HeadRecipe("cls"))
    ids, mask = batch(tower.tokenizer, TEXTS)
    with torch.inference_mode():
        first = body_of(tower)(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
    np.testing.assert_allclose(ours.encode(TEXTS), torch.nn.functional.normalize(first).numpy(), atol=1e-5)


def test_a_head_can_be_replaced_again(tower: Any) -> None:
    twice = with_head(with_head(tower, HeadRecipe("rcnn")), HeadRecipe("mean"))
    np.testing.assert_allclose(twice.encode(TEXTS), tower.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("kind", ["cls", "rcnn"])
def test_a_classifier_with_a_head_exports(classifier: tuple[Any, Any], kind: str) -> None:
    """Probabilities from the graph are torch's; the number of classes stays."""
    model, tokenizer = classifier
    ours = with_head(model, HeadRecipe(kind)).eval()
    shaken(ours.pooler)
    ids, mask = batch(tokenizer, TEXTS)
    with torch.inference_mode():
        expected = torch.softmax(ours(input_ids=ids, attention_mask=mask).logits, dim=-1).numpy()
    graph = export_graph(SentimentGraph(ours, temperature=1.0), output="probabilities", max_tokens=32)
    found = run_graph(graph, [(ids, mask)])
    assert found.shape == (len(TEXTS), 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(run_graph(graph, [batch(tokenizer, TEXTS[:1])]), expected[:1], atol=1e-5)
    small = run_graph(quantize(graph, Precision(embedding="int8")), [(ids, mask)])
    assert np.abs(small - expected).mean() < 0.05  # 16 wide, int8 is coarse


def test_cls_leaves_a_bert_classifier_as_it_is(classifier: tuple[Any, Any]) -> None:
    """BERT's own head is CLS, dense, tanh, classifier: with the same weights it gives the same logits."""
    model, tokenizer = classifier
    ours = with_head(model, HeadRecipe("cls"))
    ids, mask = batch(tokenizer, TEXTS)
    with torch.inference_mode():
        found, expected = (m(input_ids=ids, attention_mask=mask).logits for m in (ours, model))
    torch.testing.assert_close(found, expected)
    assert body_of(model).pooler is not None  # the given model has lost nothing


def test_a_classifier_can_get_another_body(classifier: tuple[Any, Any]) -> None:
    """`bodies` finds and replaces the transformer inside ours."""
    model, _ = classifier
    ours = with_head(model, HeadRecipe("attention"))
    other = copy.deepcopy(body_of(ours))
    set_body(ours, other)
    assert body_of(ours) is other


def test_transformers_trainer_takes_it(classifier: tuple[Any, Any], tmp_path: Path) -> None:
    """The classifier trains in transformers' Trainer and goes on from a checkpoint of that run."""
    from datasets import Dataset
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    model, tokenizer = classifier
    rows = Dataset.from_dict({**tokenizer(TEXTS * 4), "labels": [0, 1, 2, 0, 1] * 4})

    def trained(resume: str | None) -> Any:
        ours = with_head(model, HeadRecipe("attention"))
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            max_steps=4,
            per_device_train_batch_size=4,
            save_steps=2,
            report_to="none",
            use_cpu=True,
            dataloader_pin_memory=False,
            disable_tqdm=True,
        )
        collate = DataCollatorWithPadding(tokenizer)
        trainer = Trainer(
            ours, arguments, train_dataset=rows, data_collator=collate, processing_class=tokenizer
        )
        trainer.train(resume_from_checkpoint=resume)
        return ours

    straight = trained(None)
    assert straight.pooler.weigh.weight.abs().max() > 0
    resumed = trained(str(tmp_path / "checkpoint-2"))
    for name, value in straight.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value)


def test_the_loss_is_transformers_own(classifier: tuple[Any, Any]) -> None:
    model, tokenizer = classifier
    ours = with_head(model, HeadRecipe("mean")).eval()
    ids, mask = batch(tokenizer, TEXTS)
    labels = torch.tensor([0, 1, 2, 0, 1])
    answer = ours(input_ids=ids, attention_mask=mask, labels=labels)
    torch.testing.assert_close(answer.loss, torch.nn.functional.cross_entropy(answer.logits, labels))


@pytest.mark.parametrize("kind", ["attention", "rcnn", "layer"])
def test_sentence_transformers_trainer_takes_it(checkpoint: Path, tmp_path: Path, kind: str) -> None:
    """A tower with a head trains in sentence-transformers' trainer and goes on from a checkpoint of that run."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer import losses

    rows = Dataset.from_dict(
        {"anchor": ["red shoes", "blue coat"] * 4, "positive": ["shoes red", "coat blue"] * 4}
    )

    def trained(resume: str | None) -> Any:
        ours = with_head(load_tower(checkpoint, max_tokens=16), HeadRecipe(kind))
        arguments = SentenceTransformerTrainingArguments(
            output_dir=str(tmp_path),
            max_steps=4,
            per_device_train_batch_size=2,
            save_steps=2,
            report_to="none",
            use_cpu=True,
            dataloader_pin_memory=False,
            disable_tqdm=True,
        )
        loss = losses.MultipleNegativesRankingLoss(ours)
        trainer = SentenceTransformerTrainer(model=ours, args=arguments, train_dataset=rows, loss=loss)
        trainer.train(resume_from_checkpoint=resume)
        return ours

    straight = trained(None)
    resumed = trained(str(tmp_path / "checkpoint-2"))
    for name, value in straight.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value)


def test_a_recipe_is_checked() -> None:
    with pytest.raises(InputError, match="found a head of kind 'max', expected one of mean, cls"):
        HeadRecipe("max")
    with pytest.raises(InputError, match="expected 0 or more"):
        HeadRecipe("attention", hidden=-1)
    assert checked(HeadRecipe, {"kind": "rcnn", "hidden": 8}, where="[head]") == HeadRecipe("rcnn", hidden=8)


def test_a_tower_with_a_wider_pooling_is_refused(tower: Any) -> None:
    """Two poolings side by side are twice as wide as a head; what comes after would not fit."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    wide = copy.deepcopy(tower)
    wide[1] = Pooling(16, pooling_mode=("mean", "max"))
    with pytest.raises(
        InputError, match=r"found Pooling of width 32 behind the transformer, expected .* width 16"
    ):
        with_head(wide, HeadRecipe("mean"))
