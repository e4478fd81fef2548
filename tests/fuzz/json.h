// Changes to a JSON text by members and values, not by bytes.
#ifndef FUZZ_JSON_H
#define FUZZ_JSON_H
#include "fuzz.h"

typedef struct fuzz_text { // of fixed capacity: what does not fit is not done
    size_t n;
    char p[1 << 16];
} fuzz_text;

typedef struct fuzz_span {
    size_t from, to;
    bool key; // the name of a member
} fuzz_span;

#define FUZZ_SPANS 4096

static const char *const fuzz_words[] = { // names and values that settings know
#ifdef FUZZ_WORDS // a target's own
    FUZZ_WORDS
#else
    "model_type", "architectures", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size",
    "max_position_embeddings", "rms_norm_eps", "layer_norm_eps", "rope_theta",
    "rope_local_base_freq", "rope_scaling", "rope_parameters", "rope_type", "type", "factor",
    "low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "beta_fast",
    "beta_slow", "mscale", "mscale_all_dim", "attention_factor", "truncate", "short_factor",
    "long_factor", "short_mscale", "long_mscale", "partial_rotary_factor", "rotary_pct",
    "tie_word_embeddings", "attention_bias", "mlp_bias", "use_bias", "use_qkv_bias", "hidden_act",
    "hidden_activation", "activation_function", "sliding_window", "sliding_window_pattern",
    "_sliding_window_pattern", "layer_types", "max_window_layers", "use_sliding_window",
    "no_rope_layers", "no_rope_layer_interval", "num_local_experts", "num_experts",
    "num_experts_per_tok", "moe_intermediate_size", "decoder_sparse_step", "mlp_only_layers",
    "norm_topk_prob", "attn_logit_softcapping", "final_logit_softcapping",
    "query_pre_attn_scalar", "attention_multiplier", "embedding_multiplier",
    "residual_multiplier", "logits_scaling", "use_parallel_residual", "text_config",
    "block_configs", "drop_attn_list", "drop_mlp_list", "quantization_config", "bos_token_id",
    "eos_token_id", "pad_token_id", "full_attention", "sliding_attention", "linear", "dynamic",
    "llama3", "yarn", "longrope", "su", "default", "silu", "gelu", "gelu_new", "relu", "relu2",
    "gelu_pytorch_tanh", "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma",
    "gemma2", "gemma3_text", "phi3", "olmo2", "granite", "smollm3", "stablelm", "starcoder2",
    "gpt_neox", "gpt2", "finercut-llama", "LlamaForCausalLM", "js", "angular", "euclidean",
    "js-reference", "kl", "nll", "sublayers", "attention", "ffn", "blocks", "race", "exhaustive",
    "confident", "one-shot", "random", "f32", "bf16", "avx2", "scalar", "first_block",
    "confidence", "margin", "seed", "steps", "removed", "score", "scores", "value", "exact",
    "estimate", "positions", "attn.0", "attn.1", "attn.40", "ffn.0", "ffn.1", "ffn.3", "block.0",
    "block.1", "block.9", "fingerprint", "n_blocks", "calibration", "hash", "weight_map",
    "metadata", "total_size", "dtype", "shape", "data_offsets", "__metadata__", "F32", "F16",
    "BF16", "F64", "I8", "U8", "BOOL", "F4", "chat_template", "added_tokens", "content", "id",
    "special", "lstrip", "rstrip", "normalized", "single_word", "auto_map", "unk_token", "merges",
    "vocab", "model", "decoder", "normalizer", "pre_tokenizer", "post_processor", "Split", "Fuse",
    "ByteLevel", "Metaspace", "Sequence", "Strip", "ByteFallback", "TemplateProcessing", "BPE",
    "add_prefix_space", "byte_fallback", "ignore_merges", "Isolated", "Regex", "String", "[]"
#endif
};
#define FUZZ_N_WORDS (sizeof fuzz_words / sizeof *fuzz_words)

static size_t fuzz_json_string(const fuzz_text *t, size_t i) { // from one quote to behind the other
    for (i++; i < t->n && t->p[i] != '"'; i++)
        if (t->p[i] == '\\') i++;
    return i < t->n ? i + 1 : t->n;
}

// All values and names in a text, outer ones first.
static size_t fuzz_json_spans(const fuzz_text *t, fuzz_span *out) {
    size_t open[128], depth = 0, n = 0;
    for (size_t i = 0; i < t->n && n < FUZZ_SPANS;) {
        char c = t->p[i];
        size_t from = i++;
        if (c == '{' || c == '[') {
            if (depth < 128) open[depth++] = n;
        } else if (c == '}' || c == ']') {
            if (depth) out[open[--depth]].to = i;
            continue;
        } else if (c == '"') i = fuzz_json_string(t, from);
        else if (strchr(" \t\r\n,:", c)) continue;
        else
            while (i < t->n && !strchr(" \t\r\n,:{}[]\"", t->p[i])) i++;
        size_t k = i;
        while (k < t->n && strchr(" \t\r\n", t->p[k])) k++;
        out[n].from = from;
        out[n].to = c == '{' || c == '[' ? t->n : i;
        out[n++].key = c == '"' && k < t->n && t->p[k] == ':';
    }
    return n;
}

static void fuzz_json_put(fuzz_text *t, size_t from, size_t to, const char *p, size_t n) {
    if (from > to || to > t->n || t->n - (to - from) + n > sizeof t->p) return;
    memmove(t->p + from + n, t->p + to, t->n - to);
    memcpy(t->p + from, p, n);
    t->n = t->n - (to - from) + n;
}

static size_t fuzz_json_value(fuzz_input *in, char *out, size_t size) { // its length
    static const char *const plain[] = {"true", "false", "null", "[]", "{}", "\"\"", "[0]", "[1,0]",
                                        "[[1]]", "{\"a\":1}", "[true,false]", "-1", "1e400"};
    const size_t n_plain = sizeof plain / sizeof *plain;
    uint32_t kind = fuzz_byte(in) % 4;
    int n = kind == 0   ? snprintf(out, size, "%llu", (unsigned long long)fuzz_number(in))
            : kind == 1 ? snprintf(out, size, "%.9g", fuzz_real(in))
            : kind == 2 ? snprintf(out, size, "\"%s\"", fuzz_words[fuzz_below(in, FUZZ_N_WORDS)])
                        : snprintf(out, size, "%s", plain[fuzz_below(in, n_plain)]);
    return n > 0 ? (size_t)n : 0;
}

// One member or element once more, or not at all.
static void fuzz_json_repeat(fuzz_text *t, const fuzz_span *s, size_t n, size_t i, bool twice) {
    char copy[1024];
    size_t from = s[i].from, to = s[i].key && i + 1 < n ? s[i + 1].to : s[i].to;
    while (to < t->n && strchr(" \t\r\n", t->p[to])) to++;
    if (twice && to - from < sizeof copy - 1) {
        memcpy(copy, t->p + from, to - from);
        copy[to - from] = ',';
        fuzz_json_put(t, from, from, copy, to - from + 1);
    } else if (!twice) {
        if (to < t->n && t->p[to] == ',') to++;
        else
            while (from > 0 && strchr(" \t\r\n,", t->p[from - 1])) from--;
        fuzz_json_put(t, from, to, "", 0);
    }
}

static void fuzz_json_insert(fuzz_text *t, const fuzz_span *s, fuzz_input *in) { // into an object
    char member[160];
    size_t at = s->from + 1, k = at;
    if (t->p[s->from] != '{') return;
    size_t n = (size_t)snprintf(member, 64, "\"%s\":", fuzz_words[fuzz_below(in, FUZZ_N_WORDS)]);
    n += fuzz_json_value(in, member + n, 64);
    while (k < t->n && strchr(" \t\r\n", t->p[k])) k++;
    if (k < t->n && t->p[k] != '}') member[n++] = ',';
    fuzz_json_put(t, at, at, member, n);
}

static void fuzz_json_nudge(fuzz_text *t, const fuzz_span *s, int by) { // a whole number
    char digits[32];
    size_t n = s->to - s->from;
    if (n >= sizeof digits || !memchr("-0123456789", t->p[s->from], 11)) return;
    memcpy(digits, t->p + s->from, n);
    digits[n] = 0;
    int k = snprintf(digits, sizeof digits, "%lld", atoll(digits) % 1000000000000 + by);
    if (k > 0) fuzz_json_put(t, s->from, s->to, digits, (size_t)k);
}

static void fuzz_json_edit(fuzz_text *t, fuzz_input *in) {
    static fuzz_span s[FUZZ_SPANS];
    char value[1024];
    uint32_t op = fuzz_byte(in) % 8;
    size_t n = fuzz_json_spans(t, s), i = fuzz_below(in, n), k;
    if (!n) return;
    switch (op) {
    case 0:
    case 1: // a value, or the one of a name
        if (s[i].key && i + 1 < n) i++;
        k = fuzz_json_value(in, value, sizeof value);
        fuzz_json_put(t, s[i].from, s[i].to, value, k);
        break;
    case 2: fuzz_json_repeat(t, s, n, i, false); break;
    case 3: fuzz_json_repeat(t, s, n, i, true); break;
    case 4:
        k = fuzz_below(in, n);
        if (s[k].to - s[k].from > sizeof value) break;
        memcpy(value, t->p + s[k].from, s[k].to - s[k].from);
        fuzz_json_put(t, s[i].from, s[i].to, value, s[k].to - s[k].from);
        break;
    case 5: fuzz_json_insert(t, &s[fuzz_byte(in) % 4 ? 0 : i], in); break;
    case 6:
        k = (size_t)snprintf(value, sizeof value, "\"%s\"",
                             fuzz_words[fuzz_below(in, FUZZ_N_WORDS)]);
        fuzz_json_put(t, s[i].from, s[i].to, value, k);
        break;
    default: fuzz_json_nudge(t, &s[i], (int)fuzz_byte(in) - 128); break;
    }
}

// What few texts have: a value in many brackets, a long string, bytes and escapes in a string.
T_FN void fuzz_json_odd(fuzz_text *t, fuzz_input *in) {
    static const char *const pieces[] = {
        "\\u0000", "\\ud83d\\ude00", "\\ud83d", "\\ude00", "\xff", "\xc0\x80", "\xed\xa0\x80",
        "\xf4\x90\x80\x80", "\xe2\x98", "\xf0\x9f\x98\x80", "\\\"", "\\x", "\t", "\n", "\r\n",
        "\\n", "\xef\xbb\xbf", "\xe2\x80\xa8", "\xc2\xa0", "\\u0301", "{}", " ", "\"", "\\"};
    static fuzz_span s[FUZZ_SPANS];
    static char value[1024];
    size_t n = fuzz_json_spans(t, s), i = fuzz_below(in, n), k = 1 + fuzz_byte(in) % 160;
    if (!n) return;
    switch (fuzz_byte(in) % 4) {
    case 0:
        memset(value, '[', k);
        memset(value + 160, ']', k);
        fuzz_json_put(t, s[i].to, s[i].to, value + 160, k);
        fuzz_json_put(t, s[i].from, s[i].from, value, k);
        break;
    case 1:
        memset(value, 'a', sizeof value);
        value[0] = value[6 * k] = '"';
        fuzz_json_put(t, s[i].from, s[i].to, value, 6 * k + 1);
        break;
    default: // behind the first byte of a value, or anywhere
        i = k % 2 ? s[i].from + 1 : fuzz_below(in, t->n);
        k = fuzz_below(in, sizeof pieces / sizeof *pieces);
        fuzz_json_put(t, i, i, pieces[k], strlen(pieces[k]));
        break;
    }
}
#endif
