"""LiteRT's CompiledModel with the methods of Interpreter that Brain calls, for versions of
ai-edge-litert without Interpreter: the same logits, from a little slower a step."""
from collections.abc import Callable
from typing import Any

import numpy as np


class CompiledInterpreter:
    """Raises what CompiledModel raises for a file that it cannot run."""

    def __init__(self, model_content: bytes, num_threads: int = 1):
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.options import CpuOptions, HardwareAccelerator, Options
        self._model = CompiledModel.from_buffer(model_content, options=Options(
            HardwareAccelerator.CPU, cpu_options=CpuOptions(num_threads=num_threads)))
        self._signatures: dict[str, _Signature] = {}
        self._step = self._signature(self._model.get_signature_by_index(0)["key"])

    def _signature(self, key: str) -> "_Signature":
        if key not in self._signatures:
            self._signatures[key] = _Signature(self._model, key)
        return self._signatures[key]

    def allocate_tensors(self) -> None:
        """Buffers are there from the beginning."""

    def get_input_details(self) -> list[dict[str, Any]]:
        return self._step.details[:len(self._step.inputs)]

    def get_output_details(self) -> list[dict[str, Any]]:
        return self._step.details[len(self._step.inputs):]

    def set_tensor(self, index: int, value: np.ndarray) -> None:
        self._step.buffers[index].write(value)

    def get_tensor(self, index: int) -> np.ndarray:
        return self._step.read(index)

    def invoke(self) -> None:
        self._step.run()

    def get_signature_runner(self, key: str) -> Callable[..., dict[str, np.ndarray]]:
        return self._signature(key)


class _Signature:
    """Inputs, then outputs of one graph, which are numbered; each has a buffer."""

    def __init__(self, model: Any, key: str):
        self._model, self._number = model, model.get_signature_index(key)
        names = model.get_signature_by_index(self._number)
        self.inputs, self.outputs = list(names["inputs"]), list(names["outputs"])
        self._read_buffers = model.create_input_buffers(self._number)
        self._written_buffers = model.create_output_buffers(self._number)
        self.buffers = [*self._read_buffers, *self._written_buffers]
        ends = [*model.get_input_tensor_details(key).items(),
                *model.get_output_tensor_details(key).items()]
        by_name = dict(ends)
        self.details = [{**by_name[name], "name": name, "index": i}
                        for i, name in enumerate([*self.inputs, *self.outputs])]

    def run(self) -> None:
        self._model.run_by_index(self._number, self._read_buffers, self._written_buffers)

    def read(self, index: int) -> np.ndarray:
        detail = self.details[index]
        size = int(np.prod(detail["shape"], dtype=np.int64))
        return self.buffers[index].read(size, np.dtype(detail["dtype"])).reshape(detail["shape"])

    def __call__(self, **values: np.ndarray) -> dict[str, np.ndarray]:
        for name, buffer in zip(self.inputs, self._read_buffers, strict=True):
            buffer.write(values[name])
        self.run()
        return {name: self.read(len(self.inputs) + i) for i, name in enumerate(self.outputs)}
