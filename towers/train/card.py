"""The model card that lies in a bundle: what the manifest says, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_QUALITY = ("auc", "accuracy", "spearman", "ndcg@10", "calibration_error")
_SENTIMENT = ("macro_recall", "macro_f1", "accuracy", "calibration_error")


def model_card(facts: Mapping[str, Any]) -> str:
    """Return a bundle's model card in Markdown.

    Args:
        facts: The manifest's fields.
    """
    parts = [
        _head(facts),
        _matching(facts["metrics"].get("fit")),
        _sentiment(facts["metrics"].get("sentiment")),
        _classifier(facts["metrics"].get("classifier")),
    ]
    parts += [_export(facts["metrics"].get("export")), _notes(facts.get("recipe", {}).get("notes", ()))]
    parts.append(_data(facts.get("training_data", ())))
    return "\n".join(part for part in parts if part)


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; floats are written with four digits."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines) + "\n"


def _head(facts: Mapping[str, Any]) -> str:
    base = facts["base_model"]
    return (
        "# Model card\n\n"
        f"Vectors of {facts['dim']} dimensions from texts of up to {facts['max_tokens']} tokens; "
        f"scorer: {facts['scorer']}; a pair matches from a score of {facts['threshold']:.3f}.\n\n"
        f"Base: {base['name']} (licence as stated: {base.get('licence', 'not given')}, SHA-256 of its weights "
        f"{base.get('sha256', 'not known')}). Licence of this bundle: {facts['licence']}.\n" + _short(facts)
    )


def _short(facts: Mapping[str, Any]) -> str:
    short = facts.get("recipe", {}).get("bilingual", {}).get("short_dim")
    return (
        f"\nThe first {short} numbers of a vector, stretched to length 1, may be used alone.\n"
        if short
        else ""
    )


def _matching(fit: Mapping[str, Any] | None) -> str:
    if not fit:
        return ""
    rows = [
        [row["name"], row["pairs"], kind, *(row[kind].get(name) for name in _QUALITY)]
        for row in [*fit["sets"], {"name": "all", **fit["total"]}]
        for kind in ("score", "cosine")
    ]
    return "## Matching, on held-out queries\n\n" + table(["pairs of", "pairs", "", *_QUALITY], rows)


def _sentiment(metrics: Mapping[str, Any] | None) -> str:
    if not metrics:
        return ""
    kinds = {
        "float32": metrics,
        "as shipped": metrics.get("quantized"),
        "logistic regression on the vectors": metrics.get("logistic_regression_on_vectors"),
    }
    rows = [[name, *(values[key] for key in _SENTIMENT)] for name, values in kinds.items() if values]
    return f"## Sentiment, on {metrics['rows']} held-out texts\n\n" + table(["", *_SENTIMENT], rows)


def _classifier(metrics: Mapping[str, Any] | None) -> str:
    if not metrics:
        return ""
    sets = {name: found for name, found in metrics.items() if isinstance(found, Mapping)}
    names = [name for name, value in next(iter(sets.values())).items() if isinstance(value, float)]
    rows = [[name, found["rows"], *(found[x] for x in names)] for name, found in sets.items()]
    return "## Classifier, on held-out examples\n\n" + table(["set", "rows", *names], rows)


def _export(metrics: Mapping[str, Any] | None) -> str:
    if not metrics:
        return ""
    rows = [
        [kind, *(metrics[kind][name] for name in ("mean_cosine", "least_cosine"))]
        for kind in ("float32", "quantized")
    ]
    return f"## Cosine to torch, on {metrics['texts']} texts\n\n" + table(["graph", "mean", "least"], rows)


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    return "## Good to know\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def _data(entries: Sequence[Mapping[str, Any]]) -> str:
    if not entries:
        return ""
    rows = [[entry["name"], entry.get("use", ""), entry["rows"], entry["licence"]] for entry in entries]
    return "## Training data\n\n" + table(
        ["set", "used for", "rows", "licence as stated by its source"], rows
    )


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
