#!/usr/bin/env python3
"""What a search costs by the size of the model, and what that says of a larger one.

    tools/ladder.py [--finercut ./finercut] [--tokens 64] [--threads N] MODEL...

Runs the first step of an exhaustive search over every model (directories or GGUF files; random ones
of any shape come from tools/make_random_model.py) and prints, a line each: parameters outside the
embedding, sublayers, how many forward passes' worth of work the step was, CPU seconds, and what
that is a parameter and token. The paper's algorithm takes, for k of L sublayers, the sum of
(L - i) forward passes; a candidate here starts at its sublayer, so that about half of that is left.
The last line puts the largest model's cost a parameter to a 70B model (80 blocks, 25 % removed) of
as many tokens: it assumes that cost to stay, and weights that fit in memory.
"""
import argparse
import os
import resource
import tempfile

from common import about, random_tokens, search

BLOCKS_70B, PARAMETERS_70B = 80, 69.5e9  # without its embedding; the output matrix counts


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def step(options, model, folder):
    """(parameters, blocks, forward passes, CPU seconds) of one step."""
    info = about(model, options.finercut)
    tokens = random_tokens(folder, info["vocab_size"], 1, options.tokens)
    before = cpu_seconds()
    lanes = search(options, model, folder, "--tokens", tokens, "--search", "exhaustive",
                   "--remove", "1")["cost"]["lanes"]
    cpu = cpu_seconds() - before
    # Every forward pass multiplies by all matrices but the embedding, whose rows are looked up; a
    # tied one is the output matrix.
    looked_up = 0 if info["tied_embeddings"] else info["vocab_size"] * info["hidden_size"]
    return info["parameters"] - looked_up, info["blocks"], lanes, cpu


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--finercut", default="./finercut")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads")
    options = parser.parse_args()
    print(f"{'model':24} {'parameters':>10} {'sublayers':>9} {'forwards':>8} {'CPU s':>8} "
          f"{'ps a parameter and token':>24}")
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            n, blocks, lanes, cpu = step(options, model, folder)
            each = cpu / (lanes * n * options.tokens)
            name = os.path.basename(os.path.normpath(model))
            print(f"{name[:24]:24} {n / 1e6:9.1f}M {2 * blocks:9} {lanes:8.1f} {cpu:8.2f} "
                  f"{1e12 * each:24.1f}", flush=True)
    sublayers = 2 * BLOCKS_70B
    removed = sublayers // 4
    passes = sum(sublayers - i for i in range(removed)) / 2
    seconds = passes * PARAMETERS_70B * options.tokens * each
    print(f"70B, {removed} of {sublayers} removed by {options.tokens} tokens, exhaustive: "
          f"{passes:.0f} forwards, {seconds / 3600:.0f} CPU hours")


if __name__ == "__main__":
    main()
