#!/usr/bin/env bash
# Smoke test, under three minutes: trains a toy brain, stops it half way, resumes, evaluates it and
# asks it a question. Exits with 0 if it passed. bin/smoke.sh FOLDER keeps the brain there.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
run_dir=${1:-$(mktemp -d)}
[ $# -gt 0 ] || trap 'rm -rf "$run_dir"' EXIT
train=(bash "$root/bin/train.sh" --profile toy --steps 400 --run-dir "$run_dir"
       --set train.eval_every_minutes=0 --set curriculum.holdout_items=16)
fail() { echo "smoke: FAILED: $*" >&2; exit 1; }
[ ! -e "$run_dir/metrics.jsonl" ] || fail "$run_dir already has a brain: name an empty folder"
SECONDS=0

"${train[@]}" &
process=$!
until grep -qs '"kind": "step", "step": 100,' "$run_dir/metrics.jsonl"; do
    kill -0 "$process" 2>/dev/null || fail 'training ended before step 100'
    sleep 0.2
done
kill -TERM "$process"
wait "$process" || fail "stopping gave exit code $?"
"${train[@]}" || fail "resuming gave exit code $?"

seed() { "$venv/bin/python" -m seed "$@" --run-dir "$run_dir"; }
seed eval --json >"$run_dir/eval.json" || fail 'eval'
answer=$(seed generate --prompt 'abc>' --json) || fail 'generate'
"$venv/bin/python" - "$run_dir" <<'PY' || fail 'the brain did not learn: see above'
import json, sys
from pathlib import Path
run_dir = Path(sys.argv[1])
rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
losses = [row["loss"] for row in rows if row["kind"] == "step"]
first, last = sum(losses[:20]) / 20, sum(losses[-20:]) / 20
assert [row["step"] for row in rows if row["kind"] == "step"] == list(range(1, 401)), "steps missing"
assert last < 0.6 * first, f"loss went from {first:.3f} to {last:.3f}"
scores = json.loads((run_dir / "eval.json").read_text())["holdout"]
above = [s["task"] for s in scores if s["interval"][0] > s["chance"]]
assert len(above) >= 5, f"above chance: {above}"
print(f"smoke: loss {first:.3f} to {last:.3f}, {len(above)} of {len(scores)} levels above chance")
PY
echo "smoke: passed in $SECONDS s; answer: $answer"
