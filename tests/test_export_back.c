// Every family in every format, under plans that leave much, little or nothing: what fc_export
// writes is the model that was meant, to the logits; what it cannot write it refuses before
// anything is there.
#include "private.h"
#include "memory.h"
#include "export.h"
#include "tiny.h"

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

// Of two models in memory, of which one is said to be the export of the other: a number or setting
// that differs is found and named.
typedef struct difference {
    const char *setting, *other; // of config.json
    const char *tensor;          // whose first number is another
    fc_export_format format;
    uint8_t gone;                // this sublayer was removed, or 9
    const char *found;           // NULL: they agree
} difference;

static const difference differences[] = {
    {NULL, NULL, NULL, FC_EXPORT_HF, 9, NULL},
    {NULL, NULL, "model.embed_tokens", FC_EXPORT_HF, 9, "another embedding than"},
    {NULL, NULL, "lm_head", FC_EXPORT_HF, 9, "another output matrix than"},
    {NULL, NULL, "model.norm", FC_EXPORT_HF, 9, "another last norm than"},
    {NULL, NULL, "model.layers.0.input_layernorm", FC_EXPORT_HF, 9, "another norm in block 0"},
    {NULL, NULL, "model.layers.1.self_attn.q_proj", FC_EXPORT_HF, 9, "attention in block 1"},
    {NULL, NULL, "model.layers.1.self_attn.k_proj", FC_EXPORT_HF, 9, "attention in block 1"},
    {NULL, NULL, "model.layers.0.self_attn.v_proj", FC_EXPORT_HF, 9, "attention in block 0"},
    {NULL, NULL, "model.layers.0.self_attn.o_proj", FC_EXPORT_HF, 9, "attention in block 0"},
    {NULL, NULL, "model.layers.1.post_attention_layernorm", FC_EXPORT_HF, 9, "norm in block 1"},
    {NULL, NULL, "model.layers.0.mlp.gate_proj", FC_EXPORT_HF, 9, "FFN in block 0"},
    {NULL, NULL, "model.layers.1.mlp.up_proj", FC_EXPORT_HF, 9, "FFN in block 1"},
    {NULL, NULL, "model.layers.1.mlp.down_proj", FC_EXPORT_HF, 9, "FFN in block 1"},
    {"1e-10", "1e-05", NULL, FC_EXPORT_HF, 9, "epsilon of norms"},
    {"\"max_position_embeddings\":64", "\"max_position_embeddings\":63", NULL, FC_EXPORT_HF, 9,
     "context length"},
    {"\"rope_theta\":1000", "\"rope_theta\":1001", NULL, FC_EXPORT_HF, 9, "rotary frequencies"},
    {"\"silu\"", "\"gelu\"", NULL, FC_EXPORT_HF, 9, "activation"},
    {"\"sliding_window\":7", "\"sliding_window\":8", NULL, FC_EXPORT_HF, 9, "kind of attention"},
    {NULL, NULL, NULL, FC_EXPORT_HF, 2, "set of sublayers"},
    {NULL, NULL, NULL, FC_EXPORT_HF_MASKED, 9, NULL},
    {NULL, NULL, NULL, FC_EXPORT_HF_MASKED, 2, "attention in block 1"}, // which are not zeros
    {NULL, NULL, NULL, FC_EXPORT_HF_MASKED, 1, "FFN in block 0"},
};

static void tiny_mistral(tiny *t, const difference *d) {
    char *at;
    tiny_llama(t, 2, 8, 2, 2, 20);
    t->config[strlen(t->config) - 1] = 0;
    strcat(t->config, ",\"rope_theta\":1000,\"hidden_act\":\"silu\",\"sliding_window\":7}");
    if ((at = strstr(t->config, "\"llama\"")) != NULL) {
        memmove(at + 9, at + 7, strlen(at + 7) + 1);
        memcpy(at, "\"mistral\"", 9);
    }
    if (d && d->setting && (at = strstr(t->config, d->setting)) != NULL)
        memcpy(at, d->other, strlen(d->other));
    for (size_t i = 0; d && d->tensor && i < t->n_slots; i++)
        if (strncmp(t->slots[i].name, d->tensor, strlen(d->tensor)) == 0) t->slots[i].at[0] += 1;
}

static void check_difference(const difference *d) {
    tiny t, u;
    fc_error err;
    fci_context c;
    fci_export x;
    fc_export_desc desc;
    uint8_t mask[] = {1, 1, 1, 1};
    uint32_t number[] = {0, 1};
    tiny_mistral(&t, NULL);
    tiny_mistral(&u, d);
    fc_model *m = tiny_open(&t, 0, 1, &err), *other = m ? tiny_open(&u, 0, 1, &err) : NULL;
    memset(&x, 0, sizeof x);
    memset(&desc, 0, sizeof desc);
    if (T_OK(other != NULL, "%s", err.msg)) {
        const fc_env env = memory_env(&u.world);
        fci_context_basic(&c, &env);
        c.io = env.io;
        if (d->gone < 4) mask[d->gone] = 0;
        desc.format = d->format;
        x.m = m;
        x.c = &c;
        x.desc = &desc;
        x.mask = mask;
        x.number = number;
        x.n_kept = 2;
        x.err = &err;
        fci_clear(&err);
        const fc_code code = fci_agree_whole(&x, "t");
        T_OK(d->found ? code == FC_ERR_UNSUPPORTED && strstr(err.msg, d->found) : code == FC_OK,
             "expected %s, got %s", d->found ? d->found : "agreement", err.msg);
    }
    fc_model_close(other);
    fc_model_close(m);
    tiny_end(&t);
    tiny_end(&u);
}

// A tokenizer whose last token is another, and lists of ids.
static void check_ids(void) {
    static const char *const said[] = {NULL, "(token 2: id 9, not 8)", "(token 3: it ends)",
                                       "(token 3: id 7, not the end)"};
    uint32_t was[] = {5, 6, 8, 7}, is[] = {5, 6, 9, 7};
    const fc_export_desc desc = {.format = FC_EXPORT_GGUF};
    fc_error err;
    fci_export x;
    memset(&x, 0, sizeof x);
    x.desc = &desc;
    x.err = &err;
    for (int i = 0; i < 4; i++) {
        size_t n[] = {0, i == 3 ? 3 : 4}, k[] = {0, i == 2 ? 3 : 4};
        const fc_tokens a = {was, n, 1, {NULL, NULL}},
                        b = {i == 1 ? is : was, k, 1, {NULL, NULL}};
        fci_clear(&err);
        const fc_code code = fci_agree_ids(&x, &a, &b, fci_s("words"), 0);
        T_OK(said[i] ? code == FC_ERR_UNSUPPORTED && strstr(err.msg, said[i]) : !code,
             "ids %d: %s", i, err.msg);
    }
    fc_model *a = open_f32("examples/demo", &err), *b = open_f32("examples/demo", &err);
    const fc_tokenizer *t = a ? fc_model_tokenizer(a, &err) : NULL,
                       *u = b ? fc_model_tokenizer(b, &err) : NULL;
    if (T_OK(t && u, "%s", err.msg)) {
        x.m = a;
        x.c = &a->c;
        T_OK(fci_agree_vocabulary(&x, t, u) == FC_OK, "the same vocabulary: %s", err.msg);
        ((fci_tokenizer_token *)(uintptr_t)u->tokens)[u->n_tokens - 1].text.n--;
        T_OK(fci_agree_vocabulary(&x, t, u) == FC_ERR_UNSUPPORTED &&
                 strstr(err.msg, "another token"), "another last token: %s", err.msg);
    }
    fc_model_close(a);
    fc_model_close(b);
}

// What an export tells of its making: a plan that can be read, and a sentence.
static void check_told(void) {
    fc_error err;
    fci_export x;
    fc_export_desc desc = {.format = FC_EXPORT_HF};
    uint8_t mask[256];
    fc_model *m = open_f32("examples/demo", &err);
    fc_plan *p = m ? plan_of(m, "attn.3 ffn.2") : NULL;
    if (!T_OK(p != NULL, "%s", err.msg)) return;
    fci_buffer b = fci_buffer_of(&m->c);
    memset(&x, 0, sizeof x);
    memset(mask, 1, sizeof mask);
    x.m = m;
    x.c = &m->c;
    x.desc = &desc;
    x.mask = mask;
    fci_export_put_story(&x, &b);
    T_OK(strstr(b.p, " with all of its sublayers, ") && strstr(b.p, " weights are unchanged."),
         "%s", b.p);
    mask[6] = mask[5] = 0;
    x.plan = p;
    x.n_steps = 2;
    for (int masked = 0; masked < 2; masked++) {
        b.n = 0;
        desc.type = masked ? FC_DTYPE_F16 : (fc_dtype)0;
        desc.format = masked ? FC_EXPORT_HF_MASKED : FC_EXPORT_HF;
        fci_export_put_story(&x, &b);
        T_OK(strstr(b.p, masked ? "switched off" : "(self-attentions and FFNs) removed,") &&
                 strstr(b.p, "ffn.2") && strstr(b.p, "attn.3") &&
                 strstr(b.p, masked ? "stored as F16." : "weights are unchanged."), "%s", b.p);
    }
    b.n = 0;
    fci_export_put_plan(&x, &b);
    fc_plan *q = fc_plan_load_memory(b.p, b.n, NULL, &err);
    if (T_OK(q != NULL, "%s", err.msg))
        T_OK(q->info.n_steps == 2 && q->steps[0].removed == 6 && q->steps[1].removed == 5 &&
                 q->info.search == p->info.search && q->info.metric == p->info.metric,
             "%zu steps", q->info.n_steps);
    fc_plan_free(q);
    fc_plan_free(p);
    fci_buffer_free(&b);
    fc_model_close(m);
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
    for (size_t i = 0; i < sizeof differences / sizeof *differences; i++)
        check_difference(&differences[i]);
    check_ids();
    check_told();
    check_form();
    check_templates();
    T_OK(fci_platform_list("tests/data", each_model, NULL) == 0, "tests/data");
    T_OK(n_written > 600 && n_refused > 20, "%d exports read back, %d refused", n_written,
         n_refused);
    printf("%d exports read back, %d refused\n", n_written, n_refused);
    return t_end("test_export_back");
}
