"""Passes the worst row of a robot's own health check on to the governor (docs/board.md):

    seed train --set "governor.report_command=python3 examples/robot_report.py"

In the robot's code: os.replace a file that has this text, for --set governor.report_file.
"""
import json

import system_health   # the robot's own, beside this file or on PYTHONPATH

LEVELS = ["ok", "warning", "critical"]   # of the robot, from the best to the worst

worst = max(system_health.check(), key=lambda row: LEVELS.index(row["status"]))
print(json.dumps({
    "level": worst["status"], "reason": worst["message"],
    "teleoperated": False,   # true while a person drives: nothing is learnt then
}))                          # battery_percent, charging, idle: where the robot knows them
