"""Makes tests/golden/tiny_exits: the tiny bundle with a sentiment head that texts may leave after one of two layers.

Its weights are random, its form is that of any bundle with exits. It is committed, so that tests of the runtime and the
service need no torch.

    python tests/golden/make_tiny_exits.py    # writes it again; tests/towers/train/test_export_exits.py compares
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

TINY_EXITS = Path(__file__).parent / "tiny_exits"
TEXTS = (
    "i love my new red shoes",
    "terrible",
    "where is my order",
    "bad coat, late delivery",
    "信用卡还款",
    "good",
    "",
)


def make(out: Path) -> None:
    """Make the bundle at `out`."""
    import tempfile

    import numpy as np
    import torch

    from tests.golden.make_tiny import TINY, save_checkpoint
    from towers.bundle import LAYOUT
    from towers.exits import ExitPlan, entropy
    from towers.train.base import load_classifier
    from towers.train.distillation.teacher import token_ids
    from towers.train.early_exit.exit_graphs import export_stages, quantize_stages, stage_probabilities
    from towers.train.early_exit.exit_model import ExitClassifier
    from towers.train.early_exit.export_exits import without_head
    from towers.train.exporting.export import Precision
    from towers.train.write import read_parts, write_bundle

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(9)
        classifier, tokenizer = load_classifier(save_checkpoint(Path(folder) / "checkpoint"))
        model = ExitClassifier(classifier, (1, 2)).eval()
        rows = token_ids(tokenizer, TEXTS, max_tokens=32)
        temperatures = (0.2, 3.0)  # so that random logits make answers that differ in how sure they are
        stages = quantize_stages(
            export_stages(model, temperatures=temperatures, max_tokens=32),
            Precision(),
            layers=model.layers,
            rows=rows,
        )
    unsure = np.sort(entropy(stage_probabilities(stages, rows)[0]))
    gap = 1 + int(np.diff(unsure[1:-1]).argmax())  # the widest: no rounding moves a text to the other side
    threshold = float(unsure[gap : gap + 2].mean())
    plan = ExitPlan("entropy", round(threshold, 3), (1, 2), temperatures)
    parts = without_head(read_parts(TINY))
    graphs = parts.graphs | {LAYOUT.stage(number): graph for number, graph in enumerate(stages)}
    write_bundle(out, replace(parts, graphs=graphs, extra_files={LAYOUT.exits: plan.to_json()}), replace=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    make(TINY_EXITS)
