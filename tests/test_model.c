// A model's weights as views of its files, against the tensors themselves and between the two kinds
// of files; its sizes and parameters; masks; what changes its fingerprint; what is refused.
#include "private.h"
#include "memory.h"
#include "t.h"
#include "tiny.h"

#define DATA "tests/data/"

static fc_model *open_model(const char *path) {
    fc_model_desc desc;
    fc_error err;
    memset(&desc, 0, sizeof desc);
    desc.compute = FC_COMPUTE_F32;
    desc.env.par.n_threads = 1;
    fc_model *m = fc_model_open(path, &desc, &err);
    T_OK(m != NULL, "%s: %s", path, err.msg);
    return m;
}

// ---- views

// One number of a view, by what its fields say.
static float element(const fci_matrix *w, uint64_t row, uint64_t col) {
    const char *data = (const char *)w->data;
    const uint64_t block = fci_number_block(w->type);
    float some[256];
    if (w->transposed) data += col * w->row_bytes + row * fci_number_bytes(w->type, 1), col = 0;
    else data += (w->run ? row / w->run * w->step + row % w->run : row) * w->row_bytes;
    fci_number_decode(w->type, data, col / block * block, block, some);
    return some[col % block];
}

static float stored(const fc_tensor *t, uint64_t i) {
    float value;
    fci_number_decode(t->type, t->data, i, 1, &value);
    return value;
}

static const fc_tensor *tensor(const fc_model *m, const char *name) {
    const fc_tensor *t = fc_container_find(fc_model_container(m), name);
    if (!T_OK(t != NULL, "no tensor %s", name)) exit(1);
    return t;
}

// Row r of the view is row (or column) `at + r` of the tensor, in runs of `run` every `step`.
static void check_view(const char *what, const fci_matrix *w, const fc_tensor *t, bool columns,
                       uint64_t at, uint64_t run, uint64_t step) {
    size_t bad = 0;
    for (uint64_t r = 0; r < w->rows; r++)
        for (uint64_t c = 0; c < w->cols; c++) {
            const uint64_t from = at + (run ? r / run * step + r % run : r);
            bad += element(w, r, c) !=
                   stored(t, columns ? c * t->shape[1] + from : from * t->shape[t->rank - 1] + c);
        }
    T_OK(bad == 0 && w->rows * w->cols > 0, "%s: %d of %d numbers are others", what, (int)bad,
         (int)(w->rows * w->cols));
}

static void test_parts(void) {
    fc_model *m = open_model(DATA "gpt2"); // q, k and v side by side, inputs from top to bottom
    if (m) {
        const uint64_t d = m->hyper.hidden;
        const fc_tensor *t = tensor(m, "h.1.attn.c_attn.weight"),
                        *b = tensor(m, "h.1.attn.c_attn.bias");
        check_view("gpt2 q", &m->layers[1].q.matrix, t, true, 0, 0, 0);
        check_view("gpt2 k", &m->layers[1].k.matrix, t, true, d, 0, 0);
        check_view("gpt2 v", &m->layers[1].v.matrix, t, true, 2 * d, 0, 0);
        check_view("gpt2 up", &m->layers[1].up.matrix, tensor(m, "h.1.mlp.c_fc.weight"), true, 0, 0,
                   0);
        for (uint64_t i = 0; i < d; i++)
            T_OK(m->layers[1].q.bias[i] == stored(b, i) &&
                     m->layers[1].v.bias[i] == stored(b, 2 * d + i),
                 "gpt2 bias %d", (int)i);
    }
    fc_model_close(m);
    m = open_model(DATA "gpt_neox"); // q, k and v of each head in turn
    if (m) {
        const uint64_t head = m->hyper.head_dim, d = m->hyper.hidden;
        const fc_tensor *t = tensor(m, "gpt_neox.layers.1.attention.query_key_value.weight"),
                        *b = tensor(m, "gpt_neox.layers.1.attention.query_key_value.bias");
        const fci_weight *parts[] = {&m->layers[1].q, &m->layers[1].k, &m->layers[1].v};
        for (uint64_t k = 0; k < 3; k++) {
            check_view("gpt_neox q, k, v", &parts[k]->matrix, t, false, k * head, head, 3 * head);
            for (uint64_t i = 0; i < d; i++)
                T_OK(parts[k]->bias[i] == stored(b, i / head * 3 * head + k * head + i % head),
                     "gpt_neox bias %d", (int)i);
        }
    }
    fc_model_close(m);
    m = open_model(DATA "phi3"); // one after the other
    if (m) {
        const uint64_t q = m->hyper.n_heads * m->hyper.head_dim,
                       kv = m->hyper.n_kv_heads * m->hyper.head_dim;
        const fc_tensor *t = tensor(m, "model.layers.1.self_attn.qkv_proj.weight"),
                        *u = tensor(m, "model.layers.1.mlp.gate_up_proj.weight");
        check_view("phi3 q", &m->layers[1].q.matrix, t, false, 0, 0, 0);
        check_view("phi3 k", &m->layers[1].k.matrix, t, false, q, 0, 0);
        check_view("phi3 v", &m->layers[1].v.matrix, t, false, q + kv, 0, 0);
        check_view("phi3 gate", &m->layers[1].gate.matrix, u, false, 0, 0, 0);
        check_view("phi3 up", &m->layers[1].up.matrix, u, false, m->hyper.ff, 0, 0);
    }
    fc_model_close(m);
    m = open_model(DATA "mixtral.gguf"); // all experts in one tensor
    for (uint32_t e = 0; m && e < 4; e++)
        check_view("an expert", &m->layers[1].experts[e].down.matrix,
                   tensor(m, "blk.1.ffn_down_exps.weight"), false, e * m->hyper.hidden, 0, 0);
    fc_model_close(m);
}

// Where a row of q or k of one kind of file is in the other: llama.cpp's Llama turns neighbours.
static uint64_t row_of(const fc_model *hf, const fc_model *gguf, bool turns, uint64_t r) {
    const uint64_t head = hf->hyper.head_dim, i = r % head;
    if (!turns || !gguf->hyper.rope_interleaved) return r;
    return r - i + (i < head / 2 ? 2 * i : 2 * (i - head / 2) + 1);
}

static size_t differ(const fc_model *hf, const fc_model *gguf, const fci_weight *a,
                     const fci_weight *b, bool turns) {
    size_t bad = 0;
    if (!a->matrix.data || !b->matrix.data) return a->matrix.data != b->matrix.data;
    if (a->matrix.rows != b->matrix.rows || a->matrix.cols != b->matrix.cols ||
        !a->bias != !b->bias)
        return 1;
    for (uint64_t r = 0; r < a->matrix.rows; r++) {
        const uint64_t other = row_of(hf, gguf, turns, r);
        for (uint64_t c = 0; c < a->matrix.cols; c++)
            bad += element(&a->matrix, r, c) != element(&b->matrix, other, c);
        bad += a->bias && a->bias[r] != b->bias[other];
    }
    return bad;
}

static size_t norms_differ(const fci_norm *a, const fci_norm *b, uint64_t n) {
    size_t bad = 0;
    if (!a->weight != !b->weight || !a->bias != !b->bias) return 1;
    for (uint64_t i = 0; i < n; i++) {
        if (a->weight && a->weight[i] != b->weight[i]) bad++;
        if (a->bias && a->bias[i] != b->bias[i]) bad++;
    }
    return bad;
}

// A family's directory and its GGUF file are the same numbers.
static void test_kinds(const char *family) {
    char path[80];
    snprintf(path, sizeof path, DATA "%s", family);
    fc_model *a = open_model(path);
    snprintf(path, sizeof path, DATA "%s.gguf", family);
    fc_model *b = open_model(path);
    if (!a || !b) return;
    const uint64_t d = a->hyper.hidden;
    T_OK(a->hyper.n_blocks == b->hyper.n_blocks && d == b->hyper.hidden &&
             a->config.n_parameters == b->config.n_parameters,
         "%s: %llu and %llu parameters", family, (unsigned long long)a->config.n_parameters,
         (unsigned long long)b->config.n_parameters);
    for (uint64_t i = 0; i < a->hyper.n_blocks; i++) {
        const fci_layer *x = &a->layers[i], *y = &b->layers[i];
        size_t bad = differ(a, b, &x->q, &y->q, true) + differ(a, b, &x->k, &y->k, true) +
                     differ(a, b, &x->v, &y->v, false) + differ(a, b, &x->o, &y->o, false);
        T_OK(bad == 0, "%s: attention %d: %d numbers differ", family, (int)i, (int)bad);
        bad = differ(a, b, &x->gate, &y->gate, false) + differ(a, b, &x->up, &y->up, false) +
              differ(a, b, &x->down, &y->down, false) + differ(a, b, &x->router, &y->router, false);
        for (uint64_t e = 0; x->experts && e < a->hyper.n_experts; e++)
            bad += differ(a, b, &x->experts[e].gate, &y->experts[e].gate, false) +
                   differ(a, b, &x->experts[e].up, &y->experts[e].up, false) +
                   differ(a, b, &x->experts[e].down, &y->experts[e].down, false);
        T_OK(bad == 0, "%s: FFN %d: %d numbers differ", family, (int)i, (int)bad);
        bad = norms_differ(&x->attn_norm, &y->attn_norm, d) +
              norms_differ(&x->ffn_norm, &y->ffn_norm, d) +
              norms_differ(&x->attn_post, &y->attn_post, d) +
              norms_differ(&x->ffn_post, &y->ffn_post, d);
        T_OK(bad == 0, "%s: block %d: %d numbers of norms differ", family, (int)i, (int)bad);
        for (int kind = 0; kind < 2; kind++)
            T_OK(fc_model_sublayer_parameters(a, (uint32_t)i, (fc_kind)kind) ==
                     fc_model_sublayer_parameters(b, (uint32_t)i, (fc_kind)kind),
                 "%s: block %d: parameters", family, (int)i);
    }
    T_OK(norms_differ(&a->output_norm, &b->output_norm, d) == 0, "%s: the last norm", family);
    fc_model_close(a);
    fc_model_close(b);
}

// ---- sizes

// Every number of the files is a parameter once.
static void test_sizes(const char *path) {
    fc_model *m = open_model(path);
    if (!m) return;
    const fc_config *c = fc_model_config(m);
    const fc_container *files = fc_model_container(m);
    uint64_t numbers = 0, bytes = 0, outside = 0, of_blocks = 0;
    for (size_t i = 0; i < fc_container_tensor_count(files); i++) {
        const fc_tensor *t = fc_container_tensor(files, i);
        uint64_t n = 1;
        for (uint32_t k = 0; k < t->rank; k++) n *= t->shape[k];
        const bool factors = strstr(t->name, "rope_f") || t->rank > 3; // not learned
        if (!factors) numbers += n;
        bytes += t->bytes;
        if (!factors && !strstr(t->name, "layers.") && !strstr(t->name, "blk.") &&
            strncmp(t->name, "h.", 2) != 0)
            outside += n;
    }
    for (uint32_t b = 0; b < c->n_blocks; b++)
        of_blocks += fc_model_sublayer_parameters(m, b, FC_KIND_ATTENTION) +
                     fc_model_sublayer_parameters(m, b, FC_KIND_FFN);
    T_OK(c->n_parameters == numbers, "%s: %llu parameters of %llu", path,
         (unsigned long long)c->n_parameters, (unsigned long long)numbers);
    T_OK(outside + of_blocks == numbers, "%s: %llu in sublayers, %llu outside, of %llu", path,
         (unsigned long long)of_blocks, (unsigned long long)outside, (unsigned long long)numbers);
    T_OK(c->file_bytes > bytes && c->file_bytes < bytes + 16384 &&
             c->n_sublayers == 2 * c->n_blocks,
         "%s: %llu bytes", path, (unsigned long long)c->file_bytes);
    T_OK(fc_model_sublayer_parameters(m, c->n_blocks, FC_KIND_FFN) == 0,
         "%s: a block that is not there", path);
    fc_model_close(m);
}

static void test_config(void) {
    fc_model *m = open_model(DATA "llama_f32_bias");
    if (!m) return;
    const fc_config *c = fc_model_config(m);
    const uint64_t d = c->hidden_size, q = (uint64_t)c->n_heads * c->head_dim,
                   kv = (uint64_t)c->n_kv_heads * c->head_dim, ff = c->intermediate_size;
    T_OK(fc_model_sublayer_parameters(m, 1, FC_KIND_ATTENTION) ==
             d + (d + 1) * (q + 2 * kv) + (q + 1) * d,
         "an attention with biases");
    T_OK(fc_model_sublayer_parameters(m, 1, FC_KIND_FFN) == d + 2 * (d + 1) * ff + (ff + 1) * d,
         "an FFN with biases");
    T_OK(strcmp(c->architecture, "llama") == 0 && strcmp(c->activation, "silu") == 0 &&
             strcmp(c->rope_scaling, "none") == 0 && c->special[0] == 0 && !c->tied_embeddings &&
             c->dtype == FC_DTYPE_F32 && c->compute == FC_COMPUTE_F32 && c->n_threads == 1 &&
             c->n_experts == 0 && c->window == 0 && strcmp(c->container, "safetensors") == 0,
         "a plain Llama: %s", c->special);
    fc_model_close(m);
    m = open_model(DATA "mixtral");
    if (!m) return;
    c = fc_model_config(m);
    T_OK(c->n_experts == 4 && c->n_experts_used == 2 && c->expert_size == 24 && c->window == 8 &&
             c->n_window_blocks == 2 && c->dtype == FC_DTYPE_BF16 &&
             strcmp(c->special, "4 experts, 2 used, window 8 in 2 of 2 blocks") == 0,
         "Mixtral: %s", c->special);
    fc_model_close(m);
    m = open_model(DATA "stablelm");
    if (!m) return;
    T_OK(strstr(fc_model_config(m)->special, "LayerNorm") &&
             strstr(fc_model_config(m)->special, "numbers of a head") &&
             strstr(fc_model_config(m)->special, "in parallel"),
         "StableLM: %s", fc_model_config(m)->special);
    fc_model_close(m);
}

// ---- masks

static void check_masks(const fc_model *m, const char *kind, const char *const *names,
                        const char *const *want) {
    char text[2048], got[16];
    fc_error err;
    uint8_t mask[6];
    size_t n = (size_t)snprintf(
        text, sizeof text,
        "{\"format\":\"finercut-plan-1\",\"model\":{\"fingerprint\":\"%s\",\"n_blocks\":3},"
        "\"metric\":\"js\","
        "\"candidates\":\"%s\",\"search\":\"race\",\"compute\":\"f32\",\"steps\":[",
        fc_model_fingerprint(m), kind);
    for (int i = 0; i < 2; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "%s{\"step\":%d,\"removed\":\"%s\",\"score\":%d}", i ? "," : "",
                              i + 1, names[i], i + 1);
    snprintf(text + n, sizeof text - n, "]}");
    memory w;
    memset(&w, 0, sizeof w);
    memory_add(&w, "p", text, strlen(text));
    fc_env env = memory_env(&w);
    fc_plan *p = fc_plan_load("p", &env, &err);
    for (size_t steps = 0; T_OK(p != NULL, "%s: %s", kind, err.msg) && steps <= 2; steps++) {
        memset(mask, 7, sizeof mask);
        T_OK(fc_plan_mask(p, m, steps, mask, sizeof mask, &err) == FC_OK, "%s: %s", kind, err.msg);
        for (int i = 0; i < 6; i++) got[i] = (char)('0' + mask[i]);
        got[6] = 0;
        T_OK(strcmp(got, want[steps]) == 0, "%s after %d: %s for %s", kind, (int)steps, got,
             want[steps]);
    }
    fc_plan_free(p);
    T_OK(w.live == 0, "%ld left", w.live);
}

static void test_masks(void) {
    static const char *const one[] = {"ffn.1", "attn.0"},
                             *const of_one[] = {"111111", "111011", "011011"},
                             *const block[] = {"block.2", "block.0"},
                             *const of_block[] = {"111111", "111100", "001100"},
                             *const attention[] = {"attn.2", "attn.1"},
                             *const of_attention[] = {"111111", "111101", "110101"};
    tiny t;
    fc_error err;
    tiny_llama(&t, 3, 8, 2, 1, 12);
    fc_model *m = tiny_open(&t, 0, 1, &err);
    if (T_OK(m != NULL, "%s", err.msg)) {
        check_masks(m, "sublayers", one, of_one);
        check_masks(m, "blocks", block, of_block);
        check_masks(m, "attention", attention, of_attention);
    }
    fc_model_close(m);
    tiny_end(&t);
}

// ---- identity

typedef struct identity {
    char fingerprint[32], content[32];
} identity;

static int stop(void *user, const fc_progress *p) {
    (void)p;
    return ++*(int *)user == 1;
}

static identity identity_of(tiny *t) {
    identity id;
    fc_error err;
    memset(&id, 0, sizeof id);
    fc_model *m = tiny_open(t, 0, 1, &err);
    if (T_OK(m != NULL, "%s", err.msg)) {
        T_OK(fc_model_content(m)[0] == 0 && fc_model_verify(m, NULL, &err) == FC_OK &&
                 strlen(fc_model_content(m)) == 16,
             "%s", err.msg);
        snprintf(id.fingerprint, sizeof id.fingerprint, "%s", fc_model_fingerprint(m));
        snprintf(id.content, sizeof id.content, "%s", fc_model_content(m));
        T_OK(strncmp(id.fingerprint, "fc2-", 4) == 0 && strlen(id.fingerprint) == 20,
             "fingerprint %s", id.fingerprint);
    }
    fc_model_close(m);
    return id;
}

static void change(tiny *t, const identity *was, const char *what, bool samples) {
    const identity is = identity_of(t);
    T_OK((strcmp(is.fingerprint, was->fingerprint) != 0) == samples &&
             strcmp(is.content, was->content) != 0,
         "%s: %s %s, was %s %s", what, is.fingerprint, is.content, was->fingerprint, was->content);
}

// Any number of a small tensor, the first and the last of a large one, settings and shapes.
static void test_identity(void) {
    static const char *const settings[] = {",\"rope_theta\":10001}", ",\"hidden_act\":\"gelu\"}",
                                           "}"};
    tiny t;
    tiny_llama(&t, 2, 16, 2, 1, 2000); // the embeddings have 128,000 bytes
    const identity was = identity_of(&t), again = identity_of(&t);
    T_OK(strcmp(was.fingerprint, again.fingerprint) == 0 && strcmp(was.content, again.content) == 0,
         "the same model, the same names");
    for (size_t i = 0; i < t.n_slots; i++) {
        float *x = t.slots[i].at, old = x[t.slots[i].n - 1];
        x[t.slots[i].n - 1] += 1;
        change(&t, &was, t.slots[i].name, true);
        x[t.slots[i].n - 1] = old;
    }
    float *middle = tiny_find(&t, "model.embed_tokens.weight") + 16000, old = *middle;
    *middle += 1;
    change(&t, &was, "a number that is no sample", false);
    *middle = old;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        char before[sizeof t.config];
        memcpy(before, t.config, sizeof before);
        strcpy(t.config + strlen(t.config) - 1, settings[i]);
        if (i == 2) memcpy(strstr(t.config, "1e-10"), "1e-05", 5);
        change(&t, &was, settings[i], true);
        memcpy(t.config, before, sizeof before);
    }
    fc_error err;
    int calls = 0;
    const fc_watch watch = {stop, &calls};
    fc_model *m = tiny_open(&t, 0, 2, &err);
    fc_code code =
        m ? fc_model_verify(m, &watch, &err) : FC_ERR_IO; // reports only where it takes a while
    T_OK(code == (calls ? FC_ERR_CANCELLED : FC_OK) && (fc_model_content(m)[0] == 0) == (calls > 0),
         "cancelled: %s", err.msg);
    fc_model_close(m);
    tiny_end(&t);
}

// ---- what is refused

static void refused(tiny *t, fc_code want, const char *words, const char *what) {
    fc_error err;
    fc_model *m = tiny_open(t, 0, 1, &err);
    T_OK(!m && err.code == want && strstr(err.msg, words), "%s: %s: %s", what,
         fc_code_name(err.code), m ? "was opened" : err.msg);
    fc_model_close(m);
    T_OK(t->world.live == 0, "%s: %ld left", what, t->world.live);
}

static void test_refused(void) {
    tiny t, whole;
    fc_error err;
    char words[200];
    tiny_llama(&whole, 2, 8, 2, 1, 12);
    for (size_t i = 0; i < whole.n_slots; i++) { // each tensor is missing, then has another shape
        for (int wrong = 0; wrong < 2; wrong++) {
            tiny_begin(&t, "");
            memcpy(t.config, whole.config, sizeof t.config);
            for (size_t k = 0; k < whole.n_slots; k++) {
                const size_t d = 8, n = whole.slots[k].n, rows = n / d;
                if (k == i && wrong) tiny_add(&t, whole.slots[k].name, n + 1, 0);
                else if (k != i && strstr(whole.slots[k].name, "norm"))
                    tiny_add(&t, whole.slots[k].name, n, 0);
                else if (k != i && strstr(whole.slots[k].name, "down"))
                    tiny_add(&t, whole.slots[k].name, d, n / d);
                else if (k != i) tiny_add(&t, whole.slots[k].name, rows, d);
            }
            snprintf(words, sizeof words,
                     wrong ? "tensor \"%s\": expected shape [" : "tensor \"%s\": required",
                     whole.slots[i].name);
            refused(&t, wrong ? FC_ERR_MISMATCH : FC_ERR_FORMAT, words, whole.slots[i].name);
            tiny_end(&t);
        }
    }
    char *at = strstr(whole.config, "\"num_hidden_layers\":2");
    memcpy(at, "\"num_hidden_layers\":9", 21);
    refused(&whole, FC_ERR_FORMAT, "model.layers.2.", "more blocks than there are");
    at = strstr(whole.config, "\"vocab_size\":12");
    memcpy(at, "\"vocab_size\":13", 15);
    refused(&whole, FC_ERR_MISMATCH, "expected shape [13, 8], got [12, 8]", "another vocabulary");
    strcpy(whole.config, "[1]");
    refused(&whole, FC_ERR_FORMAT, "expected an object", "no object");
    tiny_end(&whole);
    tiny_llama(&whole, 2, 8, 2, 1, 12);
    at = strstr(whole.config, "\"num_hidden_layers\":2,");
    memmove(at + 25, at + 22, strlen(at + 22) + 1);
    memcpy(at, "\"num_hidden_layers\":4000,", 25);
    refused(&whole, FC_ERR_MISMATCH, "4000 blocks: the files hold only 21 tensors",
            "a count that is a lie");
    tiny_end(&whole);
    tiny_llama(&whole, 2, 8, 2, 1, 12);
    memcpy(strstr(strstr(whole.header, "layers.1.self_attn.k_proj"), "F32"), "I32", 3);
    refused(&whole, FC_ERR_UNSUPPORTED, "k_proj.weight\": type I32 is not one", "no weights");
    tiny_end(&whole);
    tiny_llama(&whole, 1, 8, 2, 1, 12);
    fc_model *m = tiny_open(&whole, 0, 1, &err);
    T_OK(m != NULL, "%s", err.msg);
    fc_model_close(m);
    for (int k = 0; k < 2; k++) {
        fc_model_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.env = memory_env(&whole.world);
        desc.env.simd_max = FC_SIMD_SCALAR;
        desc.compute = k ? (fc_compute)99 : FC_COMPUTE_BF16;
        T_OK(!fc_model_open("t", &desc, &err) &&
                 err.code == (k ? FC_ERR_ARGUMENT : FC_ERR_UNSUPPORTED) &&
                 strstr(err.msg, "compute"),
             "compute %d: %s", k, err.msg);
    }
    T_OK(whole.world.live == 0, "%ld left", whole.world.live);
    tiny_end(&whole);
}

// Every allocation of opening fails once.
static void test_allocations(const char *path) {
    memory w;
    fc_model_desc desc;
    fc_error err;
    long n;
    memset(&w, 0, sizeof w);
    memset(&desc, 0, sizeof desc);
    desc.env.alloc = memory_env(&w).alloc;
    desc.env.par.n_threads = 1;
    for (n = 1; n < 2000; n++) {
        w.allocs = 0;
        w.fail_alloc = n;
        fc_model *m = fc_model_open(path, &desc, &err);
        const bool done = w.allocs < n;
        T_OK((m != NULL) == done && (done || err.code == FC_ERR_MEMORY), "%s: allocation %ld: %s",
             path, n, err.msg);
        fc_model_close(m);
        T_OK(w.live == 0, "%s: allocation %ld: %ld left", path, n, w.live);
        if (done) break;
    }
    T_OK(n > 5 && n < 2000, "%s: %ld allocations", path, n);
}

int main(void) {
    static const char *const families[] = {
        "mixtral",   "qwen2", "qwen3",   "gemma",    "gemma2",     "gemma3",   "phi3",
        "phi3_long", "olmo2", "granite", "stablelm", "starcoder2", "gpt_neox", "gpt2"};
    static const char *const more[] = {
        "llama_f32_bias",  "llama_f16_sharded", "llama_bf16_old_config",
        "llama_q4_0.gguf", "llama_q8_0.gguf",   "mistral",
        "qwen3_moe",       "smollm3",           "gpt_neox_sequential",
        "mixtral.gguf",    "gpt2.gguf",         "phi3_long.gguf"};
    char path[80];
    test_parts();
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        test_kinds(families[i]);
        snprintf(path, sizeof path, DATA "%s", families[i]);
        test_sizes(path);
    }
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        snprintf(path, sizeof path, DATA "%s", more[i]);
        test_sizes(path);
    }
    test_config();
    test_masks();
    test_identity();
    test_refused();
    test_allocations(DATA "mixtral");
    test_allocations(DATA "mixtral.gguf");
    test_allocations(DATA "gpt_neox");
    test_allocations(DATA "phi3_long");
    return t_end("model");
}
