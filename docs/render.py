"""Writes the generated parts of the documents: settings, code map, recipes, measured figures.

    python docs/render.py            # tests/test_docs.py checks that this changes nothing

Each part stands between <!-- name --> and <!-- /name -->.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
Row = tuple[str, str, str, str]
OURS = "dualtower"
ORIGINAL = "sentence-transformers fp32"
PACKAGES = ("towers", "towers/train", "towers/train/compare", "index", "service")


def settings() -> str:
    """The service's settings as a table."""
    sys.path.insert(0, str(ROOT))
    from service.settings import settings_table

    rows = [f"| `{variable}` | {default} | {meaning} |" for _, variable, default, meaning in settings_table()]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])


def code_map() -> str:
    """Each module with the first line of its docstring."""
    lines = ["| file | what |", "|---|---|"]
    for path in [
        ROOT / "dualtower.py",
        *(path for name in PACKAGES for path in sorted((ROOT / name).glob("*.py"))),
    ]:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if path.name != "__init__.py" or text:
            lines.append(f"| `{path.relative_to(ROOT)}` | {text.splitlines()[0]} |")
    return "\n".join(lines)


def recipes() -> str:
    """Each recipe with its source, its cost and its limits, by technique."""
    sys.path.insert(0, str(ROOT))
    from towers.train.compare.results import TECHNIQUES
    from towers.train.recipe import shipped_recipes

    tasks: dict[str, list[str]] = {}
    found = {recipe.name: recipe for recipe in shipped_recipes()}
    for recipe in shipped_recipes():
        tasks.setdefault(recipe.name, []).append(recipe.task)
    lines = []
    for number, technique in TECHNIQUES.items():
        lines += ["", f"### {number}. {technique}" if number else "### What they are compared with", ""]
        lines += ["| recipe | for | what | source | cost | not to use |", "|---|---|---|---|---|---|"]
        for name, recipe in sorted(found.items()):
            if recipe.technique == number:
                texts = [
                    x.replace("|", "\\|") for x in (recipe.title, recipe.source, recipe.cost, recipe.avoid)
                ]
                lines.append(f"| `{name}` | {', '.join(tasks[name])} | {' | '.join(texts)} |")
    return "\n".join(lines[1:])


def measured() -> str:
    """The first screen's figures, from the committed results of the benchmarks."""
    machine = result("titles")["machine"]
    makers = (speed, service, quality, chinese, feelings)
    rows = [f"| {' | '.join(row)} |" for make in makers for row in make()]
    head = f"{machine['cpu']} ({', '.join(machine['flags'])}), {machine['cores']} cores; `benchmarks/results/*.json`."
    return "\n".join([head, "", "| | dualtower | beside it | |", "|---|---:|---:|---:|", *rows])


def speed() -> list[Row]:
    """Encoding and scoring against what people use instead."""
    titles, query, scoring = (result(name)["measured"] for name in ("titles", "query", "scoring"))
    rates, delays, costs = titles["titles_per_second"], query["median_ms"], scoring["median_ms"]
    best = max(rate for name, rate in rates.items() if name.startswith("sentence-transformers"))
    usual = min(delay for name, delay in delays.items() if name.startswith("sentence-transformers"))
    cross, ours = costs["cross-encoder fp32"], costs["dualtower scorer"]
    return [
        (
            "titles encoded per second (Icecat), against sentence-transformers fp32",
            f"{rates[OURS]:.0f}",
            f"{best:.0f}",
            f"{rates[OURS] / best:.1f} ×",
        ),
        (
            "one query encoded, against the same",
            f"{delays[OURS]:.1f} ms",
            f"{usual:.1f} ms",
            f"{usual / delays[OURS]:.1f} ×",
        ),
        (
            "one query scored against 1,000 cached titles, against a cross-encoder of the same size",
            f"{ours:.1f} ms",
            f"{cross:,.0f} ms",
            f"{cross / ours:,.0f} ×",
        ),
    ]


def service() -> list[Row]:
    """HTTP, medians and memory."""
    found = result("serving")["measured"]["memory map"]
    memory = f"{found['most_mb']:.0f} MB"
    return [
        (
            "`/v1/match` with 1,000 ids, new query, median over HTTP",
            f"{found['match']['median_ms']:.1f} ms",
            "",
            "",
        ),
        (
            "`/v1/search` over 19,406 titles, new query, median over HTTP",
            f"{found['search']['median_ms']:.1f} ms",
            "",
            "",
        ),
        ("memory of the serving process, that catalogue", memory, "", ""),
    ]


def quality() -> list[Row]:
    """What the bundle lost of the fp32 original's English, what its scorer won."""
    found = result("quality")["measured"]
    rows = []
    unseen = found["held_out"]
    for ours, theirs, label in (
        (*_cosines(unseen["crowdflower"]["ndcg@10"]), "CrowdFlower, nDCG@10, held-out queries"),
        (*_cosines(unseen["qqp_dev"]["auc"]), "QQP, AUC, held-out queries"),
        (
            found["all_rows"]["stsb_dev"]["bundle"],
            found["all_rows"]["stsb_dev"]["fp32"],
            "STS-B dev, Spearman",
        ),
    ):
        change = f"{100 * (ours / theirs - 1):+.2f} %"
        rows.append((f"{label}: cosine, against fp32", f"{ours:.4f}", f"{theirs:.4f}", change))
    for name, metric, label in (
        ("qqp_dev", "auc", "QQP, AUC"),
        ("crowdflower", "ndcg@10", "CrowdFlower, nDCG@10"),
    ):
        row = found["held_out"][name][metric]
        gain = f"{100 * (row['score'] - row['cosine']):+.2f} points"
        rows.append(
            (
                f"{label}, held-out queries: scorer, against cosine",
                f"{row['score']:.4f}",
                f"{row['cosine']:.4f}",
                gain,
            )
        )
    return rows


def _cosines(values: dict[str, float]) -> tuple[float, float]:
    return values["cosine"], values["fp32_cosine"]


def chinese() -> list[Row]:
    """What the towers know of Chinese, against a BiLSTM that was trained on the same pairs."""
    found = result("bilingual")["measured"]
    rows = []
    for name, metric, label in (
        ("lcqmc_dev", "auc", "LCQMC (same question?), AUC"),
        ("atec", "auc", "ATEC (same question?), AUC"),
        ("qbqtc", "auc", "QBQTC (web query and page title), AUC"),
        ("stsb_mt_dev, all", "spearman", "STS-B in Chinese, Spearman"),
    ):
        values = found["matching"][name][metric]
        ours, theirs = values["cosine"], values["BiLSTM"]
        change = f"{100 * (ours - theirs):+.1f} points"
        rows.append((f"{label}, unseen: cosine, against a BiLSTM", f"{ours:.3f}", f"{theirs:.3f}", change))
    together = found["languages_together"]
    shares = [together[name]["en_to_zh"] for name in ("cosine", "fp32 original")]
    label = f"the Chinese translation is the nearest of {together['sentences']} to an English sentence, against fp32"
    return [*rows, (label, *(f"{100 * share:.0f} %" for share in shares), "")]


def feelings() -> list[Row]:
    """The sentiment head against the baseline."""
    rows = []
    for name, metric, label in (
        ("semeval2013_16, held out", "macro_recall", "tweets (SemEval), macro recall"),
        ("sst2_dev, all", "two_way_accuracy", "film reviews (SST-2), positive or negative"),
        ("smp2020_dev, all", "macro_recall", "microblogs (SMP2020), macro recall"),
        ("online_shopping, held out", "two_way_accuracy", "shop reviews in Chinese, positive or negative"),
    ):
        values = result("bilingual")["measured"]["sentiment"][name]
        ours, theirs = (values[who][metric] for who in ("dualtower head", "logistic regression on vectors"))
        change = f"{100 * (ours - theirs):+.1f} points"
        rows.append(
            (f"sentiment of {label}, against logistic regression", f"{ours:.3f}", f"{theirs:.3f}", change)
        )
    return rows


def techniques() -> str:
    """What cutting, distilling and leaving early keep and save, from the committed results."""
    found = {name: ROOT / "benchmarks" / "results" / f"{name}.json" for name in ("cut_distil", "early_exit")}
    makers = {"cut_distil": cut_towers, "early_exit": exits}
    parts = [makers[name]() for name, path in found.items() if path.is_file()]
    return "\n\n".join(parts) or "Not measured yet: `make benchmarks` does it."


def cut_towers() -> str:
    """Students beside the uncut towers."""
    cut = result("cut_distil")["measured"]
    theirs = cut["quality"][ORIGINAL]
    lines = [
        "| towers | STS-B dev, Spearman | CrowdFlower, nDCG@10 | titles/s | one query |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, found in cut["quality"].items():
        kept = [f"{value:.4f} ({100 * value / theirs[metric]:.1f} %)" for metric, value in found.items()]
        speed = cut["speed"].get(name)
        times = [f"{speed['titles']:.1f} ×", f"{speed['query']:.1f} ×"] if speed else ["", ""]
        lines.append(f"| {' | '.join([name, *kept, *times])} |")
    return "\n".join(lines)


def exits() -> str:
    """Sentiment heads whose texts may leave early, beside others."""
    lines = ["| sentiment head, calls of 32 texts | texts | accuracy lost | times as fast | mean layers |"]
    lines.append("|---|---|---:|---:|---:|")
    for test, rows in result("early_exit")["measured"].items():
        for name, found in rows.items():
            if name == "full" or "lost" not in found:
                continue
            layers = f"{found['mean_layers']:.2f}" if "mean_layers" in found else ""
            faster = f"{found['times as fast as full']:.2f} ×"
            lines.append(f"| {name} | {test} | {100 * found['lost']:+.2f} points | {faster} | {layers} |")
    return "\n".join(lines)


def result(name: str) -> dict[str, Any]:
    """A benchmark's committed result."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"settings": settings, "measured": measured, "techniques": techniques},
    "ARCHITECTURE.md": {"code map": code_map},
    "docs/recipes.md": {"recipes": recipes},
}


def rendered(name: str) -> str:
    """A document with its generated parts as they should be."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for part, make in PARTS[name].items():
        pattern = re.compile(rf"(<!-- {part} -->\n).*?(<!-- /{part} -->)", re.DOTALL)
        found = pattern.search(text)
        if not found:
            raise SystemExit(f"{name} has no <!-- {part} --> … <!-- /{part} -->")
        text = f"{text[: found.start()]}{found[1]}{make()}\n{found[2]}{text[found.end() :]}"
    return text


if __name__ == "__main__":
    for document in PARTS:
        (ROOT / document).write_text(rendered(document), encoding="utf-8")
