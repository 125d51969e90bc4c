"""A BiLSTM in the transformer's place: same width, the model's words, a row's result its own, export and int8."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tests.towers.train.structures.test_heads import TEXTS, batch
from towers import InputError, open_bundle
from towers.train.base import load_classifier, load_tower
from towers.train.bodies import body_of, layer_stack, set_body, width_of
from towers.train.exporting.assemble import tower_parts
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
from towers.train.structures.albert import AlbertRecipe, to_albert
from towers.train.structures.heads import HeadRecipe, with_head
from towers.train.structures.lstm import LstmRecipe, lstm_classifier, lstm_tower
from towers.train.write import write_bundle


@pytest.fixture(scope="module")
def lstm(tower: Any) -> Any:
    """Two layers, so that the second reads both directions of the first."""
    return lstm_tower(tower, LstmRecipe(layers=2)).eval()


@pytest.fixture(scope="module")
def graph(lstm: Any) -> onnx.ModelProto:
    return export_graph(TowerGraph(lstm), output="vectors", max_tokens=32)


def alone(graph: onnx.ModelProto, tokenizer: Any) -> Any:
    """Each text in a batch of its own, without padding."""
    return run_graph(graph, [batch(tokenizer, [text]) for text in TEXTS])


def test_it_starts_from_the_models_words(tower: Any, lstm: Any) -> None:
    """Width, dimension and words are the tower's; the tower is left alone."""
    assert width_of(lstm) == width_of(tower) == 16
    assert lstm.get_embedding_dimension() == tower.get_embedding_dimension()
    words = body_of(tower).embeddings.word_embeddings.weight
    torch.testing.assert_close(body_of(lstm).word_embeddings.weight, words)
    assert body_of(lstm).word_embeddings.weight.data_ptr() != words.data_ptr()
    assert type(body_of(tower)).__name__ == "BertModel"


def test_the_same_seed_gives_the_same_lstm(tower: Any) -> None:
    """And draws nothing from the random numbers of whoever asks for it."""
    before = torch.random.get_rng_state()
    first, second, other = (lstm_tower(tower, LstmRecipe(seed=seed)).eval() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.encode(TEXTS), second.encode(TEXTS))
    assert np.abs(first.encode(TEXTS) - other.encode(TEXTS)).max() > 0.01
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_graph_computes_what_torch_does(lstm: Any, graph: onnx.ModelProto) -> None:
    """In a padded batch and one by one: padding never reaches a row's tokens, in either direction."""
    expected = lstm.encode(TEXTS, batch_size=1)
    np.testing.assert_allclose(run_graph(graph, [batch(lstm.tokenizer, TEXTS)]), expected, atol=1e-5)
    np.testing.assert_allclose(alone(graph, lstm.tokenizer), expected, atol=1e-5)
    np.testing.assert_allclose(lstm.encode(TEXTS), expected, atol=1e-5)


def test_int8_reaches_the_lstm(lstm: Any, graph: onnx.ModelProto) -> None:
    """Both directions of both layers are quantised, the graph shrinks, and the vectors stay near."""
    small = quantize(graph, Precision())
    kinds = [node.op_type for node in small.graph.node]
    assert kinds.count("DynamicQuantizeLSTM") == 2
    assert "LSTM" not in kinds
    assert len(small.SerializeToString()) < len(graph.SerializeToString())
    assert parity(lstm.encode(TEXTS), alone(small, lstm.tokenizer))["least_cosine"] > 0.95


def test_it_becomes_a_bundle(lstm: Any, tmp_path: Path) -> None:
    parts = tower_parts(lstm, base=None, base_licence="CC0-1.0", licence="CC0-1.0", texts=TEXTS)
    write_bundle(tmp_path / "bundle", parts)
    vectors = open_bundle(tmp_path / "bundle").encode_titles(TEXTS)
    assert (vectors * lstm.encode(TEXTS)).sum(axis=1).min() > 0.95


def test_sentence_transformers_trainer_saves_and_resumes_it(checkpoint: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer import losses

    rows = Dataset.from_dict(
        {"anchor": ["red shoes", "blue coat"] * 4, "positive": ["shoes red", "coat blue"] * 4}
    )

    def trained(resume: str | None) -> Any:
        model = lstm_tower(load_tower(checkpoint, max_tokens=16), LstmRecipe())
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
        loss = losses.MultipleNegativesRankingLoss(model)
        trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=rows, loss=loss)
        trainer.train(resume_from_checkpoint=resume)
        return model.eval()

    straight = trained(None)
    resumed = trained(str(tmp_path / "checkpoint-2"))
    for name, value in straight.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value)


def test_its_state_dict_restores_it(tower: Any, lstm: Any) -> None:
    """Structure from the recipe and weights from the file are the whole model."""
    other = lstm_tower(tower, LstmRecipe(layers=2, seed=99)).eval()
    other.load_state_dict(lstm.state_dict())
    np.testing.assert_allclose(other.encode(TEXTS), lstm.encode(TEXTS), atol=1e-6)


def test_a_classifier_with_an_lstm_exports(checkpoint: Path) -> None:
    """As many classes as before, gradients everywhere, and a graph that gives torch's probabilities."""
    torch.manual_seed(4)
    model, tokenizer = load_classifier(checkpoint, num_labels=4)
    ours = lstm_classifier(model.eval(), LstmRecipe())
    assert not ours.training
    ids, mask = batch(tokenizer, TEXTS)
    ours(input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 1, 2, 3, 0])).loss.backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())
    exported = export_graph(SentimentGraph(ours, temperature=1.0), output="probabilities", max_tokens=32)
    with torch.inference_mode():
        expected = torch.softmax(ours(input_ids=ids, attention_mask=mask).logits, dim=-1).numpy()
    assert expected.shape == (len(TEXTS), 4)
    np.testing.assert_allclose(run_graph(exported, [(ids, mask)]), expected, atol=1e-5)
    np.testing.assert_allclose(alone(exported, tokenizer), expected, atol=1e-5)


def test_it_takes_a_head_and_another_body(lstm: Any) -> None:
    """`bodies` works on it as on any model."""
    headed = with_head(lstm, HeadRecipe("attention")).eval()
    np.testing.assert_allclose(headed.encode(TEXTS), lstm.encode(TEXTS), atol=1e-5)
    again = copy.deepcopy(lstm)
    set_body(again, copy.deepcopy(body_of(lstm)))
    np.testing.assert_allclose(again.encode(TEXTS), lstm.encode(TEXTS), atol=1e-6)


def test_it_has_no_layers_to_cut(lstm: Any) -> None:
    with pytest.raises(InputError, match="only BERT-like encoders with layers of their own can be cut"):
        layer_stack(lstm)


def test_what_does_not_fit_is_refused(tower: Any) -> None:
    """ALBERT's words are narrower than its hidden states; an LSTM needs at least one layer."""
    with pytest.raises(InputError, match="found word embeddings of width 8 under hidden states of width 16"):
        lstm_tower(to_albert(tower, AlbertRecipe(embedding=8)), LstmRecipe())
    with pytest.raises(InputError, match=r"found 0 layers and dropout 0\.1, expected 1 or more"):
        LstmRecipe(layers=0)
    assert checked(LstmRecipe, {"layers": 2}, where="[lstm]") == LstmRecipe(layers=2)
