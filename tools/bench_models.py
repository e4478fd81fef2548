#!/usr/bin/env python3
"""The models that `make bench` measures with, all with the same weights:
python tools/bench_models.py MODEL.gguf OUT

OUT/hf is a Hugging Face directory in bfloat16 (no tokenizer), OUT/bf16.gguf, f16.gguf and f32.gguf
are the GGUF file again with its metadata as it is and its matrices decoded to that type (vectors
stay float32, as llama.cpp wants them). Only the `llama` architecture. Needs: pip install numpy gguf
safetensors torch
"""
import json
import os
import sys

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.torch import save_file

PARTS = {  # names of one block's tensors in GGUF, and in Hugging Face's layout
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
WHOLE = {"token_embd.weight": "model.embed_tokens.weight",
         "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}


def hf_name(name):
    if name in WHOLE:
        return WHOLE[name]
    _, block, part, kind = name.split(".")
    return f"model.layers.{block}.{PARTS[part]}.{kind}"


def halves(rows, heads):
    """GGUF keeps the two numbers that rope turns together side by side, Hugging Face half a head
    apart."""
    pairs = rows.reshape(heads, -1, 2, rows.shape[1])
    return np.concatenate([pairs[:, :, 0], pairs[:, :, 1]], axis=1).reshape(rows.shape)


def hf_config(get, tied):
    heads, hidden = get("attention.head_count"), get("embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "hidden_act": "silu", "hidden_size": hidden,
        "intermediate_size": get("feed_forward_length"), "num_hidden_layers": get("block_count"),
        "num_attention_heads": heads, "num_key_value_heads": get("attention.head_count_kv"),
        "head_dim": hidden // heads, "vocab_size": get("vocab_size"),
        "max_position_embeddings": get("context_length"), "rope_theta": get("rope.freq_base"),
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"), "tie_word_embeddings": tied,
        "bos_token_id": 1, "eos_token_id": 2,
    }


def write_hf(reader, out):
    def get(key):
        value = reader.fields["llama." + key].contents()
        # float32 0.00001 is not 0.00001 as a double: the shortest decimal that gives it back
        return float(str(np.float32(value))) if isinstance(value, float) else value

    tensors = {}
    for t in reader.tensors:
        values = gguf.dequantize(t.data, t.tensor_type)
        for part, heads in (("attn_q", "attention.head_count"),
                            ("attn_k", "attention.head_count_kv")):
            if f".{part}." in t.name:
                values = halves(values, get(heads))
        tensors[hf_name(t.name)] = torch.from_numpy(np.array(values)).to(torch.bfloat16)
    os.makedirs(out, exist_ok=True)
    save_file(tensors, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump(hf_config(get, "lm_head.weight" not in tensors), f, indent=1)


def write_gguf(reader, path, matrices, file_type):
    writer = gguf.GGUFWriter(path, arch=reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture",
                                                            "general.quantization_version"):
            continue  # the writer's own, and what only quantised files have
        value = file_type if field.name == "general.file_type" else field.contents()
        kind = field.types[0]
        writer.add_key_value(field.name, value, kind,
                             field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for t in reader.tensors:
        values = gguf.dequantize(t.data, t.tensor_type)
        kind = matrices if values.ndim > 1 else Type.F32
        writer.add_tensor(t.name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    reader, out = gguf.GGUFReader(sys.argv[1]), sys.argv[2]
    write_hf(reader, os.path.join(out, "hf"))
    kinds = gguf.LlamaFileType
    for name, matrices, file_type in (("bf16", Type.BF16, kinds.MOSTLY_BF16),
                                      ("f16", Type.F16, kinds.MOSTLY_F16),
                                      ("f32", Type.F32, kinds.ALL_F32)):
        write_gguf(reader, os.path.join(out, name + ".gguf"), matrices, int(file_type))


if __name__ == "__main__":
    main()
