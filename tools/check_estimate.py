#!/usr/bin/env python3
"""What prune --dry-run says beforehand, beside what the search then takes.

    tools/check_estimate.py [--finercut ./finercut] [--text FILE] [--metric js]
        [--searches race,confident,exhaustive] [--remove 3] [--samples 4] [--length 64]
        [--threads N] MODEL...

Runs both for every model and search and prints a line for each: seconds likely and their range,
seconds of the search (cost.seconds of its plan), and the ratio. A model without a tokenizer gets
random tokens. Measure on a quiet machine: the estimate is one of the machine as it is.
"""
import argparse
import os
import re
import tempfile

from common import about, finercut, random_tokens, search, threads


def calibration(options, model, folder):
    """The flags that say which tokens."""
    info = about(model, options.finercut)
    if info.get("tokenizer"):
        return ["--text", options.text, "--samples", str(options.samples),
                "--length", str(options.length)]
    return ["--tokens",
            random_tokens(folder, info["vocab_size"], options.samples, options.length)]


def estimate(text):
    """(likely, low, high) seconds."""
    line = re.search(r"^time .*\(([^ ]+), ([^ ]+) to ([^ ]+) s\)", text, re.MULTILINE)
    return tuple(float(x) for x in line.groups())


def compare(options, model, kind, folder):
    flags = ["--search", kind, "--metric", options.metric, "--remove", options.remove,
             *calibration(options, model, folder)]
    likely, low, high = estimate(
        finercut("prune", model, "--dry-run", *flags, *threads(options),
                 program=options.finercut).decode())
    took = search(options, model, folder, *flags)["cost"]["seconds"]
    name = os.path.basename(os.path.normpath(model))
    print(f"{name[:32]:32} {kind:10} {likely:9.2f} {low:9.2f} {high:9.2f} {took:9.2f} "
          f"{likely / took:6.2f} {'yes' if low <= took <= high else 'no'}", flush=True)
    return abs(likely / took - 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--finercut", default="./finercut")
    parser.add_argument("--text", default="examples/demo/calibration.txt")
    parser.add_argument("--searches", default="race,confident,exhaustive")
    parser.add_argument("--metric", default="js")
    parser.add_argument("--remove", default="3")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--threads")
    options = parser.parse_args()
    print(f"{'model':32} {'search':10} {'likely':>9} {'low':>9} {'high':>9} {'took':>9} "
          f"{'ratio':>6} in range")
    with tempfile.TemporaryDirectory() as folder:
        off = [compare(options, model, kind, folder)
               for model in options.models for kind in options.searches.split(",")]
    print(f"largest difference: {100 * max(off):.0f} %; {sum(x <= 0.25 for x in off)} of "
          f"{len(off)} within 25 %")


if __name__ == "__main__":
    main()
