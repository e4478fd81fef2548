#!/usr/bin/env python3
"""How often `prune --search confident` finds what `--search exhaustive` finds, over many cases.

    tools/agreement.py FINERCUT WORK CASE... > agreement.md

CASE is MODEL:TEXT:METRIC:SAMPLESxLENGTH:STEPS[:SKIP]; SKIP bytes of the text are left out first. Uses only
the command line tool. WORK is a folder for plans; those that are there already are not computed again.
A step agrees when both searches remove the same sublayer after the same removals; after the first step that
differs, later ones start from other models, and only their distances can be compared. `worst` is how much
larger confident's distance is than exhaustive's, at the worst step."""
import hashlib
import json
import os
import subprocess
import sys


def plan(tool, work, case, search):
    fields = case.split(":")
    model, text, metric, size, steps = fields[:5]
    name = os.path.join(work, hashlib.sha1(case.encode()).hexdigest()[:12])
    if len(fields) > 5:
        with open(text, "rb") as f:
            f.seek(int(fields[5]))
            data = f.read().partition(b"\n")[2]  # from the next whole line on
        text = name + ".txt"
        with open(text, "wb") as f:
            f.write(data)
    out = "%s-%s.json" % (name, search)
    samples, length = size.split("x")
    subprocess.run([tool, "prune", model, "--text", text, "--metric", metric, "--samples", samples, "--length",
                    length, "--remove", steps, "--search", search, "--resume", "--quiet", "-o", out], check=True)
    with open(out) as f:
        return json.load(f)


def row(tool, work, case):
    exact, guess = plan(tool, work, case, "exhaustive"), plan(tool, work, case, "confident")
    pairs = list(zip(exact["steps"], guess["steps"]))
    same = [a["removed"] == b["removed"] for a, b in pairs]
    first = same.index(False) + 1 if False in same else 0
    worst = max(b["score"] / a["score"] - 1 for a, b in pairs)
    cost = guess["cost"]
    fields = case.split(":")
    where = os.path.basename(fields[1]) + (" from byte " + fields[5] if len(fields) > 5 else "")
    return "| %s | %s | %s | %s | %d of %d | %s | %s | %.2f | %.1fx |" % (
        os.path.basename(fields[0].rstrip("/")), where, fields[2], fields[3], sum(same), len(same),
        first or "-", "%+.2g %%" % (100 * worst) if worst else "0", guess["margin"],
        cost["exhaustive_lanes"] / cost["lanes"])


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    tool, work, cases = sys.argv[1], sys.argv[2], sys.argv[3:]
    os.makedirs(work, exist_ok=True)
    print("| model | text | metric | tokens | steps that agree | first that differs | worst | least margin | less work |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in cases:
        print(row(tool, work, case), flush=True)


main()
