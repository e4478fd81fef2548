#!/usr/bin/env python3
"""Compares `finercut eval --task` with lm-evaluation-harness (torch, transformers, lm_eval 0.4.13).

    python tools/check_tasks.py MODEL_DIR [--limit 30] [--tasks arc_easy,...]
        [--finercut ./finercut] [--dtype float32] [--threads N] [--keep FILE]

Both run the files of FINERCUT_SHARED/data/eval, offline. Item by item: log-likelihoods within 2e-3,
the same choice wherever the lead is larger than twice that; then acc, acc_norm, their standard
errors, and perplexity to the digits that the harness prints. With --dtype bfloat16 only the harness
computes so, and nothing but its speed is of use. What the harness found is kept in FILE after every
task, and taken from there by a later run with the same settings.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import harness

BOUND = 2e-3


def run_finercut(args, tasks):
    command = [args.finercut, "eval", args.model, "--json", "--compute", "f32"]
    command += ["--threads", str(args.threads), "--limit", str(args.limit)]
    for name in tasks:
        command += ["--task", name + "=" + os.path.join(harness.DATA,
                                                        harness.TASKS[name][0] + ".jsonl")]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["tasks"]


def settings(args):
    return [args.model, args.limit, args.dtype, args.batch, args.threads]


def kept(args):
    if not args.keep or not os.path.exists(args.keep):
        return {}
    with open(args.keep, encoding="utf-8") as f:
        found = json.load(f)
    return found["tasks"] if found["settings"] == settings(args) else {}


def run_harness(args, tasks):
    """One task at a time, so that each has its seconds."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    torch.set_num_threads(args.threads)
    model = HFLM(pretrained=args.model, dtype=args.dtype, device="cpu", batch_size=args.batch)
    spent = [0.0]
    inner = model._loglikelihood_tokens

    def timed(*rest, **named):
        start = time.time()
        out = inner(*rest, **named)
        spent[0] = time.time() - start
        return out

    model._loglikelihood_tokens = timed
    out = kept(args)
    with tempfile.TemporaryDirectory() as folder:
        harness.write_tasks(folder)
        manager = TaskManager(include_path=folder, include_defaults=False)
        for name in (name for name in tasks if name not in out):
            result = lm_eval.simple_evaluate(model=model, tasks=[name], limit=args.limit,
                                             task_manager=manager, bootstrap_iters=1000,
                                             log_samples=True)
            samples = sorted(result["samples"][name], key=lambda s: s["doc_id"])
            out[name] = {
                "figures": {k.split(",")[0]: v for k, v in result["results"][name].items()},
                "items": [[r[0] for r in s["resps"]] for s in samples],
                "seconds": spent[0],
            }
            if args.keep:
                with open(args.keep, "w", encoding="utf-8") as f:
                    json.dump({"settings": settings(args), "tasks": out}, f)
    return out


def lead(values):
    best = sorted(values, reverse=True)
    return best[0] - best[1] if len(best) > 1 else float("inf")


def compare_items(name, ours, theirs):
    """The number of log-likelihoods, the worst difference, the messages of what is wrong."""
    n, worst, bad = 0, 0.0, []
    if len(ours["items"]) != len(theirs["items"]):
        bad.append(f"{len(ours['items'])} items, the harness has {len(theirs['items'])}")
    for i, (a, b) in enumerate(zip(ours["items"], theirs["items"])):
        b_values = [float(r[0]) for r in b]
        if len(a["loglikelihoods"]) != len(b_values):
            bad.append(f"item {i}: {len(a['loglikelihoods'])} choices, not {len(b_values)}")
            continue
        for x, y in zip(a["loglikelihoods"], b_values):
            n, worst = n + 1, max(worst, abs(x - y))
        choice = b_values.index(max(b_values))
        if len(b) == 1:
            choice = 0 if str(b[0][1]) == "True" else None
        if a["choice"] != choice and (len(b) == 1 or lead(b_values) > 2 * BOUND):
            bad.append(f"item {i}: choice {a['choice']}, the harness has {choice}: {b_values}")
    if worst > BOUND:
        bad.append(f"log-likelihoods differ by up to {worst:.2g}")
    return n, worst, bad


def compare_figures(ours, theirs):
    for key, value in theirs.items():
        if key == "perplexity_stderr" or not isinstance(value, float) or key not in ours:
            continue # the harness draws samples for the error of a perplexity
        if f"{ours[key]:.4f}" != f"{value:.4f}":
            yield f"{key} {ours[key]:.6f}, the harness has {value:.6f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--finercut", default="./finercut")
    parser.add_argument("--limit", type=int, default=30, help="items per task")
    parser.add_argument("--tasks", default=",".join(harness.TASKS))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--keep", help="a file for what the harness found")
    args = parser.parse_args()
    tasks = args.tasks.split(",")
    ours, theirs = run_finercut(args, tasks), run_harness(args, tasks)
    failed = 0
    print("| task | items | log-likelihoods | worst difference | acc | acc_norm or perplexity "
          "| finercut tokens/s | harness tokens/s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in tasks:
        a, b = ours[name], theirs[name]
        n, worst, bad = compare_items(name, a, b)
        bad += compare_figures(a, b["figures"])
        if args.dtype != "float32":
            bad = []
        second = a.get("perplexity", a.get("acc_norm"))
        print(f"| {name} | {a['n']} | {n} | {worst:.1e} | {a['acc']:.4f} ± {a['acc_stderr']:.4f} "
              f"| {second:.4f} | {a['tokens'] / a['seconds']:.0f} "
              f"| {a['tokens'] / b['seconds']:.0f} |", flush=True)
        for message in bad:
            print(f"FAILED: {name}: {message}", flush=True)
        failed += len(bad)
    print(f"check_tasks: {len(tasks)} tasks, {failed} differences")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
