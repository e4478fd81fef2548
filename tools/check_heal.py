#!/usr/bin/env python3
"""Compares finercut heal with the same equations in numpy and float64 (make interop).

    python tools/check_heal.py

Needs numpy and gguf. FINERCUT is the program (./finercut), FINERCUT_GEMMA3_GGUF a real Gemma 3.
Models of the shape of Qwen2 (biases, shared key heads), Mixtral (a router, a window) and Gemma 3
(norms after sublayers) lose sublayers; every fitted projection, the residual rows that the healed
ones give, and the logits have to agree within 1e-4. With nothing removed nothing changes.
"""
import copy
import json
import os
import sys
import tempfile

import gguf
import numpy as np

from common import ROOT, attempt, check, end, finercut, skip

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
        return self.unit(x) * self.w[name + ".weight"]

    def unit(self, x):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps)

    def shape(self, block):
        """The base of the rope, by what positions are divided, and the window."""
        return self.theta, 1, self.window

    def embed(self, ids):
        return self.w["model.embed_tokens.weight"][ids]

    def head_norm(self, x, name):
        return x

    def act(self, x):
        return x / (1 + np.exp(-x))

    def gains(self, s):
        """Of the norm that follows a sublayer, if one does."""
        return None

    def rotate(self, x, theta, divisor):
        half = x.shape[-1] // 2
        angle = np.arange(LENGTH)[:, None] / divisor * theta ** (-np.arange(half) / half)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def attention(self, x, block, at):
        """What o_proj multiplies, for rows [N, LENGTH, d]."""
        h = self.norm(x, at + "input_layernorm")
        theta, divisor, window = self.shape(block)
        out = []
        i = np.arange(LENGTH)
        unseen = (i[None, :] > i[:, None]) | (i[:, None] - i[None, :] >= window)
        for rows in h:
            q, k, v = (self.linear(rows, f"{at}self_attn.{n}_proj").reshape(LENGTH, m, -1)
                       for n, m in (("q", self.heads), ("k", self.kv), ("v", self.kv)))
            q, k = (self.rotate(self.head_norm(r, f"{at}self_attn.{n}_norm"), theta, divisor)
                    for r, n in ((q, "q"), (k, "k")))
            k, v = (np.repeat(r, self.heads // self.kv, 1) for r in (k, v))
            scores = np.einsum("ihc,jhc->hij", q, k) / np.sqrt(q.shape[-1])
            scores = np.where(unseen, -np.inf, scores)
            p = np.exp(scores - scores.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            out.append(np.einsum("hij,jhc->ihc", p, v).reshape(LENGTH, -1))
        return np.stack(out)

    def inner(self, h, at, names):
        gate, up = (self.linear(h, at + n) for n in names)
        return self.act(gate) * up

    def parts(self, x, s):
        """Of a sublayer: per projection its name, what it multiplies, and each row's share."""
        at = f"model.layers.{s // 2}."
        one = np.ones(x.shape[:2])
        if s % 2 == 0:
            return [(at + "self_attn.o_proj", self.attention(x, s // 2, at), one)]
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

    def run(self, x, s, parts=None):
        z = sum(share[..., None] * self.linear(inputs, name)
                for name, inputs, share in parts or self.parts(x, s))
        gains = self.gains(s)
        return x + (z if gains is None else self.unit(z) * gains)

    def logits(self, x):
        head = "lm_head" if "lm_head.weight" in self.w else "model.embed_tokens"
        return self.linear(self.norm(x, "model.norm"), head)


class Gemma3(Model):
    """From GGUF, its tensors under Llama's names."""
    NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm",
             "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj",
             "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
             "attn_output": "self_attn.o_proj", "post_attention_norm": "attn_post",
             "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
             "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "post_ffw_norm": "ffn_post"}

    @classmethod
    def name(cls, stored):
        *block, name = stored.removesuffix(".weight").removeprefix("blk.").split(".")
        return "".join(f"model.layers.{i}." for i in block) + cls.NAMES[name] + ".weight"

    def __init__(self, path):
        file = gguf.GGUFReader(path)

        def field(key, default=None):
            f = file.fields.get("gemma3." + key)
            return f.contents() if f else default
        self.w = {self.name(t.name): gguf.quants.dequantize(t.data, t.tensor_type)
                  .astype(np.float64) for t in file.tensors}
        self.blocks, self.d = field("block_count"), field("embedding_length")
        self.heads, self.kv = field("attention.head_count"), field("attention.head_count_kv")
        self.experts, self.theta = 0, field("rope.freq_base")
        self.divisor = field("rope.scaling.factor", 1)
        self.window, self.eps = field("attention.sliding_window"), 1e-6
        self.vocab = len(self.w["model.embed_tokens.weight"])

    def shape(self, block):
        everything = (block + 1) % 6 == 0
        return (self.theta, self.divisor, LENGTH) if everything else (1e4, 1, self.window)

    def embed(self, ids):
        return super().embed(ids) * np.sqrt(self.d)

    def head_norm(self, x, name):
        return self.norm(x, name)

    def act(self, x):
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))

    def gains(self, s):
        return self.w[f"model.layers.{s // 2}.{'ffn' if s % 2 else 'attn'}_post.weight"]


def held_out(rows):
    held = np.zeros(rows.shape, bool)
    held[7::8] = True
    return rows & held


def fit(inputs, error, lengths, share, total):
    """The change of a projection by the rows of all but every eighth sequence; None: no help."""
    rows = share > 0
    x = inputs * (share / lengths)[..., None]
    e = error * (share * share / total / lengths)[..., None]
    held = held_out(rows)
    a, b = x[rows & ~held], e[rows & ~held]
    if len(a) < a.shape[1] / 4:
        return None
    g = a.T @ a
    g += RIDGE * np.trace(g) / len(g) * np.eye(len(g))
    change = np.linalg.solve(g, a.T @ b).T
    a, b = x[held], e[held]
    left, was = ((b - a @ change.T) ** 2).sum(), (b * b).sum()
    return change if left < was else None


def fit_part(m, s, part, total, whole, healed, error):
    """The same in the projection's own terms: a norm that follows divides what it gives by its
    length, which the change alters, so there the rows held out are looked at once more."""
    name, inputs, share = part
    lengths, gains = np.sqrt((whole * whole).sum(-1)), m.gains(s)
    if gains is None:
        return fit(inputs, error, lengths, share, total)
    z = m.linear(inputs, name)
    unit = inputs / np.sqrt((z * z).mean(-1, keepdims=True) + m.eps)
    change = fit(unit, error, lengths, share, total)
    if change is None:
        return None
    change /= gains[:, None]
    n = copy.copy(m)
    n.w = {**m.w, name + ".weight": m.w[name + ".weight"] + change}
    after = whole - n.run(healed, s, [part])
    left, was = (((e / lengths[..., None])[held_out(share > 0)] ** 2).sum() for e in (after, error))
    return change if left < was else None


def heal(m, ids, gone):
    """Heals m in place; returns the changes by name, and the healed residual rows."""
    x = m.embed(ids)
    whole, healed, changes = x, x, {}
    for s in range(2 * m.blocks):
        whole = m.run(whole, s)
        if s in gone:
            continue
        if s < min(gone):
            healed = whole
            continue
        parts = m.parts(healed, s)
        total = sum(share * share for _, _, share in parts)
        error = whole - m.run(healed, s, parts)
        for part in parts:
            change = fit_part(m, s, part, total, whole, healed, error)
            if change is not None:
                changes[part[0]] = change
        for name in {part[0] for part in parts} & set(changes):
            m.w[name + ".weight"] = m.w[name + ".weight"] + changes[name]
        healed = m.run(healed, s, parts)
    return changes, healed


def off(a, b):
    return np.sqrt(((a - b) ** 2).sum() / (b * b).sum())


def check_nothing(name, path, plan, flags, work):
    """With nothing removed no tensor changes, and an export is as without healing."""
    none, plain, healed = (os.path.join(work, n) for n in ("none", "plain.gguf", "healed.gguf"))
    finercut("heal", path, "--plan", plan, "--remove", "0", *flags, "-o", none, "--force")
    check(f"{name}: nothing removed", not tensors(none), list(tensors(none)))
    bytes_of = {}
    for out, how in ((plain, ["--plan", plan, "--remove", "0"]), (healed, ["--heal", none])):
        finercut("export", path, *how, "--format", "gguf", "-o", out, "--force", "--quiet")
        bytes_of[out] = [(t.name, t.tensor_type, t.data.tobytes())
                         for t in gguf.GGUFReader(out).tensors]
    check(f"{name}: nothing removed, exported", bytes_of[plain] == bytes_of[healed])


def compare(name, path, m, ids, remove, work):
    """Heals what a search leaves of it; logits of the first two sequences only, which may be
    large."""
    was = copy.copy(m)
    was.w = dict(m.w)
    tokens, plan = os.path.join(work, "tokens.json"), os.path.join(work, name + ".json")
    out, npy = os.path.join(work, name + ".safetensors"), os.path.join(work, name + ".npy")
    two = os.path.join(work, "two.json")
    for file, some in ((tokens, ids), (two, ids[:2])):
        with open(file, "w") as f:
            json.dump(some.tolist(), f)
    finercut("prune", path, "--tokens", two, "--remove", str(remove), "--search", "one-shot",
             "--keep", f"block.{m.blocks - 1}", "--quiet", "-o", plan)
    with open(plan) as f:
        removed = [s["removed"].split(".") for s in json.load(f)["steps"]]
    gone = {2 * int(block) + (kind == "ffn") for kind, block in removed}
    flags = ("--tokens", tokens, "--own", "0", "--repeats", "0", "--compute", "f32", "--quiet")
    finercut("heal", path, "--plan", plan, *flags, "--ridge", str(RIDGE), "--type", "f32",
             "-o", out)
    finercut("logits", path, "--heal", out, "--tokens", two, "--compute", "f32", "-o", npy)
    changes, rows = heal(m, ids, gone)
    name_of = Gemma3.name if isinstance(m, Gemma3) else str
    got = {name_of(n): w for n, w in tensors(out).items()}
    check(f"{name}: which projections", set(got) == {n + ".weight" for n in changes},
          sorted(set(got) ^ {n + ".weight" for n in changes}))
    worst = {}
    for n, change in changes.items():
        if n + ".weight" in got:
            wrong = off(got[n + ".weight"] - was.w[n + ".weight"], change)
            check(f"{name}: the change of {n}", wrong < 1e-3, wrong)
            worst["change"] = max(wrong, worst.get("change", 0))
            wrong = off(got[n + ".weight"], m.w[n + ".weight"])
            check(f"{name}: {n}", wrong < 1e-4, wrong)
            worst["projection"] = max(wrong, worst.get("projection", 0))
    logits = np.load(npy).astype(np.float64).reshape(-1, m.vocab)
    worst["logits"] = wrong = off(logits, m.logits(rows[:2]).reshape(-1, m.vocab))
    check(f"{name}: logits of the healed model", wrong < 1e-4, wrong)
    for n in got:  # rows by finercut's tensors against rows by the reference's
        was.w[n] = got[n]
    x = was.embed(ids)
    for s in sorted(set(range(2 * m.blocks)) - gone):
        x = was.run(x, s)
    worst["rows"] = off(x, rows)
    check(f"{name}: healed residual rows", worst["rows"] < 1e-4, worst["rows"])
    print(f"{name}: {len(gone)} removed, {len(changes)} projections changed, apart at most "
          + ", ".join(f"{what} {wrong:.1e}" for what, wrong in worst.items()), flush=True)
    check_nothing(name, path, plan, flags, work)


def golden(name, work):
    path = os.path.join(ROOT, "tests", "data", name)
    m = Gemma3(path) if name.endswith(".gguf") else Model(path)
    compare(name, path, m, np.random.default_rng(3).integers(3, 40, (N, LENGTH)), 2, work)


def real_gemma(name, path, work):
    """Its own tokens of a text, each sequence behind the start token without which it is lost."""
    text = os.path.join(ROOT, "examples", "demo", "heldout.txt")
    ids = json.loads(finercut("tokenize", path, "--text", text, "--special"))
    rows = np.array(ids[1:1 + N * (LENGTH - 1)]).reshape(N, LENGTH - 1)
    ids = np.concatenate([np.full((N, 1), ids[0]), rows], 1)
    compare(name, path, Gemma3(path), ids, 4, work)


def main():
    with tempfile.TemporaryDirectory() as work:
        for name in ("qwen2", "mixtral", "gemma3.gguf"):
            attempt(name, golden, work)
        real = os.environ.get("FINERCUT_GEMMA3_GGUF")
        if real:
            attempt(os.path.basename(real), real_gemma, real, work)
        else:
            skip("a real Gemma 3", "FINERCUT_GEMMA3_GGUF is not set")
    return end("check_heal")


if __name__ == "__main__":
    sys.exit(main())
