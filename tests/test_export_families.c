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
    return t_end("export_families");
}
