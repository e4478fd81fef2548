// A model, from bytes to logits and to generated tokens: whatever it is, the whole text at once,
// fed in pieces, split over workers or in little memory gives the same bits.
//   make build/fuzz/fuzz_run
//   build/fuzz/fuzz_run -max_total_time=60 -max_len=96 build/fuzz/corpus/fuzz_run
// tests/fuzz/corpus/run
#include "world.h"

// Two workers, the last task first: work that is split must not know its order.
static void run_backwards(void *user, size_t n_tasks, void (*fn)(void *, size_t, uint32_t),
                          void *arg) {
    (void)user;
    for (size_t i = n_tasks; i-- > 0;) fn(arg, i, (uint32_t)(i % 2));
}

// The last logits are those of the whole text.
static void run_last(fc_generator *g, const fuzz_rows *rows, size_t n) {
    static fuzz_rows last, whole;
    fc_error err;
    const float *logits = fc_generator_logits(g, &err);
    size_t n_tokens;
    fc_generator_tokens(g, &n_tokens);
    if (!logits || n_tokens != n) return;
    last.n = whole.n = 1;
    last.vocab = whole.vocab = rows->vocab;
    memcpy(last.logits, logits, rows->vocab * sizeof *logits);
    memcpy(whole.logits, rows->logits + (n - 1) * rows->vocab, rows->vocab * sizeof *logits);
    FUZZ_MUST(fuzz_rows_same(&last, &whole));
}

static void run_generate(fc_model *m, const fc_tokens *text, const uint8_t *mask,
                         const fuzz_rows *rows, size_t piece) {
    fc_error err;
    const size_t n = text->starts[1];
    uint32_t id;
    fc_generator *g = fc_generator_open(m, mask, FUZZ_ROWS + 4, &err);
    if (!g) return;
    for (size_t i = 0; i < n; i += piece) {
        FUZZ_MUST(!fc_generator_feed(g, text->ids + i, n - i < piece ? n - i : piece, &err));
        if (i == 0 && piece < 3 && !fc_generator_logits(g, &err)) break;
    }
    run_last(g, rows, n);
    if (piece == 4) { // back and forth
        fc_generator_rewind(g, n / 2);
        if (n > 1) fc_generator_logits(g, &err);
        FUZZ_MUST(!fc_generator_feed(g, text->ids + n / 2, n - n / 2, &err));
        run_last(g, rows, n);
    }
    for (size_t i = 0; i < piece % 3 && fc_generator_next(g, NULL, &id, &err) == FC_OK; i++)
        FUZZ_MUST(id < rows->vocab);
    fc_generator_close(g);
}

// Once more in another way.
static void run_again(fuzz_world *w, const fc_tokens *text, const uint8_t *mask,
                      const fuzz_rows *rows, uint32_t how) {
    static fuzz_rows again;
    const fc_par par = {2, run_backwards, NULL};
    fc_model *m =
        fuzz_world_open(w, how & 1 ? &par : NULL, how == 2 ? FC_SIMD_SCALAR : FC_SIMD_AUTO,
                        how == 4 ? (uint64_t)1 << 20 : 0);
    FUZZ_MUST(m != NULL);
    fc_code code = fuzz_logits(m, text, mask, &again);
    if (how == 4 && code == FC_ERR_LIMIT) code = FC_OK;
    else if (how != 2 && !code) FUZZ_MUST(fuzz_rows_same(rows, &again));
    FUZZ_MUST(!code || how == 2);
    fc_model_close(m);
}

static void run_model(fuzz_world *w, fc_model *m, fuzz_input how) {
    static fuzz_rows rows;
    uint32_t ids[FUZZ_ROWS];
    uint8_t mask[2 * 8];
    const uint32_t flags = fuzz_byte(&how);
    const size_t n = 1 + fuzz_below(&how, 10) + (flags & 64 ? 9 : 0), cut = fuzz_below(&how, n);
    size_t starts[3] = {0, n, n};
    fc_tokens text;
    memset(&text, 0, sizeof text);
    if (fuzz_is_slow(m)) return;
    for (size_t i = 0; i < FUZZ_ROWS; i++)
        ids[i] = (uint32_t)(i * 37 + fuzz_byte(&how)) % m->config.vocab_size;
    for (size_t i = 0; i < 16; i++) mask[i] = (flags & 1) && fuzz_byte(&how) % 4 == 0 ? 0 : 1;
    for (size_t i = 0; i < 2 * m->hyper.n_blocks; i++) mask[i] = mask[i] && m->present[i];
    text.ids = ids;
    text.starts = starts;
    text.n_sequences = 1;
    if (fuzz_logits(m, &text, flags & 1 ? mask : NULL, &rows)) return;
    if (!(flags & 8)) run_generate(m, &text, flags & 1 ? mask : NULL, &rows, 2 + (flags >> 1 & 3));
    else run_again(w, &text, flags & 1 ? mask : NULL, &rows, 1 + (flags >> 4 & 3));
    if (cut == 0 || !(flags & 128)) return;
    starts[1] = cut;
    text.n_sequences = 2;
    fuzz_logits(m, &text, NULL, &rows);
}

FUZZ_TARGET(run) {
    fuzz_input in = {data, size};
    fuzz_world *w = fuzz_world_make(&in);
    uint8_t how[32];
    for (size_t i = 0; i < 8; i++) how[i] = (uint8_t)fuzz_byte(&in);
    memset(how + 8, how[7], sizeof how - 8);
    fuzz_world_change(w, &in);
    fc_model *m = fuzz_world_open(w, NULL, FC_SIMD_AUTO, 0);
    if (m) {
        fuzz_input options = {how, sizeof how};
        run_model(w, m, options);
    }
    fc_model_close(m);
    fuzz_world_end(w);
    return 0;
}
