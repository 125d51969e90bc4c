"""Running an ONNX graph on the CPU: the one place that knows onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from towers.errors import BundleError

Array = NDArray[np.generic]


class Graph:
    """A loaded graph. `run` and `outputs` may be called from many threads at once.

    Each call works on its caller's thread alone: two calls on two cores are faster than one call on two
    (docs/experiments.md), and a service's threads do not fight over a pool.
    """

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # warnings about the graph's making are of no use to who runs it
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as exc:  # onnxruntime's exceptions share no base below Exception
            raise BundleError(
                f"{path} cannot be loaded as an ONNX graph: {exc}. Build the bundle again."
            ) from exc
        self.inputs = tuple(entry.name for entry in self._session.get_inputs())

    def run(self, *arrays: Array) -> NDArray[np.float32]:
        """Return the graph's first output for its inputs, given in the graph's own order."""
        return self.outputs(*arrays)[0]

    def outputs(self, *arrays: Array) -> list[NDArray[np.float32]]:
        """Return all outputs of the graph."""
        outputs = self._session.run(None, dict(zip(self.inputs, arrays, strict=True)))
        return [np.asarray(output, np.float32) for output in outputs]
