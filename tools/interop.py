#!/usr/bin/env python3
"""Compares ./finercut with the packages that other people use for the same files (make interop).

    python tools/interop.py

Needs numpy, safetensors, gguf, tokenizers; transformers and torch where they are installed.

FINERCUT is the program (./finercut), FINERCUT_SMOLLM2_GGUF a real .gguf model to try as well,
FINERCUT_SMOLLM2_HF a directory of one. The logits are computed once more here,
in numpy and double precision, from the weights as those packages read them.
"""
import csv
import json
import os
import random
import sys
import tempfile
import xml.etree.ElementTree

import gguf
import numpy as np
from safetensors import safe_open
from tokenizers import Tokenizer

from common import ROOT, attempt, check, end, finercut, skip

DATA = os.path.join(ROOT, "tests", "data")
DEMO = os.path.join(ROOT, "examples", "demo")


# --------------------------------------------------------------------------------------- containers

def listed(path):
    info = json.loads(finercut("info", path, "--tensors", "--json"))
    return {t["name"]: (t["dtype"], t["shape"]) for t in info["tensors"]}


def compare_safetensors(what, path):
    with safe_open(path, "np") as f:
        theirs = {k: (f.get_slice(k).get_dtype(), list(f.get_slice(k).get_shape()))
                  for k in f.keys()}
    ours = listed(path)
    check(what, ours == theirs, set(map(str, ours.items())) ^ set(map(str, theirs.items())))


def write_safetensors(path):
    from safetensors.numpy import save_file
    kinds = [np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8,
             np.bool_]
    tensors = {f"t.{np.dtype(k).name}": np.zeros((3, 2 + i), k) for i, k in enumerate(kinds)}
    tensors.update({"scalar": np.array(1, np.float32), "nothing": np.zeros((0, 4), np.float32),
                    "long": np.zeros((1, 2, 1, 3, 1, 2), np.int8),
                    "名前 \"quoted\"\n": np.zeros(5, np.uint8)})
    save_file(tensors, path, {"format": "np", "key \u00e9": "value\t"})


def compare_gguf(what, path):
    theirs = {t.name: (t.tensor_type.name, [int(n) for n in reversed(t.shape)])
              for t in gguf.GGUFReader(path).tensors}
    ours = listed(path)
    check(what, ours == theirs, set(map(str, ours.items())) ^ set(map(str, theirs.items())))


def write_gguf(path):
    w = gguf.GGUFWriter(path, "none")
    del w.kv_data[0]["general.architecture"]  # with one it would be a model
    rows = np.random.default_rng(1).normal(size=(3, 256)).astype(np.float32)
    types = gguf.GGMLQuantizationType
    for t in (types.F32, types.F16, types.BF16, types.Q8_0, types.Q4_0, types.Q4_1, types.Q5_0,
              types.Q5_1):
        w.add_tensor(f"w.{t.name}", gguf.quants.quantize(rows, t), raw_dtype=t)
    w.add_uint64("n", 2**63)
    w.add_array("words", ["a", "b\u00e9", ""])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# ------------------------------------------------------------------------------------------- logits
# Llama in numpy, float64.

def rotate(x, theta, interleaved, scale):
    n, d = x.shape[0], x.shape[-1]
    angle = np.arange(n)[:, None] * (theta ** (-np.arange(0, d, 2) / d) * scale)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :d // 2], x[..., d // 2:])
    y = np.empty_like(x)
    first, second = a * cos - b * sin, a * sin + b * cos
    if interleaved:
        y[..., 0::2], y[..., 1::2] = first, second
    else:
        y[..., :d // 2], y[..., d // 2:] = first, second
    return y


def norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def llama(c, weight, ids, removed=()):
    """c: plain numbers; weight(name, block) gives a float64 array or None."""
    x = weight("embed", None)[ids]
    n, heads, kv = len(ids), c["heads"], c["kv_heads"]
    linear = lambda x, name, i: x @ weight(name,
                                           i).T + (weight(name + ".bias", i)
                                                   if weight(name + ".bias", i) is not None else 0)
    for i in range(c["blocks"]):
        if f"attn.{i}" not in removed:
            h = norm(x, weight("attn_norm", i), c["eps"])
            q, k, v = (linear(h, name, i).reshape(n, m, -1) for name,
                       m in (("q", heads), ("k", kv), ("v", kv)))
            q, k = (rotate(t, c["theta"], c["interleaved"], c["scale"]) for t in (q, k))
            k, v = (np.repeat(t, heads // kv, 1) for t in (k, v))
            s = np.einsum("ihd,jhd->hij", q,
                          k) / np.sqrt(q.shape[-1]) + np.triu(np.full((n, n), -np.inf), 1)
            p = np.exp(s - s.max(-1, keepdims=True))
            x = x + linear(np.einsum("hij,jhd->ihd", p / p.sum(-1, keepdims=True),
                                     v).reshape(n, -1), "o", i)
        if f"ffn.{i}" not in removed:
            h = norm(x, weight("ffn_norm", i), c["eps"])
            gate = linear(h, "gate", i)
            x = x + linear(gate / (1 + np.exp(-gate)) * linear(h, "up", i), "down", i)
    head = weight("head", None)
    return norm(x, weight("norm", None), c["eps"]) @ (weight("embed", None) if head is None
                                                      else head).T


HF = dict(embed="model.embed_tokens", norm="model.norm", head="lm_head",
          attn_norm="input_layernorm", ffn_norm="post_attention_layernorm",
          q="self_attn.q_proj", k="self_attn.k_proj", v="self_attn.v_proj", o="self_attn.o_proj",
          gate="mlp.gate_proj", up="mlp.up_proj",
          down="mlp.down_proj")
GGUF = dict(embed="token_embd", norm="output_norm", head="output", attn_norm="attn_norm",
            ffn_norm="ffn_norm", q="attn_q", k="attn_k", v="attn_v", o="attn_output",
            gate="ffn_gate", up="ffn_up", down="ffn_down")


def names(table, block):
    def name_of(name, i):
        base, _, suffix = name.partition(".")
        return (block.format(i) if i is not None else "") + table[base] + "." + (suffix or "weight")
    return name_of


def read_safetensors(path):
    """All tensors as float64; bfloat16 is widened by hand, since numpy has no such type."""
    with open(path, "rb") as f:
        raw = f.read()
    n = int.from_bytes(raw[:8], "little")
    out = {}
    for name, t in json.loads(raw[8:8 + n]).items():
        if name == "__metadata__":
            continue
        data = raw[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]]
        if t["dtype"] == "BF16":
            a = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            a = np.frombuffer(data, {"F32": np.float32, "F16": np.float16}[t["dtype"]])
        out[name] = a.astype(np.float64).reshape(t["shape"])
    return out


def load_hf(path):
    with open(os.path.join(path, "config.json")) as f:
        j = json.load(f)
    tensors = {}
    for name in sorted(os.listdir(path)):
        if name.endswith(".safetensors"):
            tensors.update(read_safetensors(os.path.join(path, name)))
    rope = j.get("rope_parameters") or {}
    c = dict(blocks=j["num_hidden_layers"], heads=j["num_attention_heads"],
             kv_heads=j["num_key_value_heads"], eps=j["rms_norm_eps"],
             theta=rope.get("rope_theta", j.get("rope_theta", 10000.0)), interleaved=False,
             scale=1, vocabulary=j["vocab_size"])
    name_of = names(HF, "model.layers.{}.")
    return c, lambda name, i: tensors.get(name_of(name, i))


def load_gguf(path):
    r = gguf.GGUFReader(path)
    field = lambda key: r.fields["llama." + key].contents()
    tensors = {t.name: t for t in r.tensors}
    cache = {}
    c = dict(blocks=field("block_count"), heads=field("attention.head_count"),
             kv_heads=field("attention.head_count_kv"),
             eps=field("attention.layer_norm_rms_epsilon"), theta=field("rope.freq_base"),
             interleaved=True, scale=1, vocabulary=int(tensors["token_embd.weight"].shape[1]))
    name_of = names(GGUF, "blk.{}.")

    def weight(name, i):
        key = name_of(name, i)
        if key not in tensors:
            return None
        if key not in cache:
            t = tensors[key]
            cache[key] = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64)
        return cache[key]
    return c, weight


def logits(model, sequences, *flags):
    with tempfile.TemporaryDirectory() as d:
        tokens, out = os.path.join(d, "tokens.json"), os.path.join(d, "out.npy")
        with open(tokens, "w") as f:
            json.dump(sequences, f)
        finercut("logits", model, "--tokens", tokens, "-o", out, *flags)
        perplexity = json.loads(finercut("eval", model, "--tokens", tokens,
                                         "--json", *flags))["perplexity"]
        return np.load(out), perplexity


def close(ours, theirs, tolerance):
    return ours.shape == theirs.shape and np.abs(ours
                                                 - theirs).max() <= tolerance * np.abs(theirs).max()


def mean_nll(rows, sequences):
    total, at, n = 0.0, 0, 0
    for ids in sequences:
        r = rows[at:at + len(ids) - 1]
        m = r.max(-1, keepdims=True)
        total += (np.log(np.exp(r - m).sum(-1)) + m[:, 0]
                  - r[np.arange(len(ids) - 1), ids[1:]]).sum()
        at, n = at + len(ids), n + len(ids) - 1
    return total / n


def compare_logits(what, path, load, lengths):
    c, weight = load(path)
    draw = random.Random(1)
    sequences = [[draw.randrange(c["vocabulary"]) for _ in range(n)] for n in lengths]
    theirs = np.concatenate([llama(c, weight, ids) for ids in sequences])
    ours, perplexity = logits(path, sequences, "--compute", "f32")
    check(what, ours.dtype == np.float32 and close(ours, theirs, 1e-4), np.abs(ours - theirs).max())
    expected = np.exp(mean_nll(theirs, sequences))
    check(what + ", perplexity", abs(perplexity / expected - 1) < 1e-4, (perplexity, expected))


def compare_plan(what, path, load):
    """Prunes, and runs the plan's removals in numpy too; looks at the other files of a plan on the
    way."""
    c, weight = load(path)
    draw = random.Random(2)
    sequences = [[draw.randrange(c["vocabulary"]) for _ in range(9)] for _ in range(2)]
    with tempfile.TemporaryDirectory() as d:
        at = lambda name: os.path.join(d, name)
        with open(at("tokens.json"), "w") as f:
            json.dump(sequences, f)
        finercut("prune", path, "--tokens", at("tokens.json"), "--remove", "50%",
                 "--compute", "f32", "-o", at("plan.json"))
        finercut("report", at("plan.json"), "-o", at("plan.svg"))
        finercut("report", at("plan.json"), "-o", at("plan.csv"))
        with open(at("plan.json")) as f:
            plan = json.load(f)
        removed = [s["removed"] for s in plan["steps"]]
        ours, _ = logits(path, sequences, "--compute", "f32", "--plan", at("plan.json"))
        check(what + ", svg",
              xml.etree.ElementTree.parse(at("plan.svg")).getroot().tag.endswith("svg"))
        with open(at("plan.csv"), newline="") as f:
            rows = list(csv.DictReader(f))
        check(what + ", csv", len(rows) == sum(len(s["scores"]) for s in plan["steps"]), len(rows))
    theirs = np.concatenate([llama(c, weight, ids, removed) for ids in sequences])
    check(what, len(removed) == c["blocks"] and close(ours, theirs, 1e-4),
          np.abs(ours - theirs).max())


def compare_transformers(what, path):
    import torch
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32,
                                                 attn_implementation="eager").eval()
    draw = random.Random(3)
    ids = [draw.randrange(model.config.vocab_size) for _ in range(50)]
    with torch.no_grad():
        theirs = model(torch.tensor([ids])).logits[0].double().numpy()
    ours, _ = logits(path, [ids], "--compute", "f32")
    check(what, close(ours, theirs, 1e-4), np.abs(ours - theirs).max())


def compare_generation(what, path, prompts, n):
    """Greedy continuations, token by token with transformers' cache; float32 on both sides."""
    import torch
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32,
                                                 attn_implementation="eager").eval()
    tokenizer = Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    for prompt in prompts:
        ids = tokenizer.encode(prompt).ids
        with torch.no_grad():
            theirs = model.generate(torch.tensor([ids]), max_new_tokens=n, do_sample=False,
                                    pad_token_id=0)[0, len(ids):].tolist()
        if theirs[-1] in ends:
            theirs.pop()
        ours = finercut("generate", path, "--prompt", prompt, "-n", str(n), "--compute", "f32",
                        "--quiet").decode()
        check(f"{what}, {prompt!r}",
              ours == tokenizer.decode(theirs, skip_special_tokens=False) + "\n",
              (ours, tokenizer.decode(theirs)))


# --------------------------------------------------------------------------------------- tokenizers

TEXTS = ["", " ", "Hello world", "  two  spaces and\ttabs\n\n\nlines\r\n", "don't we'll I'M 'tis",
         "1234567 3.14 0x1F", "naïve café — “quotes”…", "日本語のテキスト 中文 한국어", "👩‍👩‍👧‍👦 🇩🇪 é e\u0301",
         "\u00a0\u3000\u2028x", "<|endoftext|>a<|endoftext|>", "<s>[INST]</s>", "a" * 300,
         "\x00\x01\x7f",
         "SHOUTING snake_case camelCase http://x.y/z?q=1&r=2#f", "\ufb01 ½ Ⅷ ①"]


def compare_tokenizer(what, path, model, texts):
    theirs = Tokenizer.from_file(path)
    for flags, special in (((), False), (("--special",), True)):
        bad = []
        for text in texts:
            ids = theirs.encode(text, add_special_tokens=special).ids
            if json.loads(finercut("tokenize", model, *flags, text=text.encode())) != ids:
                bad.append(text)
        check(f"{what}{' --special' if special else ''}", not bad, bad)


def random_texts(n):
    draw = random.Random(4)
    alphabet = [chr(c) for c in list(range(32, 127)) + list(range(0xa0, 0x250))
                + [0x3b1, 0x416, 0x5d0, 0x627, 0x905, 0x4e2d, 0x1f600, 0x301, 10, 9]]
    return ["".join(draw.choice(alphabet + [" "] * 60) for _ in range(draw.randrange(80)))
            for _ in range(n)]


def main():
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "all.safetensors")
        write_safetensors(path)
        attempt("safetensors of all types", compare_safetensors, path)
        path = os.path.join(d, "all.gguf")
        write_gguf(path)
        attempt("GGUF of all types", compare_gguf, path)
    for base, _, files in sorted(os.walk(DATA)):
        for name in sorted(files):
            if name.endswith(".safetensors"):
                attempt("list " + name, compare_safetensors, os.path.join(base, name))
            if name.endswith(".gguf"):
                attempt("list " + name, compare_gguf, os.path.join(base, name))
                # the families of other files are compared with transformers, in make_reference.py
                if name.startswith("llama"):
                    attempt("logits of " + name, compare_logits, os.path.join(base, name),
                            load_gguf, (7, 1, 30))
    for path in (DEMO, os.path.join(DATA, "llama_f32_bias"),
                 os.path.join(DATA, "llama_f16_sharded")):
        attempt("logits of " + os.path.basename(path), compare_logits, path, load_hf, (40, 1, 23))
        attempt("plan of " + os.path.basename(path), compare_plan, path, load_hf)
    with open(os.path.join(DEMO, "heldout.txt"), encoding="utf-8") as f:
        text = f.read()
    attempt("demo tokenizer", compare_tokenizer, os.path.join(DEMO, "tokenizer.json"), DEMO,
            TEXTS + random_texts(60) + [text])
    try:
        import transformers  # noqa: F401
    except ImportError:
        skip("transformers", "not installed")
    else:
        attempt("transformers on the demo", compare_transformers, DEMO)
        attempt("generation of the demo", compare_generation, DEMO,
                ["In the beginning God", "And", "x y z"], 60)
        real = os.environ.get("FINERCUT_SMOLLM2_HF")
        if real:
            attempt("generation of " + os.path.basename(real), compare_generation, real,
                    ["The capital of France is", "def fibonacci(n):\n",
                     "<|im_start|>user\nWhat is rain?<|im_end|>\n<|im_start|>assistant\n",
                     "Écrivez une phrase en français :", "1 2 3 4 5"], 64)
        else:
            skip("generation of a real model", "FINERCUT_SMOLLM2_HF is not set")
    real = os.environ.get("FINERCUT_SMOLLM2_GGUF")
    if real:
        attempt("list " + os.path.basename(real), compare_gguf, real)
        attempt("logits of " + os.path.basename(real), compare_logits, real, load_gguf, (12, 3))
    else:
        skip("a real model", "FINERCUT_SMOLLM2_GGUF is not set")
    return end("interop")


if __name__ == "__main__":
    sys.exit(main())
