#!/usr/bin/env python3
"""Compares what finercut makes of config.json with the `transformers` package: its configuration
classes, and its models.

    python3 tools/check_defaults.py TEST_ARCHITECTURE [--random N] [--models FINERCUT N]
        [--write tests/data/configs.jsonl]

TEST_ARCHITECTURE is the program built from tests/test_architecture.c. Every family's configuration
is written with as few keys as can be, then with one setting after the other added, in the spellings
that checkpoints have: null, rope settings at the top level, layers by a pattern; then N times with
several settings drawn at random, old spellings beside new ones. Sizes, windows, ropes, biases,
scales and caps must come out as there. --models builds N tiny models of each family from such
configurations, runs them in float32 in transformers and with `finercut logits`, and compares the
logits. --write keeps the cases and what transformers makes of them, for test_architecture, which
needs no Python. Run it with transformers 5 and 4.57: where the two differ, finercut does as 5 does,
and the case is counted as such. Needs: pip install transformers torch
"""
import json
import argparse
import copy
import math
import os
import random
import subprocess
import sys
import tempfile

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import transformers

CLASSES = {
    "llama": "LlamaConfig", "mistral": "MistralConfig", "mixtral": "MixtralConfig",
    "qwen2": "Qwen2Config", "qwen3": "Qwen3Config", "qwen3_moe": "Qwen3MoeConfig",
    "gemma": "GemmaConfig", "gemma2": "Gemma2Config", "gemma3_text": "Gemma3TextConfig",
    "phi3": "Phi3Config", "olmo2": "Olmo2Config", "granite": "GraniteConfig",
    "smollm3": "SmolLM3Config", "stablelm": "StableLmConfig", "starcoder2": "Starcoder2Config",
    "gpt_neox": "GPTNeoXConfig", "gpt2": "GPT2Config",
}
# 32 heads, so that the default number of KV heads divides them everywhere
BASE = {"hidden_size": 4096, "intermediate_size": 96, "num_hidden_layers": 12,
        "num_attention_heads": 32, "vocab_size": 99}
GPT2 = {"n_embd": 4096, "n_layer": 12, "n_head": 32, "vocab_size": 99}
SCALED = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 512}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
COMMON = [
    {}, {"num_key_value_heads": 8}, {"tie_word_embeddings": True}, {"tie_word_embeddings": False},
    {"torch_dtype": "bfloat16"}, {"max_position_embeddings": 777},
    {"rms_norm_eps": 1e-3, "layer_norm_eps": 1e-3, "norm_epsilon": 1e-3,
     "layer_norm_epsilon": 1e-3},
]
ROPES = [
    {"rope_theta": 5e5}, {"rope_theta": 5e5, "rope_scaling": None}, {"rope_scaling": SCALED},
    {"rope_scaling": {"type": "linear", "factor": 4.0}},
    {"rope_scaling": LLAMA3, "rope_theta": 5e5}, {"rope_scaling": YARN},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 7e5}},
    {"rope_parameters": {**LLAMA3, "rope_theta": 3e5}},
]
WINDOWS = [{"sliding_window": 64}, {"sliding_window": None}]
SWITCHED = [{"use_sliding_window": on, **window, **rest} for on in (False, True)
            for window in ({}, *WINDOWS)
            for rest in ({}, {"max_window_layers": 4})]
BIASES = [{"attention_bias": True}, {"mlp_bias": True}]
OWN = {
    "llama": [*BIASES, {"head_dim": 64}, {"head_dim": None}, {"num_key_value_heads": None},
              {"pretraining_tp": 1}],
    "mistral": [*WINDOWS, {"head_dim": 64}, {"head_dim": None}],
    "mixtral": [*WINDOWS, {"num_local_experts": 4}, {"num_experts_per_tok": 1}, {"head_dim": None}],
    "qwen2": SWITCHED,
    "qwen3": [*SWITCHED, {"attention_bias": True}, {"head_dim": 64}],
    "qwen3_moe": [*SWITCHED, {"norm_topk_prob": True}, {"mlp_only_layers": [0, 3]},
                  {"decoder_sparse_step": 2}, {"num_experts": 16}, {"moe_intermediate_size": 48},
                  {"head_dim": 64}],
    "gemma": [{"hidden_act": "gelu"}, {"hidden_act": "gelu", "hidden_activation": None},
              {"hidden_activation": "gelu_pytorch_tanh"}, {"head_dim": 64}],
    "gemma2": [*WINDOWS[:1], {"attn_logit_softcapping": None}, {"final_logit_softcapping": None},
               {"query_pre_attn_scalar": 144},
               {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"] * 4}],
    "gemma3_text": [*WINDOWS[:1], {"sliding_window_pattern": 3}, {"rope_local_base_freq": 5e3},
                    {"query_pre_attn_scalar": 168},
                    {"rope_scaling": SCALED, "rope_theta": 1e6, "rope_local_base_freq": 1e4},
                    {"final_logit_softcapping": None}],
    "phi3": [*WINDOWS, {"partial_rotary_factor": 0.75},
             {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 64,
                               "long_factor": [2.0] * 64}, "max_position_embeddings": 131072,
              "original_max_position_embeddings": 4096},
             {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 64,
                               "long_factor": [2.0] * 64}, "max_position_embeddings": 131072}],
    "olmo2": [{"attention_bias": True}],
    "granite": [*BIASES, {"attention_multiplier": 0.125, "embedding_multiplier": 12,
                          "residual_multiplier": 0.22, "logits_scaling": 8.0}],
    "smollm3": [*BIASES, *SWITCHED, {"no_rope_layer_interval": 3}, {"no_rope_layers": [1, 0] * 6},
                {"no_rope_layers": [1, 0] * 6, "use_sliding_window": True, "sliding_window": 64}],
    "stablelm": [{"use_qkv_bias": True}, {"use_parallel_residual": True},
                 {"partial_rotary_factor": 0.5}, {"rope_pct": 0.5}],
    "starcoder2": [*WINDOWS, {"use_bias": False}],
    "gpt_neox": [{"rotary_pct": 0.5}, {"rotary_emb_base": 20000}, {"use_parallel_residual": False},
                 {"attention_bias": False}, {"hidden_act": "gelu_fast"}],
    "gpt2": [{"n_inner": None}, {"n_inner": 96}, {"n_positions": 77},
             {"activation_function": "gelu"}, {"n_ctx": 1024}],
}
ACTIVATIONS = {"gelu_new": "gelu-tanh", "gelu_pytorch_tanh": "gelu-tanh", "gelu_fast": "gelu-tanh"}
SCALINGS = {"default": 0, "dynamic": 0, "linear": 1, "llama3": 2, "yarn": 3, "longrope": 4}


def first(c, *names, otherwise=None):
    return next((getattr(c, n) for n in names if getattr(c, n, None) is not None), otherwise)


def rope(r, c):
    kind = SCALINGS[r["rope_type"]]
    original = r.get("original_max_position_embeddings") or c.max_position_embeddings
    if kind <= 1:
        return [r["rope_theta"], kind, r.get("factor", 0) if kind else 0, 0, 1]
    factor = r.get("factor") or c.max_position_embeddings / original
    attention = {2: 1, 3: 0.1 * math.log(factor) + 1,
                 4: math.sqrt(1 + max(0, math.log(factor)) / math.log(original))}[kind]
    return [r["rope_theta"], kind, factor, original, r.get("attention_factor") or attention]


# What a family's class reads; the others keep the setting and do nothing with it.
ATTENTION_BIAS = ("llama", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "olmo2",
                  "granite", "smollm3", "gpt_neox")
FFN_BIAS = ("llama", "granite", "smollm3")
EPS = {"stablelm": "layer_norm_eps", "gpt_neox": "layer_norm_eps", "starcoder2": "norm_epsilon",
       "gpt2": "layer_norm_epsilon"}
FIVE = int(transformers.__version__.split(".")[0]) >= 5
PART = ("phi3", "stablelm", "gpt_neox")  # families that turn a part of each head


def ropes_of(name, c):
    """What the model's class runs: of full attention, and where that has its own, of attention with
    a window."""
    if name == "gpt2":
        return None, None
    if FIVE:
        r = c.rope_parameters
        return (r["full_attention"], r["sliding_attention"]) if name == "gemma3_text" else (r, None)
    scaled = dict(getattr(c, "rope_scaling", None) or {})
    scaled["rope_type"] = scaled.get("rope_type") or scaled.get("type") or "default"
    if name == "phi3" and scaled["rope_type"] in ("su", "yarn"):
        scaled["rope_type"] = "longrope"
    if name == "phi3":
        scaled["original_max_position_embeddings"] = c.original_max_position_embeddings
    theta = first(c, *(["rotary_emb_base"] if name == "gpt_neox" else []), "rope_theta")
    part = first(c, "rotary_pct" if name == "gpt_neox" else "partial_rotary_factor", otherwise=1)
    full = {**scaled, "rope_theta": theta, "partial_rotary_factor": part}
    return full, {"rope_type": "default",
                  "rope_theta": c.rope_local_base_freq} if name == "gemma3_text" else None


def windows(name, c):
    """Of every block, the window of its attention (0: none), as the modelling files decide it."""
    window = getattr(c, "sliding_window", None) or 0
    if name in ("llama", "gemma", "olmo2", "granite", "stablelm", "gpt_neox", "gpt2"):
        return [0] * 12
    typed = name in ("qwen2", "qwen3", "gemma2", "gemma3_text", "smollm3")
    types = getattr(c, "layer_types", None) if typed else None
    return [window if not types or kind == "sliding_attention" else 0
            for kind in types or [None] * 12]


def expected(name, c):
    heads, two = c.num_attention_heads, name == "gemma3_text"
    head = first(c, "head_dim", otherwise=c.hidden_size // heads)
    of_full, of_window = ropes_of(name, c)
    moe, window = name in ("mixtral", "qwen3_moe"), windows(name, c)
    turns = c.no_rope_layers if name == "smollm3" else [name != "gpt2"] * 12
    sparse = [moe
              and (name == "mixtral"
                   or (i not in c.mlp_only_layers and (i + 1) % c.decoder_sparse_step == 0))
              for i in range(12)]
    bias = (name == "gpt2" or name in ATTENTION_BIAS and c.attention_bias
            or name == "starcoder2" and c.use_bias)
    act = first(c, *(["hidden_activation"] if name in ("gemma2", "gemma3_text") else []),
                "activation_function" if name == "gpt2" else "hidden_act")
    if name == "gemma" and act == "gelu":
        act = "gelu_pytorch_tanh"  # as 5 takes it; 4.57 takes it as it says
    scalar = getattr(c, "query_pre_attn_scalar", None)
    partial = (of_full or {}).get("partial_rotary_factor") if name in PART else 1
    return {
        "kv": (heads if name in ("gpt2", "gpt_neox")
               else first(c, "num_key_value_heads", otherwise=heads)),
        "head": head,
        "ff": first(c, "n_inner" if name == "gpt2" else "intermediate_size",
                    otherwise=4 * c.hidden_size),
        "positions": c.max_position_embeddings,
        "rotary": 0 if name == "gpt2" else int(head * partial),
        "eps": getattr(c, EPS.get(name, "rms_norm_eps")),
        "scale": first(c, "attention_multiplier", otherwise=(scalar or head) ** -0.5),
        "caps": [getattr(c, "attn_logit_softcapping", None) or 0,
                 getattr(c, "final_logit_softcapping", None) or 0],
        "factors": [math.sqrt(c.hidden_size) if "gemma" in name
                    else first(c, "embedding_multiplier", otherwise=1),
                    first(c, "residual_multiplier", otherwise=1),
                    first(c, "logits_scaling", otherwise=1)],
        "act": ACTIVATIONS.get(act, act), "tied": bool(c.tie_word_embeddings),
        "qkv_bias": name == "qwen2" or bias or name == "stablelm" and c.use_qkv_bias,
        "o_bias": bias, "ffn_bias": name in ("gpt2", "gpt_neox") or name == "starcoder2"
        and c.use_bias or name in FFN_BIAS and c.mlp_bias,
        "parallel": name in ("stablelm", "gpt_neox") and c.use_parallel_residual,
        "experts": [c.num_local_experts, c.num_experts_per_tok,
                    c.intermediate_size if name == "mixtral" else c.moe_intermediate_size,
                    bool(getattr(c, "norm_topk_prob", True))] if moe else None,
        "rope0": rope(of_full, c) if of_full else None, "rope1": rope(of_window, c) if of_window
        else None, "blocks": [[window[i], (2 if two and window[i] else 1) if turns[i] else 0,
                               sparse[i]] for i in range(12)],
    }


def same(a, b):
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return abs(a - b) <= 1e-6 * max(abs(a), abs(b))
    return a == b


def cases(name):
    """One setting at a time."""
    ropes = {"gpt2": [], "phi3": ROPES[:2], "gemma3_text": ROPES[:3],
             "gpt_neox": ROPES[2:4]}.get(name, ROPES)
    for change in COMMON + ropes + OWN[name]:
        if not (name == "gpt_neox" and "num_key_value_heads" in change):  # has no such setting
            yield change


OLD_ROPES = [{}, {}, {"rope_theta": 5e4}, {"rope_theta": 3e5}]
SCALINGS_OLD = [{}, {}, {"rope_scaling": None}, {"rope_scaling": {}}, {"rope_scaling": SCALED},
                {"rope_scaling": {"type": "linear", "factor": 2.0}},
                {"rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 8.0}},
                {"rope_scaling": LLAMA3}, {"rope_scaling": YARN},
                {"rope_scaling": {**YARN, "rope_type": "yarn", "rope_theta": 2e4}},
                {"rope_scaling": {"rope_type": "default"}}]
NEW_ROPES = [{}, {}, {"rope_parameters": None},
             {"rope_parameters": {"rope_type": "default", "rope_theta": 7e5}},
             {"rope_parameters": {"rope_theta": 6e4}},
             {"rope_parameters": {**SCALED, "rope_theta": 8e4}},
             {"rope_parameters": {**LLAMA3, "rope_theta": 3e5}},
             {"rope_parameters": {**YARN, "rope_type": "yarn"}},
             {"rope_parameters": {"type": "linear", "factor": 4.0}}]
PARTS = [{}, {}, {}, {"partial_rotary_factor": 0.5}, {"rotary_pct": 0.5},
         {"rotary_emb_base": 20000}, {"rotary_pct": 1.0, "partial_rotary_factor": 0.5}]
TWO_OLD = [{}, {"rope_scaling": None}, {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}]
TWO_NEW = [{}, {}, {"rope_parameters": None},
           {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 4.0,
                                                   "rope_theta": 2e6},
                                "sliding_attention": {"rope_type": "default", "rope_theta": 3e4}}},
           {"rope_parameters": {"full_attention": {"rope_type": "default"},
                                "sliding_attention": {"rope_type": "default", "rope_theta": 3e4}}},
           {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 4e5},
                                "sliding_attention": None}}]
LONG = {"short_factor": [1.0 + i / 64 for i in range(64)],
        "long_factor": [2.0 + i / 32 for i in range(64)]}
LONGS = [{}, {"rope_scaling": {"type": "longrope", **LONG}},
         {"rope_scaling": {"type": "su", **LONG}},
         {"rope_scaling": {"rope_type": "longrope", "type": "longrope", **LONG}},
         {"rope_scaling": None}, {"rope_parameters": {"rope_type": "longrope", **LONG}},
         {"rope_parameters": {"rope_type": "default", "rope_theta": 7e5}}]
SOME = [{}, {"max_position_embeddings": 777}, {"max_position_embeddings": 131072},
        {"original_max_position_embeddings": 256}, {"original_max_position_embeddings": 4096}]
HEADS = [{}, {}, {"num_key_value_heads": 8}, {"num_key_value_heads": None},
         {"num_key_value_heads": 32}, {"head_dim": 64}, {"head_dim": None},
         {"num_key_value_heads": 1, "head_dim": 32}]
# what others read
FOREIGN = [{}, {}, {}, {"rms_norm_eps": 1e-3}, {"layer_norm_eps": 2e-3}, {"norm_epsilon": 3e-3},
           {"layer_norm_epsilon": 4e-3}, {"attention_bias": True}, {"mlp_bias": True},
           {"use_bias": True}, {"use_qkv_bias": True}, {"use_parallel_residual": True},
           {"no_rope_layer_interval": 3}, {"no_rope_layers": [1, 0] * 6},
           {"moe_intermediate_size": 48}, {"decoder_sparse_step": 2}, {"mlp_only_layers": [0, 3]},
           {"max_window_layers": 4}, {"_sliding_window_pattern": 3}, {"sliding_window_pattern": 3},
           {"hidden_activation": "silu"}, {"activation_function": "relu"}]
FIXED_HEAD = ("qwen3", "gemma", "gemma2", "gemma3_text")  # whose head_dim must be a number


def drawn(name, rng):
    """Several settings at once."""
    groups = [[{}, {"tie_word_embeddings": True}, {"tie_word_embeddings": False}], SOME]
    if name != "gpt2":
        groups += {"gemma3_text": [TWO_OLD, TWO_NEW, [{}, {"rope_local_base_freq": 5e3}]],
                   "phi3": [LONGS]}.get(name, [SCALINGS_OLD, NEW_ROPES]) + [OLD_ROPES, PARTS, HEADS]
    groups += [[{}] + OWN[name]] * 2 + [FOREIGN] * 2
    change = {}
    for g in groups:
        change.update(copy.deepcopy(rng.choice(g)))
    if name in FIXED_HEAD and change.get("head_dim", 1) is None:
        del change["head_dim"]
    if name in ("gpt_neox", "gpt2", "phi3"):
        for key in ("head_dim",) if name == "phi3" else ("num_key_value_heads", "head_dim"):
            change.pop(key, None)
    if (name in ("stablelm", "mixtral", "starcoder2")
            and change.get("num_key_value_heads", 1) is None):
        del change["num_key_value_heads"]
    types = change.get("layer_types")
    if types:
        change["layer_types"] = (types * 12)[:12]
    if name == "phi3" and "longrope" not in json.dumps(change) and '"su"' not in json.dumps(change):
        change.pop("partial_rotary_factor", None)
    elif name == "phi3":
        change.pop("partial_rotary_factor", None)
    return change


def hyper(program, keys):
    run = subprocess.run([program, "--hyper"], input=json.dumps(keys).encode(),
                         capture_output=True, check=True)
    return json.loads(run.stdout), run.stderr.decode().strip()


def newer(keys):
    """Whether only transformers 5 knows a setting."""
    return bool(keys.get("rope_parameters")) or "rope_theta" in (keys.get("rope_scaling") or {})


def no_model(name, keys):
    """Whether the class takes a configuration with which its model then fails: a part of each head,
    scaled, where whole heads turn."""
    scaled = keys.get("rope_scaling") or keys.get("rope_parameters") or {}
    part = keys.get("partial_rotary_factor", 1) != 1 or scaled.get("partial_rotary_factor", 1) != 1
    kind = scaled.get("rope_type") or scaled.get("type") or "default"
    return name not in (*PART, "gemma3_text") and part and kind != "default"


def there(name, keys):
    """What transformers makes of a configuration, or None where it takes it for wrong."""
    try:
        c = getattr(transformers, CLASSES[name]).from_dict(json.loads(json.dumps(keys)))
        return expected(name, c)
    except Exception as problem:
        return str(problem).splitlines()[0] if str(problem) else type(problem).__name__


def check_configs(program, n_random, write):
    counts, rows = {"passed": 0, "failed": 0, "refused there": 0}, []
    for name in CLASSES:
        rng = random.Random(name)
        for change in [*cases(name), *(drawn(name, rng) for _ in range(n_random))]:
            keys = {"model_type": name, **(GPT2 if name == "gpt2" else BASE), **change}
            if newer(keys) and not FIVE:
                continue
            want = "fails" if no_model(name, keys) else there(name, keys)
            if isinstance(want, str):
                counts["refused there"] += 1
                continue
            want = {k: v for k, v in want.items() if v is not None}
            got, why = hyper(program, keys)
            differ = [k for k, v in want.items() if not same(v, got.get(k))]
            counts["failed" if differ else "passed"] += 1
            rows.append({"config": keys, "want": want})
            if differ:
                print(f"{name} {json.dumps(change)}: {why}")
                for k in differ:
                    print(f"    {k}: transformers {want[k]}, here {got.get(k)}")
    if write:
        with open(write, "w") as f:
            f.writelines(json.dumps(r, separators=(",", ":")) + "\n" for r in rows)
    print(f"configurations: {counts['passed']} passed, {counts['failed']} failed, "
          f"{counts['refused there']} that transformers refuses")
    return counts["failed"]


SMALL = {"hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 4,
         "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 67,
         "max_position_embeddings": 96}
SMALL_GPT2 = {"n_embd": 32, "n_layer": 4, "n_head": 4, "vocab_size": 67, "n_positions": 96}
SHRUNK = {"sliding_window": 7, "max_window_layers": 2, "num_experts": 4, "num_local_experts": 4,
          "num_experts_per_tok": 2, "moe_intermediate_size": 16,
          "max_position_embeddings": 96, "n_positions": 96, "n_ctx": 96, "n_inner": 40,
          "query_pre_attn_scalar": 12, "original_max_position_embeddings": 24}


def shrunk(name, change):
    """The same settings at the size of a tiny model."""
    keys = {"model_type": name, **(SMALL_GPT2 if name == "gpt2" else SMALL)}
    if name in ("qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text"):
        keys["head_dim"] = 8
    if name in ("qwen3_moe", "mixtral"):
        keys.update({k: SHRUNK[k]
                     for k in (("num_experts", "moe_intermediate_size") if name == "qwen3_moe"
                               else ("num_local_experts",))}, num_experts_per_tok=2)
    if name == "gpt_neox":
        del keys["num_key_value_heads"]
    for key, value in change.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and key in SHRUNK:
            value = SHRUNK[key]
        if key == "head_dim" and value is not None:
            value = 16
        if key == "num_key_value_heads" and value is not None:
            value = {8: 2, 1: 1, 32: 4}[value]
        if key in ("layer_types", "no_rope_layers") and value:
            value = value[:4]
        if key == "mlp_only_layers" and value:
            value = [1]
        if key in ("rope_scaling", "rope_parameters") and isinstance(value, dict):
            value = json.loads(json.dumps(value).replace("512", "24"))
            for k in ("short_factor", "long_factor"):
                if k in value:
                    value[k] = value[k][:4]
        keys[key] = value
    if name == "gpt_neox":
        keys.pop("rotary_pct", None) if keys.get("rotary_pct") == 0.25 else None
        keys.setdefault("rotary_pct", 0.5)  # a quarter of 8 is one pair
    return keys


def run_model(name, keys, folder, tokens):
    """Logits of transformers' model of a configuration, its weights left in the folder; None where
    it fails."""
    import numpy as np
    import torch
    torch.manual_seed(1)
    try:
        c = getattr(transformers, CLASSES[name]).from_dict(json.loads(json.dumps(keys)))
        c._attn_implementation = "eager"
        m = transformers.AutoModelForCausalLM.from_config(c, attn_implementation="eager",
                                                          torch_dtype=torch.float32).eval()
        with torch.no_grad():
            for p in m.parameters():
                p.copy_(torch.randn_like(p) * (0.3 if p.dim() > 1 else 0.1)
                        + (1 if p.dim() == 1 and "gemma" not in name else 0))
            out = [m(torch.tensor([ids])).logits[0].numpy() for ids in tokens]
    except Exception as problem:
        return str(problem).splitlines()[0] if str(problem) else type(problem).__name__
    m.save_pretrained(folder)  # in the names of checkpoints
    for f in os.listdir(folder):
        if not f.endswith(".safetensors"):
            os.remove(os.path.join(folder, f))
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(keys, f)
    return np.concatenate(out)


def check_models(finercut, n):
    import numpy as np
    counts = {"passed": 0, "failed": 0, "refused there": 0, "refused here": 0}
    rng = np.random.default_rng(0)
    tokens = [[int(i) for i in rng.integers(0, 67, length)] for length in (20, 41)]
    for name in CLASSES:
        draw = random.Random("models " + name)
        changes = [*cases(name), *(drawn(name, draw) for _ in range(n))]
        for change in changes if n else []:
            keys = shrunk(name, change)
            if newer(keys) and not FIVE:
                continue
            with tempfile.TemporaryDirectory() as folder:
                want = run_model(name, keys, folder, tokens)
                if isinstance(want, str):
                    counts["refused there"] += 1
                    continue
                with open(folder + "/tokens.json", "w") as f:
                    json.dump(tokens, f)
                run = subprocess.run([finercut, "logits", folder,
                                      "--tokens", folder + "/tokens.json",
                                      "-o", folder + "/out.npy", "--compute", "f32"],
                                     capture_output=True)
                if run.returncode:
                    counts["refused here"] += 1
                    print(f"{name} {json.dumps(change)}: refused: {run.stderr.decode().strip()}")
                    continue
                got = np.load(folder + "/out.npy")
                error = float(np.abs(got - want).max() / np.abs(want).max())
                good = error < 1e-3
                counts["passed" if good else "failed"] += 1
                if not good:
                    print(f"{name} {json.dumps(change)}: logits differ by {error:.2g} of the "
                          "largest")
    print(f"models: {counts['passed']} passed, {counts['failed']} failed, {counts['refused here']} "
          f"refused here, {counts['refused there']} there")
    return counts["failed"] + counts["refused here"]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("program")
    p.add_argument("--random", type=int, default=20)
    p.add_argument("--models", nargs=2, metavar=("FINERCUT", "N"))
    p.add_argument("--write")
    a = p.parse_args()
    print(f"transformers {transformers.__version__}")
    bad = check_configs(a.program, a.random, a.write)
    if a.models:
        bad += check_models(a.models[0], int(a.models[1]))
    print("check_defaults: " + ("no difference" if not bad else f"{bad} differences"))
    return bad > 0


sys.exit(main())
