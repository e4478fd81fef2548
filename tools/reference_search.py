#!/usr/bin/env python3
"""The cost of FinerCut's search as the paper describes it, in PyTorch; prints JSON.

    python tools/reference_search.py --model DIR --tokens FILE --remove N [--dtype bf16|f32]
        [--threads N] [--plan plan.json]

The procedure: at each step every sublayer still present is a candidate; the model without it and
without all removed so far runs over all sequences of FILE (a JSON array of arrays of token ids),
whole logits, and the Jensen-Shannon divergence to the whole model's output, averaged over
positions, is its score. Here in the best straightforward way: the original's probabilities are
kept, a removed sublayer costs nothing, sequences a batch and attention are those that are fastest
on this machine, tried first. "whole" takes the divergence of a batch's logits at once, "sliced" as
few rows at a time as is fastest, for the caches' sake.

A candidate costs the same at every step but for the sublayers already gone. So candidates of both
kinds are timed at a few steps (--steps, default the first, the middle and the last), the best of
--repeats, and summed over all candidates of all steps, interpolated between. What is gone by then
is what --plan (ours) removed, whose scores are compared with the ones found here, or the last
sublayers without it.
"""
import argparse
import json
import math
import time

import torch

from bench_torch import DTYPES, load


class Reference:
    """A Llama-like model of transformers, run with a mask of its sublayers, 2 * block + (0
    attention, 1 FFN)."""

    def __init__(self, model, tokens):
        self.model, self.inner, self.tokens = model, model.model, tokens
        self.n_sublayers = 2 * len(self.inner.layers)
        length = tokens.shape[1]
        self.positions = torch.arange(length)[None]
        self.causal = torch.full((length, length),
                                 float("-inf")).triu(1).to(model.dtype)[None, None]
        self.set(len(tokens), length, "sdpa")

    def set(self, sequences, rows, attention):
        self.batch, self.rows, self.attention = sequences, rows, attention
        self.model.set_attn_implementation(attention)

    def logits(self, ids, present):
        m = self.inner
        h = m.embed_tokens(ids)
        turn = m.rotary_emb(h, self.positions)
        mask = self.causal if self.attention == "eager" else None  # sdpa knows causal without one
        for b, layer in enumerate(m.layers):
            if present[2 * b]:
                h = h + layer.self_attn(layer.input_layernorm(h), position_embeddings=turn,
                                        attention_mask=mask)[0]
            if present[2 * b + 1]:
                h = h + layer.mlp(layer.post_attention_layernorm(h))
        return self.model.lm_head(m.norm(h))

    def outputs(self, present):
        for ids in self.tokens.split(self.batch):
            yield self.logits(ids, present).flatten(0, 1)

    def remember(self):
        whole = [True] * self.n_sublayers
        self.log_p = torch.cat([torch.log_softmax(x.float(), -1) for x in self.outputs(whole)])
        self.p = self.log_p.exp()

    def score(self, present):
        total, at = 0.0, 0
        for batch in self.outputs(present):
            for rows in batch.split(self.rows):
                n = len(rows)
                total += divergence(self.p[at:at + n], self.log_p[at:at + n], rows)
                at += n
        return total / at

    def time(self, present):
        begin = time.perf_counter()
        score = self.score(present)
        return time.perf_counter() - begin, score


def divergence(p, log_p, logits):
    log_q = torch.log_softmax(logits.float(), -1)
    q = log_q.exp()
    log_m = (p + q).mul_(0.5).clamp_(min=1e-38).log_()
    left = (log_p - log_m).mul_(p).sum(-1)
    right = log_q.sub_(log_m).mul_(q).sum(-1)
    return 0.5 * (left + right).double().sum().item()


def tune(r, repeats):
    """The fastest attention and sequences a batch with the divergence of a batch at once, then the
    fastest rows a divergence."""
    present, tried = [True] * r.n_sublayers, []
    length = r.tokens.shape[1]

    def attempt(batch, rows, attention):
        r.set(batch, rows, attention)
        tried.append({"sequences": batch, "rows": rows, "attention": attention,
                      "seconds": min(r.time(present)[0] for _ in range(repeats))})

    def fastest(found):
        return min(found, key=lambda t: t["seconds"])

    attempt(1, length, "sdpa")
    tried.clear()  # that was to warm up
    for attention in ("sdpa", "eager"):
        attempt(min(2, len(r.tokens)), 2 * length, attention)
    attention = fastest(tried)["attention"]
    for batch in (1, 5, 10):
        if batch <= len(r.tokens):
            attempt(batch, batch * length, attention)
    whole = fastest(tried)
    n = len(tried)
    for rows in (8, 16, 32, 64):
        attempt(whole["sequences"], rows, attention)
    return {"whole": whole, "sliced": fastest(tried[n:])}, tried


def sublayer(name):
    kind, block = name.split(".")
    return 2 * int(block) + {"attn": 0, "ffn": 1}[kind]


def name_of(s):
    return f"{'attn' if s % 2 == 0 else 'ffn'}.{s // 2}"


def measure_step(r, step, order, plan_steps, repeats):
    """Seconds of an attention and of an FFN candidate at this step (from 1), and their scores."""
    present = [True] * r.n_sublayers
    for s in order[:step - 1]:
        present[s] = False
    ours = plan_steps[step - 1]["scores"] if step <= len(plan_steps) else {}
    found = {"step": step, "seconds": {}, "scores": []}
    for kind in (0, 1):
        choice = [s for s in range(r.n_sublayers) if present[s] and s % 2 == kind]
        if not choice:
            continue
        exact = [s for s in choice if ours.get(name_of(s), {}).get("exact")]
        s = (exact or choice)[len(exact or choice) // 2]
        present[s] = False
        times, scores = zip(*(r.time(present) for _ in range(repeats)))
        present[s] = True
        found["seconds"][kind] = min(times)
        row = {"candidate": name_of(s), "reference": scores[0]}
        if exact:
            row["ours"] = ours[name_of(s)]["value"]
        found["scores"].append(row)
    return found


def between(measured, kind, step):
    """Linear between the measured steps, on both ends the nearest."""
    points = [(m["step"], m["seconds"][kind]) for m in measured if kind in m["seconds"]]
    for (a, x), (b, y) in zip(points, points[1:]):
        if a <= step <= b:
            return x + (y - x) * (step - a) / (b - a)
    return points[0][1] if step < points[0][0] else points[-1][1]


def whole_search(n_sublayers, order, n_steps, measured):
    present, seconds, candidates = set(range(n_sublayers)), 0.0, 0
    for step in range(1, n_steps + 1):
        for s in present:
            seconds += between(measured, s % 2, step)
        candidates += len(present)
        present.discard(order[step - 1])
    return seconds, candidates


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--tokens", required=True)
    p.add_argument("--remove", type=int, required=True, help="steps of the whole search")
    p.add_argument("--plan")
    p.add_argument("--steps", help="steps to measure, 1,8,15")
    p.add_argument("--repeats", type=int, default=2)
    p.add_argument("--dtype", choices=DTYPES, default="bf16")
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    with open(a.tokens) as f:
        tokens = torch.tensor(json.load(f))
    plan_steps = []
    if a.plan:
        with open(a.plan) as f:
            plan_steps = json.load(f)["steps"]
    steps = ([int(s) for s in a.steps.split(",")] if a.steps
             else sorted({1, math.ceil(a.remove / 2), a.remove}))
    with torch.inference_mode():
        r = Reference(load(a.model, a.dtype), tokens)
        r.remember()
        ways, tried = tune(r, a.repeats)
        order = [sublayer(s["removed"]) for s in plan_steps]
        order += [s for s in reversed(range(r.n_sublayers)) if s not in order]
        found = {"tried": tried}
        for name, way in ways.items():
            r.set(way["sequences"], way["rows"], way["attention"])
            measured = [measure_step(r, s, order, plan_steps, a.repeats) for s in steps]
            seconds, candidates = whole_search(r.n_sublayers, order, a.remove, measured)
            found[name] = {"seconds": seconds, "candidates": candidates, "way": way,
                           "measured": measured}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
