// Healed models: a file of tensors over a model's own. Logits are those of a model whose files have
// these tensors themselves, every export merges them, and what does not fit is one clear error.
#include "private.h"

#include "export.h"
#include "memory.h"
#include "tiny.h"

static fc_error err;

// ---- a file of healed tensors, written by hand

typedef struct patch { // what stands in for a tensor; free values
    const char *name;
    fc_dtype type;
    uint32_t rank;
    uint64_t shape[4];
    float *values;
} patch;

typedef struct healing {
    const char *format, *fingerprint, *removed; // NULL: not in the metadata
    const char *more;                           // of the metadata, as JSON; NULL: none
    patch patches[128];
    size_t n;
    const char *list; // of its tensors; NULL: the right one
    int without;      // 1: no list, 2: no hash
} healing;

static fci_context plain;

// Puts the right hash into a file that has a place for it.
static void seal(char *file, size_t n) {
    static const char key[] = "finercut.content\":\"";
    static fc_model of; // none
    memory world;
    char hash[32];
    size_t at = 0;
    of.c = plain;
    memset(&world, 0, sizeof world);
    memory_add(&world, "h.safetensors", file, n);
    const fc_env env = memory_env(&world);
    fc_container *h = fc_container_open("h.safetensors", &env, &err);
    if (!h) return; // that is what the test is about
    T_OK(fci_identity_content(&of, h, NULL, hash, &err) == FC_OK, "%s", err.msg);
    fc_container_close(h);
    while (at + 64 < n && memcmp(file + at, key, sizeof key - 1) != 0) at++;
    if (at + 64 < n) memcpy(file + at + sizeof key - 1, hash, 16);
}

static void put_heal(fci_buffer *to, const healing *h) {
    fci_buffer head = fci_buffer_of(&plain);
    uint64_t at = 0;
    const size_t start = to->n;
    fci_json_put(&head, "{'__metadata__':{'finercut.version':'0.2.0'");
    if (h->format) fci_json_put(&head, ",'format':%s", h->format);
    if (h->fingerprint) fci_json_put(&head, ",'finercut.fingerprint':%s", h->fingerprint);
    if (h->removed) fci_json_put(&head, ",'finercut.removed':%s", h->removed);
    if (!(h->without & 1)) fci_puts(&head, ",\"finercut.tensors\":\"");
    for (size_t i = 0; i < h->n && !(h->without & 1) && !h->list; i++)
        fci_putf(&head, "%s%s", i ? "\\n" : "", h->patches[i].name);
    if (!(h->without & 1)) fci_putf(&head, "%s\"", h->list ? h->list : "");
    if (!(h->without & 2)) fci_puts(&head, ",\"finercut.content\":\"0123456789abcdef\"");
    fci_putf(&head, "%s}", h->more ? h->more : "");
    for (size_t i = 0; i < h->n; i++) {
        const patch *p = &h->patches[i];
        uint64_t bytes;
        fci_shape_bytes(p->type, p->shape, p->rank, &bytes);
        fci_json_put(&head, ",%s:{'dtype':%s,'shape':[", p->name,
                     fci_dtype_info(p->type)->safetensors);
        for (uint32_t d = 0; d < p->rank; d++)
            fci_json_put(&head, ",%llu", (unsigned long long)p->shape[d]);
        fci_json_put(&head, "],'data_offsets':[%llu,%llu]}", (unsigned long long)at,
                     (unsigned long long)(at + bytes));
        at += bytes;
    }
    fci_puts(&head, "}");
    for (int i = 0; i < 8; i++) {
        const char byte = (char)(unsigned char)((uint64_t)head.n >> 8 * i & 255);
        fci_put(to, &byte, 1);
    }
    fci_put(to, head.p, head.n);
    for (size_t i = 0; i < h->n; i++) {
        const patch *p = &h->patches[i];
        uint64_t bytes, n = 1;
        for (uint32_t d = 0; d < p->rank; d++) n *= p->shape[d];
        fci_shape_bytes(p->type, p->shape, p->rank, &bytes);
        char *stored = (char *)calloc((size_t)bytes + 1, 1);
        if (p->values) fci_number_encode(p->type, p->values, n, stored);
        fci_put(to, stored, (size_t)bytes);
        free(stored);
    }
    fci_buffer_free(&head);
    seal(to->p + start, to->n - start);
}

static void free_patches(healing *h) {
    for (size_t i = 0; i < h->n; i++) free(h->patches[i].values);
    h->n = 0;
}

static void save(const char *path, const void *data, size_t n) {
    T_OK(fc_file_write(path, NULL, data, n, &err) == FC_OK, "%s", err.msg);
}

// ---- every model of tests/data

static char healed_path[160];

static fc_model *open_healed(const char *path, const char *heal) {
    fc_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.compute = FC_COMPUTE_F32;
    desc.env.par.n_threads = 1;
    desc.heal = heal;
    return fc_model_open(path, &desc, &err);
}

// Gives the tensor other numbers of its type, in `stored`: its rows moved up by one.
static void rotate(const fc_tensor *t, char *stored) {
    const size_t row = (size_t)(t->bytes / t->shape[0]), rest = (size_t)t->bytes - row;
    memcpy(stored, (const char *)t->data + row, rest);
    memcpy(stored + rest, t->data, row);
}

// The same numbers healed: F32, which holds all, or of unblocked types every third one as F16 and
// as BF16, to which `stored` is rounded.
static void add_patch(healing *h, const fc_tensor *t, char *stored) {
    static const fc_dtype types[] = {FC_DTYPE_F32, FC_DTYPE_F16, FC_DTYPE_BF16};
    patch *p = &h->patches[h->n];
    uint64_t n = 1;
    for (uint32_t d = 0; d < t->rank; d++) n *= p->shape[d] = t->shape[d];
    p->name = t->name;
    p->rank = t->rank;
    p->type = t->type == FC_DTYPE_F32 ? types[h->n % 3] : FC_DTYPE_F32;
    p->values = (float *)malloc((size_t)n * sizeof *p->values);
    fci_number_decode(t->type, stored, 0, n, p->values);
    if (t->type == FC_DTYPE_F32) {
        char *rounded = (char *)malloc((size_t)n * 4);
        fci_number_encode(p->type, p->values, n, rounded);
        fci_number_decode(p->type, rounded, 0, n, p->values);
        fci_number_encode(FC_DTYPE_F32, p->values, n, stored);
        free(rounded);
    }
    h->n++;
}

static void copy_file(const char *from, const char *to) {
    size_t n = 0;
    char *data = t_read(from, &n);
    if (data) save(to, data, n);
    free(data);
}

static int copy_each(void *user, const char *name) {
    char from[300], to[300];
    snprintf(from, sizeof from, "%s/%s", (const char *)user, name);
    snprintf(to, sizeof to, "%s/%s", in, name);
    copy_file(from, to);
    return 0;
}

// Puts `stored` over the tensor in the copy of the model at `in`.
static void overwrite(const fc_model *m, const fc_tensor *t, const char *stored) {
    char path[600];
    const fci_file *f = &m->container->files[t->file];
    if (m->container->directory) snprintf(path, sizeof path, "%s/%s", in, f->name);
    else snprintf(path, sizeof path, "%s", in);
    FILE *to = fopen(path, "r+b");
    T_OK(to && fseek(to, (long)t->offset, SEEK_SET) == 0 &&
             fwrite(stored, 1, (size_t)t->bytes, to) == (size_t)t->bytes,
         "%s: written to", path);
    if (to) fclose(to);
}

// A copy at `in` with every tensor changed, and the same changes at healed_path.
static void make_pair(const fc_model *m, const char *path, const char *removed) {
    static const char how[] = ",\"finercut.heal.tokens\":\"65536\"";
    healing h = {"finercut-heal-3", NULL, NULL, how, {{0}}, 0, NULL, 0};
    fci_buffer file = fci_buffer_of(&plain);
    h.fingerprint = fc_model_fingerprint(m);
    h.removed = removed;
    remove_tree(in);
    if (m->container->directory) {
        char from[200];
        snprintf(from, sizeof from, "%s", path);
        fci_platform_make_folder(in);
        fci_platform_list(from, copy_each, from);
    } else copy_file(path, in);
    for (size_t i = 0; i < fc_container_tensor_count(m->container); i++) {
        const fc_tensor *t = fc_container_tensor(m->container, i);
        if (!m->read[i] || strstr(t->name, "rope_f")) continue;
        char *stored = (char *)malloc((size_t)t->bytes);
        rotate(t, stored);
        add_patch(&h, t, stored);
        overwrite(m, t, stored);
        free(stored);
    }
    put_heal(&file, &h);
    save(healed_path, file.p, file.n);
    fci_buffer_free(&file);
    free_patches(&h);
}

static int n_refused;

// Metadata, and card or description, say that it was healed and how; llama.cpp's vectors are F32.
static void check_said(const char *what, const fc_model *m) {
    static const char story[] = "Then it was healed: ", how[] = "tokens 65536";
    const fc_container *c = m->container;
    char path[200];
    fci_str text;
    T_OK(fci_kv_str(fci_container_kv(c, "finercut.heal.tokens"), &text) && fci_is(text, "65536") &&
             fci_kv_str(fci_container_kv(c, "finercut.healed"), &text),
         "%s: metadata", what);
    snprintf(path, sizeof path, "%s/README.md", out);
    char *card = fci_is_gguf(c) ? NULL : t_read(path, NULL);
    if (fci_is_gguf(c) && fci_kv_str(fci_gguf_find(c, "general.description"), &text)) {
        card = (char *)calloc(text.n + 1, 1);
        memcpy(card, text.p, text.n);
    }
    T_OK(card && strstr(card, story) && strstr(card, how), "%s: %s", what, card ? card : "none");
    free(card);
    for (size_t i = 0; i < c->n_tensors && fci_is_gguf(c); i++)
        T_OK(c->tensors[i].rank > 1 || c->tensors[i].type == FC_DTYPE_F32, "%s: %s is %s", what,
             c->tensors[i].name, fc_dtype_name(c->tensors[i].type));
}

// Exports healed, and reads back the same logits; the same bits in the same kind of file.
static void check_export(const char *name, fc_model *healed, fc_export_format format) {
    const bool gguf = format == FC_EXPORT_GGUF || format == FC_EXPORT_GGUF_MASKED;
    char what[100];
    fc_export_desc to;
    memset(&to, 0, sizeof to);
    to.format = format;
    to.path = out;
    remove_tree(out);
    snprintf(what, sizeof what, "%s healed to %s", name, fc_export_format_name(format));
    if (fc_export(healed, NULL, &to, &err)) {
        n_refused++;
        T_OK(err.code == FC_ERR_UNSUPPORTED, "%s: %s", what, err.msg);
        return;
    }
    fc_model *again = open_f32(out, &err);
    if (!T_OK(again != NULL, "%s: %s", what, err.msg)) return;
    const double d = apart(logits_of(healed, NULL), logits_of(again, NULL));
    T_OK(d <= (gguf == fci_is_gguf(healed->container) ? 0 : 1e-4), "%s: %g", what, d);
    check_said(what, again);
    fc_model_close(again);
}

static void check_family(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "tests/data/%s", name);
    fc_model *m = open_f32(path, &err);
    if (!T_OK(m != NULL, "%s: %s", path, err.msg)) return;
    make_pair(m, path, "attn.0,ffn.0");
    fc_model *changed = open_f32(in, &err);
    if (!T_OK(changed != NULL, "%s: %s", in, err.msg)) return;
    fc_model *healed = open_healed(path, healed_path);
    if (!T_OK(healed != NULL, "%s: %s", name, err.msg)) return;
    const uint8_t *mask = fc_model_healed(healed)->mask;
    T_OK(strcmp(fc_model_fingerprint(healed), fc_model_fingerprint(m)) == 0 &&
             fc_model_config(healed)->n_parameters == fc_model_config(m)->n_parameters &&
             !mask[0] && !mask[1] && mask[2],
         "%s: another model", name);
    T_OK(apart(logits_of(m, mask), logits_of(healed, mask)) > 0, "%s: nothing changed", name);
    double d = apart(logits_of(changed, mask), logits_of(healed, NULL));
    T_OK(!(d > 0), "%s: healed differs from changed by %g", name, d);
    fc_model_close(changed);
    for (int f = 0; f < FC_EXPORT_COUNT; f++) check_export(name, healed, (fc_export_format)f);
    fc_model_close(healed);
    fc_model_close(m);
    remove_tree(in);
    remove_tree(out);
    remove(healed_path);
}

// In the same kind of file a type is that of all matrices; without one the healed have the model's.
static void check_type(void) {
    static const char path[] = "tests/data/llama_q4_0.gguf";
    fc_model *m = open_f32(path, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    healing h = {"finercut-heal-3", NULL, "ffn.0", NULL, {{0}}, 0, NULL, 0};
    const fc_tensor *t = fc_container_find(m->container, "blk.1.ffn_down.weight");
    fci_buffer file = fci_buffer_of(&plain);
    h.fingerprint = fc_model_fingerprint(m);
    char *stored = (char *)malloc((size_t)t->bytes);
    rotate(t, stored);
    add_patch(&h, t, stored);
    put_heal(&file, &h);
    save(healed_path, file.p, file.n);
    fc_model *healed = open_healed(path, healed_path);
    T_OK(healed != NULL, "%s", err.msg);
    for (int i = 0; i < 3 && healed; i++) {
        static const fc_dtype asked[] = {FC_DTYPE_INVALID, FC_DTYPE_F16, FC_DTYPE_Q8_0};
        fc_export_desc to;
        memset(&to, 0, sizeof to);
        to.format = FC_EXPORT_GGUF_MASKED;
        to.path = out;
        to.type = asked[i];
        T_OK(fc_export(m, NULL, &to, &err) == FC_OK, "not healed: %s", err.msg);
        T_OK(fc_export(healed, NULL, &to, &err) == FC_OK, "%s", err.msg);
        fc_container *c = fc_container_open(out, NULL, &err);
        const fc_tensor *is = fc_container_find(c, t->name),
                        *other = fc_container_find(c, "blk.0.attn_q.weight");
        const fc_dtype want = i ? asked[i] : FC_DTYPE_Q4_0;
        T_OK(is && is->type == want, "%s", is ? fc_dtype_name(is->type) : "none");
        T_OK(other && other->type == want, "another tensor");
        fc_container_close(c);
    }
    fc_model_close(healed);
    fc_model_close(m);
    fci_buffer_free(&file);
    free_patches(&h);
    free(stored);
    remove(healed_path);
    remove_tree(out);
}

static void check_families(void) {
    static const char *const names[] = {
        "gemma",         "gemma.gguf",      "gemma2",          "gemma2.gguf",
        "gemma3",        "gemma3.gguf",     "gpt2",            "gpt2.gguf",
        "gpt_neox",      "gpt_neox.gguf",   "granite",         "granite.gguf",
        "llama_bf16.gguf", "llama_f16.gguf", "llama_f16_sharded", "llama_f32_bias",
        "llama_q4_0.gguf", "llama_q4_1.gguf", "llama_q8_0.gguf", "mistral",
        "mixtral",       "mixtral.gguf",    "olmo2",           "olmo2.gguf",
        "phi3",          "phi3.gguf",       "phi3_long",       "phi3_long.gguf",
        "qwen2",         "qwen2.gguf",      "qwen2_window",    "qwen3",
        "qwen3.gguf",    "qwen3_moe",       "smollm3",         "stablelm",
        "stablelm.gguf", "starcoder2",      "starcoder2.gguf"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_family(names[i]);
    T_OK(n_refused == 10, "%d refusals", n_refused);
}


// ---- one small model, in memory

typedef struct small {
    tiny t;
    healing h;
    fci_buffer file;
    fc_model *m; // healed
} small;

static char fingerprint[32];
static fc_error why;

// A model, and a healing of two of its tensors that fits it.
static void small_begin(small *s) {
    memset(s, 0, sizeof *s);
    s->file.c = &plain;
    tiny_llama(&s->t, 3, 8, 2, 1, 40);
    fc_model *m = tiny_open(&s->t, 0, 1, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) exit(1);
    snprintf(fingerprint, sizeof fingerprint, "%s", fc_model_fingerprint(m));
    fc_model_close(m);
    s->h.format = "finercut-heal-3";
    s->h.fingerprint = fingerprint;
    s->h.removed = "attn.0,ffn.1";
    s->h.more = ",\"finercut.heal.tokens\":\"65536\"";
    const patch o = {"model.layers.1.self_attn.o_proj.weight", FC_DTYPE_F16, 2, {8, 8}, NULL},
                down = {"model.layers.2.mlp.down_proj.weight", FC_DTYPE_BF16, 2, {8, 16}, NULL};
    s->h.patches[0] = o;
    s->h.patches[1] = down;
    s->h.n = 2;
    for (size_t i = 0; i < 2; i++) {
        s->h.patches[i].values = (float *)malloc(128 * sizeof(float));
        for (int k = 0; k < 128; k++) s->h.patches[i].values[k] = (float)(k % 7 - 3) / 8;
    }
}

static fc_model *small_open_again(small *s) {
    fc_model_desc desc;
    s->t.world.n_files = 2;
    memory_add(&s->t.world, "t/healed.safetensors", s->file.p, s->file.n);
    memset(&desc, 0, sizeof desc);
    desc.env = memory_env(&s->t.world);
    desc.env.par.n_threads = 1;
    desc.heal = "t/healed.safetensors";
    return fc_model_open("t", &desc, &why);
}

static fc_model *small_try(small *s) {
    s->file.n = 0;
    put_heal(&s->file, &s->h);
    return small_open_again(s);
}

static void small_end(small *s) {
    fc_model_close(s->m);
    fci_buffer_free(&s->file);
    free_patches(&s->h);
    T_OK(s->t.world.live == 0, "%ld allocations or files are left", s->t.world.live);
    tiny_end(&s->t);
}

static void small_open(small *s) {
    small_begin(s);
    s->m = small_try(s);
    if (!T_OK(s->m != NULL, "%s", why.msg)) exit(1);
}

// The error has the code and says all of the words, which are separated by '|'.
static void says(const char *what, fc_code code, const char *words) {
    char word[100];
    T_OK(why.code == code, "%s: %s: %s", what, fc_code_name(why.code), why.msg);
    while (fci_next_name(&words, word, sizeof word))
        T_OK(strstr(why.msg, word) != NULL, "%s: expected \"%s\" in: %s", what, word, why.msg);
}

static void refused(small *s, const char *what, fc_code code, const char *words) {
    fc_model *m = small_try(s);
    if (T_OK(m == NULL, "%s: is taken", what)) says(what, code, words);
    fc_model_close(m);
}

static void check_metadata(void) {
    static const char *const lists[] = {"attn",       "attn.3",  "attn.0,",        ",attn.0",
                                        "attn.00",    "attn.-1", "ffn.1-0",        "block.3",
                                        "attn.0;ffn", "mlp.0",   "attn.0,ffn.1\n",
                                        "attn.4294967296", "ffn.1,ffn.1",
                                        "ffn.1,attn.0-1,attn.0", "attn.1,block.0-1"};
    static const struct {
        const char *format, *fingerprint, *removed, *more;
        fc_code code;
        const char *words;
    } cases[] = {
        {NULL, fingerprint, "", "", FC_ERR_FORMAT, "healed.safetensors|format|finercut-heal|none"},
        {"pt", fingerprint, "", "", FC_ERR_FORMAT, "healed.safetensors|format|finercut-heal-3|pt"},
        {"finercut-heal", fingerprint, "", "", FC_ERR_FORMAT, "an earlier version: heal again"},
        {"finercut-heal-3", NULL, "", "", FC_ERR_FORMAT, "finercut.fingerprint|the model's|none"},
        {"finercut-heal-3", "fc2-0123456789abcdef", "", "", FC_ERR_MISMATCH,
         "healed.safetensors|another model than t|fc2-|got \"fc2-0123456789abcdef\""},
        {"finercut-heal-3", fingerprint, NULL, "", FC_ERR_FORMAT,
         "finercut.removed|attn.3,ffn.7|none"},
        {"finercut-heal-3", fingerprint, "", ",\"format\":\"finercut-heal-3\"", FC_ERR_FORMAT,
         "format|only once"},
        {"finercut-heal-3", fingerprint, "", ",\"finercut.heal.next\":\"7\"", FC_ERR_FORMAT,
         "healed.safetensors|whole|a part"},
        {"finercut-heal-3", fingerprint, "", ",\"finercut.heal.x\":1", FC_ERR_FORMAT, "a string"}};
    small s;
    small_begin(&s);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        s.h.format = cases[i].format;
        s.h.fingerprint = cases[i].fingerprint;
        s.h.removed = cases[i].removed;
        s.h.more = cases[i].more;
        refused(&s, cases[i].words, cases[i].code, cases[i].words);
    }
    s.h.more = "";
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        s.h.removed = lists[i];
        refused(&s, lists[i], FC_ERR_FORMAT, "healed.safetensors|finercut.removed|attn.3,ffn.7");
    }
    s.h.removed = "ffn.1,attn.0-1"; // a set, however it is written
    fc_model *m = small_try(&s);
    const uint8_t *left = m ? fc_model_healed(m)->mask : NULL;
    T_OK(left && !left[0] && left[1] && !left[2] && !left[3] &&
             strcmp(fc_model_healed(m)->removed, "attn.0,attn.1,ffn.1") == 0, "%s", why.msg);
    fc_model_close(m);
    s.h.removed = ""; // nothing removed is a set, too
    m = small_try(&s);
    T_OK(m && fc_model_healed(m)->mask[0] && fc_model_healed(m)->removed[0] == 0, "%s", why.msg);
    fc_model_close(m);
    small_end(&s);
}

static void check_tensors(void) {
    small s;
    small_begin(&s);
    const patch good = s.h.patches[1];
    patch *p = &s.h.patches[1];
    p->name = "model.layers.3.mlp.down_proj.weight";
    refused(&s, "a name", FC_ERR_FORMAT,
            "healed.safetensors|layers.3.mlp|tensor of t|another name");
    p->name = s.h.patches[0].name;
    refused(&s, "a name twice", FC_ERR_FORMAT, "layers.1.self_attn.o_proj|only once");
    *p = good;
    p->shape[0] = 16, p->shape[1] = 8;
    refused(&s, "a shape", FC_ERR_FORMAT, "layers.2.mlp|expected shape [8, 16], got [16, 8]");
    *p = good;
    p->rank = 1, p->shape[0] = 128;
    refused(&s, "a rank", FC_ERR_FORMAT, "expected shape [8, 16], got [128]");
    *p = good;
    p->type = FC_DTYPE_I16;
    refused(&s, "a type", FC_ERR_FORMAT, "layers.2.mlp|such as F16, got I16");
    *p = good;
    p->name = "lm_head.weight"; // of 40 rows
    refused(&s, "a part", FC_ERR_FORMAT, "lm_head|expected shape [40, 8], got [8, 16]");
    *p = good;
    fc_model *m = small_try(&s);
    T_OK(m != NULL, "%s", why.msg);
    fc_model_close(m);
    for (size_t n = 0; n < s.file.n; n += n < 900 ? 7 : 101) { // a file that was cut short
        s.t.world.files[2].size = n;
        fc_model_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.env = memory_env(&s.t.world);
        desc.heal = "t/healed.safetensors";
        m = fc_model_open("t", &desc, &why);
        T_OK(!m && why.code == FC_ERR_FORMAT && strstr(why.msg, "healed.safetensors"),
             "cut to %d bytes: %s", (int)n, why.msg);
        fc_model_close(m);
    }
    small_end(&s);
}

// The metadata names the tensors that are there: no other, none less, each once.
static void check_complete(void) {
#define O "model.layers.1.self_attn.o_proj.weight"
#define DOWN "model.layers.2.mlp.down_proj.weight"
    static const struct {
        const char *list, *words; // NULL: it is taken
    } cases[] = {{DOWN "\\n" O, NULL},
                 {O "\\n" DOWN, NULL},
                 {O, "healed.safetensors|finercut.tensors|layers.2.mlp.down_proj.weight one more"},
                 {"", "o_proj.weight one more"},
                 {O "\\n" DOWN "\\n" O, "o_proj.weight named twice"},
                 {O "\\nlm_head.weight\\n" DOWN, "finercut.tensors|lm_head.weight missing"}};
    small s;
    small_begin(&s);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        s.h.list = cases[i].list;
        if (cases[i].words) refused(&s, cases[i].list, FC_ERR_FORMAT, cases[i].words);
        else {
            fc_model *m = small_try(&s);
            T_OK(m != NULL, "%s", why.msg);
            fc_model_close(m);
        }
    }
    s.h.list = NULL;
    s.h.without = 1;
    refused(&s, "no list", FC_ERR_FORMAT, "healed.safetensors|finercut.tensors|names|none");
    s.h.without = 2;
    refused(&s, "no hash", FC_ERR_FORMAT, "healed.safetensors|finercut.content|a hash|none");
    small_end(&s);
#undef O
#undef DOWN
}

// The hash is of all that finercut says, and of the tensors.
static void check_bound(void) {
    static const struct {
        const char *from, *to; // of one length
    } cases[] = {{"attn.0,ffn.1", "attn.1,ffn.1"},
                 {"\"attn.0,ffn.1\",", "\"attn.0\",      "},
                 {"\"attn.0,ffn.1\",", "\"\",            "},
                 {"\"65536\"", "\"65537\""},
                 {"finercut.version", "finercut.Version"},
                 {"[0,128]", "[0,128]"}}; // a bit of the data
    small s;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        small_open(&s);
        fc_model_close(s.m);
        s.m = NULL;
        const size_t n = strlen(cases[i].from);
        char *at = s.file.p;
        while (at + n < s.file.p + s.file.n && memcmp(at, cases[i].from, n) != 0) at++;
        if (T_OK(at + n < s.file.p + s.file.n, "%s", cases[i].from)) {
            if (strcmp(cases[i].from, cases[i].to) == 0) s.file.p[s.file.n - 1] ^= 1;
            memcpy(at, cases[i].to, n);
            fc_model *m = small_open_again(&s);
            T_OK(!m && why.code == FC_ERR_FORMAT && strstr(why.msg, "the file is damaged"),
                 "%s: %s", cases[i].to, m ? "taken" : why.msg);
            fc_model_close(m);
        }
        small_end(&s);
    }
}

// What is not a number is nothing to export; the model opens, so that one can look.
static void check_finite(void) {
    static const float strange[] = {(float)NAN, (float)INFINITY, -(float)INFINITY};
    fc_export_desc to;
    memset(&to, 0, sizeof to);
    to.path = out;
    for (int i = 0; i < 6; i++) {
        small s;
        small_begin(&s);
        s.h.patches[i % 2].values[63 - i * 11] = strange[i % 3];
        s.m = small_try(&s);
        if (!T_OK(s.m != NULL, "%s", why.msg)) exit(1);
        s.m->c.io = plain.io; // writes where the tests do
        to.format = (fc_export_format)(i % FC_EXPORT_COUNT);
        T_OK(fc_export(s.m, NULL, &to, &why) != FC_OK, "%d: taken", i);
        says("strange", FC_ERR_FORMAT, "healed.safetensors|proj.weight|finite|got");
        small_end(&s);
    }
}

static int drop(void *user, const float *rows, size_t n) {
    (void)user, (void)rows, (void)n;
    return 0;
}

// Every call that takes a mask takes that of the file, or NULL for it, and no other.
static void check_mask(const char *what, small *s, const uint8_t *mask, bool fits) {
    static const char words[] = "healed.safetensors|attn.0,ffn.1";
    uint32_t ids[] = {1, 5, 9, 2};
    size_t starts[] = {0, 4};
    const fc_tokens t = {ids, starts, 1, {NULL, NULL}};
    const fc_code want = fits ? FC_OK : FC_ERR_MISMATCH;
    fc_perplexity p;
    fc_speed speed;
    fc_speed_desc d;
    memset(&d, 0, sizeof d);
    d.mask = mask;
    d.tokens = 4;
    d.repeat = 1;
    fc_eval_perplexity(s->m, &t, mask, NULL, &p, &why);
    says(what, want, fits ? "" : words);
    fc_logits(s->m, &t, mask, NULL, drop, NULL, &why);
    says(what, want, fits ? "" : words);
    fc_generator_close(fc_generator_open(s->m, mask, 8, &why));
    says(what, want, fits ? "" : words);
    fc_speed_prompt(s->m, &d, &speed, &why);
    says(what, want, fits ? "" : words);
    fc_speed_generate(s->m, &d, &speed, &why);
    says(what, want, fits ? "" : words);
}

static void check_masks(void) {
    small s;
    uint8_t mask[6] = {0, 1, 1, 0, 1, 1};
    uint32_t ids[] = {1, 5, 9, 2};
    size_t starts[] = {0, 4};
    const fc_tokens t = {ids, starts, 1, {NULL, NULL}};
    fc_prune_desc prune;
    small_open(&s);
    T_OK(memcmp(fc_model_healed(s.m)->mask, mask, 6) == 0 &&
             strcmp(fc_model_healed(s.m)->removed, "attn.0,ffn.1") == 0,
         "another set");
    check_mask("NULL", &s, NULL, true);
    check_mask("its own", &s, mask, true);
    mask[0] = 1;
    check_mask("one less", &s, mask, false);
    says("one less", FC_ERR_MISMATCH, "got ffn.1|attn.0 is the first that differs");
    mask[0] = mask[4] = 0;
    check_mask("one more", &s, mask, false);
    says("one more", FC_ERR_MISMATCH, "got attn.0,ffn.1,attn.2|attn.2 is the first that differs");
    memset(mask, 1, 6);
    check_mask("whole", &s, mask, false);
    says("whole", FC_ERR_MISMATCH, "got none");
    memset(&prune, 0, sizeof prune);
    prune.calibration = &t;
    T_OK(fc_prune(s.m, &prune, &why) == NULL, "pruned");
    says("prune", FC_ERR_ARGUMENT, "fc_prune|t with its own tensors|healed.safetensors");
    small_end(&s);
}

// Plans stay the base model's, and a part of one that is another set is refused.
static void check_plans(void) {
    static const char words[] = "healed.safetensors|attn.0,ffn.1";
    small s;
    uint8_t mask[6];
    fc_export_desc to;
    small_open(&s);
    s.m->c.io = plain.io; // writes where the tests do
    fc_plan *plan = plan_of(s.m, "ffn.1 attn.0 ffn.2");
    T_OK(fc_plan_mask(plan, s.m, 2, mask, 6, &why) == FC_OK, "%s", why.msg);
    T_OK(memcmp(mask, fc_model_healed(s.m)->mask, 6) == 0, "another mask");
    memset(&to, 0, sizeof to);
    to.format = FC_EXPORT_GGUF_MASKED;
    to.path = out;
    T_OK(fc_export(s.m, plan, &to, &why) != FC_OK, "3 steps");
    says("3 steps", FC_ERR_MISMATCH, words);
    to.steps = 1;
    T_OK(fc_export(s.m, plan, &to, &why) != FC_OK, "1 step");
    says("1 step", FC_ERR_MISMATCH, words);
    to.steps = FINERCUT_NO_STEPS;
    T_OK(fc_export(s.m, plan, &to, &why) != FC_OK, "no steps");
    says("no steps", FC_ERR_MISMATCH, words);
    fc_plan_free(plan);
    small_end(&s);
}

// The base's content stays, the healed tensors have one of their own.
static void check_content(void) {
    char own[32], healed[32];
    small s;
    small_open(&s);
    T_OK(fc_model_verify(s.m, NULL, &err) == FC_OK, "%s", err.msg);
    snprintf(own, sizeof own, "%s", fc_model_content(s.m));
    snprintf(healed, sizeof healed, "%s", fc_model_healed(s.m)->content);
    fc_model_close(s.m);
    s.h.patches[0].values[3] += 1;
    s.m = small_try(&s);
    T_OK(s.m && fc_model_verify(s.m, NULL, &err) == FC_OK, "%s", err.msg);
    T_OK(strcmp(own, fc_model_content(s.m)) == 0, "content changed with the healed tensors");
    T_OK(healed[0] && strcmp(healed, fc_model_healed(s.m)->content) != 0, "one changed weight");
    fc_model_close(s.m);
    s.m = tiny_open(&s.t, 0, 1, &err);
    T_OK(fc_model_verify(s.m, NULL, &err) == FC_OK && strcmp(own, fc_model_content(s.m)) == 0 &&
             strcmp(fc_model_fingerprint(s.m), fingerprint) == 0 && !fc_model_healed(s.m),
         "the model by itself has another content");
    small_end(&s);
}

// No allocation, read or opening that fails is passed over, and nothing stays behind.
static void check_faults(void) {
    small s;
    small_begin(&s);
    memory *w = &s.t.world;
    long *const fails[] = {&w->fail_alloc, &w->fail_read, &w->fail_open},
               *const counts[] = {&w->allocs, &w->reads, &w->opens};
    for (int map = 0; map < 2; map++)
        for (size_t k = 0; k < 3; k++)
            for (long n = k == 2 ? 2 : 1;; n++) { // that a folder is no file is no fault
                *counts[k] = 0;
                *fails[k] = n;
                w->map = map;
                fc_model *m = small_try(&s);
                *fails[k] = 0;
                const bool over = *counts[k] < n;
                T_OK(!m == !over, "fault %d, %ld: %s", (int)k, n, why.msg);
                fc_model_close(m);
                if (over) break;
            }
    small_end(&s);
}

// All of it from a list of files in memory.
static void check_list(void) {
    small s;
    fc_model_desc desc;
    small_open(&s);
    const memory *w = &s.t.world;
    const fc_memory_file files[] = {{"config.json", w->files[0].data, w->files[0].size},
                                    {"model.safetensors", w->files[1].data, w->files[1].size},
                                    {"better", w->files[2].data, w->files[2].size}};
    memset(&desc, 0, sizeof desc);
    desc.heal = "better";
    fc_model *m = fc_model_open_memory(files, 3, &desc, &err);
    if (T_OK(m != NULL, "%s", err.msg))
        T_OK(!(apart(logits_of(m, NULL), logits_of(s.m, NULL)) > 0), "other logits");
    fc_model_close(m);
    desc.heal = "worse";
    m = fc_model_open_memory(files, 3, &desc, &why);
    T_OK(!m, "worse is there");
    says("no such file", FC_ERR_IO, "worse");
    fc_model_close(m);
    small_end(&s);
}

// ---- what is no such file

static void check_paths(void) {
    static const struct {
        const char *path;
        fc_code code;
        const char *words;
    } cases[] = {{"tests/data/gemma", FC_ERR_FORMAT, "tests/data/gemma|a file|a folder"},
                 {"tests/data/gemma.gguf", FC_ERR_FORMAT, "gemma.gguf|safetensors|GGUF"},
                 {"tests/data/gemma/model.safetensors", FC_ERR_FORMAT, "model.safetensors|format"},
                 {"tests/data/gemma/config.json", FC_ERR_FORMAT, "config.json"},
                 {"tests/data/none.safetensors", FC_ERR_IO, "none.safetensors"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fc_model_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.heal = cases[i].path;
        fc_model *m = fc_model_open("tests/data/gemma", &desc, &why);
        if (T_OK(!m, "%s: is taken", cases[i].path))
            says(cases[i].path, cases[i].code, cases[i].words);
        fc_model_close(m);
    }
#if FCI_POSIX
    T_OK(mkfifo(healed_path, 0600) == 0, "mkfifo");
    T_OK(!open_healed("tests/data/gemma", healed_path) && err.code == FC_ERR_IO &&
             strstr(err.msg, "a pipe"),
         "a pipe: %s", err.msg);
    remove(healed_path);
#endif
}

int main(void) {
    own_paths("test_override");
    snprintf(healed_path, sizeof healed_path, "%s.heal.safetensors", in);
    fci_context_basic(&plain, NULL);
    check_families();
    check_type();
    check_metadata();
    check_tensors();
    check_complete();
    check_bound();
    check_finite();
    check_masks();
    check_plans();
    check_content();
    check_faults();
    check_list();
    check_paths();
    return t_end("override");
}
