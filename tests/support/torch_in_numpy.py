"""The few functions of PyTorch that examples/load_in_torch.py calls, in numpy: where PyTorch is not
installed (the extra `peer`), the example's own lines are run with them."""
import sys
import types

import numpy as np
import safetensors.numpy


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, dim):
    weights = np.exp(x - x.max(dim, keepdims=True))
    return weights / weights.sum(dim, keepdims=True)


def rms_norm(x, shape, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def modules() -> dict[str, types.ModuleType]:
    """What stands in sys.modules for PyTorch."""
    torch, functional = types.ModuleType("torch"), types.ModuleType("torch.nn.functional")
    for name in ("exp", "log1p", "sqrt", "clip", "cos", "sin", "arange", "zeros", "concatenate",
                 "einsum", "round"):
        setattr(torch, name, getattr(np, name))
    torch.sigmoid, torch.softmax, torch.pi = sigmoid, softmax, np.pi
    torch.split = lambda x, sizes: np.split(x, np.cumsum(sizes)[:-1])
    torch.chunk = np.split
    functional.rms_norm, functional.silu = rms_norm, lambda x: x * sigmoid(x)
    load = types.ModuleType("safetensors.torch")
    load.load_file = safetensors.numpy.load_file
    return {"torch": torch, "torch.nn": types.ModuleType("torch.nn"),
            "torch.nn.functional": functional, "safetensors.torch": load}


def run_with_numpy(path: str, *arguments: str) -> None:
    """As `python PATH ARGUMENTS`."""
    import runpy
    sys.modules.update(modules())
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")


if __name__ == "__main__":
    run_with_numpy(*sys.argv[1:])
