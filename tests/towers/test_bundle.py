"""A bundle is opened whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from towers import Bundle, BundleError, InputError, open_bundle
from towers.bundle import LAYOUT, Manifest


def test_encodes_scores_and_classifies(tiny_bundle: Bundle) -> None:
    """The five things a bundle does have the promised shapes, types and ranges."""
    queries = tiny_bundle.encode_queries(["red shoes", "怎么取消订单"])
    titles = tiny_bundle.encode_titles(["red running shoes", "blue coat", ""])
    scores = tiny_bundle.score(queries[0], titles)
    feelings = tiny_bundle.sentiment(["good", "terrible", "还款"])

    assert queries.shape == (2, 16)
    assert titles.shape == (3, 16)
    assert scores.shape == (3,)
    assert {array.dtype for array in (queries, titles, scores, feelings)} == {np.dtype("float32")}
    np.testing.assert_allclose(np.linalg.norm(titles, axis=1), 1.0, atol=1e-5)
    assert ((scores >= 0) & (scores <= 1)).all()
    np.testing.assert_allclose(feelings.sum(axis=1), 1.0, atol=1e-5)
    assert tiny_bundle.labels == (-1, 0, 1)


def test_nothing_in_nothing_out(tiny_bundle: Bundle) -> None:
    """Empty lists give empty arrays of the right width."""
    assert tiny_bundle.encode_queries([]).shape == (0, 16)
    assert tiny_bundle.encode_titles([]).shape == (0, 16)
    assert tiny_bundle.sentiment([]).shape == (0, 3)
    assert tiny_bundle.score(np.zeros(16, np.float32), np.zeros((0, 16), np.float32)).shape == (0,)


def test_missing_directory_is_named() -> None:
    with pytest.raises(BundleError, match=r"no/such/place is no bundle: it has no manifest\.json"):
        open_bundle("no/such/place")


@pytest.mark.parametrize(
    "name", [LAYOUT.tokenizer, LAYOUT.encoder, LAYOUT.scorer, LAYOUT.sentiment, LAYOUT.weights]
)
def test_a_changed_byte_is_found(tiny_copy: Path, name: str) -> None:
    """A bundle with one flipped bit in any file is refused, and the file is named."""
    path = tiny_copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(BundleError, match=f"{name} has SHA-256 .* the manifest says"):
        open_bundle(tiny_copy)


@pytest.mark.parametrize("name", [LAYOUT.encoder, LAYOUT.weights])
def test_truncation_is_found_even_without_hashes(tiny_copy: Path, name: str) -> None:
    path = tiny_copy / name
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(BundleError, match=f"{name} has .* bytes, the manifest says"):
        open_bundle(tiny_copy, verify=False)


def test_a_missing_file_is_named(tiny_copy: Path) -> None:
    (tiny_copy / LAYOUT.weights).unlink()

    with pytest.raises(BundleError, match=r"weights\.bin is missing, though the manifest names it"):
        open_bundle(tiny_copy)


def test_an_edited_manifest_is_refused(tiny_copy: Path) -> None:
    """A threshold changed by hand changes the content, so the id no longer stands for it."""
    path = tiny_copy / LAYOUT.manifest
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"threshold": 0.9}))

    with pytest.raises(BundleError, match=r"names bundle_id .* its content has"):
        open_bundle(tiny_copy)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "no JSON object"),
        ("[]", "no JSON object"),
        ('{"format": 99}', "has format 99, this version reads 1"),
    ],
)
def test_an_unreadable_manifest_says_why(tiny_copy: Path, text: str, complaint: str) -> None:
    (tiny_copy / LAYOUT.manifest).write_text(text)

    with pytest.raises(BundleError, match=complaint):
        open_bundle(tiny_copy)


def test_unknown_fields_are_refused(tiny_copy: Path) -> None:
    path = tiny_copy / LAYOUT.manifest
    path.write_text(json.dumps(json.loads(path.read_text()) | {"extra": 1}))

    with pytest.raises(BundleError, match=r"other fields than this version's: extra"):
        open_bundle(tiny_copy)


def test_manifest_survives_a_round_trip(tiny_bundle_path: Path) -> None:
    """What is read is what was written, to the byte."""
    assert Manifest.read(tiny_bundle_path).to_json() == (tiny_bundle_path / LAYOUT.manifest).read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("text", [3, None, b"bytes"])
def test_texts_must_be_text(tiny_bundle: Bundle, text: object) -> None:
    with pytest.raises(InputError, match=r"text 1 is .*, expected str"):
        tiny_bundle.encode_queries(["fine", text])  # type: ignore[list-item]


def test_half_a_surrogate_pair_is_refused(tiny_bundle: Bundle) -> None:
    """Broken decoding upstream shows as a lone surrogate; the message says where it is."""
    with pytest.raises(InputError, match=r"text 0 holds '\\ud83d' at character 2"):
        tiny_bundle.encode_titles(["ab\ud83d"])


def test_scorer_names_the_shapes(tiny_bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"query vector of shape \(3,\) .* expected \(16,\) and \(n, 16\)"):
        tiny_bundle.score(np.zeros(3, np.float32), np.zeros((1, 16), np.float32))


def test_sentiment_needs_a_head(tiny_bundle_path: Path) -> None:
    """A bundle without a head says how to get one."""
    manifest = Manifest.read(tiny_bundle_path)
    files = {name: entry for name, entry in manifest.files.items() if name != LAYOUT.sentiment}
    headless = Bundle(tiny_bundle_path, Manifest(**(vars(manifest) | {"files": files})))

    assert not headless.has_sentiment
    with pytest.raises(BundleError, match=r"no sentiment head\. Add one with: dualtower fit-sentiment"):
        headless.sentiment(["good"])


def test_prefixes_are_part_of_the_text(tiny_bundle: Bundle) -> None:
    """A bundle with a query prefix encodes prefix + query."""
    manifest = Manifest(**(vars(tiny_bundle.manifest) | {"query_prefix": "find: ", "title_prefix": "the "}))
    prefixed = Bundle(tiny_bundle.path, manifest)

    np.testing.assert_array_equal(prefixed.encode_queries(["tea"]), tiny_bundle.encode_queries(["find: tea"]))
    np.testing.assert_array_equal(prefixed.encode_titles(["tea"]), tiny_bundle.encode_titles(["the tea"]))
