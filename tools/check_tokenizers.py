#!/usr/bin/env python3
"""Compares our tokenizers with the `tokenizers` package: python3 tools/check_tokenizers.py TEST_TEXT [SHARED]

TEST_TEXT is the program built from tests/test_text.c. Its own tokenizers and samples are checked first, then, where
the folder SHARED is (default ../shared), every line of WikiText-2 with the tokenizers of real models; the hashes
printed are the ones tests/test_text.c expects. With FINERCUT_SMOLLM2_GGUF=FILE the vocabulary of that GGUF file
is compared with SmolLM2's pipeline too. Needs: pip install tokenizers
"""
import os
import subprocess
import sys
from tokenizers import Tokenizer, pre_tokenizers

FILES = ["text/wikitext-2-raw.test.txt", "text/wikitext-2.valid.txt"]
MODELS = ["smollm2", "corpora/tokenizers/hf/gpt2", "corpora/tokenizers/hf/phi-2", "corpora/tokenizers/hf/whisper-large-v3"]


def run(program, *args, data=b""):
    return subprocess.run([program, *args], input=data, stdout=subprocess.PIPE, check=True).stdout


def fnv(lines):
    h = 0xCBF29CE484222325
    for ids in lines:
        for byte in b"".join(i.to_bytes(4, "little") for i in [*ids, 0xFFFFFFFF]):
            h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def check_samples(program):
    tokenizers, n, bad = {}, 0, 0
    for row in run(program, "--samples").decode().splitlines():
        kind, name, *rest = row.split("\t")
        if kind == "tokenizer":
            tokenizers[name] = Tokenizer.from_str(rest[0])
            continue
        text = bytes.fromhex(rest[0]).decode()
        want = tokenizers[name].encode(text, add_special_tokens=rest[2] == "1").ids
        n += 1
        if " ".join(map(str, want)) != rest[1]:
            bad += 1
            print(f"{name}: {text!r}: the package gives {want}, the test expects {rest[1]}")
    print(f"samples: {n - bad} of {n} agree")
    return bad


def check_lines(program, path, tokenizer, files):
    bad = 0
    for name in files:
        with open(name, "rb") as f:
            data = f.read()
        lines = data.decode().removesuffix("\n").split("\n")
        want = [e.ids for e in tokenizer.encode_batch(lines, add_special_tokens=False)]
        got = run(program, "--ids", path, data=data.removesuffix(b"\n") + b"\n").decode().splitlines()
        differ = [i for i, ids in enumerate(want) if i >= len(got) or got[i] != " ".join(map(str, ids))]
        bad += len(differ)
        print(f"{path}: {os.path.basename(name)}: {len(lines) - len(differ)} of {len(lines)} lines agree, hash {fnv(want):#x}")
        for i in differ[:3]:
            print(f"  line {i + 1}: {lines[i]!r}\n  package {want[i]}\n  ours    {got[i] if i < len(got) else 'missing'}")
    return bad


def main():
    program = os.path.abspath(sys.argv[1])
    shared = sys.argv[2] if len(sys.argv) > 2 else "../shared"
    gguf = os.environ.get("FINERCUT_SMOLLM2_GGUF")
    files = [f"{shared}/data/{name}" for name in FILES]
    bad = check_samples(program)
    if not all(map(os.path.exists, files)):
        print(f"skipped: no WikiText-2 under {shared}")
        return bad != 0
    for model in MODELS:
        path = f"{shared}/data/{model}/tokenizer.json"
        if os.path.exists(path):
            bad += check_lines(program, path, Tokenizer.from_file(path), files)
    if gguf:  # converters name the pipeline "smollm": digits on their own, then GPT-2's expression
        tokenizer = Tokenizer.from_file(f"{shared}/data/smollm2/tokenizer.json")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                           pre_tokenizers.ByteLevel(add_prefix_space=False)])
        bad += check_lines(program, gguf, tokenizer, files)
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
