"""What the compiler makes of kernels for a Cortex-A76."""
from seed.bench.arm64_blocks import assembly, with_counters
from seed.config import ModelConfig
from seed.wavecore import fast, layout


def test_the_left_numbers_of_a_product_take_no_port_of_its_multiply_adds(monkeypatch):
    """A load to all lanes (ld1r) takes one, besides that of loads."""
    texts: dict[str, str] = {}
    monkeypatch.setattr(fast, "launcher", texts.__setitem__)
    shape = ModelConfig(d_model=32)
    fast.Mlp(shape, layout.KINDS["mlp"].block_fn(shape, "mlp"), 1, 24, 1)
    for name in texts:
        blocks = with_counters(assembly(texts[name]))[1]
        loops = [block.instructions for block in blocks
                 if sum(word.startswith("fmla") for word in block.instructions) == 24]
        assert loops and not any(word.startswith("ld1r") for loop in loops for word in loop)
