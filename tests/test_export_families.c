// Every family and container in every form of export: where it can be said there, the model that is read back gives
// the logits of the masked one; where it cannot, one line says why and nothing is left.
#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"
#include "t.h"

#define OUT "build/test_export_families.out"

typedef struct kept {
    float *rows;
    size_t n, columns;
} kept;

static int keep(void *user, const float *rows, size_t n) {
    kept *k = (kept *)user;
    memcpy(k->rows + k->n, rows, n * k->columns * sizeof *rows);
    k->n += n * k->columns;
    return 0;
}

static void remove_out(void) {
    static const char *const files[] = {"model.safetensors", "config.json", "generation_config.json", "README.md", "modeling_finercut.py",
                                        "tokenizer.json", "tokenizer_config.json"};
    char path[256];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", OUT, files[i]);
        remove(path);
    }
    fci_platform_remove(OUT, true);
    remove(OUT);
}

// Logits of eight tokens by a part of the model, for the caller to free; NULL: it does not run.
static float *logits(fc_model *m, const uint8_t *mask, size_t *n) {
    uint32_t ids[] = {1, 5, 9, 50, 17, 33, 44, 2};
    size_t starts[] = {0, 8};
    fc_error err;
    fc_tokens t = {ids, starts, 1, {NULL, NULL}};
    kept k = {NULL, 0, fc_model_config(m)->vocab_size};
    k.rows = (float *)malloc(8 * k.columns * sizeof *k.rows);
    if (!T_OK(fc_logits(m, &t, mask, keep, &k, &err) == FC_OK, "%s", err.msg)) {
        free(k.rows);
        return NULL;
    }
    *n = k.n;
    return k.rows;
}

// A plan that removes one whole block, as every family's exports can.
static fc_plan *make_plan(const fc_model *m, uint32_t block) {
    fc_error err;
    char text[800];
    snprintf(text, sizeof text,
             "{\"format\":\"finercut-plan-1\",\"model\":{\"fingerprint\":\"%s\",\"n_blocks\":%u},\"metric\":\"js\",\"candidates\":\"blocks\","
             "\"search\":\"random\",\"compute\":\"f32\",\"steps\":[{\"step\":1,\"removed\":\"block.%u\",\"score\":0.5}]}",
             fc_model_fingerprint(m), fc_model_config(m)->n_blocks, block);
    fc_plan *p = fci_plan_read(text, strlen(text), NULL, &err);
    T_OK(p != NULL, "%s", err.msg);
    return p;
}

static void compare(const char *what, fc_model *m, const fc_plan *plan) {
    fc_error err;
    fc_model_desc desc;
    uint8_t mask[256];
    size_t n = 0, n_back = 0;
    double most = 0;
    memset(&desc, 0, sizeof desc);
    desc.compute = FC_COMPUTE_F32;
    fc_model *back = fc_model_open(OUT, &desc, &err);
    if (!T_OK(back != NULL, "%s: read back: %s", what, err.msg)) return;
    if (plan) T_OK(fc_plan_mask(plan, m, 1, mask, sizeof mask, &err) == FC_OK, "%s", err.msg);
    float *a = logits(m, plan ? mask : NULL, &n), *b = logits(back, NULL, &n_back);
    for (size_t i = 0; a && b && i < n; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= most)) most = d;
    }
    T_OK(a && b && n == n_back && most <= 1e-4, "%s: logits differ by %g", what, most);
    free(a);
    free(b);
    fc_model_close(back);
}

// What a form cannot say, and 20 times does not.
static const struct {
    const char *model, *form, *words;
} refusals[] = {{"gemma2", "gguf", "another kind of block"},    {"gemma3", "gguf", "another kind of block"},
                {"qwen2_window", "gguf", " block"},             {"qwen2_window", "gguf-masked", "which blocks have a window"},
                {"qwen3_moe", "gguf", " block"},                {"qwen3_moe", "gguf-masked", "which blocks have experts"},
                {"smollm3", "gguf", " block"},                  {"smollm3", "gguf-masked", "which blocks have a rope"},
                {"gpt_neox_sequential", "gguf", "activation"},  {"gpt_neox_sequential", "gguf-masked", "activation"}};
static int n_refused;

static bool may_refuse(const char *name, const char *form, const char *message) {
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        if (strncmp(name, refusals[i].model, strlen(refusals[i].model)) == 0 && strcmp(form, refusals[i].form) == 0)
            return strstr(message, refusals[i].words) != NULL;
    return false;
}

static void check(const char *name, fc_export_format format, bool removes) {
    char path[128], what[200];
    fc_error err;
    fc_model_desc desc;
    fc_export_desc to;
    memset(&desc, 0, sizeof desc);
    memset(&to, 0, sizeof to);
    desc.compute = FC_COMPUTE_F32;
    snprintf(path, sizeof path, "tests/data/%s", name);
    snprintf(what, sizeof what, "%s to %s%s", name, fc_export_format_name(format), removes ? ", a block less" : "");
    fc_model *m = fc_model_open(path, &desc, &err);
    if (!T_OK(m != NULL, "%s: %s", path, err.msg)) return;
    fc_plan *plan = removes ? make_plan(m, 0) : NULL;
    to.format = format;
    to.path = OUT;
    remove_out();
    if (fc_export(m, plan, &to, &err) == FC_OK) compare(what, m, plan);
    else {
        n_refused++;
        T_OK(err.code == FC_ERR_UNSUPPORTED && may_refuse(name, fc_export_format_name(format), err.msg), "%s: %s", what, err.msg);
        T_OK(!fci_platform_same(OUT, OUT), "%s: something is left", what);
    }
    fc_plan_free(plan);
    fc_model_close(m);
    remove_out();
}

int main(void) {
    static const char *const names[] = {
        "gemma", "gemma.gguf", "gemma2", "gemma2.gguf", "gemma3", "gemma3.gguf", "gpt2", "gpt2.gguf", "gpt_neox", "gpt_neox.gguf",
        "gpt_neox_sequential", "granite", "granite.gguf", "llama_bf16.gguf", "llama_bf16_old_config", "llama_f32.gguf", "llama_q4_0.gguf",
        "mistral", "mixtral", "mixtral.gguf", "olmo2", "olmo2.gguf", "phi3", "phi3.gguf", "phi3_long", "phi3_long.gguf", "qwen2",
        "qwen2.gguf", "qwen2_window", "qwen3", "qwen3.gguf", "qwen3_moe", "smollm3", "stablelm", "stablelm.gguf", "starcoder2",
        "starcoder2.gguf"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int f = 0; f < FC_EXPORT_COUNT; f++) {
            check(names[i], (fc_export_format)f, false);
            check(names[i], (fc_export_format)f, true);
        }
    T_OK(n_refused == 20, "%d refusals", n_refused);
    return t_end("export_families");
}
