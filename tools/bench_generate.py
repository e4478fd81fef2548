#!/usr/bin/env python3
"""Tokens that finercut and llama.cpp generate in a second of processor time, from the same files.

    python tools/bench_generate.py MODEL.gguf... [--compute f32,i8] [--threads 1] [--tokens 40,168]
        [--rounds 3] [--before PROGRAM]

Of each program the longer text's seconds less the shorter one's, so that neither loading nor the
prompt counts; --tokens says how long they are. Processor time, as other programs take the clock's.
llama.cpp is the one in the package xllamacpp, if this Python has it. All take turns; the medians
are printed as a table, with the ratio of each to llama.cpp. FINERCUT is the program (./finercut),
--before one more, of an earlier commit; their texts have to be the same.
"""
import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time

from common import FINERCUT

PROMPT = "Once upon a time there was"


def llama(path, threads, tokens):
    """In a process of its own: prints processor seconds for each number of tokens."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = 512
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    seconds = []
    for n in tokens:
        start = time.process_time()
        server.handle_completions({"prompt": PROMPT, "n_predict": n, "temperature": 0,
                                   "ignore_eos": True, "cache_prompt": False})
        seconds.append(time.process_time() - start)
    print(json.dumps(seconds))


def llama_rate(path, threads, tokens):
    command = [sys.executable, __file__, "--llama", path, "--threads", str(threads), "--tokens",
               ",".join(map(str, tokens))]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds = json.loads(out.strip().splitlines()[-1])
    return (tokens[1] - tokens[0]) / (seconds[1] - seconds[0])


def finercut_rate(program, path, compute, threads, tokens, texts):
    seconds, made = [], []
    for n in tokens:
        command = [program, "generate", path, "--prompt", PROMPT, "-n", str(n), "--temperature",
                   "0", "--threads", str(threads), "--compute", compute]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        made.append(int(re.search(r"(\d+) generated", done.stderr).group(1)))
    texts.add(done.stdout)
    if made[1] - made[0] < (tokens[1] - tokens[0]) / 2:
        sys.exit(f"{path}: the text ends after {made[1]} tokens; choose others by --tokens")
    return (made[1] - made[0]) / (seconds[1] - seconds[0])


def measure(args, path):
    programs = ([args.before] if args.before else []) + [FINERCUT]
    columns = [(p, c) for c in args.compute.split(",") for p in programs]
    rates = {c: [] for c in columns}
    peer, texts = [], {c: set() for c in args.compute.split(",")}
    for _ in range(args.rounds):
        for program, compute in columns:
            rates[program, compute].append(finercut_rate(program, path, compute, args.threads,
                                                         args.tokens, texts[compute]))
        if args.peer:
            peer.append(llama_rate(path, args.threads, args.tokens))
    for compute, all_texts in texts.items():
        if len(all_texts) != 1:
            sys.exit(f"{path}, {compute}: {len(all_texts)} different texts")
    other = statistics.median(peer) if peer else None
    cells = [os.path.basename(path)]
    for c in columns:
        rate = statistics.median(rates[c])
        cells.append(f"{rate:.1f}")
        if other and c[0] == FINERCUT:
            cells.append(f"{rate / other:.2f}")
    print("| " + " | ".join(cells + ([f"{other:.1f}"] if other else [])) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*")
    parser.add_argument("--compute", default="f32,i8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", default="40,168")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before")
    parser.add_argument("--llama", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.tokens = [int(n) for n in args.tokens.split(",")]
    if args.llama:
        llama(args.llama, args.threads, args.tokens)
        return
    try:
        import xllamacpp
        args.peer = xllamacpp.__version__
        print(f"llama.cpp: xllamacpp {args.peer}")
    except ImportError:
        args.peer = None
        print("llama.cpp: no package xllamacpp")
    head = ["file"]
    for compute in args.compute.split(","):
        head += ([f"{compute} before"] if args.before else []) + [compute]
        head += [f"{compute} / llama.cpp"] if args.peer else []
    head += ["llama.cpp"] if args.peer else []
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for path in args.models:
        measure(args, path)


main()
