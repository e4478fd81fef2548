#!/usr/bin/env python3
"""Judges exported models by tasks and by running text (needs torch, transformers, lm_eval 0.4.13).

    python tools/harness.py [--limit 150] [--tasks lambada,arc_easy] [--json FILE] NAME=DIR...

Every DIR is a Hugging Face directory, as `finercut export --format hf` writes it. Tasks are run by
lm-evaluation-harness, offline, on the files of FINERCUT_SHARED/data/eval: accuracy (and by bytes of
the choice where the harness has it) with its standard error. --texts DIR instead writes the four
running texts that perplexities are measured on (for `finercut eval --text`), and ends.
"""
import argparse
import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.environ.get("FINERCUT_SHARED", os.path.join(HERE, "..", "..", "shared"))
DATA = os.path.join(SHARED, "data", "eval")

HEAD = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{file}"}}}}
test_split: test
"""
CHOICES = """output_type: multiple_choice
doc_to_text: "{prompt}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{gold}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
WINOGRANDE = """output_type: multiple_choice
doc_to_text: "{{{{gold}}}}"
doc_to_choice: "{{{{context_options}}}}"
doc_to_target: "{{{{continuation}}}}"
metric_list: [{{metric: acc}}]
"""
LAMBADA = """output_type: loglikelihood
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{' ' + continuation}}}}"
metric_list: [{{metric: perplexity}}, {{metric: acc}}]
"""
ANSWER = "{{query.rstrip()}}\\nAnswer:"
# name: (file, template, prompt)
TASKS = {
    "arc_easy": ("arc_easy", CHOICES, ANSWER),
    "arc_challenge": ("arc_challenge", CHOICES, ANSWER),
    "piqa": ("piqa", CHOICES, ANSWER),
    "openbookqa": ("openbook_qa", CHOICES, "{{query.rstrip()}}"),
    "boolq": ("boolq", CHOICES, ANSWER),
    "winogrande": ("winogrande", WINOGRANDE, ""),
    "lambada": ("lambada_openai", LAMBADA, ""),
}


def items(name):
    with open(os.path.join(DATA, name + ".jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def write_texts(folder):
    """WikiText-2's validation text, and the texts of three task files, joined."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(SHARED, "data", "text", "wikitext-2.valid.txt"), encoding="utf-8") as f:
        wiki = f.read()
    texts = {
        "wikitext": wiki,
        "lambada": "\n\n".join(d["context"] + " " + d["continuation"]
                               for d in items("lambada_openai")),
        "arc": "\n\n".join(d["query"].strip() + "\nAnswer: " + d["choices"][d["gold"]]
                           for d in items("arc_easy")),
        "boolq": "\n\n".join(d["query"].split("\nQuestion:")[0].removeprefix("Passage:").strip()
                             for d in items("boolq")),
    }
    for name, text in texts.items():
        with open(os.path.join(folder, name + ".txt"), "w", encoding="utf-8") as f:
            f.write(text)


def write_tasks(folder):
    for name, (file, template, prompt) in TASKS.items():
        with open(os.path.join(folder, name + ".yaml"), "w", encoding="utf-8") as f:
            path = os.path.join(DATA, file + ".jsonl")
            f.write((HEAD + template).format(name=name, file=path, prompt=prompt))


def judge(path, tasks, limit, manager):
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    model = HFLM(pretrained=path, trust_remote_code=True, dtype="float32", device="cpu",
                 batch_size=4)
    result = lm_eval.simple_evaluate(model=model, tasks=tasks, limit=limit, task_manager=manager,
                                     bootstrap_iters=1000, log_samples=False)
    return result["results"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="NAME=DIR")
    parser.add_argument("--limit", type=int, help="items per task (default: all)")
    parser.add_argument("--tasks", default="lambada,arc_easy,piqa,winogrande")
    parser.add_argument("--json", help="also write every figure there")
    parser.add_argument("--texts", help="write the running texts into this folder, and end")
    args = parser.parse_args()
    if args.texts:
        write_texts(args.texts)
        return 0
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    from lm_eval.tasks import TaskManager
    tasks, rows = args.tasks.split(","), {}
    with tempfile.TemporaryDirectory() as folder:
        write_tasks(folder)
        manager = TaskManager(include_path=folder, include_defaults=False)
        for given in args.models:
            name, _, path = given.partition("=")
            rows[name] = judge(path, tasks, args.limit, manager)
            for task in tasks:
                figures = {k.split(",")[0]: v for k, v in rows[name][task].items()
                           if isinstance(v, (int, float))}
                print(name, task, " ".join(f"{k} {v:.4f}" for k, v in figures.items()), flush=True)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(rows, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
