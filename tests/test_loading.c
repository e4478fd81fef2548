// Models as people have them, made from small ones: other names of tensors, settings of a model
// around the text model, an output matrix that differs, sublayers dropped by config.json, blocks
// beyond the last, packed weights, GGUF files with more or less than they should have. What they
// give, what their exports give, or why not.
#include "private.h"
#include "export.h"

#define BASE "tests/data/llama_bf16_old_config"

static const char config_of_base[] =
    "\"hidden_act\":\"silu\",\"max_position_embeddings\":128,\"hidden_size\":64,"
    "\"intermediate_size\":96,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":1,\"vocab_size\":230,\"rms_norm_eps\":1e-05,\"rope_theta\":500000.0,"
    "\"rope_scaling\":{\"rope_type\":"
    "\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
    "\"original_max_position_embeddings\":48}";

typedef struct made { // how a folder differs from BASE
    const char *settings;     // of config.json beside config_of_base, "" or ",..."
    const char *outer;        // settings around a "text_config"; NULL: there is none
    const char *prefix;       // in the place of "model."
    const char *head;         // name of an output matrix; NULL: there is none
    bool same;                // and it is the embedding
    const char *extra, *type; // another tensor [8, 8] and its type
} made;

static void write_in(const char *name, const void *a, size_t n_a, const void *b, size_t n_b) {
    char path[256];
    snprintf(path, sizeof path, "%s%s", in, name);
    FILE *f = fopen(path, "wb");
    if (!T_OK(f != NULL, "%s", path)) return;
    T_OK(fwrite(a, 1, n_a, f) == n_a && fwrite(b, 1, n_b, f) == n_b, "%s", path);
    fclose(f);
}

typedef struct st { // a safetensors file that grows
    char header[8192];
    unsigned char *data;
    size_t n, bytes;
} st;

static void st_add(st *s, const char *name, const char *type, uint64_t rows, uint64_t cols,
                   const void *data, size_t bytes) {
    char shape[64];
    snprintf(shape, sizeof shape, cols ? "[%d,%d]" : "[%d]", (int)rows, (int)cols);
    s->n += (size_t)snprintf(s->header + s->n, sizeof s->header - s->n,
                             "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%d,%d]}",
                             s->n > 9 ? "," : "", name, type, shape, (int)s->bytes,
                             (int)(s->bytes + bytes));
    memcpy(s->data + s->bytes, data, bytes);
    s->bytes += bytes;
}

static void make_weights(const made *how) {
    static st s;
    static const unsigned char zeros[512];
    fc_error err;
    char name[256];
    fc_container *c = fc_container_open(BASE, NULL, &err);
    if (!T_OK(c != NULL, "%s", err.msg)) return;
    s.data = (unsigned char *)malloc(1 << 20);
    s.n = 9; // the length and a brace
    s.bytes = 0;
    for (size_t i = 0; i < fc_container_tensor_count(c); i++) {
        const fc_tensor *t = fc_container_tensor(c, i);
        snprintf(name, sizeof name, "%s%s", how->prefix, t->name + 6);
        st_add(&s, name, fc_dtype_name(t->type), t->shape[0], t->rank > 1 ? t->shape[1] : 0,
               t->data, (size_t)t->bytes);
        if (!how->head || strcmp(t->name, "model.embed_tokens.weight") != 0) continue;
        st_add(&s, how->head, "BF16", 230, 64, t->data, (size_t)t->bytes);
        unsigned char *last = s.data + s.bytes - t->bytes; // the rows in another order
        for (size_t r = 0; !how->same && r < 229; r++)
            memcpy(last + r * 128, (const char *)t->data + (r + 1) * 128, 128);
    }
    if (how->extra)
        st_add(&s, how->extra, how->type, 8, 8, zeros,
               strcmp(how->type, "U8") == 0 || how->type[1] == '8' ? 64 : 256);
    s.header[8] = '{';
    s.header[s.n++] = '}';
    while (s.n % 8) s.header[s.n++] = ' ';
    for (size_t i = 0; i < 8; i++) s.header[i] = (char)((s.n - 8) >> 8 * i);
    write_in("/model.safetensors", s.header, s.n, s.data, s.bytes);
    free(s.data);
    fc_container_close(c);
}

static void make(const made *how) {
    char text[4096];
    const char *layers =
        strstr(how->settings, "num_hidden_layers") ? "" : "\"num_hidden_layers\":2,";
    remove_tree(in);
    fci_platform_make_folder(in);
    int n = snprintf(text, sizeof text, "%s%s{\"model_type\":\"llama\",%s%s%s}%s",
                     how->outer ? how->outer : "", how->outer ? ",\"text_config\":" : "", layers,
                     config_of_base, how->settings, how->outer ? "}" : "");
    write_in("/config.json", text, (size_t)n, "", 0);
    make_weights(how);
}

static double distance(const float *a, const float *b) {
    double most = 0;
    for (size_t i = 0; i < (size_t)N_IDS * 230; i++)
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
    return most;
}

// Logits of a model by its path, and of some of its sublayers.
static bool run(const char *what, const char *path, const uint8_t *mask, float *to) {
    fc_error err;
    fc_model *m = open_f32(path, &err);
    if (!T_OK(m != NULL, "%s: %s: %s", what, path, err.msg)) return false;
    kept k = logits_of(m, mask);
    const bool good = T_OK(k.n >= N_IDS * 230, "%s: %d logits", what, (int)k.n);
    if (good) memcpy(to, k.rows, N_IDS * 230 * sizeof *to);
    free(k.rows);
    fc_model_close(m);
    return good;
}

// What is written: names as transformers has them, a text model of its own, nothing left to drop
// twice.
static void check_folder(const char *what, bool tied, size_t n_tensors) {
    fc_error err;
    size_t n, odd = 0;
    char path[256];
    snprintf(path, sizeof path, "%s/config.json", out);
    char *config = t_read(path, &n);
    fc_container *c = fc_container_open(out, NULL, &err);
    if (!T_OK(config && c, "%s: written: %s", what, err.msg)) return;
    T_OK(!strstr(config, "text_config") && !strstr(config, "vision_config"), "%s: %s", what,
         config);
    T_OK(!strstr(config, "drop_attn_list") && !strstr(config, "drop_mlp_list"), "%s: %s", what,
         config);
    T_OK(strstr(config,
                tied ? "\"tie_word_embeddings\": true" : "\"tie_word_embeddings\": false") != NULL,
         "%s: %s", what, config);
    T_OK(!strstr(config, "quantization_config"), "%s: %s", what, config);
    for (size_t i = 0; i < fc_container_tensor_count(c); i++) {
        const char *name = fc_container_tensor(c, i)->name;
        odd += strncmp(name, "model.layers.", 13) != 0 && strcmp(name, "model.norm.weight") != 0 &&
               strcmp(name, "model.embed_tokens.weight") != 0 &&
               strcmp(name, "lm_head.weight") != 0;
        odd += strncmp(name, "model.layers.", 13) == 0 && (name[13] > '1' || name[14] != '.');
    }
    T_OK(odd == 0 && (!n_tensors || fc_container_tensor_count(c) == n_tensors),
         "%s: %d of %d names", what, (int)odd, (int)fc_container_tensor_count(c));
    fc_container_close(c);
    free(config);
}

// Every form of export of the model at `in` gives the logits wanted, read back; masked ones of a
// model that lacks sublayers are refused.
static void check_exports(const char *what, const char *removed, const float *want, bool tied,
                          bool lacks) {
    static float got[N_IDS * 230];
    fc_error err;
    fc_export_desc to;
    char name[200];
    for (int f = 0; f < FC_EXPORT_COUNT; f++) {
        fc_model *m = open_f32(in, &err);
        if (!T_OK(m != NULL, "%s: %s", what, err.msg)) return;
        fc_plan *plan = removed ? plan_of(m, removed) : NULL;
        memset(&to, 0, sizeof to);
        to.format = (fc_export_format)f;
        to.path = out;
        snprintf(name, sizeof name, "%s, %s", what, fc_export_format_name(to.format));
        remove_tree(out);
        const bool masked = f == FC_EXPORT_HF_MASKED || f == FC_EXPORT_GGUF_MASKED,
                   folder = f == FC_EXPORT_HF || f == FC_EXPORT_HF_MASKED;
        const fc_code code = fc_export(m, plan, &to, &err);
        if (lacks && masked)
            T_OK(code == FC_ERR_UNSUPPORTED && strstr(err.msg, "lacks sublayers already"), "%s: %s",
                 name, err.msg);
        else if (T_OK(code == FC_OK, "%s: %s", name, err.msg)) {
            if (folder) check_folder(name, tied, 0);
            if (run(name, out, NULL, got))
                T_OK(distance(got, want) < 1e-4, "%s: logits differ by %g", name,
                     distance(got, want));
        }
        fc_plan_free(plan);
        fc_model_close(m);
    }
    remove_tree(out);
}

static const made plain = {",\"tie_word_embeddings\":true", NULL, "model.", NULL, false, NULL,
    NULL};

// The first of `n` models is right: the others give its logits, and so do their exports.
static void test_names(void) {
    static const char outer[] = "{\"model_type\":\"seeing\",\"architectures\":["
                                "\"SeeingForConditionalGeneration\"],\"eos_token_id\":2,"
                                "\"vision_config\":{\"hidden_size\":8}";
    static const made tied[] = {
        {",\"tie_word_embeddings\":true", outer, "model.language_model.", NULL, false,
         "model.vision_tower.a.weight", "F32"},
        {",\"tie_word_embeddings\":true", outer, "language_model.model.", NULL, false,
         "vision_tower.a.weight", "F32"},
        {",\"tie_word_embeddings\":true", NULL, "", NULL, false, NULL, NULL},
        {",\"tie_word_embeddings\":true", NULL, "model.", "lm_head.weight", true, NULL, NULL},
    };
    static const made untied[] = {
        {",\"tie_word_embeddings\":false", NULL, "model.", "lm_head.weight", false, NULL, NULL},
        {",\"tie_word_embeddings\":true", NULL, "model.", "lm_head.weight", false, NULL, NULL},
        {",\"tie_word_embeddings\":true", outer, "language_model.model.",
         "language_model.lm_head.weight", false, NULL, NULL},
        {"", outer, "model.language_model.", "lm_head.weight", false, "model.vision_tower.a.weight",
         "F32"},
    };
    static float want[2][N_IDS * 230], got[N_IDS * 230], masked[N_IDS * 230];
    static const uint8_t mask[4] = {1, 0, 1, 1};
    char what[64];
    run("tied", BASE, NULL, want[0]);
    run("tied, masked", BASE, mask, masked);
    for (size_t i = 0; i < 4; i++) {
        snprintf(what, sizeof what, "tied model %d", (int)i);
        make(&tied[i]);
        if (run(what, in, NULL, got)) T_OK(distance(got, want[0]) <= 0, "%s: logits", what);
        check_exports(what, NULL, want[0], true, false);
        if (i == 0) check_exports(what, "ffn.0", masked, true, false);
    }
    for (size_t i = 0; i < 4; i++) {
        snprintf(what, sizeof what, "untied model %d", (int)i);
        make(&untied[i]);
        if (!run(what, in, NULL, i ? got : want[1])) continue;
        if (i) T_OK(distance(got, want[1]) <= 0, "%s: logits", what);
        else T_OK(distance(want[1], want[0]) > 0.01, "the output matrix counts");
        check_exports(what, NULL, want[1], false, false);
    }
}

// Sublayers that config.json drops are not there: not run, not written, no candidates of a plan.
static void test_dropped(void) {
    static made how = {
        .settings = ",\"tie_word_embeddings\":true,\"drop_attn_list\":[1],\"drop_mlp_list\":[]",
        .prefix = "model."};
    static const uint8_t one[4] = {1, 1, 0, 1}, two[4] = {1, 0, 0, 1};
    static float want[N_IDS * 230], got[N_IDS * 230];
    uint32_t ids[N_IDS] = {1, 5, 9, 50, 17, 33, 44, 2}, n_steps = 0;
    size_t starts[] = {0, N_IDS};
    fc_tokens t = {ids, starts, 1, {NULL, NULL}};
    fc_error err;
    fc_prune_desc desc;
    uint8_t mask[4];
    make(&how);
    run("one less", BASE, one, want);
    if (run("dropped", in, NULL, got))
        T_OK(distance(got, want) <= 0, "logits of a model that drops one");
    check_exports("dropped", NULL, want, true, true);
    run("two less", BASE, two, want);
    check_exports("dropped, and a plan", "ffn.0", want, true, true);
    how.settings = ",\"tie_word_embeddings\":true,\"drop_attn_list\":[false,true]";
    make(&how);
    if (run("dropped", in, two, got))
        T_OK(distance(got, want) <= 0, "logits of a model that drops one, by truths");
    fc_model *m = open_f32(in, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    T_OK(fc_model_config(m)->n_sublayers == 3, "%u sublayers", fc_model_config(m)->n_sublayers);
    fc_plan *again = plan_of(m, "attn.1");
    T_OK(again && fc_plan_mask(again, m, 1, mask, sizeof mask, &err),
         "a plan for what is not there");
    fc_plan_free(again);
    memset(&desc, 0, sizeof desc);
    desc.calibration = &t;
    desc.remove = 2;
    T_OK(fc_prune_count(m, &desc, &n_steps, &err) == FC_OK && n_steps == 2, "%s", err.msg);
    fc_plan *p = fc_prune(m, &desc, &err);
    if (T_OK(p != NULL, "%s", err.msg)) {
        T_OK(fc_plan_mask(p, m, 2, mask, sizeof mask, &err) == FC_OK && !mask[2] &&
                 mask[0] + mask[1] + mask[3] == 1,
             "%d %d %d %d", mask[0], mask[1], mask[2], mask[3]);
    }
    fc_plan_free(p);
    desc.remove = 4;
    T_OK(fc_prune_count(m, &desc, &n_steps, &err) == FC_ERR_ARGUMENT &&
             strstr(err.msg, "at most the 3"),
         "%s", err.msg);
    fc_model_close(m);
}

// Blocks beyond num_hidden_layers are neither run nor written.
static void test_fewer_blocks(void) {
    static const made how = {.settings = ",\"tie_word_embeddings\":true,\"num_hidden_layers\":1",
                             .prefix = "model."};
    static const uint8_t one[4] = {1, 1, 0, 0};
    static float want[N_IDS * 230], got[N_IDS * 230];
    fc_error err;
    fc_export_desc to;
    run("a block less", BASE, one, want);
    make(&how);
    if (run("one block", in, NULL, got)) T_OK(distance(got, want) <= 0, "logits of one block");
    check_exports("one block", NULL, want, true, false);
    memset(&to, 0, sizeof to);
    to.path = out;
    to.format = FC_EXPORT_HF_MASKED;
    fc_model *m = open_f32(in, &err);
    if (T_OK(m && fc_export(m, NULL, &to, &err) == FC_OK, "%s", err.msg))
        check_folder("one block", true, 11);
    fc_model_close(m);
    remove_tree(out);
}

// Packed weights are told by the tensors; settings over plain weights count for nothing.
static void test_packed(void) {
    static const struct {
        const char *settings, *extra, *type, *words; // words NULL: it runs
    } cases[] = {
        {"\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4}",
         "model.layers.0.mlp.up_proj.qweight", "I32", "method \"gptq\""},
        {"\"quantization_config\":{\"quant_method\":\"awq\"}",
         "model.layers.1.self_attn.q_proj.qzeros", "I32", "method \"awq\""},
        {"\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}",
         "model.layers.0.mlp.up_proj.weight.absmax", "F32", "bitsandbytes"},
        {"\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}",
         "model.layers.0.mlp.up_proj.SCB", "F32", "up_proj.SCB"},
        {"\"quantization_config\":{\"quant_method\":\"compressed-tensors\"}",
         "model.layers.0.mlp.up_proj.weight_packed", "I32", "16-bit model"},
        {"\"quantization_config\":{\"quant_method\":\"fp8\"}",
         "model.layers.0.mlp.up_proj.weight_scale_inv", "F32", "method \"fp8\""},
        {"\"quantization_config\":{}", "model.layers.0.mlp.up_proj.qweight", "I32",
         "method \"unnamed\""},
        {"\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4}", NULL, NULL, NULL},
        {"\"quantization_config\":{}", NULL, NULL, NULL},
        {"\"quantization_config\":null", NULL, NULL, NULL},
    };
    static float want[N_IDS * 230], got[N_IDS * 230];
    char settings[256];
    run("plain", BASE, NULL, want);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fc_error err;
        made how = plain;
        snprintf(settings, sizeof settings, ",\"tie_word_embeddings\":true,%s", cases[i].settings);
        how.settings = settings;
        how.extra = cases[i].extra;
        how.type = cases[i].type;
        make(&how);
        if (!cases[i].words) {
            if (run(settings, in, NULL, got))
                T_OK(distance(got, want) <= 0, "%s: logits", settings);
            check_exports(settings, NULL, want, true, false);
            continue;
        }
        fc_model *m = open_f32(in, &err);
        T_OK(!m && strstr(err.msg, cases[i].words), "%s, %s: %s", settings, cases[i].extra,
             m ? "opened" : err.msg);
        fc_model_close(m);
    }
}

// ---- GGUF: tests/data/llama_f32.gguf with keys and tensors added

typedef struct gguf { // parts of the file
    unsigned char *bytes;
    size_t size, kvs, infos, end, data;   // where they begin; end: of the infos
    size_t heads, first_type;             // the key of head counts, the type of the first tensor
} gguf;

static size_t gguf_value(const unsigned char *p, uint32_t type) { // bytes of a value
    static const size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == 8) return 8 + (size_t)fci_le64(p);
    if (type != 9) return sizes[type];
    const uint32_t of = fci_le32(p);
    size_t n = 12;
    for (uint64_t i = 0; i < fci_le64(p + 4); i++) n += gguf_value(p + n, of);
    return n;
}

static bool gguf_read(gguf *g) {
    g->bytes = (unsigned char *)t_read("tests/data/llama_f32.gguf", &g->size);
    if (!T_OK(g->bytes != NULL, "tests/data/llama_f32.gguf")) return false;
    size_t at = g->kvs = 24;
    for (uint64_t i = 0; i < fci_le64(g->bytes + 16); i++) {
        const size_t n = (size_t)fci_le64(g->bytes + at);
        if (n == 26 && memcmp(g->bytes + at + 8, "llama.attention.head_count", n) == 0)
            g->heads = at + 8;
        at += 8 + n;
        at += 4 + gguf_value(g->bytes + at + 4, fci_le32(g->bytes + at));
    }
    g->infos = at;
    for (uint64_t i = 0; i < fci_le64(g->bytes + 8); i++) {
        at += 8 + (size_t)fci_le64(g->bytes + at);
        at += 4 + 8 * fci_le32(g->bytes + at);
        if (i == 0) g->first_type = at;
        at += 12;
    }
    g->end = at;
    g->data = (at + 31) / 32 * 32;
    return T_OK(g->heads && g->data < g->size, "parts of the file");
}

static void put(fci_buffer *b, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        const char c = (char)(value >> 8 * i);
        fci_put(b, &c, 1);
    }
}

static void put_text(fci_buffer *b, const char *s) {
    put(b, strlen(s), 8);
    fci_puts(b, s);
}

static uint64_t gguf_count(const fci_buffer *keys) {
    const unsigned char *p = (const unsigned char *)keys->p;
    uint64_t n = 0;
    for (size_t at = 0; at < keys->n; n++) {
        at += 8 + (size_t)fci_le64(p + at);
        at += 4 + gguf_value(p + at + 4, fci_le32(p + at));
    }
    return n;
}

// The file with more keys (their bytes) and tensors [n] of float32 ones.
static void gguf_write(const gguf *g, const fci_buffer *key, const char *const *tensors,
                       size_t n_tensors, uint64_t n) {
    fci_context c;
    fci_buffer b;
    const float one = 1;
    fci_context_basic(&c, NULL);
    memset(&b, 0, sizeof b);
    b.c = &c;
    const uint64_t end = (g->size - g->data + 31) / 32 * 32, step = (4 * n + 31) / 32 * 32;
    fci_put(&b, (const char *)g->bytes, 8);
    put(&b, fci_le64(g->bytes + 8) + n_tensors, 8);
    put(&b, fci_le64(g->bytes + 16) + gguf_count(key), 8);
    fci_put(&b, key->p ? key->p : "", key->n);
    fci_put(&b, (const char *)g->bytes + g->kvs, g->end - g->kvs);
    for (size_t i = 0; i < n_tensors; i++) {
        put_text(&b, tensors[i]);
        put(&b, 1, 4);
        put(&b, n, 8);
        put(&b, 0, 4);
        put(&b, end + i * step, 8);
    }
    while (b.n % 32) put(&b, 0, 1);
    fci_put(&b, (const char *)g->bytes + g->data, g->size - g->data);
    put(&b, 0, (size_t)(end - (g->size - g->data)));
    for (size_t i = 0; i < n_tensors * step / 4; i++) fci_put(&b, (const char *)&one, 4);
    T_OK(b.error.code == FC_OK, "%s", b.error.msg);
    write_in("", b.p, b.n, "", 0);
    fci_buffer_free(&b);
}

static void gguf_case(const char *what, const gguf *g, const fci_buffer *key,
                      const char *const *tensors, size_t n_tensors, const float *want,
                      const char *words) {
    static float got[N_IDS * 230];
    fc_error err;
    gguf_write(g, key, tensors, n_tensors, 8);
    if (want) {
        if (run(what, in, NULL, got)) T_OK(distance(got, want) <= 0, "%s: logits", what);
        return;
    }
    fc_model *m = open_f32(in, &err);
    T_OK(!m && strstr(err.msg, words), "%s: %s", what, m ? "opened" : err.msg);
    fc_model_close(m);
}

static void put_f32(fci_buffer *b, const char *key, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_text(b, key);
    put(b, 6, 4);
    put(b, bits, 4);
}

static void put_rope(fci_buffer *b, const char *scaling, float factor) {
    b->n = 0;
    put_text(b, "llama.rope.scaling.type");
    put(b, 8, 4);
    put_text(b, scaling);
    put_f32(b, "llama.rope.scaling.factor", factor);
}

// What llama.cpp does with these keys: it ignores yarn's, and divides longrope's positions.
static void test_gguf_ropes(const gguf *g, fci_buffer *keys) {
    static float want[N_IDS * 230], plain[N_IDS * 230];
    run("GGUF", "tests/data/llama_f32.gguf", NULL, plain);
    put_rope(keys, "yarn", 4);
    gguf_write(g, keys, NULL, 0, 0);
    run("yarn", in, NULL, want);
    T_OK(distance(want, plain) > 0, "yarn changes something");
    put_f32(keys, "llama.rope.scaling.yarn_beta_fast", 8);
    put_f32(keys, "llama.rope.scaling.yarn_beta_slow", 2);
    put_f32(keys, "llama.rope.scaling.yarn_attn_factor", 3);
    gguf_case("yarn's keys", g, keys, NULL, 0, want, NULL);
    put_rope(keys, "longrope", 32);
    gguf_case("longrope and a factor", g, keys, NULL, 0, NULL,
              "rope.scaling.factor: with longrope expected 1 or none");
}

static void test_gguf(void) {
    static const char *const factors[] = {"rope_factors_long.weight", "rope_factors_short.weight"},
                             *const extra[] = {"blk.0.foo.weight"};
    static float want[N_IDS * 230];
    gguf g;
    fci_context c;
    fci_buffer key, none;
    memset(&g, 0, sizeof g);
    if (!gguf_read(&g)) return;
    fci_context_basic(&c, NULL);
    memset(&key, 0, sizeof key);
    memset(&none, 0, sizeof none);
    key.c = &c;
    remove_tree(in);
    run("GGUF", "tests/data/llama_f32.gguf", NULL, want);
    gguf_case("as it is", &g, &none, NULL, 0, want, NULL);
    gguf_case("an extra tensor", &g, &none, extra, 1, NULL, "1 of its");
    gguf_case("an extra tensor's name", &g, &none, extra, 1, NULL,
              "the first: \"blk.0.foo.weight\"");
    gguf_case("factors of longrope", &g, &none, factors, 2, NULL,
              "the first: \"rope_factors_long.weight\"");
    put_text(&key, "llama.use_parallel_residual");
    put(&key, 7, 4);
    put(&key, 1, 1);
    gguf_case("use_parallel_residual", &g, &key, NULL, 0, want, NULL);
    const uint32_t type = fci_le32(g.bytes + g.first_type);
    g.bytes[g.first_type] = 31;
    gguf_case("a type that was removed", &g, &none, NULL, 0, NULL,
              "Q4_0_4_4, which ggml has removed");
    g.bytes[g.first_type] = 4;
    gguf_case("a type that was removed", &g, &none, NULL, 0, NULL, "Q4_2, which ggml has removed");
    g.bytes[g.first_type] = (unsigned char)type;
    for (uint32_t second = 4; second >= 2; second -= 2) { // heads of the second block
        const uint32_t *n_heads = &second;
        key.n = 0;
        memcpy(g.bytes + g.heads, "llama.attention.head_counx", 26);
        put_text(&key, "llama.attention.head_count");
        put(&key, 9, 4);
        put(&key, 4, 4);
        put(&key, 2, 8);
        put(&key, 4, 4);
        put(&key, *n_heads, 4);
        gguf_case("heads block by block", &g, &key, NULL, 0, second == 4 ? want : NULL,
                  "one value a block");
    }
    memcpy(g.bytes + g.heads, "llama.attention.head_count", 26);
    test_gguf_ropes(&g, &key);
    fci_buffer_free(&key);
    free(g.bytes);
    remove(in);
}

int main(void) {
    own_paths("test_loading");
    (void)t_shared; /* not needed here */
    test_names();
    test_dropped();
    test_fewer_blocks();
    test_packed();
    remove_tree(in);
    test_gguf();
    return t_end("test_loading");
}
