#!/usr/bin/env python3
"""Compares the correlations of a study with numpy's.

    python tools/check_study.py [DIR...]     default: examples/study/demo

DIR is a folder that finercut study made: study.csv has the numbers, study.json what was found.
"""
import csv
import json
import sys

import numpy as np


def ranks(x):
    """From 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def pearson(x, y):
    return np.corrcoef(x, y)[0, 1]


def spearman(x, y):
    return pearson(ranks(x), ranks(y))


def kendall(x, y):
    """tau-b"""
    a, b = np.sign(x[:, None] - x[None]), np.sign(y[:, None] - y[None])
    return (a * b).sum() / np.sqrt((a != 0).sum() * (b != 0).sum())


def losses(whole, rows, loss):
    """Of every row: the log of its perplexity over the whole model's, or the accuracy lost."""
    if loss == "log perplexity":
        return np.log(rows["perplexity"] / whole["perplexity"])
    names = [n for n in rows if n.endswith(".acc")] if loss == "accuracy" else [loss]
    return np.mean([whole[n] - rows[n] for n in names], axis=0)


def check(folder):
    with open(folder + "/study.json", encoding="utf-8") as f:
        study = json.load(f)
    with open(folder + "/study.csv", encoding="utf-8") as f:
        table = list(csv.DictReader(f))
    texts = ("plans", "removed")
    rows = {
        n: np.array([float(r[n] or "nan") for r in table[1:]])
        for n in table[0] if n not in texts
    }
    whole = {n: float(v) for n, v in table[0].items() if n not in texts}
    distances = [c["distance"] for c in study["correlations"]]
    bad = 0
    for c in study["correlations"]:
        y = losses(whole, rows, c["loss"])
        good = np.isfinite(y) & np.all([np.isfinite(rows[d]) for d in distances], axis=0)
        bad += good.sum() != c["sets"]
        for name, of in (("spearman", spearman), ("kendall", kendall), ("pearson", pearson)):
            value, low, high = [np.nan if v is None else v for v in c[name]]
            want = of(rows[c["distance"]][good], y[good])
            same = abs(value - want) < 1e-9 and low <= value <= high
            if not same and not (np.isnan(value) and np.isnan(want)):
                print(f"{folder}: {c['loss']}, {c['distance']}: {name} {c[name]}, numpy {want}")
                bad += 1
    print(f"{folder}: {len(study['correlations'])} lines of {len(table) - 1} sets, {bad} wrong")
    return len(study["correlations"]), bad


def main():
    found = [check(folder) for folder in sys.argv[1:] or ["examples/study/demo"]]
    lines, bad = (sum(x) for x in zip(*found))
    print(f"check_study: {max(lines - bad, 0)} passed, {bad} failed")
    return bad > 0 or lines == 0


if __name__ == "__main__":
    sys.exit(main())
