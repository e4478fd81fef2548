#!/usr/bin/env python3
"""Opens, prunes and exports models of published sizes that are holes, and runs a block of one.

    python tools/check_sparse.py [SHAPE...]      default: all of make_sparse_model.py; needs numpy

Each is opened from both kinds of file and exported by a plan of random choices, which has to take
little disk. Of llama-3-70b the last block, past 2^37 bytes in its file, is filled and run alone;
its logits are those of numpy. FINERCUT is the program, TMPDIR has room for 2 GB and holes.
"""
import json
import os
import random
import subprocess
import sys
import tempfile
import time

import numpy as np

import make_sparse_model as maker
from common import check, end, finercut, skip

ROWS, IDS = 64, [3, 1, 4, 15, 9, 26, 5, 35]


def make(shape, path, *more):
    tool = os.path.join(os.path.dirname(os.path.abspath(__file__)), "make_sparse_model.py")
    subprocess.run([sys.executable, tool, shape, path, *more], check=True,
                   stdout=subprocess.DEVNULL)
    return path


def plan(path, about, candidates, removed):
    """As if a search had found it."""
    steps = [{"step": i + 1, "removed": name, "score": i / 1000,
              "scores": {name: {"value": i / 1000, "exact": True}}}
             for i, name in enumerate(removed)]
    model = {"fingerprint": about["fingerprint"], "content": "", "name": "holes",
             "architecture": about["architecture"], "n_blocks": about["blocks"],
             "n_parameters": about["parameters"]}
    with open(path, "w") as f:
        json.dump({"format": "finercut-plan-1", "model": model, "metric": "js",
                   "candidates": candidates, "search": "random", "compute": "f32", "simd": "scalar",
                   "first_block": 0, "confidence": 0, "margin": 0, "seed": 0,
                   "calibration": {"source": "none", "n_sequences": 1, "n_positions": 4,
                                   "length": 4, "hash": "0000000000000000"},
                   "steps": steps}, f)
    return path


def sizes(path):
    """Bytes of the files, and of disk."""
    found = [path] if os.path.isfile(path) else [os.path.join(path, n) for n in os.listdir(path)]
    return (sum(os.stat(p).st_size for p in found), sum(os.stat(p).st_blocks * 512 for p in found))


def parameters(shape):
    c = maker.SHAPES[shape]
    rows = [s for b in range(c["num_hidden_layers"]) for _, s in maker.block(c, b, True)]
    return sum(int(np.prod(s, dtype=np.int64)) for s in rows) + (2 * c["vocab_size"] +
                                                                 1) * c["hidden_size"]


def check_shape(shape, folder):
    for end, formats in (("", ("hf", "hf-masked")), (".gguf", ("gguf", "gguf-masked"))):
        path = make(shape, os.path.join(folder, "holes" + end))
        start = time.perf_counter()
        about = json.loads(finercut("info", path, "--json"))
        print(f"{shape}{end}: info took {1000 * (time.perf_counter() - start):.0f} ms")
        check(f"{shape}{end}: parameters", about["parameters"] == parameters(shape), about)
        blocks = random.Random(shape).sample(range(about["blocks"]), about["blocks"] // 4)
        chosen = plan(os.path.join(folder, "plan.json"), about, "blocks",
                      [f"block.{b}" for b in blocks])
        for kind in formats:
            out = os.path.join(folder, "out" + end)
            finercut("export", path, "--plan", chosen, "--format", kind, "-o", out, "--quiet")
            size, disk = sizes(out)
            share = size / sizes(path)[0]
            little = disk < max(100e6, size / 1000) # a page where a tensor ends
            check(f"{shape} as {kind}", little and (0.999 < share < 1.001 if "masked" in kind
                                                    else 0.7 < share < 0.8), (size, disk))
            subprocess.run(["rm", "-r", out], check=True)
        subprocess.run(["rm", "-r", path], check=True)


class Weights:
    """Tensors of a safetensors file, as float32, some rows at a time."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as f:
            n = int.from_bytes(f.read(8), "little")
            self.header, self.data = json.loads(f.read(n)), 8 + n

    def rows(self, name, first=0, n=None):
        t = self.header[name]
        cols = t["shape"][-1] if len(t["shape"]) > 1 else 1
        at = self.data + t["data_offsets"][0] + 2 * first * cols
        n = t["shape"][0] - first if n is None else n
        bits = np.fromfile(self.path, "<u2", n * cols, offset=at)
        values = (bits.astype(np.uint32) << 16).view(np.float32)
        return values.reshape(n, cols) if len(t["shape"]) > 1 else values

    def times(self, x, name, step=4096):
        """x times the transposed matrix."""
        n = self.header[name]["shape"][0]
        return np.concatenate([x @ self.rows(name, i, min(step, n - i)).T
                               for i in range(0, n, step)], 1)


def norm(x, weight):
    return x / np.sqrt(np.mean(np.square(x, dtype=np.float64), -1, keepdims=True) + 1e-5) * weight


def rotate(x, theta):  # [positions, heads, size]
    half = x.shape[-1] // 2
    angle = np.arange(len(x))[:, None, None] * theta**(-np.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle),
                           b * np.cos(angle) + a * np.sin(angle)], -1)


def forward(c, w, b):
    """Logits of the tokens ROWS after block b alone."""
    p, n = f"model.layers.{b}.", len(IDS)
    head = c["hidden_size"] // c["num_attention_heads"]
    x = w.rows("model.embed_tokens.weight", 0, ROWS)[IDS].astype(np.float64)

    def times(y, name):
        return w.times(y.astype(np.float32), f"{p}{name}.weight").astype(np.float64)

    y = norm(x, w.rows(p + "input_layernorm.weight"))
    q, k, v = (times(y, f"self_attn.{m}_proj").reshape(n, -1, head) for m in "qkv")
    q, k = rotate(q, c["rope_theta"]), rotate(k, c["rope_theta"])
    k, v = (np.repeat(m, q.shape[1] // m.shape[1], 1) for m in (k, v))
    scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(head)
    scores[:, np.triu(np.ones((n, n), bool), 1)] = -np.inf
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    x = x + times(np.einsum("hij,jhd->ihd", scores, v).reshape(n, -1), "self_attn.o_proj")
    y = norm(x, w.rows(p + "post_attention_layernorm.weight"))
    gate = times(y, "mlp.gate_proj")
    x = x + times(gate / (1 + np.exp(-gate)) * times(y, "mlp.up_proj"), "mlp.down_proj")
    return norm(x, w.rows("model.norm.weight")) @ w.rows("lm_head.weight", 0, ROWS).T


def check_block(folder):
    c = maker.SHAPES["llama-3-70b"]
    b = c["num_hidden_layers"] - 1
    path = make("llama-3-70b", os.path.join(folder, "filled"), "--shard", "0", "--fill-block",
                str(b), "--fill-rows", str(ROWS))
    about = json.loads(finercut("info", path, "--json"))
    chosen = plan(os.path.join(folder, "plan.json"), about, "blocks",
                  [f"block.{i}" for i in range(b)])
    tokens, out = os.path.join(folder, "tokens.json"), os.path.join(folder, "out.npy")
    with open(tokens, "w") as f:
        json.dump([IDS], f)
    w = Weights(os.path.join(path, "model.safetensors"))
    at = w.data + w.header[f"model.layers.{b}.input_layernorm.weight"]["data_offsets"][0]
    check("the last block is past 2^37 bytes", at > 2**37, at)
    finercut("logits", path, "--plan", chosen, "--tokens", tokens, "-o", out, "--compute", "f32")
    ours, theirs = np.load(out), forward(c, w, b)
    most = np.abs(theirs).max()
    far = np.abs(ours[:, :ROWS] - theirs).max() / most
    print(f"llama-3-70b, block {b}: logits up to {most:.3g}, {far:.2g} of that apart from numpy's")
    check("its block's logits are numpy's", most > 1 and far < 1e-4, far)
    check("logits of holes are zeros", not ours[:, ROWS:].any())


def main():
    with tempfile.TemporaryDirectory() as folder:
        hole = os.path.join(folder, "hole")
        with open(hole, "wb") as f:
            f.truncate(1 << 30)
        if os.stat(hole).st_blocks * 512 > 1 << 20:
            skip("models of published sizes", "no holes in this file system")
        else:
            for shape in sys.argv[1:] or maker.SHAPES:
                check_shape(shape, folder)
            if not sys.argv[1:] or "llama-3-70b" in sys.argv:
                check_block(folder)
    return end("check_sparse")


if __name__ == "__main__":
    sys.exit(main())
