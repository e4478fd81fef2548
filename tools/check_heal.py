#!/usr/bin/env python3
"""Compares finercut heal with the same equations in numpy and float64 (make interop).

    python tools/check_heal.py

Needs numpy and safetensors. FINERCUT is the program (./finercut). Models of the shape of Qwen2
(biases, shared key heads) and Mixtral (a router, a window) lose two sublayers; every fitted
projection, the residual rows that the healed ones give, and the logits have to agree within 1e-4.
"""
import json
import os
import sys
import tempfile

import numpy as np

from common import ROOT, attempt, check, end, finercut

LENGTH, N, RIDGE = 24, 32, 0.1


def tensors(path):
    """The file's tensors as float64; numpy has no bfloat16, so the bytes are read here."""
    with open(path, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        head, data = json.loads(f.read(size)), f.read()
    out = {}
    for name, t in head.items():
        if name == "__metadata__":
            continue
        raw = data[slice(*t["data_offsets"])]
        if t["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[t["dtype"]])
        out[name] = values.astype(np.float64).reshape(t["shape"])
    return out


class Model:
    def __init__(self, path):
        with open(os.path.join(path, "config.json")) as f:
            c = json.load(f)
        self.w = tensors(os.path.join(path, "model.safetensors"))
        self.blocks, self.d = c["num_hidden_layers"], c["hidden_size"]
        self.heads, self.kv = c["num_attention_heads"], c["num_key_value_heads"]
        self.experts, self.used = c.get("num_local_experts", 0), c.get("num_experts_per_tok", 0)
        self.vocab, self.theta = c["vocab_size"], c["rope_theta"]
        self.eps = c.get("rms_norm_eps", 1e-5 if self.experts else 1e-6)
        self.window = c["sliding_window"] if c.get("use_sliding_window", True) else LENGTH

    def linear(self, x, name):
        y = x @ self.w[name + ".weight"].T
        return y + self.w[name + ".bias"] if name + ".bias" in self.w else y

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.w[name + ".weight"]

    def rotate(self, x):
        half = x.shape[-1] // 2
        angle = np.arange(LENGTH)[:, None] * self.theta ** (-np.arange(half) / half)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def attention(self, x, at):
        """What o_proj multiplies, for rows [N, LENGTH, d]."""
        h = self.norm(x, at + "input_layernorm")
        out = []
        i = np.arange(LENGTH)
        unseen = (i[None, :] > i[:, None]) | (i[:, None] - i[None, :] >= self.window)
        for rows in h:
            q, k, v = (self.linear(rows, f"{at}self_attn.{n}_proj").reshape(LENGTH, m, -1)
                       for n, m in (("q", self.heads), ("k", self.kv), ("v", self.kv)))
            q, k = self.rotate(q), np.repeat(self.rotate(k), self.heads // self.kv, 1)
            v = np.repeat(v, self.heads // self.kv, 1)
            scores = np.einsum("ihc,jhc->hij", q, k) / np.sqrt(q.shape[-1])
            scores = np.where(unseen, -np.inf, scores)
            p = np.exp(scores - scores.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            out.append(np.einsum("hij,jhc->ihc", p, v).reshape(LENGTH, -1))
        return np.stack(out)

    def inner(self, h, at, names):
        gate, up = (self.linear(h, at + n) for n in names)
        return gate / (1 + np.exp(-gate)) * up

    def parts(self, x, s):
        """Of a sublayer: per projection its name, what it multiplies, and each row's share."""
        at = f"model.layers.{s // 2}."
        one = np.ones(x.shape[:2])
        if s % 2 == 0:
            return [(at + "self_attn.o_proj", self.attention(x, at), one)]
        h = self.norm(x, at + "post_attention_layernorm")
        if not self.experts:
            return [(at + "mlp.down_proj", self.inner(h, at + "mlp.", ("gate_proj", "up_proj")),
                     one)]
        at += "block_sparse_moe."
        scores = self.linear(h, at + "gate")
        chosen = np.zeros_like(scores)
        np.put_along_axis(chosen, np.argsort(-scores, -1, "stable")[..., :self.used], 1, -1)
        p = np.exp(scores - scores.max(-1, keepdims=True)) * chosen
        p /= p.sum(-1, keepdims=True)
        return [(f"{at}experts.{i}.w2", self.inner(h, f"{at}experts.{i}.", ("w1", "w3")),
                 p[..., i]) for i in range(self.experts)]

    def run(self, x, s):
        return x + sum(share[..., None] * self.linear(inputs, name)
                       for name, inputs, share in self.parts(x, s))

    def logits(self, x):
        head = "lm_head" if "lm_head.weight" in self.w else "model.embed_tokens"
        return self.linear(self.norm(x, "model.norm"), head)


def fit(inputs, error, lengths, share, total):
    """The change of a projection by the rows of all but every eighth sequence; None: no help."""
    rows = share > 0
    x = inputs * (share / lengths)[..., None]
    e = error * (share * share / total / lengths)[..., None]
    held = np.zeros(rows.shape, bool)
    held[7::8] = True
    a, b = x[rows & ~held], e[rows & ~held]
    if len(a) < a.shape[1] / 4:
        return None
    g = a.T @ a
    g += RIDGE * np.trace(g) / len(g) * np.eye(len(g))
    change = np.linalg.solve(g, a.T @ b).T
    a, b = x[rows & held], e[rows & held]
    left, was = ((b - a @ change.T) ** 2).sum(), (b * b).sum()
    return change if left < was else None


def heal(m, ids, gone):
    """Heals m in place; returns the changes by name, and the healed residual rows."""
    x = m.w["model.embed_tokens.weight"][ids]
    whole, healed, changes = x, x, {}
    for s in range(2 * m.blocks):
        whole = m.run(whole, s)
        if s in gone:
            continue
        if s > min(gone):
            parts = m.parts(healed, s)
            error = whole - m.run(healed, s)
            lengths = np.sqrt((whole * whole).sum(-1))
            total = sum(share * share for _, _, share in parts)
            for name, inputs, share in parts:
                change = fit(inputs, error, lengths, share, total)
                if change is not None:
                    changes[name] = change
            for name, change in changes.items():
                if name in (part[0] for part in parts):
                    m.w[name + ".weight"] = m.w[name + ".weight"] + change
        healed = m.run(healed, s)
    return changes, healed


def off(a, b):
    return np.sqrt(((a - b) ** 2).sum() / (b * b).sum())


def compare(name, work):
    path = os.path.join(ROOT, "tests", "data", name)
    m, was = Model(path), Model(path)
    ids = np.random.default_rng(3).integers(3, 40, (N, LENGTH))
    tokens, plan = os.path.join(work, "tokens.json"), os.path.join(work, name + ".json")
    out, npy = os.path.join(work, name + ".safetensors"), os.path.join(work, name + ".npy")
    with open(tokens, "w") as f:
        json.dump(ids.tolist(), f)
    finercut("prune", path, "--tokens", tokens, "--remove", "2", "--search", "one-shot",
             "--keep", f"block.{m.blocks - 1}", "--quiet", "-o", plan)
    with open(plan) as f:
        removed = [s["removed"].split(".") for s in json.load(f)["steps"]]
    gone = {2 * int(block) + (kind == "ffn") for kind, block in removed}
    finercut("heal", path, "--plan", plan, "--tokens", tokens, "--own", "0", "--repeats", "0",
             "--ridge", str(RIDGE), "--type", "f32", "--compute", "f32", "--quiet", "-o", out)
    finercut("logits", path, "--heal", out, "--tokens", tokens, "--compute", "f32", "-o", npy)
    changes, rows = heal(m, ids, gone)
    got = tensors(out)
    check(f"{name}: which projections", set(got) == {n + ".weight" for n in changes},
          sorted(set(got) ^ {n + ".weight" for n in changes}))
    for n, change in changes.items():
        if n + ".weight" in got:
            wrong = off(got[n + ".weight"] - was.w[n + ".weight"], change)
            check(f"{name}: the change of {n}", wrong < 1e-3, wrong)
            wrong = off(got[n + ".weight"], m.w[n + ".weight"])
            check(f"{name}: {n}", wrong < 1e-4, wrong)
    logits = np.load(npy).astype(np.float64).reshape(-1, m.vocab)
    wrong = off(logits, m.logits(rows).reshape(-1, m.vocab))
    check(f"{name}: logits of the healed model", wrong < 1e-4, wrong)
    for n in got:  # rows by finercut's tensors against rows by the reference's
        was.w[n] = got[n]
    x = was.w["model.embed_tokens.weight"][ids]
    for s in sorted(set(range(2 * m.blocks)) - gone):
        x = was.run(x, s)
    check(f"{name}: healed residual rows", off(x, rows) < 1e-4, off(x, rows))


def main():
    with tempfile.TemporaryDirectory() as work:
        for name in ("qwen2", "mixtral"):
            attempt(name, compare, work)
    return end("check_heal")


if __name__ == "__main__":
    sys.exit(main())
