# Written by finercut. The stock LlamaForCausalLM without the sublayers that block_configs in config.json calls no_op.
import torch
import transformers
from torch import nn

_Base = transformers.LlamaForCausalLM


class _Block(dict):
    """A JSON object whose members are attributes too, as vLLM's DeciLMForCausalLM reads them."""

    def __init__(self, items):
        super().__init__({k: _Block(v) if isinstance(v, dict) else v for k, v in items.items()})

    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(name)


class FinercutConfig(_Base.config_class):
    model_type = "finercut-llama"

    def __setattr__(self, name, value):
        if name == "block_configs" and value is not None:
            value = [_Block(block) for block in value]
        super().__setattr__(name, value)


class _NoAttention(nn.Module):
    """Adds nothing. One number a position goes to the cache, so that every layer counts them."""

    def __init__(self, attention, index):
        super().__init__()
        self.index = index
        for name in ("is_sliding", "sliding_window", "attention_type", "layer_type"):
            if hasattr(attention, name) and not isinstance(getattr(attention, name), nn.Module):
                setattr(self, name, getattr(attention, name))

    def forward(self, hidden_states, *args, **kwargs):
        cache = next((kwargs[k] for k in ("past_key_values", "past_key_value", "layer_past") if kwargs.get(k) is not None), None)
        if cache is None:
            cache = next((a for a in args if hasattr(a, "get_seq_length")), None)
        if cache is not None:
            empty = hidden_states.new_zeros((hidden_states.shape[0], 1, hidden_states.shape[1], 1))
            position = kwargs.get("cache_position")
            cache.update(empty, empty, self.index, {} if position is None else {"cache_position": position})
        return torch.zeros_like(hidden_states), None


class _NoFFN(nn.Module):
    def __init__(self, pair):
        super().__init__()
        self.pair = pair

    def forward(self, hidden_states, *args, **kwargs):
        zeros = torch.zeros_like(hidden_states)
        return (zeros, None) if self.pair else zeros


class _NoNorm(nn.Module):
    def forward(self, hidden_states, *args, **kwargs):
        return hidden_states


def _cut(layer, index, block, one_norm):
    attention = next(n for n in ("self_attn", "attn", "attention") if hasattr(layer, n))
    ffn = next(n for n in ("mlp", "block_sparse_moe") if hasattr(layer, n))
    post = hasattr(layer, "post_feedforward_layernorm")  # norms after the sublayers, too
    pre = hasattr(layer, "pre_feedforward_layernorm") or not post
    gone = []
    if block["attention"]["no_op"]:
        setattr(layer, attention, _NoAttention(getattr(layer, attention), index))
        if not (one_norm and not block["ffn"]["no_op"]):
            gone += ["input_layernorm", "ln_1"]
        gone += ["post_attention_layernorm"] if post else []
    if block["ffn"]["no_op"]:
        pair = tuple(int(v) for v in transformers.__version__.split(".")[:1]) < (5,) and hasattr(getattr(layer, ffn), "experts")
        setattr(layer, ffn, _NoFFN(pair))
        gone += ["pre_feedforward_layernorm", "post_feedforward_layernorm", "ln_2"]
        gone += ["post_attention_layernorm"] if pre and not post else []
    for name in gone:
        if isinstance(getattr(layer, name, None), nn.Module):
            setattr(layer, name, _NoNorm())


class FinercutForCausalLM(_Base):
    config_class = FinercutConfig

    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        blocks = config.block_configs
        layers = next(m for m in self.modules() if isinstance(m, nn.ModuleList) and len(m) == len(blocks))
        one_norm = bool(getattr(config, "use_parallel_residual", False)) and not hasattr(layers[0], "post_attention_layernorm")
        for index, block in enumerate(blocks):
            _cut(layers[index], index, block, one_norm or getattr(layers[0], "post_attention_layernorm", 0) is None)


try:  # transformers 5 renames the tensors of some families as it loads them, by class or model_type
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping

    for _of, _to in ((_Base.__name__, "FinercutForCausalLM"), (_Base.config_class.model_type, FinercutConfig.model_type)):
        _mapping = get_checkpoint_conversion_mapping(_of)
        if _mapping:
            register_checkpoint_conversion_mapping(_to, _mapping, overwrite=True)
except ImportError:
    pass
