#!/usr/bin/env python3
"""Writes a Hugging Face directory with a random Llama-like bfloat16 model, of Llama-3-8B's shape
(16 GB) unless told otherwise.

    python tools/make_random_model.py OUT [--blocks 32] [--hidden 4096] [--heads 32] [--kv-heads 8]
        [--ff 14336] [--vocab 128256]

For measuring speed: the weights are normal, of a scale that keeps the outputs finite, the same for
the same options. It has no tokenizer (give `finercut prune` --tokens). Tensors are written a piece
at a time, so it needs little memory. Needs: pip install numpy
"""
import argparse
import json
import os
import statistics
import struct

import numpy as np

SHARD = 5 << 30   # most bytes of a file
PIECE = 16 << 20  # numbers made at a time


def tensors(a):
    """Name, shape and standard deviation (None: all ones) of every tensor."""
    # the sublayers together add about as much as they start from
    head, narrow = a.hidden // a.heads, (2 * a.blocks) ** -0.5
    yield "model.embed_tokens.weight", (a.vocab, a.hidden), 1.0
    for b in range(a.blocks):
        p = f"model.layers.{b}."
        yield p + "input_layernorm.weight", (a.hidden,), None
        yield p + "self_attn.q_proj.weight", (a.heads * head, a.hidden), a.hidden ** -0.5
        yield p + "self_attn.k_proj.weight", (a.kv_heads * head, a.hidden), a.hidden ** -0.5
        yield p + "self_attn.v_proj.weight", (a.kv_heads * head, a.hidden), a.hidden ** -0.5
        yield p + "self_attn.o_proj.weight", (a.hidden,
                                              a.heads * head), narrow * (a.heads * head) ** -0.5
        yield p + "post_attention_layernorm.weight", (a.hidden,), None
        yield p + "mlp.gate_proj.weight", (a.ff, a.hidden), a.hidden ** -0.5
        yield p + "mlp.up_proj.weight", (a.ff, a.hidden), a.hidden ** -0.5
        yield p + "mlp.down_proj.weight", (a.hidden, a.ff), narrow * a.ff ** -0.5
    yield "model.norm.weight", (a.hidden,), None
    yield "lm_head.weight", (a.vocab, a.hidden), a.hidden ** -0.5


def n_bytes(shape):
    return 2 * int(np.prod(shape, dtype=np.int64))


def shards(all_tensors):
    found, size = [[]], 0
    for t in all_tensors:
        if size and size + n_bytes(t[1]) > SHARD:
            found.append([])
            size = 0
        found[-1].append(t)
        size += n_bytes(t[1])
    return found


def bfloat16(values):
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def normal_quantiles():
    """65,536 equally likely values of a standard normal: a random 16-bit number picks one."""
    inverse = statistics.NormalDist().inv_cdf
    return np.array([inverse((i + 0.5) / 65536) for i in range(65536)], np.float32)


def write_tensor(f, rng, normal, shape, scale):
    left = n_bytes(shape) // 2
    if scale is None:
        f.write(bfloat16(np.ones(left)).tobytes())
        return
    table = bfloat16(normal * np.float32(scale))
    while left:
        n = min(left, PIECE)
        f.write(table[np.frombuffer(rng.bytes(2 * n), np.uint16)].tobytes())
        left -= n


def write_shard(path, part, rng, normal):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in part:
        header[name] = {"dtype": "BF16", "shape": list(shape),
                        "data_offsets": [at, at + n_bytes(shape)]}
        at += n_bytes(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64)  # so that the data are aligned
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, shape, scale in part:
            write_tensor(f, rng, normal, shape, scale)


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=1)


def config(a):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "hidden_act": "silu", "hidden_size": a.hidden, "intermediate_size": a.ff,
        "num_hidden_layers": a.blocks, "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads, "head_dim": a.hidden // a.heads, "vocab_size": a.vocab,
        "rope_theta": 500000.0, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1,
    }


def parser():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("--blocks", type=int, default=32)
    p.add_argument("--hidden", type=int, default=4096)
    p.add_argument("--heads", type=int, default=32)
    p.add_argument("--kv-heads", type=int, default=8)
    p.add_argument("--ff", type=int, default=14336)
    p.add_argument("--vocab", type=int, default=128256)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--only-size", action="store_true",
                   help="write nothing, print the bytes it would take")
    return p


def main():
    a = parser().parse_args()
    if a.hidden % a.heads or a.heads % a.kv_heads:
        raise SystemExit("--hidden has to be a multiple of --heads, and --heads of --kv-heads")
    if a.only_size:
        print(sum(n_bytes(t[1]) for t in tensors(a)))
        return
    os.makedirs(a.out, exist_ok=True)
    parts, rng, normal = shards(tensors(a)), np.random.Generator(
        np.random.SFC64(a.seed)), normal_quantiles()
    names = [f"model-{i + 1:05}-of-{len(parts):05}.safetensors" for i in range(len(parts))]
    for name, part in zip(names, parts):
        print(f"{name}: {sum(n_bytes(t[1]) for t in part) / 1e9:.1f} GB", flush=True)
        write_shard(os.path.join(a.out, name), part, rng, normal)
    where = {t[0]: name for name, part in zip(names, parts) for t in part}
    total = sum(n_bytes(t[1]) for part in parts for t in part)
    write_json(os.path.join(a.out, "model.safetensors.index.json"),
               {"metadata": {"total_size": total}, "weight_map": where})
    # last: with it the directory is complete
    write_json(os.path.join(a.out, "config.json"), config(a))


if __name__ == "__main__":
    main()
