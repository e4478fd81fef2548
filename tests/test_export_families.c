// Every family and container in every form of export: where it can be said there, the model that is
// read back gives the logits of the masked one; where it cannot, one line says why and nothing is
// left.
#include "private.h"
#include "export.h"

static void compare(const char *what, fc_model *m, const fc_plan *plan) {
    fc_error err;
    fc_model *again = open_f32(out, &err);
    if (!T_OK(again != NULL, "%s: read back: %s", what, err.msg)) return;
    const double d = apart(logits_under(m, plan), logits_of(again, NULL));
    T_OK(d <= 1e-4, "%s: logits differ by %g", what, d);
    fc_model_close(again);
}

// What a form cannot say, and 20 times does not.
static const struct {
    const char *model, *form, *words;
} refusals[] = {{"gemma2", "gguf", "another kind of block"},    {"gemma3", "gguf",
    "another kind of block"},
                {"qwen2_window", "gguf", " block"},             {"qwen2_window", "gguf-masked",
                 "which blocks have a window"},
                {"qwen3_moe", "gguf", " block"},                {"qwen3_moe", "gguf-masked",
                 "which blocks have experts"},
                {"smollm3", "gguf", " block"},                  {"smollm3", "gguf-masked",
                 "which blocks have a rope"},
                {"gpt_neox_sequential", "gguf", "activation"},  {"gpt_neox_sequential",
                 "gguf-masked", "activation"}};
static int n_refused;

static bool may_refuse(const char *name, const char *form, const char *message) {
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        if (strncmp(name, refusals[i].model, strlen(refusals[i].model)) == 0 &&
            strcmp(form, refusals[i].form) == 0)
            return strstr(message, refusals[i].words) != NULL;
    return false;
}

static void check(const char *name, fc_export_format format, bool removes) {
    char path[128], what[200];
    fc_error err;
    fc_export_desc to;
    memset(&to, 0, sizeof to);
    snprintf(path, sizeof path, "tests/data/%s", name);
    snprintf(what, sizeof what, "%s to %s%s", name, fc_export_format_name(format),
             removes ? ", a block less" : "");
    fc_model *m = open_f32(path, &err);
    if (!T_OK(m != NULL, "%s: %s", path, err.msg)) return;
    fc_plan *plan = removes ? plan_of(m, "block.0") : NULL;
    to.format = format;
    to.path = out;
    remove_tree(out);
    if (fc_export(m, plan, &to, &err) == FC_OK) compare(what, m, plan);
    else {
        n_refused++;
        T_OK(err.code == FC_ERR_UNSUPPORTED &&
                 may_refuse(name, fc_export_format_name(format), err.msg),
             "%s: %s", what, err.msg);
        T_OK(!fci_platform_same(out, out), "%s: something is left", what);
    }
    fc_plan_free(plan);
    fc_model_close(m);
    remove_tree(out);
}

// Models of tests/data with other settings, whose GGUF files must say what llama.cpp asks for.
static const struct {
    const char *model, *was, *now; // in config.json
    const char *hidden;            // a tensor that is not there; NULL: all are
    // keys or tensors, NULL: none; `there` NULL: refused, with the words of `absent`
    const char *there, *absent;
} variants[] = {
    {"granite", "\"logits_scaling\": 1.5", "\"logits_scaling\": 1.0", NULL, "granite.logit_scale",
     "output.weight"},
    {"gpt_neox", "{", "{\"tie_word_embeddings\": true,", "embed_out.weight", "output.weight", NULL},
    {"olmo2", "{", "{\"tie_word_embeddings\": true,", "lm_head.weight", "output.weight", NULL},
    {"stablelm", "{", "{\"tie_word_embeddings\": true,", "lm_head.weight", "output.weight", NULL},
    // no block has a window, whatever its size
    {"gemma2", "\"sliding_window\": 8", "\"sliding_window\": null", NULL, NULL,
     "which blocks have a window"},
    {"gemma2", "{", "{\"layer_types\": [\"full_attention\",\"full_attention\",\"full_attention\"],",
     NULL, NULL, "which blocks have a window"},
    {"gemma3", "{", "{\"sliding_window_pattern\": 1,", NULL, "gemma3.rope.freq_base",
     "gemma3.attention.sliding_window"},
    {"qwen3", "{",
     "{\"use_sliding_window\": true, \"sliding_window\": 8, \"max_window_layers\": 3,", NULL,
     "qwen3.rope.freq_base", "qwen3.attention.sliding_window"},
};

// A copy in the folder `in`.
static fc_model *open_variant(size_t i, fc_error *err) {
    static const char *const files[] = {"config.json", "model.safetensors"};
    const char *was[] = {variants[i].was, variants[i].hidden},
               *now[] = {variants[i].now, "unused"}; // within the name
    char path[256];
    T_OK(!fci_platform_make_folder(in), "%s", in);
    for (size_t f = 0; f < 2; f++) {
        size_t n, at = 0;
        snprintf(path, sizeof path, "tests/data/%s/%s", variants[i].model, files[f]);
        char *text = t_read(path, &n);
        if (!T_OK(text != NULL, "%s", path)) return NULL;
        snprintf(path, sizeof path, "%s/%s", in, files[f]);
        FILE *to = fopen(path, "wb");
        while (was[f] && at < n && strncmp(text + at, was[f], strlen(was[f])) != 0) at++;
        T_OK(to && (!was[f] || at < n), "%s: there is no %s", path, was[f]);
        if (to) fwrite(text, 1, at, to);
        if (to && was[f]) fputs(now[f], to);
        if (was[f]) at += f ? strlen(now[f]) : strlen(was[f]);
        if (to) fwrite(text + at, 1, n - at, to);
        if (to) fclose(to);
        free(text);
    }
    return open_f32(in, err);
}

static void check_variant(size_t i) {
    const char *name = variants[i].model, *names[] = {variants[i].there, variants[i].absent};
    fc_error err;
    fc_export_desc to;
    memset(&to, 0, sizeof to);
    to.format = FC_EXPORT_GGUF_MASKED;
    to.path = out;
    fc_model *m = open_variant(i, &err);
    if (!T_OK(m != NULL, "%s: %s", name, err.msg)) return;
    if (!names[0])
        T_OK(fc_export(m, NULL, &to, &err) == FC_ERR_UNSUPPORTED && strstr(err.msg, names[1]),
             "%s: %s", name, err.msg);
    else if (T_OK(fc_export(m, NULL, &to, &err) == FC_OK, "%s: %s", name, err.msg)) {
        compare(name, m, NULL);
        fc_container *c = fc_container_open(out, NULL, &err);
        for (size_t k = 0; c && k < 2; k++)
            T_OK(!names[k] || (fci_gguf_find(c, names[k]) || fc_container_find(c, names[k])) == !k,
                 "%s: %s", name, names[k]);
        fc_container_close(c);
    }
    fc_model_close(m);
    remove_tree(in);
    remove_tree(out);
}

// llama.cpp's Gemma 2 has no output matrix of its own.
static void check_untied(void) {
    fc_error err;
    fc_export_desc to;
    memset(&to, 0, sizeof to);
    to.format = FC_EXPORT_GGUF_MASKED;
    to.path = out;
    fc_model *m = open_f32("tests/data/gemma2", &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    m->hyper.traits &= ~(uint32_t)FCI_TRAIT_TIED;
    T_OK(fc_export(m, NULL, &to, &err) == FC_ERR_UNSUPPORTED && strstr(err.msg, "output matrix"),
         "%s", err.msg);
    fc_model_close(m);
    remove_tree(out);
}

int main(void) {
    static const char *const names[] = {"gemma",
                                        "gemma.gguf",
                                        "gemma2",
                                        "gemma2.gguf",
                                        "gemma3",
                                        "gemma3.gguf",
                                        "gpt2",
                                        "gpt2.gguf",
                                        "gpt_neox",
                                        "gpt_neox.gguf",
                                        "gpt_neox_sequential",
                                        "granite",
                                        "granite.gguf",
                                        "llama_bf16.gguf",
                                        "llama_bf16_old_config",
                                        "llama_f32.gguf",
                                        "llama_q4_0.gguf",
                                        "mistral",
                                        "mixtral",
                                        "mixtral.gguf",
                                        "olmo2",
                                        "olmo2.gguf",
                                        "phi3",
                                        "phi3.gguf",
                                        "phi3_long",
                                        "phi3_long.gguf",
                                        "qwen2",
                                        "qwen2.gguf",
                                        "qwen2_window",
                                        "qwen3",
                                        "qwen3.gguf",
                                        "qwen3_moe",
                                        "smollm3",
                                        "stablelm",
                                        "stablelm.gguf",
                                        "starcoder2",
                                        "starcoder2.gguf"};
    own_paths("test_export_families");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int f = 0; f < FC_EXPORT_COUNT; f++) {
            check(names[i], (fc_export_format)f, false);
            check(names[i], (fc_export_format)f, true);
        }
    T_OK(n_refused == 20, "%d refusals", n_refused);
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) check_variant(i);
    check_untied();
    return t_end("export_families");
}
