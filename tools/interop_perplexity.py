#!/usr/bin/env python3
"""Compares the perplexity of real GGUF models with llama.cpp's (make interop).

    python tools/interop_perplexity.py [MODEL.gguf...]      needs llama.cpp's llama-perplexity

Without arguments the models are those of FINERCUT_SMOLLM2_GGUF and FINERCUT_GEMMA3_GGUF. FINERCUT
is the program, FINERCUT_LLAMA a folder with llama-perplexity, FINERCUT_SHARED the folder with
WikiText-2, of which the first BYTES (60,000) are taken.

llama-perplexity cuts the text into windows of 512 tokens, puts the model's bos in the place of each
one's first token, and counts only what is predicted in the second half. A model sees nothing that
comes later, so that is the whole window's sum less that of its first 257 tokens. llama.cpp rounds
activations to 8 bits, hence the 1 % that is allowed.
"""
import json
import math
import os
import re
import subprocess
import sys
import tempfile

from common import SHARED, check, end, finercut, skip

TEXT = os.path.join(SHARED, "data", "text", "wikitext-2-raw.test.txt")
WINDOW, SKIPPED = 512, 257


def nll(model, windows, folder):
    """Sum over all predicted tokens, and how many they are."""
    path = os.path.join(folder, "tokens.json")
    with open(path, "w") as f:
        json.dump(windows, f)
    r = json.loads(finercut("eval", model, "--tokens", path, "--json", "--threads", "1"))
    return r["nll"] * r["positions"], r["positions"]


def ours(model, text, folder):
    plain, ids = (json.loads(finercut("tokenize", model, "--text", text, *flags))
                  for flags in ([], ["--special"]))
    bos = ids[:len(ids) - len(plain)]
    windows = [bos + ids[i + len(bos):i + WINDOW] for i in range(0, len(ids) - WINDOW + 1, WINDOW)]
    whole, n = nll(model, windows, folder)
    first, m = nll(model, [w[:SKIPPED] for w in windows], folder)
    return math.exp((whole - first) / (n - m)), len(windows)


def theirs(program, model, text):
    run = subprocess.run([program, "-m", model, "-f", text, "-c", str(WINDOW), "-t", "1"],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
    return float(re.search(rb"Final estimate: PPL = ([0-9.]+)", run.stdout).group(1))


def compare(program, model):
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text.txt")
        with open(TEXT, "rb") as f, open(text, "wb") as out:
            out.write(f.read(int(os.environ.get("BYTES", "60000"))))
        want = theirs(program, model, text)
        got, n = ours(model, text, folder)
    check("perplexity of " + model, abs(got / want - 1) < 0.01, f"{got}, expected {want}")
    print(f"{os.path.basename(model)}: {got:.4f} over {n} windows, llama.cpp {want:.4f}, "
          f"{100 * (got / want - 1):+.2f} %", flush=True)


def main():
    program = os.path.join(os.environ.get("FINERCUT_LLAMA", ""), "llama-perplexity")
    names = ("FINERCUT_SMOLLM2_GGUF", "FINERCUT_GEMMA3_GGUF")
    for name, model in [(m, m) for m in sys.argv[1:]] or [(n, os.environ.get(n)) for n in names]:
        missing = [w for w, path in ((name, model), ("FINERCUT_LLAMA", program),
                                     ("WikiText-2", TEXT)) if not path or not os.path.exists(path)]
        if missing:
            skip("perplexity of " + name, "no " + ", ".join(missing))
        else:
            compare(program, model)
    return end("interop_perplexity")


if __name__ == "__main__":
    sys.exit(main())
