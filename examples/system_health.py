"""Stands for the health check that a robot has: it warns at 70 C and is critical at 80 C."""
import os


def check():
    """A row for each component, with its status: ok, warning or critical."""
    temp_c = float(os.environ.get("ROBOT_TEMP_C", "72"))
    status = "critical" if temp_c >= 80 else "warning" if temp_c >= 70 else "ok"
    return [{"component": "cpu", "status": status, "message": f"CPU {temp_c:.0f} C"}]
