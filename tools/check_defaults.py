#!/usr/bin/env python3
"""Compares what our tables make of config.json with the configuration classes of the `transformers` package.

    python3 tools/check_defaults.py TEST_ARCHITECTURE

TEST_ARCHITECTURE is the program built from tests/test_architecture.c. Every family's configuration is written with as few
keys as can be, then with one setting after the other added, in the spellings that checkpoints have: null, rope settings
at the top level, layers by a pattern. Sizes, windows, ropes, biases, scales and caps must come out as there.
Needs: pip install transformers torch
"""
import json
import math
import os
import subprocess
import sys

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import transformers

CLASSES = {
    "llama": "LlamaConfig", "mistral": "MistralConfig", "mixtral": "MixtralConfig", "qwen2": "Qwen2Config", "qwen3": "Qwen3Config",
    "qwen3_moe": "Qwen3MoeConfig", "gemma": "GemmaConfig", "gemma2": "Gemma2Config", "gemma3_text": "Gemma3TextConfig",
    "phi3": "Phi3Config", "olmo2": "Olmo2Config", "granite": "GraniteConfig", "smollm3": "SmolLM3Config",
    "stablelm": "StableLmConfig", "starcoder2": "Starcoder2Config", "gpt_neox": "GPTNeoXConfig", "gpt2": "GPT2Config",
}
# 32 heads, so that the default number of KV heads divides them everywhere
BASE = {"hidden_size": 4096, "intermediate_size": 96, "num_hidden_layers": 12, "num_attention_heads": 32, "vocab_size": 99}
GPT2 = {"n_embd": 4096, "n_layer": 12, "n_head": 32, "vocab_size": 99}
SCALED = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 512}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
COMMON = [
    {}, {"num_key_value_heads": 8}, {"tie_word_embeddings": True}, {"tie_word_embeddings": False}, {"torch_dtype": "bfloat16"},
    {"max_position_embeddings": 777}, {"rms_norm_eps": 1e-3, "layer_norm_eps": 1e-3, "norm_epsilon": 1e-3, "layer_norm_epsilon": 1e-3},
]
ROPES = [
    {"rope_theta": 5e5}, {"rope_theta": 5e5, "rope_scaling": None}, {"rope_scaling": SCALED}, {"rope_scaling": {"type": "linear", "factor": 4.0}},
    {"rope_scaling": LLAMA3, "rope_theta": 5e5}, {"rope_scaling": YARN}, {"rope_parameters": {"rope_type": "default", "rope_theta": 7e5}},
    {"rope_parameters": {**LLAMA3, "rope_theta": 3e5}},
]
WINDOWS = [{"sliding_window": 64}, {"sliding_window": None}]
SWITCHED = [{"use_sliding_window": on, **window, **rest} for on in (False, True) for window in ({}, *WINDOWS)
            for rest in ({}, {"max_window_layers": 4})]
BIASES = [{"attention_bias": True}, {"mlp_bias": True}]
OWN = {
    "llama": [*BIASES, {"head_dim": 64}, {"head_dim": None}, {"num_key_value_heads": None}, {"pretraining_tp": 1}],
    "mistral": [*WINDOWS, {"head_dim": 64}, {"head_dim": None}],
    "mixtral": [*WINDOWS, {"num_local_experts": 4}, {"num_experts_per_tok": 1}, {"head_dim": None}],
    "qwen2": SWITCHED,
    "qwen3": [*SWITCHED, {"attention_bias": True}, {"head_dim": 64}],
    "qwen3_moe": [*SWITCHED, {"norm_topk_prob": True}, {"mlp_only_layers": [0, 3]}, {"decoder_sparse_step": 2}, {"num_experts": 16},
                  {"moe_intermediate_size": 48}, {"head_dim": 64}],
    "gemma": [{"hidden_act": "gelu"}, {"hidden_act": "gelu", "hidden_activation": None}, {"hidden_activation": "gelu_pytorch_tanh"}, {"head_dim": 64}],
    "gemma2": [*WINDOWS[:1], {"attn_logit_softcapping": None}, {"final_logit_softcapping": None}, {"query_pre_attn_scalar": 144},
               {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"] * 4}],
    "gemma3_text": [*WINDOWS[:1], {"sliding_window_pattern": 3}, {"rope_local_base_freq": 5e3}, {"query_pre_attn_scalar": 168},
                    {"rope_scaling": SCALED, "rope_theta": 1e6, "rope_local_base_freq": 1e4}, {"final_logit_softcapping": None}],
    "phi3": [*WINDOWS, {"partial_rotary_factor": 0.75},
             {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 64, "long_factor": [2.0] * 64}, "max_position_embeddings": 131072,
              "original_max_position_embeddings": 4096},
             {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 64, "long_factor": [2.0] * 64}, "max_position_embeddings": 131072}],
    "olmo2": [{"attention_bias": True}],
    "granite": [*BIASES, {"attention_multiplier": 0.125, "embedding_multiplier": 12, "residual_multiplier": 0.22, "logits_scaling": 8.0}],
    "smollm3": [*BIASES, *SWITCHED, {"no_rope_layer_interval": 3}, {"no_rope_layers": [1, 0] * 6}, {"no_rope_layers": [1, 0] * 6, "use_sliding_window": True, "sliding_window": 64}],
    "stablelm": [{"use_qkv_bias": True}, {"use_parallel_residual": True}, {"partial_rotary_factor": 0.5}, {"rope_pct": 0.5}],
    "starcoder2": [*WINDOWS, {"use_bias": False}],
    "gpt_neox": [{"rotary_pct": 0.5}, {"rotary_emb_base": 20000}, {"use_parallel_residual": False}, {"attention_bias": False}, {"hidden_act": "gelu_fast"}],
    "gpt2": [{"n_inner": None}, {"n_inner": 96}, {"n_positions": 77}, {"activation_function": "gelu"}, {"n_ctx": 1024}],
}
ACTIVATIONS = {"gelu_new": "gelu-tanh", "gelu_pytorch_tanh": "gelu-tanh", "gelu_fast": "gelu-tanh"}
SCALINGS = {"default": 0, "dynamic": 0, "linear": 1, "llama3": 2, "yarn": 3, "longrope": 4}


def first(c, *names, otherwise=None):
    return next((getattr(c, n) for n in names if getattr(c, n, None) is not None), otherwise)


def rope(r, c):
    kind = SCALINGS[r["rope_type"]]
    original = r.get("original_max_position_embeddings") or 0
    if kind <= 1:
        return [r["rope_theta"], kind, r.get("factor", 0) if kind else 0, 0, 1]
    factor = r.get("factor") or c.max_position_embeddings / original
    attention = {2: 1, 3: 0.1 * math.log(factor) + 1, 4: math.sqrt(1 + math.log(factor) / math.log(original))}[kind]
    return [r["rope_theta"], kind, factor, original, r.get("attention_factor") or attention]


def windows(name, c):
    """Of every block, the window of its attention (0: none), as the modelling files decide it."""
    window = getattr(c, "sliding_window", None) or 0
    if name in ("llama", "gemma", "olmo2", "granite", "stablelm", "gpt_neox", "gpt2"):
        return [0] * 12
    types = getattr(c, "layer_types", None)
    return [window if not types or kind == "sliding_attention" else 0 for kind in types or [None] * 12]


def expected(name, c):
    heads, two = c.num_attention_heads, name == "gemma3_text"
    head = first(c, "head_dim", otherwise=c.hidden_size // heads)
    ropes = getattr(c, "rope_parameters", None)
    of_full, of_window = (ropes["full_attention"], ropes["sliding_attention"]) if two else (ropes, None)
    moe, window = name in ("mixtral", "qwen3_moe"), windows(name, c)
    turns = getattr(c, "no_rope_layers", None) or [name != "gpt2"] * 12
    sparse = [moe and (name == "mixtral" or (i not in c.mlp_only_layers and (i + 1) % c.decoder_sparse_step == 0)) for i in range(12)]
    bias = bool(first(c, "use_bias", "attention_bias", otherwise=name in ("gpt2",)))
    act = first(c, "hidden_activation", "hidden_act", "activation_function")
    scalar = getattr(c, "query_pre_attn_scalar", None)
    partial = (of_full or {}).get("partial_rotary_factor") or 1
    return {
        "kv": first(c, "num_key_value_heads", otherwise=heads), "head": head,
        "ff": first(c, "intermediate_size", "n_inner", otherwise=4 * c.hidden_size), "positions": c.max_position_embeddings,
        "rotary": 0 if name == "gpt2" else int(head * partial),
        "eps": first(c, "rms_norm_eps", "layer_norm_eps", "norm_epsilon", "layer_norm_epsilon"),
        "scale": first(c, "attention_multiplier", otherwise=(scalar or head) ** -0.5),
        "caps": [getattr(c, "attn_logit_softcapping", None) or 0, getattr(c, "final_logit_softcapping", None) or 0],
        "factors": [math.sqrt(c.hidden_size) if "gemma" in name else first(c, "embedding_multiplier", otherwise=1),
                    first(c, "residual_multiplier", otherwise=1), first(c, "logits_scaling", otherwise=1)],
        "act": ACTIVATIONS.get(act, act), "tied": bool(c.tie_word_embeddings),
        "qkv_bias": name == "qwen2" or bias or bool(getattr(c, "use_qkv_bias", False)), "o_bias": bias,
        "ffn_bias": name in ("gpt2", "gpt_neox") or bool(first(c, "use_bias", "mlp_bias", otherwise=False)),
        "parallel": bool(getattr(c, "use_parallel_residual", False)),
        "experts": [c.num_local_experts, c.num_experts_per_tok, first(c, "moe_intermediate_size", otherwise=c.intermediate_size),
                    bool(getattr(c, "norm_topk_prob", True))] if moe else None,
        "rope0": rope(of_full, c) if of_full else None, "rope1": rope(of_window, c) if of_window else None,
        "blocks": [[window[i], (2 if two and window[i] else 1) if turns[i] else 0, sparse[i]] for i in range(12)],
    }


def same(a, b):
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return abs(a - b) <= 1e-6 * max(abs(a), abs(b)) if isinstance(a, (int, float)) and isinstance(b, (int, float)) else a == b


def main():
    n = bad = 0
    for name, cls in CLASSES.items():
        ropes = {"gpt2": [], "phi3": ROPES[:2], "gemma3_text": ROPES[:3], "gpt_neox": ROPES[2:4]}.get(name, ROPES)  # as many as each class takes
        for change in COMMON + ropes + OWN[name]:
            if name == "gpt_neox" and "num_key_value_heads" in change:
                continue  # has no such setting
            keys = {"model_type": name, **(GPT2 if name == "gpt2" else BASE), **change}
            want = expected(name, getattr(transformers, cls).from_dict(json.loads(json.dumps(keys))))
            run = subprocess.run([sys.argv[1], "--hyper"], input=json.dumps(keys).encode(), capture_output=True, check=True)
            got = json.loads(run.stdout)
            differ = [k for k, v in want.items() if v is not None and not same(v, got.get(k))]
            n, bad = n + 1, bad + bool(differ)
            if differ:
                print(f"{name} {json.dumps(change)}: {run.stderr.decode().strip()}")
                for k in differ:
                    print(f"    {k}: transformers {want[k]}, here {got.get(k)}")
    print(f"check_defaults: {n - bad} passed, {bad} failed")
    return bad > 0


sys.exit(main())
