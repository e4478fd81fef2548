// Every family in every format, under plans that leave much, little or nothing: what fc_export
// writes is the model that was meant, to the logits; what it cannot write it refuses before
// anything is there.
#include "private.h"
#include "memory.h"
#include "export.h"

static int n_written, n_refused;

// Sublayer s is removed where what(s, n) says so.
typedef bool (*choice)(uint32_t s, uint32_t n);
static bool none(uint32_t s, uint32_t n) { (void)s; (void)n; return false; }
static bool attentions(uint32_t s, uint32_t n) { (void)n; return s % 2 == FC_KIND_ATTENTION; }
static bool ffns(uint32_t s, uint32_t n) { (void)n; return s % 2 == FC_KIND_FFN; }
static bool all(uint32_t s, uint32_t n) { (void)s; (void)n; return true; }
static bool but_last_block(uint32_t s, uint32_t n) { return s + 2 < n; }
static bool but_first_attention(uint32_t s, uint32_t n) { (void)n; return s != 0; }
static bool but_last_ffn(uint32_t s, uint32_t n) { return s + 1 != n; }
static bool first_block(uint32_t s, uint32_t n) { (void)n; return s < 2; }
static bool some(uint32_t s, uint32_t n) { (void)n; return s == 0 || s == 3; }

static const struct {
    const char *name;
    choice what;
} choices[] = {{"nothing", none}, {"attentions", attentions}, {"FFNs", ffns}, {"everything", all},
               {"all but the last block", but_last_block}, {"all but attn.0", but_first_attention},
               {"all but the last FFN", but_last_ffn}, {"the first block", first_block}, {
                "attn.0, ffn.1", some}};

static fc_plan *make_plan(const fc_model *m, choice what) {
    const uint32_t n = 2 * fc_model_config(m)->n_blocks;
    char names[4096] = "";
    size_t used = 0;
    for (uint32_t s = 0; s < n; s++)
        if (what(s, n))
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s.%u", used ? " " : "",
                                     s % 2 ? "ffn" : "attn", s / 2);
    return plan_of(m, names);
}

static uint32_t count(choice what, uint32_t n) {
    uint32_t gone = 0;
    for (uint32_t s = 0; s < n; s++) gone += what(s, n);
    return gone;
}

// Refused: by name, before anything is written, and in the words of one who has looked first.
static void check_refusal(const fc_error *err, const char *what) {
    n_refused++;
    T_OK((err->code == FC_ERR_UNSUPPORTED || err->code == FC_ERR_ARGUMENT) &&
             strncmp(err->msg, "format ", 7) == 0 && !strstr(err->msg, "what was written"),
         "%s: %s", what, err->msg);
    T_OK(!fci_platform_same(out, out), "%s: nothing is left", what);
}

static void check_back(fc_model *m, const fc_plan *plan, choice removed, fc_export_format format,
                       const char *what) {
    fc_error err;
    const uint32_t n = 2 * fc_model_config(m)->n_blocks;
    const bool masked = format == FC_EXPORT_HF_MASKED || format == FC_EXPORT_GGUF_MASKED;
    fc_model *again = open_f32(out, &err);
    if (!T_OK(again != NULL, "%s: %s", what, err.msg)) return;
    T_OK(fc_model_config(again)->n_sublayers == (masked ? n : n - count(removed, n)),
         "%s: %u sublayers", what, fc_model_config(again)->n_sublayers);
    const double d = apart(logits_under(m, plan), logits_of(again, NULL));
    T_OK(d <= 1e-4, "%s: logits differ by %g", what, d);
    n_written++;
    fc_model_close(again);
}

static void check_model(const char *path) {
    fc_error err;
    fc_export_desc export;
    char what[400];
    memset(&export, 0, sizeof export);
    fc_model *m = open_f32(path, &err);
    if (!T_OK(m != NULL, "%s: %s", path, err.msg)) return;
    export.path = out;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        fc_plan *plan = make_plan(m, choices[i].what);
        for (int f = 0; f < FC_EXPORT_COUNT && plan; f++) {
            export.format = (fc_export_format)f;
            snprintf(what, sizeof what, "%s without %s to %s", path, choices[i].name,
                     fc_export_format_name(export.format));
            remove_tree(out);
            if (fc_export(m, plan, &export, &err)) check_refusal(&err, what);
            else check_back(m, plan, choices[i].what, export.format, what);
        }
        fc_plan_free(plan);
    }
    remove_tree(out);
    fc_model_close(m);
}

static void is_text(const char *name, const char *want) { // a file of `out`; NULL: there is none
    char path[300];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/%s", out, name);
    char *is = t_read(path, &n);
    if (want) T_OK(is && strcmp(is, want) == 0, "%s: expected %s, got %s", name, want, is);
    else T_OK(!is, "%s: expected none, got %s", name, is);
    free(is);
}

// What was written without a single removal becomes a directory that says nothing of that form.
static void check_form(void) {
    static const char *const gone[] = {"finercut-", "block_configs", "FinercutForCausalLM",
                                       "DeciLMForCausalLM"};
    char path[300];
    fc_error err;
    fc_export_desc export;
    memset(&export, 0, sizeof export);
    for (int i = 0; i < 2; i++) {
        fc_model *m = open_f32(i ? out : "examples/demo", &err);
        export.format = i ? FC_EXPORT_HF_MASKED : FC_EXPORT_HF;
        export.path = i ? back : out;
        T_OK(m && fc_export(m, NULL, &export, &err) == FC_OK, "%s", err.msg);
        fc_model_close(m);
        snprintf(path, sizeof path, "%s/config.json", export.path);
        char *text = t_read(path, NULL);
        for (size_t k = 0; k < sizeof gone / sizeof *gone && text; k++)
            T_OK(!strstr(text, gone[k]) == (i == 1) || k > 1, "%s: %s", path, gone[k]);
        T_OK(text && (i == 0 || strstr(text, "\"model_type\": \"llama\"")), "%s", path);
        free(text);
    }
    remove_tree(out);
    remove_tree(back);
}

// Chat templates of a model in memory go along as they do from a folder.
static void check_templates(void) {
    fc_memory_file files[] = {{"config.json", NULL, 0}, {"model.safetensors", NULL, 0},
                              {"tokenizer.json", NULL, 0}, {"chat_template.jinja", "usual", 5},
                              {FCI_TEMPLATES_FOLDER "/tool.jinja", "tools", 5},
                              {FCI_TEMPLATES_FOLDER "/rag.jinja", "rags", 4},
                              {FCI_TEMPLATES_FOLDER "/run.py", "import os", 9},
                              {FCI_TEMPLATES_FOLDER "/../up.jinja", "up", 2}};
    const size_t n = sizeof files / sizeof *files;
    char path[100], *data[3];
    fc_error err;
    fc_export_desc export;
    memset(&export, 0, sizeof export);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "examples/demo/%s", files[i].name);
        files[i].data = data[i] = t_read(path, &files[i].size);
    }
    export.path = out;
    fc_model *m = data[1] ? fc_model_open_memory(files, n, NULL, &err) : NULL;
    fc_plan *p = m ? plan_of(m, "attn.3") : NULL;
    if (m) {
        export.format = FC_EXPORT_HF_MASKED;
        T_OK(fc_export(m, p, &export, &err) == FC_OK, "%s", err.msg);
        is_text("chat_template.jinja", "usual");
        is_text(FCI_TEMPLATES_FOLDER "/tool.jinja", "tools");
        is_text(FCI_TEMPLATES_FOLDER "/rag.jinja", "rags");
        is_text(FCI_TEMPLATES_FOLDER "/run.py", NULL);
        is_text("up.jinja", NULL);
        remove_tree(out);
        export.format = FC_EXPORT_GGUF_MASKED;
        T_OK(fc_export(m, p, &export, &err) == FC_OK, "%s", err.msg);
        fc_container *c = fc_container_open(out, NULL, &err);
        T_OK(c && fci_gguf_find(c, "tokenizer.chat_template.tool") &&
                 fci_gguf_find(c, "tokenizer.chat_template.rag") &&
                 !fci_gguf_find(c, "tokenizer.chat_template.up"),
             "templates in GGUF");
        fc_container_close(c);
    } else t_skip("templates in memory", "no demo model");
    fc_plan_free(p);
    fc_model_close(m);
    remove_tree(out);
    for (size_t i = 0; i < 3; i++) free(data[i]);
}

static int each_model(void *user, const char *name) {
    char path[256];
    const char *end = strrchr(name, '.');
    (void)user;
    snprintf(path, sizeof path, "tests/data/%s", name);
    if (fci_platform_is_folder(path) || (end && strcmp(end, ".gguf") == 0)) check_model(path);
    return 0;
}

int main(void) {
    (void)memory_env;
    (void)t_read;
    (void)t_shared;
    own_paths("test_export_back");
    // What is not a number agrees with its like only, and what is infinite too.
    const double inf = (double)INFINITY, nan = (double)NAN;
    T_OK(fci_agree_near(nan, nan, 0) && !fci_agree_near(1, nan, 1) && !fci_agree_near(nan, 1, 1),
         "NaN");
    T_OK(fci_agree_near(inf, inf, 0) && !fci_agree_near(inf, -inf, 0) && fci_agree_near(0, 0, 0),
         "infinities");
    T_OK(fci_along_how("../x.tiktoken") == FCI_PART_OTHER &&
             fci_along_how(FCI_TEMPLATES_FOLDER "/../x.jinja") == FCI_PART_OTHER &&
             fci_along_how("x.tiktoken") == FCI_PART_COPIED,
         "names with a folder stay");
    check_form();
    check_templates();
    T_OK(fci_platform_list("tests/data", each_model, NULL) == 0, "tests/data");
    T_OK(n_written > 600 && n_refused > 20, "%d exports read back, %d refused", n_written,
         n_refused);
    printf("%d exports read back, %d refused\n", n_written, n_refused);
    return t_end("test_export_back");
}
