"""How many titles per second become vectors, and how far is that from what the processor can do?

All of one sample of the icecat product titles (about 28 tokens each) are encoded by sentence-transformers in
fp32, with batches of 32 and of 64, and by `Bundle.encode_titles`, in turn, tokenising included, both on all
cores. Ratios are to the better batch size. Wanted: at least 1.5 times as fast.

Below stands the arithmetic: two operations for each weight of the matrices and each token (the inner products
of attention, about 1% at this length, are left out, padding is not counted), beside the fastest product of
two matrices of 1,024 x 1,024 that torch reaches in fp32 and ONNX Runtime in int8 on the same cores. The last
table tries other batch sizes for the bundle, counted in padded tokens, on one core and on all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import torch

from benchmarks.common import (
    Report,
    icecat,
    median,
    opened,
    option_parser,
    parse,
    rounds,
    run,
    sample,
    seconds,
    spread,
    times,
)
from benchmarks.original import Original
from towers import Bundle, encoder
from towers.bundle import LAYOUT
from towers.encoder import available_cores

ST_BATCHES = (32, 64)
BATCH_TOKENS = (128, 256, 512, 1024, 2048)
OURS = "dualtower"
SIDE = 1024  # of the square matrices whose product shows the processor's limit


def main() -> None:
    parser = option_parser(__doc__, repetitions=5)
    parser.add_argument("--titles", type=int, default=3072, help="size of the sample")
    options = parse(parser)
    bundle = opened(options)
    original = Original(bundle)
    titles = sample([row["title"] for row in icecat(options)], 64 if options.quick else options.titles)
    tokens = sum(bundle.count_tokens(title) for title in titles)
    report = Report("titles", __doc__, options, bundle, titles=len(titles), tokens=tokens)
    spent = compare(report, original, bundle, titles, repetitions=options.repetitions)
    best, ours = min((median(spent[name]), name) for name in spent if name != OURS)[1], spent[OURS]
    report.finish(
        {
            "titles_per_second": {name: len(titles) / median(values) for name, values in spent.items()},
            "times_as_fast": times(spent[best], ours)[0],
            "gop_per_second": arithmetic(
                report,
                fp32=2 * original.matrix_weights() * tokens / median(spent[best]) / 1e9,
                int8=2 * matrix_weights(bundle) * tokens / median(ours) / 1e9,
            ),
            "titles_per_second_by_batch_tokens": try_batches(report, options, titles),
        }
    )


def compare(
    report: Report, original: Original, bundle: Bundle, titles: list[str], *, repetitions: int
) -> dict[str, list[float]]:
    """Seconds of each round for each contender."""

    def by_original(batch_size: int) -> float:
        return seconds(lambda: original.encode(titles, batch_size=batch_size))

    contenders: dict[str, Callable[[], float]] = {
        f"sentence-transformers fp32, batches of {size}": partial(by_original, size) for size in ST_BATCHES
    }
    spent = rounds({**contenders, OURS: lambda: seconds(lambda: bundle.encode_titles(titles))}, repetitions)
    best = min(contenders, key=lambda name: median(spent[name]))
    rows = []
    for name, values in spent.items():
        rates = len(titles) / np.array(values)
        factor, factors = times(spent[best], values)
        rows.append((name, f"{median(rates):,.0f}", spread(rates), f"{factor:.2f}", factors))
    report.table(f"{len(titles):,} titles", ("", "titles/s", "min–max", "times as fast", "min–max"), rows)
    return spent


def arithmetic(report: Report, *, fp32: float, int8: float) -> dict[str, float]:
    """Hold the operations per second that were reached (billions) against the processor's best."""
    peaks = {"fp32": fp32_peak(), "int8": int8_peak()}
    reached = {"fp32": ("sentence-transformers fp32", fp32), "int8": (f"{OURS} int8", int8)}
    report.table(
        "Billions of operations per second",
        ("", "reached", "processor's best", "share"),
        [
            (name, f"{rate:,.0f}", f"{peaks[kind]:,.0f}", f"{rate / peaks[kind]:.0%}")
            for kind, (name, rate) in reached.items()
        ],
    )
    return {
        "sentence_transformers_fp32": fp32,
        "dualtower_int8": int8,
        "processor_fp32": peaks["fp32"],
        "processor_int8": peaks["int8"],
    }


def matrix_weights(bundle: Bundle) -> int:
    """How many weights each token is multiplied with in the bundle's graph for titles."""
    name = LAYOUT.encoder if LAYOUT.encoder in bundle.manifest.files else LAYOUT.title
    graph = onnx.load(bundle.path / name, load_external_data=False).graph
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer if len(tensor.dims) == 2}
    products = [node for node in graph.node if "MatMul" in node.op_type or node.op_type == "Gemm"]
    return sum(sizes.get(name, 0) for node in products for name in node.input)


def fp32_peak() -> float:
    """The most billions of operations per second in a product of two fp32 matrices in torch."""
    a, b = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    return _peak(lambda: torch.mm(a, b))


def int8_peak() -> float:
    """The same in int8 in ONNX Runtime: activations of 8 bits without sign, weights with sign, constant."""
    weights = np.random.default_rng(0).integers(-64, 64, (SIDE, SIDE), np.int8)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [onnx.helper.make_tensor_value_info("a", onnx.TensorProto.UINT8, [SIDE, SIDE])],
        [onnx.helper.make_tensor_value_info("c", onnx.TensorProto.INT32, [SIDE, SIDE])],
        [onnx.numpy_helper.from_array(weights, "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = available_cores()
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    a = np.random.default_rng(1).integers(0, 255, (SIDE, SIDE), np.uint8)
    return _peak(lambda: session.run(None, {"a": a}))


def _peak(product: Callable[[], object]) -> float:
    return 2 * SIDE**3 / min(seconds(product) for _ in range(50)) / 1e9


def try_batches(report: Report, options: argparse.Namespace, titles: list[str]) -> dict[str, float]:
    """Titles per second with other sizes of batches, on one core and on all."""
    some = titles[: len(titles) // 2]
    bundles = {threads: opened(options, threads=threads) for threads in sorted({1, available_cores()})}

    def rate(bundle: Bundle, size: int) -> float:
        with mock.patch.object(encoder, "BATCH_TOKENS", size):
            return len(some) / seconds(lambda: bundle.encode_titles(some))

    contenders = {
        f"{size} tokens, {threads} cores": partial(rate, bundle, size)
        for threads, bundle in bundles.items()
        for size in BATCH_TOKENS
    }
    rates = {name: median(found) for name, found in rounds(contenders, options.repetitions).items()}
    report.table(
        f"Titles per second by padded tokens in a batch (the default is {encoder.BATCH_TOKENS})",
        ("tokens", *(f"on {threads} core{'s' * (threads > 1)}" for threads in bundles)),
        [
            (str(size), *(f"{rates[f'{size} tokens, {threads} cores']:,.0f}" for threads in bundles))
            for size in BATCH_TOKENS
        ],
    )
    return rates


if __name__ == "__main__":
    run(main)
