"""What two runs of the same bits have in common in a line of their metrics."""
import json

FROM_THE_BOARD = ("time", "tokens_per_s", "temp_c", "memory_mb", "grade", "duty")


def reproducible(line: str) -> str:
    """Without what a clock or a sensor told, and what is only in some lines. Raises ValueError."""
    row = json.loads(line)
    kept_keys = [key for key in row if row["kind"] != "step" or key not in FROM_THE_BOARD]
    return json.dumps({key: row[key] for key in kept_keys if key != "time"})
