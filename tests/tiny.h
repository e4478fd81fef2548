// A small model that a test makes number by number: config.json and float32 tensors in memory.
// Include after finercut.h and memory.h.
#ifndef TINY_H
#define TINY_H

typedef struct tiny {
    memory world;
    char config[1024];
    char header[16384];
    size_t n_header, n_data, n_slots;
    char *file; // header and data, once it is open
    float *data;
    struct {
        char name[96];
        float *at;
        size_t n;
    } slots[128];
} tiny;

enum { TINY_FLOATS = 1 << 20 };

// `settings` are the members of config.json, without braces.
static void tiny_begin(tiny *t, const char *settings) {
    memset(t, 0, sizeof *t);
    snprintf(t->config, sizeof t->config, "{%s}", settings);
    t->data = (float *)calloc(TINY_FLOATS, sizeof *t->data);
    if (!t->data) exit(2);
}

// Room for a matrix [rows, cols], or a vector [rows] with cols 0: zeros, which the test fills.
static float *tiny_add(tiny *t, const char *name, size_t rows, size_t cols) {
    const size_t n = rows * (cols ? cols : 1), at = 4 * t->n_data;
    float *values = t->data + t->n_data;
    char shape[48];
    if (t->n_data + n > TINY_FLOATS || t->n_slots == 128) exit(2);
    snprintf(shape, sizeof shape, cols ? "[%d,%d]" : "[%d]", (int)rows, (int)cols);
    t->n_header +=
        (size_t)snprintf(t->header + t->n_header, sizeof t->header - t->n_header,
                         "%s\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%d,%d]}",
                         t->n_header ? "," : "{", name, shape, (int)at, (int)(at + 4 * n));
    snprintf(t->slots[t->n_slots].name, sizeof t->slots[0].name, "%s", name);
    t->slots[t->n_slots].n = n;
    t->slots[t->n_slots++].at = values;
    t->n_data += n;
    return values;
}

static float *tiny_find(const tiny *t, const char *name) { // the numbers of a tensor
    for (size_t i = 0; i < t->n_slots; i++)
        if (strcmp(t->slots[i].name, name) == 0) return t->slots[i].at;
    exit(2);
}

// Every number gets a value of its own, of about 1 / sqrt(hidden); norms about 1.
static void tiny_random(tiny *t, double size) {
    uint32_t state = 99;
    for (size_t i = 0; i < t->n_slots; i++) {
        const double one = strstr(t->slots[i].name, "norm") ? 1 : 0;
        for (size_t k = 0; k < t->slots[i].n; k++) {
            state = state * 1664525u + 1013904223u;
            t->slots[i].at[k] = (float)(one + size * ((double)(state >> 8) / 8388608.0 - 1));
        }
    }
}

// A Llama: heads of 4, ff of 8 a head, an output matrix of its own.
static void tiny_llama(tiny *t, int blocks, int hidden, int heads, int kv, int vocab) {
    static const char *const parts[] = {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
        "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
        "mlp.down_proj",    "input_layernorm",  "post_attention_layernorm"};
    const size_t d = (size_t)hidden, q = 4 * (size_t)heads, k = 4 * (size_t)kv, ff = 2 * q;
    const size_t shapes[][2] = {{q, d},  {k, d},  {k, d}, {d, q}, {ff, d},
                                {ff, d}, {d, ff}, {d, 0}, {d, 0}};
    char text[512], name[96];
    snprintf(text, sizeof text,
             "\"model_type\":\"llama\",\"hidden_size\":%d,\"intermediate_size\":%d,"
             "\"num_hidden_layers\":%d,\"num_attention_heads\":%d,\"num_key_value_heads\":%d,"
             "\"head_dim\":4,\"vocab_size\":%d,\"max_position_embeddings\":64,"
             "\"rms_norm_eps\":1e-10,\"tie_word_embeddings\":false",
             hidden, (int)ff, blocks, heads, kv, vocab);
    tiny_begin(t, text);
    tiny_add(t, "model.embed_tokens.weight", (size_t)vocab, d);
    tiny_add(t, "lm_head.weight", (size_t)vocab, d);
    tiny_add(t, "model.norm.weight", d, 0);
    for (int b = 0; b < blocks; b++)
        for (size_t i = 0; i < 9; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", b, parts[i]);
            tiny_add(t, name, shapes[i][0], shapes[i][1]);
        }
    tiny_random(t, 0.5);
}

// The model's settings name tokens that start and end a text.
static void tiny_ends(tiny *t) {
    static const char ends[] = ",\"bos_token_id\":1,\"eos_token_id\":2}";
    memcpy(t->config + strlen(t->config) - 1, ends, sizeof ends);
}

// Files and allocations are the world's. Numbers that change later are not seen.
static fc_model *tiny_open(tiny *t, uint64_t memory_limit, uint32_t threads, fc_error *err) {
    const size_t n = t->n_header + 1, padded = (n + 7) / 8 * 8;
    fc_model_desc desc;
    free(t->file);
    t->file = (char *)malloc(8 + padded + 4 * t->n_data);
    if (!t->file) exit(2);
    for (int i = 0; i < 8; i++) t->file[i] = (char)((uint64_t)padded >> 8 * i);
    memset(t->file + 8, ' ', padded);
    memcpy(t->file + 8, t->header, t->n_header);
    t->file[8 + t->n_header] = '}';
    for (size_t i = 0; i < t->n_data; i++) { // little-endian everywhere
        uint32_t bits;
        memcpy(&bits, &t->data[i], 4);
        for (int k = 0; k < 4; k++) t->file[8 + padded + 4 * i + (size_t)k] = (char)(bits >> 8 * k);
    }
    t->world.n_files = 0;
    memory_add(&t->world, "t/config.json", t->config, strlen(t->config));
    memory_add(&t->world, "t/model.safetensors", t->file, 8 + padded + 4 * t->n_data);
    memset(&desc, 0, sizeof desc);
    desc.env = memory_env(&t->world);
    desc.env.par.n_threads = threads;
    desc.memory_limit = memory_limit;
    return fc_model_open("t", &desc, err);
}

static void tiny_end(tiny *t) {
    (void)tiny_llama, (void)tiny_find, (void)tiny_ends, (void)tiny_open; // used or not
    free(t->file);
    free(t->data);
}
#endif
