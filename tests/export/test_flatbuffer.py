"""The writer's numbers and bytes against the schema that LiteRT ships."""
import inspect
import json
import re

import pytest
from ai_edge_litert import schema_py_generated as schema

from seed.export.flatbuffer import OPERATORS, TYPES
from tests.support.brains import exported

# Our names of option fields that are shortened.
SCHEMA_FIELDS = {"activation": "FusedActivationFunction", "in_type": "InDataType",
                 "out_type": "OutDataType", "dilation_w": "DilationWFactor",
                 "dilation_h": "DilationHFactor"}
# Operators whose options are not called like them.
OTHER_OPTIONS = {"MEAN": "Reducer", "SUM": "Reducer", "MINIMUM": "MaximumMinimum"}
SLOT_KINDS = {"int": "Int32", "byte": "Int8", "bool": "Bool", "float": "Float32",
              "vector": "UOffsetTRelative", "string": "UOffsetTRelative"}


def test_tensor_types_are_those_of_the_schema():
    assert TYPES == {name: getattr(schema.TensorType, name.upper()) for name in TYPES}


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_codes_options_and_slots_are_those_of_the_schema(name):
    operator = OPERATORS[name]
    assert operator.code == getattr(schema.BuiltinOperator, name)
    options = {number: key for key, number in vars(schema.BuiltinOptions).items()
               if isinstance(number, int)}[operator.options_type]
    expected = OTHER_OPTIONS.get(name, name.replace("_", "")).lower()
    assert options.lower() in ("none", f"{expected}options")
    for field, (slot, kind) in operator.fields.items():
        camel = SCHEMA_FIELDS.get(field) or field.title().replace("_", "")
        source = inspect.getsource(getattr(schema, f"{options}Add{camel}"))
        assert re.search(rf"Prepend{SLOT_KINDS[kind]}Slot\({slot},", source), source


def test_an_independent_reader_reads_what_was_written(brain, tmp_path):
    data = exported(brain, tmp_path / "f", prefill=4).read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    assert model.version == 3 and schema.Model.ModelBufferHasIdentifier(data, 0)
    assert [s.signatureKey.decode() for s in model.signatureDefs] == ["step", "prefill_4", "reset"]
    step = model.subgraphs[0]
    assert [i.name.decode() for i in model.signatureDefs[0].inputs] == ["token"]
    assert step.tensors[step.outputs[0]].shape.tolist() == [1, 256]
    metadata = {m.name.decode(): model.buffers[m.buffer].data for m in model.metadata}
    assert bytes(metadata["min_runtime_version"]) == b"2.14.0".ljust(16, b"\0")
    assert json.loads(bytes(metadata["seed"]))["step"] == 7
    offsets = [data.find(bytes(b.data)) for b in model.buffers if b.data is not None
               and len(b.data) > 64 and any(b.data)]
    assert offsets and all(offset % 16 == 0 for offset in offsets)
