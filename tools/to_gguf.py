#!/usr/bin/env python3
"""Write a small Hugging Face model as GGUF, the way llama.cpp's converter lays it out.

    python tools/to_gguf.py HF_DIRECTORY OUT.gguf [TYPE]

TYPE of the matrices: F32 (default), F16, BF16, Q8_0 ...

For tests: everything is held in memory, there is no vocabulary, and only the settings of the
families finercut.h knows are written. Tensor names come from the gguf package's own map.
"""
import os
import sys

import gguf
import numpy as np
from safetensors.torch import load_file

ARCHITECTURES = {"llama": "LLAMA", "mistral": "LLAMA", "mixtral": "LLAMA", "qwen2": "QWEN2",
                 "qwen3": "QWEN3", "qwen3_moe": "QWEN3MOE", "gemma": "GEMMA", "gemma2": "GEMMA2",
                 "gemma3_text": "GEMMA3", "phi3": "PHI3", "olmo2": "OLMO2", "granite": "GRANITE",
                 "smollm3": "SMOLLM3", "stablelm": "STABLELM", "starcoder2": "STARCODER2",
                 "gpt_neox": "GPTNEOX", "gpt2": "GPT2"}
# q and k rows go from halves (i, i + d/2) to pairs (2i, 2i + 1)
PAIRS = {"llama", "mistral", "mixtral", "granite", "smollm3"}


def interleave(rows, heads):
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def load(directory):
    state = {}
    for file in sorted(os.listdir(directory)):
        if file.endswith(".safetensors"):
            state.update(load_file(os.path.join(directory, file)))
    # a mask
    return {k: v.float().numpy() for k, v in state.items() if not k.endswith(".attn.bias")}


def settings(w, c, kind):
    """The metadata; c is a config of transformers 5."""
    heads = c.num_attention_heads
    head_dim = getattr(c, "head_dim", None) or c.hidden_size // heads
    rope = getattr(c, "rope_parameters", None) or {}
    local = rope.get("sliding_attention")
    rope = rope.get("full_attention", rope)
    w.add_block_count(c.num_hidden_layers)
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_feed_forward_length(getattr(c, "intermediate_size", None) or 4 * c.hidden_size)
    w.add_head_count(heads)
    w.add_head_count_kv(getattr(c, "num_key_value_heads", None) or heads)
    w.add_vocab_size(c.vocab_size)
    if getattr(c, "rms_norm_eps", None) is not None:
        w.add_layer_norm_rms_eps(c.rms_norm_eps)
    for name in ("layer_norm_eps", "norm_epsilon", "layer_norm_epsilon"):
        if getattr(c, name, None) is not None:
            w.add_layer_norm_eps(getattr(c, name))
    if head_dim * heads != c.hidden_size:
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    if rope.get("rope_theta"):
        w.add_rope_freq_base(rope["rope_theta"])
        w.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1.0)))
    if local and local.get("rope_theta", 10000.0) != 10000.0:
        w.add_float32("%s.rope.freq_base_swa" % w.arch, local["rope_theta"])
    if rope.get("rope_type") in ("linear", "yarn"):
        w.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        w.add_rope_scaling_factor(rope["factor"])
    if rope.get("rope_type") in ("yarn", "longrope"):
        w.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
    if rope.get("rope_type") == "longrope":
        scale = c.max_position_embeddings / rope["original_max_position_embeddings"]
        w.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
        w.add_rope_scaling_attn_factors(
            float(np.sqrt(1 + np.log(scale) / np.log(rope["original_max_position_embeddings"]))))
        for name in ("long", "short"):
            w.add_tensor("rope_factors_%s.weight" % name,
                         np.array(rope[name + "_factor"], np.float32))
    if getattr(c, "sliding_window", None):
        w.add_sliding_window(c.sliding_window)
    if kind == "gemma2":
        w.add_attn_logit_softcapping(c.attn_logit_softcapping)
        w.add_final_logit_softcapping(c.final_logit_softcapping)
    if kind == "granite":
        w.add_attention_scale(c.attention_multiplier)
        w.add_embedding_scale(c.embedding_multiplier)
        w.add_residual_scale(c.residual_multiplier)
        w.add_logit_scale(c.logits_scaling)
    if kind in ("mixtral", "qwen3_moe"):
        w.add_expert_count(c.num_local_experts)
        w.add_expert_used_count(c.num_experts_per_tok)
    if kind == "qwen3_moe":
        w.add_expert_feed_forward_length(c.moe_intermediate_size)
    if kind in ("gpt_neox", "stablelm"):
        w.add_parallel_residual(c.use_parallel_residual)


def turn(key, data, c, kind):
    """One tensor as llama.cpp wants it."""
    if kind in PAIRS and ("q_proj" in key or "k_proj" in key):
        return interleave(data, c.num_attention_heads if "q_proj" in key else c.num_key_value_heads)
    if kind.startswith("gemma") and key.endswith("norm.weight"):
        return data + 1
    if kind == "gpt2" and key.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return data.T
    if kind == "gpt_neox" and "query_key_value" in key:
        parts = data.reshape(c.num_attention_heads, 3, -1, *data.shape[1:])
        return np.concatenate([parts[:, i].reshape(-1, *data.shape[1:]) for i in range(3)])
    return data


def stack_experts(state, c):
    """One tensor for all experts of a block, as the map of names expects it."""
    out, groups = {}, {}
    for key, data in state.items():
        if ".experts." not in key:
            out[key] = data
            continue
        head, tail = key.split(".experts.")
        number, rest = tail.split(".", 1)
        groups.setdefault(head + ".experts." + rest, {})[int(number)] = data
    out.update({k: np.stack([g[i] for i in range(len(g))]) for k, g in groups.items()})
    return out


def convert(directory, out, kind="F32"):
    from transformers import AutoConfig
    c = AutoConfig.from_pretrained(directory)
    family, kind = c.model_type, gguf.GGMLQuantizationType[kind]
    arch = gguf.MODEL_ARCH[ARCHITECTURES[family]]
    names = gguf.get_tensor_name_map(arch, c.num_hidden_layers)
    w = gguf.GGUFWriter(out, gguf.MODEL_ARCH_NAMES[arch])
    w.add_name(os.path.basename(out))
    settings(w, c, family)
    w.add_tokenizer_model("none")
    for key, data in stack_experts(load(directory), c).items():
        data = np.ascontiguousarray(turn(key, data, c, family))
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        assert name, key
        if data.ndim == 1 or data.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
            w.add_tensor(name, data)
        else:
            w.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    convert(*sys.argv[1:])
