"""Descriptions of a brain with bodies that the C brain refuses, in files with a right checksum."""
from pathlib import Path

from seed.runtime import Brain
from tests.support.descriptions import described

# Of the whole, with what it says.
CHANGES = [
    ({"format": 2}, "another version"), ({"runtimes": "absent"}, "not for ai-edge-litert"),
    ({"runtimes": {"tflite-runtime": "2.14.0"}}, "not for ai-edge-litert: export with --target"),
    ({"explicit_state": 1}, "wrong desc"), ({"explicit_state": "absent"}, "wrong description"),
    ({"explicit_state": True}, "without a right tensor"), ({"states": [1]}, "wrong description"),
    ({"states": {"conv_0": 5}}, "wrong description"), ({"states": {}}, "its description lacks"),
    ({"states": {"x_0": {"shape": [2 ** 40], "start": 0.0}}}, "wrong description"),
    ({"states": {"x_0": {"shape": [2 ** 20, 2 ** 20], "start": 0.0}}}, "wrong description"),
    ({"states": {"x_0": {"shape": [9] * 99, "start": 0.0}}}, "wrong description"),
    ({"states": {"x_0": {"shape": [1.0], "start": 0.0}}}, "wrong description"),
    ({"states": {"x_0": {"shape": [1], "start": 1e300}}}, "wrong description"),
    ({"states": {"x_0": {"shape": [1], "start": 0.0}}}, "without a right tensor x_0"),
    ({"bodies": {}}, "description lacks|has no signature|right tensor"), ({"bodies": 5}, "wrong d"),
    ({"bodies": {"cartpole": {}}}, "wrong description"),
    (" no JSON", "no JSON"), (',"a":' + "[" * 900, "no JSON"), (',"format":1}x', "no JSON")]
# Of the cart-pole: where, and what is there instead.
BODY_CHANGES = [
    (("codec", "channels"), []), (("codec", "channels"), 5), (("codec", "channels"), [{}] * 600),
    (("codec", "channels", 0, "low"), 1e9), (("codec", "channels", 0, "high"), float("nan")),
    (("codec", "channels", 0, "high"), 1e999), (("codec", "channels", 0, "knots"), 1),
    (("codec", "channels", 0, "knots"), 65), (("codec", "channels", 0, "knots"), 4.0),
    (("codec", "channels", 0, "knots"), 5), (("codec", "channels", 0, "is_log"), 0),
    (("codec", "actions"), []), (("codec", "actions"), [[1.0]]), (("codec", "actions", 0), "x"),
    (("codec", "actions"), [[0.0] * 65]), (("codec", "actions"), [[0.0, 1.0]] * 65),
    (("codec", "form"), "words"), (("hidden",), 7), (("hidden",), -1), (("rate_hz",), "x")]


def wrong_bodies(path: str) -> list[bytes]:
    """Files like that at `path`, each with another of BODY_CHANGES."""
    data, files = Path(path).read_bytes(), []
    for keys, value in BODY_CHANGES:
        bodies = Brain(path).description["bodies"]
        inner = bodies["cartpole"]
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        files.append(described(data, {"bodies": bodies}))
    return files
