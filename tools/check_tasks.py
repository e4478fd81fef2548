#!/usr/bin/env python3
"""Compares `finercut eval --task` with lm-evaluation-harness (torch, transformers, lm_eval 0.4.13).

    python tools/check_tasks.py MODEL_DIR [--limit 30] [--tasks arc_easy,...]
        [--finercut ./finercut] [--dtype float32] [--threads N] [--keep FILE] [--hub]
        [--chat]

Both run the files of FINERCUT_SHARED/data/eval, offline. Item by item: log-likelihoods within 2e-3,
the same choice wherever the lead is larger than twice that; then acc, acc_norm, their standard
errors to the digits that the harness prints, and perplexity within 1e-4 of its value. Speeds are
tokens (of questions with each choice by itself) per second of processor time, as machines are
shared; finercut's includes loading. With --dtype bfloat16 only the harness computes so, and nothing
but its speed is of use. What the harness found is kept in FILE after every task, and taken from
there by a later run with the same settings. --chat: as lm_eval --apply_chat_template; MODEL_DIR has
a template then.
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


def run_finercut(args, tasks, folder):
    """One task at a time, so that each has its seconds."""
    command = [args.finercut, "eval", args.model, "--json", "--compute", "f32"]
    command += ["--threads", str(args.threads), "--limit", str(args.limit)]
    command += ["--chat", "--task"] if args.chat else ["--task"]
    out = {}
    for name in tasks:
        file = os.path.join(folder, name + ".jsonl") if args.hub else os.path.join(
            harness.DATA, harness.TASKS[name][0] + ".jsonl")
        before = os.times().children_user
        done = subprocess.run(command + [name + "=" + file], check=True, stdout=subprocess.PIPE)
        out[name] = json.loads(done.stdout)["tasks"][name]
        out[name]["seconds"] = os.times().children_user - before
    return out


def letters(choices):
    return {"text": choices, "label": ["A", "B", "C", "D", "E"][:len(choices)]}


def question(d):
    return d["query"].removeprefix("Question: ").rstrip()


def arc(d):
    return {"question": question(d), "choices": letters(d["choices"]),
            "answerKey": "ABCDE"[d["gold"]]}


def boolq(d):
    passage, _, asked = d["query"].removeprefix("Passage: ").rpartition("\nQuestion: ")
    return {"passage": passage, "question": asked.rstrip("?"), "label": d["gold"], "idx": 0}


def winogrande(d):
    a, b = (c.split(" ") for c in d["context_options"])
    same = 0
    while same < min(len(a), len(b)) - 1 and a[same] == b[same]:
        same += 1
    return {"sentence": " ".join(a[:same] + ["_ " + d["continuation"]]),
            "option1": " ".join(a[same:]), "option2": " ".join(b[same:]),
            "answer": str(d["gold"] + 1)}


def hellaswag(d):
    first, _, rest = question(d).partition(" ")
    return {"activity_label": first, "ctx_a": rest + " [header] More  of it.", "ctx_b": "then THE",
            "endings": [c + " [title] " + c for c in d["choices"]], "label": str(d["gold"])}


def mmlu(d):
    return {"question": " " + question(d), "subject": "anatomy", "choices": d["choices"][:4],
            "answer": d["gold"]}


# The hub's columns from the same items: task: (file, item, the harness's own definition).
HUB = {
    "arc_easy": ("arc_easy", arc, "arc/arc_easy.yaml"),
    "arc_challenge": ("arc_challenge", arc, "arc/arc_challenge.yaml"),
    "piqa": ("piqa", lambda d: {"goal": question(d), "sol1": d["choices"][0],
                                "sol2": d["choices"][1], "label": d["gold"]}, "piqa/piqa.yaml"),
    "openbookqa": ("openbook_qa", lambda d: {"question_stem": d["query"],
                                             "choices": letters(d["choices"]),
                                             "answerKey": "ABCDE"[d["gold"]]},
                   "openbookqa/openbookqa.yaml"),
    "boolq": ("boolq", boolq, "super_glue/boolq/default.yaml"),
    "winogrande": ("winogrande", winogrande, "winogrande/default.yaml"),
    "lambada_openai": ("lambada_openai",
                       lambda d: {"text": d["context"] + " " + d["continuation"]},
                       "lambada/lambada_openai.yaml"),
    "hellaswag": ("arc_easy", hellaswag, "hellaswag/hellaswag.yaml"),
    "mmlu_anatomy": ("arc_easy", mmlu, "mmlu/default/mmlu_anatomy.yaml"),
}
OVER = """include: {own}
task: {name}
dataset_path: json
dataset_name: null
dataset_kwargs: {{data_files: {{test: "{file}"}}}}
training_split: null
validation_split: null
fewshot_split: null
fewshot_config: null
test_split: test
tag: []
"""


def write_hub(folder, limit):
    import lm_eval.tasks
    own = os.path.dirname(lm_eval.tasks.__file__)
    for name, (file, item, definition) in HUB.items():
        found = [d for d in harness.items(file) if len(d.get("choices", "abcd")) == 4 or
                 definition.split("/")[0] not in ("hellaswag", "mmlu")][:limit]
        path = os.path.join(folder, name + ".jsonl")
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(item(d)) + "\n" for d in found)
        with open(os.path.join(folder, name + ".yaml"), "w", encoding="utf-8") as f:
            f.write(OVER.format(own=os.path.join(own, definition), name=name, file=path))


def settings(args):
    return [args.model, args.limit, args.dtype, args.batch, args.threads, args.hub, args.chat]


def kept(args):
    if not args.keep or not os.path.exists(args.keep):
        return {}
    with open(args.keep, encoding="utf-8") as f:
        found = json.load(f)
    return found["tasks"] if found["settings"] == settings(args) else {}


def run_harness(args, tasks, folder):
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    torch.set_num_threads(args.threads)
    model = HFLM(pretrained=args.model, dtype=args.dtype, device="cpu", batch_size=args.batch)
    spent = [0.0]
    inner = model._loglikelihood_tokens

    def timed(*rest, **named):
        start = time.process_time()
        out = inner(*rest, **named)
        spent[0] = time.process_time() - start
        return out

    model._loglikelihood_tokens = timed
    out = kept(args)
    manager = TaskManager(include_path=folder, include_defaults=False)
    for name in (name for name in tasks if name not in out):
        result = lm_eval.simple_evaluate(model=model, tasks=[name], limit=args.limit,
                                         task_manager=manager, bootstrap_iters=1000,
                                         log_samples=True, apply_chat_template=args.chat)
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
        same = f"{ours[key]:.4f}" == f"{value:.4f}"
        if key == "perplexity":
            same = abs(ours[key] / value - 1) < 1e-4
        if not same:
            yield f"{key} {ours[key]:.6f}, the harness has {value:.6f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--finercut", default="./finercut")
    parser.add_argument("--limit", type=int, default=30, help="items per task")
    parser.add_argument("--tasks", help="default: all")
    parser.add_argument("--hub", action="store_true", help="the hub's columns, made of the files, "
                        "and the harness's own definitions")
    parser.add_argument("--chat", action="store_true", help="by the model's chat template")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--keep", help="a file for what the harness found")
    args = parser.parse_args()
    tasks = args.tasks.split(",") if args.tasks else list(HUB if args.hub else harness.TASKS)
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        if args.hub:
            write_hub(folder, args.limit)
        else:
            harness.write_tasks(folder)
        ours, theirs = run_finercut(args, tasks, folder), run_harness(args, tasks, folder)
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
        second = a.get("perplexity", a.get("acc_norm", 0.0))
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
