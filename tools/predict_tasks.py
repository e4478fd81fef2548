#!/usr/bin/env python3
"""Which distance predicts what tasks lose? The sets of sublayers of a study that ran without tasks,
with the tasks run on them afterwards.

    python tools/predict_tasks.py STUDY.csv >sets               the sets, the whole model first
    build/task_sets MODEL 100 TASK.jsonl... <sets >tasks.jsonl
    python tools/predict_tasks.py STUDY.csv tasks.jsonl         Spearman, with intervals
"""
import csv
import json
import sys

import numpy as np
from check_study import spearman


def interval(x, y, plans, n=2000):
    """95 %: plans are drawn with replacement, as `study` does, for a plan's sets are alike."""
    sets_of = [np.flatnonzero(plans == p) for p in np.unique(plans)]
    draws = np.random.default_rng(0)
    values = []
    for _ in range(n):
        i = np.concatenate([sets_of[k] for k in draws.integers(0, len(sets_of), len(sets_of))])
        if len(set(y[i])) > 1:
            values.append(spearman(x[i], y[i]))
    return np.percentile(values, [2.5, 97.5])


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        sets = {r["removed"].replace(" ", ","): r for r in csv.DictReader(f)}
    if len(sys.argv) < 3:
        print("\n".join(sets))
        return
    with open(sys.argv[2], encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    whole = next(r for r in rows if not r["removed"])
    rows = [r for r in rows if r["removed"]]
    plans = np.array([sets[r["removed"]]["plans"].split(":")[0] for r in rows])
    losses = {"accuracy, mean of all": [n for n in whole if n.endswith(".acc")]}
    losses.update({n: [n] for n in whole if n != "removed"})
    distances = [d for d in sets[""] if d not in ("plans", "removed", "sublayers")]
    print(f"{len(rows)} sets; Spearman of the distance and what was lost, with 95 % intervals")
    for title, names in losses.items():
        grows = -1 if title.endswith("perplexity") else 1
        lost = np.array([sum(grows * (whole[n] - r[n]) for n in names) for r in rows])
        for d in distances:
            x = np.array([float(sets[r["removed"]][d]) for r in rows])
            low, high = interval(x, lost, plans)
            print(f"{title:28} {d:14} {spearman(x, lost):6.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
