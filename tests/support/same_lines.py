"""What two runs of the same bits have in common in a line of their metrics."""
import json

FROM_THE_BOARD = ("tokens_per_s", "temp_c", "memory_mb", "grade", "duty")   # of a step


def reproducible(row: dict) -> dict:
    """Without what a clock or a sensor told, and what is only in some lines."""
    measured = ("time", *FROM_THE_BOARD) if row["kind"] == "step" else ("time", "elapsed_s")
    return {key: value for key, value in row.items() if key not in measured}


def reproducible_line(line: str) -> str:
    """Raises ValueError if it is not JSON."""
    return json.dumps(reproducible(json.loads(line)))
