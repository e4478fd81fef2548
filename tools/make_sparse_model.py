#!/usr/bin/env python3
"""Writes a model of a published shape and size whose weights are holes: true offsets, no disk.

    python tools/make_sparse_model.py SHAPE OUT [--type bf16] [--fill-block 79] [--fill-rows 512]

OUT ending in .gguf is one GGUF file, else a Hugging Face directory of shards (--shard 0: of one
file). Holes are zeros, so a block that is not filled adds nothing: its norms are zeros, too.
--fill-block gives a block random weights, --fill-rows the first rows of the embedding and of the
output, and either fills the last norm. There is no tokenizer: commands take --tokens. Needs only
Python, and a file system with sparse files.

The embedding of llama-3.1-405b as f32 is a tensor of 8.4 GB, its output too (2^32 bytes are 4.3;
as bf16 they have 4.2). Files of llama-3-70b as bf16 have offsets past 2^37, where they are one.
"""
import argparse
import json
import math
import os
import random
import struct

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
    "num_key_value_heads": 8, "vocab_size": 128256, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
    "bos_token_id": 128000, "eos_token_id": 128001, "tie_word_embeddings": False,
}
MIXTRAL = {
    "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu",
    "num_key_value_heads": 8, "vocab_size": 32000, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
    "num_local_experts": 8, "num_experts_per_tok": 2, "bos_token_id": 1, "eos_token_id": 2,
    "tie_word_embeddings": False,
}
SHAPES = {  # what the models' config.json say
    "llama-3-70b": dict(LLAMA, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
                        num_attention_heads=64, max_position_embeddings=8192),
    "llama-3.1-405b": dict(
        LLAMA, hidden_size=16384, intermediate_size=53248, num_hidden_layers=126,
        num_attention_heads=128, max_position_embeddings=131072,
        rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                      "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}),
    "mixtral-8x7b": dict(MIXTRAL, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
                         num_attention_heads=32, max_position_embeddings=32768),
    "mixtral-8x22b": dict(MIXTRAL, hidden_size=6144, intermediate_size=16384, num_hidden_layers=56,
                          num_attention_heads=48, max_position_embeddings=65536),
    "qwen3-235b-a22b": {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_act": "silu",
        "hidden_size": 4096, "intermediate_size": 12288, "moe_intermediate_size": 1536,
        "num_hidden_layers": 94, "num_attention_heads": 64, "num_key_value_heads": 4,
        "head_dim": 128, "vocab_size": 151936, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
        "max_position_embeddings": 40960, "num_experts": 128, "num_experts_per_tok": 8,
        "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "bos_token_id": 151643, "eos_token_id": 151645, "tie_word_embeddings": False,
    },
}
# bytes and numbers of a block, number in GGUF, names in safetensors and in config.json
TYPES = {"f32": (4, 1, 0, "F32", "float32"), "f16": (2, 1, 1, "F16", "float16"),
         "bf16": (2, 1, 30, "BF16", "bfloat16"), "q8_0": (34, 32, 8, None, None),
         "q4_0": (18, 32, 2, None, None), "q4_k": (144, 256, 12, None, None)}
PIECE = 16 << 20  # bytes filled at a time


class Tensor:
    def __init__(self, name, shape, kind, rows=0, values=None):
        self.name, self.shape, self.kind = name, shape, kind
        self.rows = min(rows, shape[0])  # filled, with ones or random numbers, or with `values`
        self.values = values
        size, numbers = TYPES[kind][:2]
        self.bytes = math.prod(shape) // numbers * size

    def content(self, seed):
        """The bytes of its first rows, in pieces."""
        left = self.rows * math.prod(self.shape[1:])
        if self.values:
            yield struct.pack(f"<{left}f", *self.values)
        elif len(self.shape) == 1:
            one = struct.pack("<f", 1)
            yield (one if self.kind == "f32" else one[2:]) * left
        elif left:
            yield from bfloat16s(left, 1 if self.embedding() else self.shape[-1]**-0.5,
                                 random.Random(f"{seed} {self.name}"))

    def embedding(self):
        return "embd" in self.name or "embed" in self.name


def bfloat16s(n, scale, rng):
    """Random numbers of about this scale: either sign, two exponents, any mantissa."""
    high = 63 + round(math.log2(scale / 1.7) / 2)
    signs = bytes(r & 128 | high for r in range(256))
    while n:
        piece = min(n, PIECE // 2)
        made = bytearray(rng.randbytes(2 * piece))
        made[1::2] = made[1::2].translate(signs)
        yield made
        n -= piece


def sizes(c):
    """Hidden size, rows of q, of k and v, a head, the FFN's or an expert's width, experts."""
    heads, experts = c["num_attention_heads"], c.get("num_local_experts", c.get("num_experts", 0))
    head = c.get("head_dim", c["hidden_size"] // heads)
    return (c["hidden_size"], heads * head, c["num_key_value_heads"] * head, head,
            c.get("moe_intermediate_size", c["intermediate_size"]), experts)


def block(c, b, gguf):
    """Names and shapes of a block's tensors, in the file's terms."""
    hidden, q, kv, head, ff, experts = sizes(c)
    norms = [("input_layernorm", "attn_norm", hidden), ("post_attention_layernorm", "ffn_norm",
                                                         hidden)]
    if c["model_type"] == "qwen3_moe":
        norms += [("self_attn.q_norm", "attn_q_norm", head), ("self_attn.k_norm", "attn_k_norm",
                                                              head)]
    mixtral = c["model_type"] == "mixtral"
    mlp, parts = ("block_sparse_moe", ("w1", "w3", "w2")) if mixtral else (
        "mlp", ("gate_proj", "up_proj", "down_proj"))
    shapes = [("gate", (ff, hidden)), ("up", (ff, hidden)), ("down", (hidden, ff))]
    rows = [(a, g, (n,)) for a, g, n in norms]
    rows += [("self_attn.q_proj", "attn_q", (q, hidden)), ("self_attn.k_proj", "attn_k",
                                                           (kv, hidden)),
             ("self_attn.v_proj", "attn_v", (kv, hidden)), ("self_attn.o_proj", "attn_output",
                                                            (hidden, q))]
    if experts:
        rows.append((f"{mlp}.gate", "ffn_gate_inp", (experts, hidden)))
    for part, (to, shape) in zip(parts, shapes):
        if experts and gguf:
            rows.append(("", f"ffn_{to}_exps", (experts, *shape)))
        elif experts:
            rows += [(f"{mlp}.experts.{e}.{part}", "", shape) for e in range(experts)]
        else:
            rows.append((f"{mlp}.{part}", f"ffn_{to}", shape))
    for a, g, shape in rows:
        yield f"blk.{b}.{g}.weight" if gguf else f"model.layers.{b}.{a}.weight", shape


def rope_factors(c):
    """What GGUF files of Llama 3.1 have as rope_freqs: by how much each frequency is divided."""
    scaling, half = c["rope_scaling"], sizes(c)[3] // 2
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    for i in range(half):
        turns = (scaling["original_max_position_embeddings"] / (2 * math.pi) *
                 c["rope_theta"]**(-i / half))
        smooth = min(max((turns - low) / (high - low), 0), 1)
        yield 1 / ((1 - smooth) / scaling["factor"] + smooth)


def tensors(c, a, gguf):
    hidden, vocab = c["hidden_size"], c["vocab_size"]
    vector = "f32" if gguf else a.type
    ends = ("token_embd", "output", "output_norm") if gguf else ("model.embed_tokens", "lm_head",
                                                                 "model.norm")
    yield Tensor(ends[0] + ".weight", (vocab, hidden), a.type, a.fill_rows)
    yield Tensor(ends[1] + ".weight", (vocab, hidden), a.type, a.fill_rows)
    yield Tensor(ends[2] + ".weight", (hidden,), vector,
                 hidden if a.fill_rows or a.fill_block else 0)
    if gguf and "rope_scaling" in c:
        values = list(rope_factors(c))
        yield Tensor("rope_freqs.weight", (len(values),), "f32", len(values), values)
    for b in range(c["num_hidden_layers"]):
        for name, shape in block(c, b, gguf):
            small = len(shape) == 1 or "ffn_gate_inp" in name
            yield Tensor(name, shape, vector if small else a.type,
                         shape[0] if b in a.fill_block else 0)


def keys(c):
    """GGUF's metadata: name, type and value."""
    arch = "qwen3moe" if c["model_type"] == "qwen3_moe" else "llama"
    _, _, _, head, ff, experts = sizes(c)
    yield "general.architecture", 8, arch
    for name, value in (
            ("block_count", c["num_hidden_layers"]), ("embedding_length", c["hidden_size"]),
            ("context_length", c["max_position_embeddings"]), ("vocab_size", c["vocab_size"]),
            ("feed_forward_length", c["intermediate_size"]),
            ("attention.head_count", c["num_attention_heads"]),
            ("attention.head_count_kv", c["num_key_value_heads"]),
            ("attention.key_length", head), ("attention.value_length", head),
            ("rope.dimension_count", head), ("expert_count", experts),
            ("expert_used_count", c.get("num_experts_per_tok", 0)),
            ("expert_feed_forward_length", ff if experts else 0)):
        if value:
            yield f"{arch}.{name}", 4, value
    yield f"{arch}.attention.layer_norm_rms_epsilon", 6, c["rms_norm_eps"]
    yield f"{arch}.rope.freq_base", 6, c["rope_theta"]


def gguf_head(c, found):
    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()

    made = list(keys(c))
    head, at = b"GGUF" + struct.pack("<IQQ", 3, len(found), len(made)), 0
    for name, kind, value in made:
        head += text(name) + struct.pack("<I", kind)
        head += text(value) if kind == 8 else struct.pack("<f" if kind == 6 else "<I", value)
    for t in found:
        dims = t.shape[::-1]
        head += text(t.name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, TYPES[t.kind][2],
                                           at)
        at += t.bytes + -t.bytes % 32
    return head + bytes(-len(head) % 32)


def safetensors_head(found):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for t in found:
        header[t.name] = {"dtype": TYPES[t.kind][3], "shape": t.shape,
                          "data_offsets": [at, at + t.bytes]}
        at += t.bytes
    made = json.dumps(header).encode()
    made += b" " * (-len(made) % 8)
    return struct.pack("<Q", len(made)) + made


def write_file(path, head, found, align, seed):
    with open(path, "wb") as f:
        f.write(head)
        at = len(head)
        for t in found:
            f.seek(at)
            for piece in t.content(seed):
                f.write(piece)
            at += t.bytes + -t.bytes % align
        f.truncate(at)


def write_directory(c, found, a):
    os.makedirs(a.out, exist_ok=True)
    shards, size = [[]], 0
    for t in found:
        if a.shard and size and size + t.bytes > a.shard:
            shards.append([])
            size = 0
        shards[-1].append(t)
        size += t.bytes
    n, where = len(shards), {}
    for i, part in enumerate(shards):
        name = f"model-{i + 1:05}-of-{n:05}.safetensors" if n > 1 else "model.safetensors"
        write_file(os.path.join(a.out, name), safetensors_head(part), part, 1, a.seed)
        where.update((t.name, name) for t in part)
    if n > 1:
        with open(os.path.join(a.out, "model.safetensors.index.json"), "w") as f:
            json.dump({"metadata": {"total_size": sum(t.bytes for t in found)},
                       "weight_map": where}, f, indent=1)
    with open(os.path.join(a.out, "config.json"), "w") as f:
        json.dump(dict(c, torch_dtype=TYPES[a.type][4]), f, indent=1)


def parse():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("shape", choices=SHAPES)
    p.add_argument("out")
    p.add_argument("--type", choices=TYPES, default="bf16", help="of matrices (default: bf16)")
    p.add_argument("--blocks", type=int, help="only so many")
    p.add_argument("--shard", type=int, default=5 << 30, help="most bytes of a shard (5 GiB)")
    p.add_argument("--fill-block", type=int, action="append", default=[], metavar="K")
    p.add_argument("--fill-rows", type=int, default=0, metavar="N")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    gguf = a.out.endswith(".gguf")
    if not gguf and not TYPES[a.type][3]:
        p.error(f"--type: {a.type} is for GGUF files only")
    if a.type != "bf16" and (a.fill_block or a.fill_rows):
        p.error("--fill-block and --fill-rows: expected --type bf16")
    return a, gguf


def main():
    a, gguf = parse()
    c = dict(SHAPES[a.shape])
    c["num_hidden_layers"] = a.blocks or c["num_hidden_layers"]
    found = list(tensors(c, a, gguf))
    if gguf:
        write_file(a.out, gguf_head(c, found), found, 32, a.seed)
    else:
        write_directory(c, found, a)
    paths = [a.out] if gguf else [os.path.join(a.out, n) for n in os.listdir(a.out)]
    facts = [os.stat(path) for path in paths]
    print(f"{a.out}: {len(found)} tensors, the largest {max(t.bytes for t in found)} bytes; "
          f"{sum(s.st_size for s in facts)} bytes in {len(paths)} files, "
          f"{sum(s.st_blocks for s in facts) * 512} on the disk")


if __name__ == "__main__":
    main()
