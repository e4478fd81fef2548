// Results and checkpoints of heal over the model that they are of, changed by fields and hashed
// again: a result is refused, or the model runs with it under its mask and no other; a checkpoint
// is refused and stays, or heal goes on from it. The input: which file, how it is used, changes.
//   build/fuzz/fuzz_healed -max_total_time=60 -max_len=96 build/fuzz/corpus/fuzz_healed
// tests/fuzz/corpus/healed
#include "world.h"

#include "../tiny.h"

#define HEALED_PATH "h.safetensors"
#define HEALED_PARTIAL HEALED_PATH ".partial"
// healed by a text, by own text, by both; stopped early and late, and not at all
enum { HEALED_BLOCKS = 3, HEALED_SUBLAYERS = 6, HEALED_TEXTS = 3, HEALED_STOPS = 3 };

static tiny healed_base;
static fc_model *healed_model; // itself
static fc_text healed_files[HEALED_STOPS][HEALED_TEXTS]; // made once
static uint8_t healed_mask[HEALED_SUBLAYERS] = {0, 1, 1, 0, 1, 1};
static const uint32_t healed_stops[HEALED_STOPS] = {2, 5, UINT32_MAX};

T_FN void healed_end(void) {
    fc_model_close(healed_model);
    for (int i = 0; i < HEALED_STOPS * HEALED_TEXTS; i++)
        free(healed_files[i / HEALED_TEXTS][i % HEALED_TEXTS].bytes);
    tiny_end(&healed_base);
}

static fc_model *healed_open(const char *heal, fc_error *err) {
    fc_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.env = fuzz_env(&healed_base.world);
    memory_writable(&desc.env);
    desc.heal = heal;
    return fc_model_open("t", &desc, err);
}

static int healed_stop(void *user, const fc_progress *p) {
    return strcmp(p->what, "healing") == 0 && p->step >= *(const uint32_t *)user;
}

static fc_code healed_heal(size_t text, uint32_t stop, fc_error *err) {
    static uint32_t ids[] = {1, 5, 9, 2, 7, 3, 8, 8, 4, 15, 11, 0, 6, 10, 13, 12, 14, 1};
    static size_t starts[] = {0, 6, 12, 18};
    const fc_tokens tokens = {ids, starts, 3, {NULL, NULL}};
    fc_heal_desc d;
    fc_heal_result result;
    memset(&d, 0, sizeof d);
    d.mask = healed_mask;
    d.text = text == 1 ? NULL : &tokens;
    d.own = text ? 16 : 0;
    d.length = 8;
    d.path = HEALED_PATH;
    d.resume = 1;
    d.watch.progress = healed_stop;
    d.watch.user = &stop;
    fc_code code = fc_heal(healed_model, &d, &result, err);
    FUZZ_MUST(code == err->code && (code != FC_OK) == (*err->msg != 0));
    FUZZ_MUST(result.n_there <= HEALED_SUBLAYERS);
    return code;
}

static const memory_output *healed_output(const char *path) { // NULL: there is none
    const memory_output *o = healed_base.world.outputs;
    for (int i = 0; i < MEMORY_OUTPUTS; i++)
        if (o[i].whole && strcmp(o[i].path, path) == 0) return &o[i];
    return NULL;
}

static void healed_begin(void) {
    memory *w = &healed_base.world;
    fc_error err;
    tiny_llama(&healed_base, HEALED_BLOCKS, 8, 2, 1, 16);
    tiny_ends(&healed_base);
    fc_model_close(tiny_open(&healed_base, 0, 1, &err));
    healed_model = healed_open(NULL, &err);
    FUZZ_GOOD(healed_model != NULL, err);
    for (size_t i = 0; i < HEALED_STOPS * HEALED_TEXTS; i++) {
        const uint32_t stop = healed_stops[i / HEALED_TEXTS];
        fc_text *file = &healed_files[i / HEALED_TEXTS][i % HEALED_TEXTS];
        fc_code code = healed_heal(i % HEALED_TEXTS, stop, &err);
        FUZZ_GOOD(code == (stop > HEALED_SUBLAYERS ? FC_OK : FC_ERR_CANCELLED), err);
        const memory_output *o = healed_output(code ? HEALED_PARTIAL : HEALED_PATH);
        FUZZ_MUST(o != NULL);
        file->length = o->size;
        file->bytes = (char *)malloc(o->size);
        FUZZ_MUST(file->bytes != NULL);
        memcpy(file->bytes, o->data, o->size);
        memory_forget(w);
    }
}

// A value in the metadata: another number, names, or one character.
static void healed_note(fuzz_text *head, fuzz_input *in) {
    static const char *const keys[] = {"finercut.heal.next\":\"", "finercut.removed\":\"",
                                       "finercut.tensors\":\"", "format\":\"",
                                       "finercut.heal.heldout.healed\":\"", "shape\":[",
                                       "data_offsets\":[", "dtype\":\"", "finercut.heal.own\":\""};
    const char *key = keys[fuzz_below(in, sizeof keys / sizeof *keys)];
    const uint32_t how = fuzz_byte(in);
    char text[24];
    head->p[head->n] = 0;
    const char *at = strstr(head->p, key);
    if (!at) return;
    const size_t from = (size_t)(at - head->p) + strlen(key), n = strcspn(head->p + from, "\",]");
    if (how < 16) {
        const int k = snprintf(text, sizeof text, "%llu", (unsigned long long)fuzz_number(in));
        fuzz_json_put(head, from, from + n, text, (size_t)k);
    } else head->p[from + how % (n + 1)] = (char)fuzz_byte(in);
}

static void healed_change(fuzz_text *head, fuzz_text *data, fuzz_input *in) {
    static const uint32_t words[] = {0x7fc00000, 0x7f800000, 0x7c00, 0x7f7fffff, 15, 16,
                                     0xffffffff, 0x80000000, 0, 0x3f800000};
    const uint32_t kind = fuzz_byte(in) % 6;
    const size_t at = 4 * fuzz_below(in, (kind < 3 ? 0 : data->n) / 4);
    if (kind < 2) fuzz_json_edit(head, in);
    else if (kind == 2) healed_note(head, in);
    else if (kind == 3 && fuzz_byte(in) % 4 == 0) data->n = at;
    else if (at + 4 <= data->n) {
        const uint32_t word = words[fuzz_below(in, sizeof words / sizeof *words)];
        for (size_t k = 0; k < 4; k++) data->p[at + k] = (char)(word >> 8 * k);
    }
}

// Puts the right hash in.
static void healed_seal(char *file, size_t size) {
    static const char key[] = "\"finercut.content\":\"";
    const size_t n = sizeof key - 1;
    fc_env env = fuzz_env(&healed_base.world);
    char hash[32];
    fc_error err;
    fc_container *c = fc_container_open("sealed", &env, &err);
    if (c && !fci_identity_content(healed_model, c, NULL, hash, &err))
        for (size_t i = 8; i + n + 16 < size; i++)
            if (memcmp(file + i, key, n) == 0) memcpy(file + i + n, hash, 16);
    fc_container_close(c);
}

static void healed_run(fc_model *m, bool intact) {
    static fuzz_rows rows;
    uint32_t ids[] = {1, 5, 9, 2};
    size_t starts[] = {0, 4};
    const fc_tokens text = {ids, starts, 1, {NULL, NULL}};
    const fc_healed *h = fc_model_healed(m);
    uint8_t mask[HEALED_SUBLAYERS];
    fc_error err;
    FUZZ_MUST(h && (fuzz_logits(m, &text, NULL, &rows) == FC_OK || !intact));
    memcpy(mask, h->mask, sizeof mask);
    FUZZ_MUST(fuzz_logits(m, &text, mask, &rows) == FC_OK || !intact);
    for (int s = 0; s < HEALED_SUBLAYERS; s++) {
        mask[s] ^= 1;
        FUZZ_MUST(fuzz_logits(m, &text, mask, &rows) == FC_ERR_MISMATCH);
        mask[s] ^= 1;
    }
    FUZZ_GOOD(fc_model_verify(m, NULL, &err) == FC_OK && h->content[0], err);
}

// Heal goes on from the file, which stands at one of its paths. What is refused leaves nothing.
static void healed_resume(size_t stop, size_t text, bool at_path, bool intact) {
    const fc_text *good = &healed_files[HEALED_STOPS - 1][text];
    const bool whole = stop == HEALED_STOPS - 1;
    fc_error err;
    const fc_code code = healed_heal(text, UINT32_MAX, &err);
    const memory_output *o = healed_output(HEALED_PATH);
    if (intact) FUZZ_GOOD(code == (whole && !at_path ? FC_ERR_MISMATCH : FC_OK), err);
    FUZZ_MUST(!code || !o);
    if (intact && !code && !whole)
        FUZZ_MUST(o && o->size == good->length && memcmp(o->data, good->bytes, o->size) == 0);
    FUZZ_MUST(!intact || !whole || !o);
    if (!o) return;
    for (size_t i = 0; i < healed_base.world.n_files; i++) // the result stands there now
        if (strcmp(healed_base.world.files[i].path, HEALED_PATH) == 0)
            healed_base.world.files[i].path = "old";
    fc_model *m = healed_open(HEALED_PATH, &err);
    FUZZ_GOOD(m != NULL, err);
    fc_model_close(m);
}

FUZZ_TARGET(healed) {
    static fuzz_text head, body;
    fuzz_input in = {data, size};
    memory *w = &healed_base.world;
    fc_error err;
    if (!healed_base.data) healed_begin();
    const size_t stop = fuzz_below(&in, HEALED_STOPS), text = fuzz_below(&in, HEALED_TEXTS),
                 use = fuzz_below(&in, 4);
    const fc_text *base = &healed_files[stop][text];
    size_t n = 0;
    for (int i = 0; i < 4; i++) n |= (size_t)(uint8_t)base->bytes[i] << 8 * i;
    head.n = body.n = 0;
    fuzz_json_put(&head, 0, 0, base->bytes + 8, n);
    fuzz_json_put(&body, 0, 0, base->bytes + 8 + n, base->length - 8 - n);
    for (int i = 0; i < 12 && in.n; i++) healed_change(&head, &body, &in);
    n = 8 + head.n + body.n;
    char *file = (char *)malloc(n); // of exactly its size
    FUZZ_MUST(file != NULL);
    for (int i = 0; i < 8; i++) file[i] = (char)((uint64_t)head.n >> 8 * i);
    memcpy(file + 8, head.p, head.n);
    memcpy(file + 8 + head.n, body.p, body.n);
    const bool intact = n == base->length && memcmp(file, base->bytes, n) == 0;
    const long live = w->live;
    w->n_files = 2;
    memory_add(w, "sealed", file, n);
    if (use < 3) healed_seal(file, n);
    FUZZ_MUST(!intact || memcmp(file, base->bytes, n) == 0);
    w->files[2].path = use % 3 == 1 ? HEALED_PARTIAL : HEALED_PATH;
    if (use % 3) healed_resume(stop, text, use == 2, intact);
    else {
        fc_model *m = healed_open(HEALED_PATH, &err);
        FUZZ_GOOD(m || !intact || stop < HEALED_STOPS - 1, err);
        if (m) healed_run(m, intact);
        fc_model_close(m);
    }
    memory_forget(w);
    w->n_files = 2;
    FUZZ_MUST(w->live == live);
    free(file);
    return 0;
}
