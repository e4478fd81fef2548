#!/usr/bin/env python3
"""How often `prune --search confident` finds what `--search exhaustive` finds, over many cases.

    tools/agreement.py FINERCUT WORK [--reference exhaustive|race] [--seeds N] [--confidence Z]
        [--threads N] [--steps N] --model M ... --text T ... --metric m ...
        --size SAMPLESxLENGTH ... > agreement.md
    tools/agreement.py FINERCUT WORK [...] --case MODEL:TEXT:METRIC:SAMPLESxLENGTH:STEPS ...
        > agreement.md

Runs every model with every text, metric and size, and every --case, with seeds 0 to N - 1 (default
1 seed). A text that ends in .json holds tokens. Uses only the command line tool. WORK must not be
there or be empty: no plan of another run ever answers. `race` gives exhaustive's plan, bit for bit,
for less work, and is the reference where exhaustive takes too long; the output says which it was.
A step agrees when both searches remove the same sublayer after the same removals. The first step of
a plan that differs is listed with its loss: how much larger confident's distance is than the
reference's at that step. Later ones start from other models, so they are not compared."""
import argparse
import datetime
import itertools
import json
import os
import platform
import subprocess
import sys


def commit():
    here = os.path.dirname(os.path.abspath(__file__))
    git = ["git", "-C", here]
    name = subprocess.run(git + ["rev-parse", "HEAD"], capture_output=True,
                          text=True).stdout.strip()
    changed = subprocess.run(git + ["status", "--porcelain", "--untracked-files=no"],
                             capture_output=True, text=True)
    return (name or "unknown") + (" and changes" if changed.stdout.strip() else "")


def machine():
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as f:
            names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
        name = names[0] if names else name
    return "%s, %d processors" % (name, os.cpu_count())


def plan(o, case, number, search, seed=None):
    model, text, metric, size, steps = case
    out = os.path.join(o.work,
                       "%03d-%s%s.json" % (number, search, "" if seed is None else "-%d" % seed))
    command = [o.tool, "prune", model, "--metric", metric, "--remove", str(steps),
               "--search", search, "--quiet", "-o", out]
    if text.endswith(".json"):
        command += ["--tokens", text]
    else:
        samples, length = size.split("x")
        command += ["--text", text, "--samples", samples, "--length", length]
    if seed is not None:
        command += ["--seed", str(seed), "--confidence", str(o.confidence)]
    if o.threads:
        command += ["--threads", str(o.threads)]
    if os.path.exists(out):
        sys.exit("%s: expected no plan of another run" % out)
    subprocess.run(command, check=True)
    with open(out) as f:
        return json.load(f)


def compare(exact, guess):
    """Steps that agree, and the first that does not: its number, both removals, the loss."""
    for i, (a, b) in enumerate(zip(exact["steps"], guess["steps"])):
        if a["removed"] != b["removed"]:
            return i, (i + 1, a["removed"], a["score"], b["removed"], b["score"],
                       b["score"] / a["score"] - 1)
        if a["score"] != b["score"]:
            sys.exit("step %d: expected the same score of the same model, got %r and %r"
                     % (i + 1, a["score"], b["score"]))
    return len(exact["steps"]), None


def arguments():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("tool")
    p.add_argument("work")
    for name in ("model", "text", "metric", "size"):
        p.add_argument("--" + name, action="append", default=[])
    p.add_argument("--case", action="append", default=[])
    p.add_argument("--reference", choices=["exhaustive", "race"], default="exhaustive")
    p.add_argument("--steps", type=int, default=15)
    p.add_argument("--seeds", type=int, default=1)
    p.add_argument("--confidence", type=float, default=4)
    p.add_argument("--threads", type=int, default=0)
    o = p.parse_args()
    cases = [tuple(c.rsplit(":", 4)) for c in o.case]
    cases += [c + (o.steps,) for c in itertools.product(o.model, o.text, o.metric, o.size)]
    if not cases or any(len(c) != 5 for c in cases):
        sys.exit("expected --model, --text, --metric and --size, or --case "
                 "MODEL:TEXT:METRIC:SAMPLESxLENGTH:STEPS")
    return o, cases


def main():
    o, cases = arguments()
    os.makedirs(o.work, exist_ok=True)
    if os.listdir(o.work):
        sys.exit("%s: expected an empty folder: plans of another run must not answer for this one"
                 % o.work)
    print("commit %s; %s; %s; reference: %s; %g standard errors\n" % (
        commit(), machine(), datetime.date.today(), o.reference, o.confidence))
    print("| model | text | metric | tokens | seed | steps that agree | least margin | less work "
          "than whole forward passes | reference |")
    print("|---|---|---|---|---|---|---|---|---|")
    total = agree = 0
    losses = []
    for number, case in enumerate(cases):
        exact = plan(o, case, number, o.reference)
        less = [c["exhaustive_lanes"] / c["lanes"] for c in [exact["cost"]]][0]
        for seed in range(o.seeds):
            guess = plan(o, case, number, "confident", seed)
            same, other = compare(exact, guess)
            cost = guess["cost"]
            name = (os.path.basename(case[0].rstrip("/")), os.path.basename(case[1]), case[2],
                    case[3])
            print("| %s | %s | %s | %s | %d | %d of %d | %.2f | %.1fx | %.1fx |" % (
                name + (seed, same, len(exact["steps"]), guess["margin"],
                        cost["exhaustive_lanes"] / cost["lanes"], less)), flush=True)
            total += same + (other is not None)
            agree += same
            if other:
                losses.append("- %s, %s, %s, %s, seed %d, step %d: %s (%.9g), confident %s (%.9g): "
                              "%+.3g %%" % (
                    name + (seed,) + other[:5] + (100 * other[5],)))
    print("\n%d of %d steps that were compared agree, in %d cases." % (agree, total, len(cases)))
    print("Disagreements:\n" + "\n".join(losses) if losses else "No disagreement.")


main()
