/* Generation: the cache gives the bits of a whole forward pass however the text came, sampling,
   ends, text as it streams, limits; the loops that find this machine's peak. */
#include "private.h"
#include "memory.h"
#include "t.h"
#include "tiny.h"

#define DATA "tests/data/"

static fc_model *open_with(const char *path, fc_model_desc *desc) {
    fc_error err;
    fc_model *m = fc_model_open(path, desc, &err);
    T_OK(m != NULL, "%s: %s", path, err.msg);
    return m;
}

static fc_model *open_model(const char *path, fc_compute compute, uint32_t threads, fc_simd simd,
                            uint64_t limit) {
    fc_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.compute = compute;
    desc.env.par.n_threads = threads;
    desc.env.simd_max = simd;
    desc.memory_limit = limit;
    return open_with(path, &desc);
}

/* ------------------------------------------------------------------------- the same bits */

typedef struct whole { /* logits of one forward pass over all */
    uint32_t ids[320];
    size_t starts[2], n, vocab, got;
    float *rows;
} whole;

static int take_rows(void *user, const float *rows, size_t n) {
    whole *w = (whole *)user;
    memcpy(w->rows + w->got * w->vocab, rows, n * w->vocab * sizeof *rows);
    w->got += n;
    return 0;
}

static void whole_run(whole *w, fc_model *m, const uint8_t *mask, size_t n) {
    fc_tokens t;
    fc_error err;
    memset(w, 0, sizeof *w);
    memset(&t, 0, sizeof t);
    w->n = w->starts[1] = n;
    w->vocab = fc_model_config(m)->vocab_size;
    w->rows = (float *)malloc(n * w->vocab * sizeof(float));
    for (size_t i = 0; i < n; i++) w->ids[i] = (uint32_t)((i * i * 31 + i * 17 + 5) % w->vocab);
    t.ids = w->ids;
    t.starts = w->starts;
    t.n_sequences = 1;
    if (!w->rows) exit(2);
    T_OK(fc_logits(m, &t, mask, NULL, take_rows, w, &err) == FC_OK && w->got == n, "logits: %s",
         err.msg);
}

static int same_row(const whole *w, size_t position, const float *z) {
    return z && memcmp(z, w->rows + position * w->vocab, w->vocab * sizeof *z) == 0;
}

/* Feeds `first` tokens at once, then pieces of `step`, looking after each; then goes back and
   again. */
static void check_pieces(const char *name, fc_model *m, const uint8_t *mask, const whole *w,
                         size_t first, size_t step) {
    fc_error err;
    fc_generator *g = fc_generator_open(m, mask, (uint32_t)w->n, &err);
    size_t at = 0, bad = 0, n;
    if (!T_OK(g != NULL, "%s: %s", name, err.msg)) return;
    while (at < w->n) {
        n = at ? step : first;
        if (n > w->n - at) n = w->n - at;
        if (fc_generator_feed(g, w->ids + at, n, &err)) break;
        at += n;
        bad += !same_row(w, at - 1, fc_generator_logits(g, &err));
    }
    T_OK(at == w->n && bad == 0, "%s: pieces of %d and %d: %d rows differ", name, (int)first,
         (int)step, (int)bad);
    fc_generator_rewind(g, w->n / 2);
    T_OK(same_row(w, w->n / 2 - 1, fc_generator_logits(g, &err)), "%s: after going back", name);
    T_OK(fc_generator_feed(g, w->ids + w->n / 2, w->n - w->n / 2, &err) == FC_OK, "%s: fed again",
         name);
    T_OK(same_row(w, w->n - 1, fc_generator_logits(g, &err)), "%s: the end after going back", name);
    fc_generator_close(g);
}

static void check_masks(const char *path, fc_compute compute, fc_simd simd, uint32_t threads,
                        size_t length) {
    enum { WHOLE, FIRST, LAST, NO_ATTENTION, FFNS, N };
    static const size_t pieces[][2] = {{1, 1}, {5, 1}, {7, 3}, {13, 16}};
    fc_model *m = open_model(path, compute, threads, simd, 0);
    char name[160];
    if (!m) return;
    size_t n = fc_model_config(m)->n_blocks;
    uint8_t mask[64];
    for (int kind = 0; kind < N; kind++) {
        whole w;
        memset(mask, 1, sizeof mask);
        if (kind == FIRST) mask[0] = 0;
        if (kind == LAST) mask[2 * n - 2] = 0;
        for (size_t b = 0; b < n && kind == NO_ATTENTION; b++) mask[2 * b] = 0;
        if (kind == FFNS) mask[1] = mask[2 * n - 1] = 0;
        snprintf(name, sizeof name, "%s, %s %s, mask %d", path, fc_simd_name(simd),
                 compute == FC_COMPUTE_BF16 ? "bf16" : "f32", kind);
        whole_run(&w, m, kind == WHOLE ? NULL : mask, length);
        for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++)
            check_pieces(name, m, kind == WHOLE ? NULL : mask, &w, pieces[p][0], pieces[p][1]);
        check_pieces(name, m, kind == WHOLE ? NULL : mask, &w, length, 1);
        free(w.rows);
    }
    fc_model_close(m);
}

static void test_bits(void) {
    static const char *const models[] = {DATA "llama_f32_bias", DATA "llama_f16_sharded",
                                         DATA "llama_bf16_old_config", DATA "llama_q4_1.gguf"};
    for (int simd = FC_SIMD_SCALAR; simd < FC_SIMD_COUNT; simd++) {
        const fci_kernels *k =
            simd <= (int)fc_simd_best() ? fci_kernel_table((fc_simd)simd) : NULL;
        if (!k) continue;
        for (size_t i = 0; i < sizeof models / sizeof *models; i++)
            for (int compute = FC_COMPUTE_F32;
                 compute <= (k->native_bf16 ? FC_COMPUTE_BF16 : FC_COMPUTE_F32); compute++)
                check_masks(models[i], (fc_compute)compute, (fc_simd)simd, i % 2 ? 3 : 1, 41);
    }
}

/* More keys than attention takes at a time, several waves for one prompt, and little memory. */
static void test_long(void) {
    whole w;
    fc_error err;
    fc_model *m = open_model("examples/demo", FC_COMPUTE_AUTO, 2, FC_SIMD_AUTO, 0);
    if (!m) return;
    whole_run(&w, m, NULL, 300);
    check_pieces("demo", m, NULL, &w, 300, 1);
    check_pieces("demo", m, NULL, &w, 129, 57);
    check_pieces("demo", m, NULL, &w, 250, 1);
    fc_model_close(m);
    uint64_t least = 0;
    for (int i = 0; i < 3; i++) { /* too little; as little as it says; some more */
        m = open_model("examples/demo", FC_COMPUTE_AUTO, 1, FC_SIMD_AUTO,
                       i ? least + (uint64_t)(i - 1) * 500000 : 1000);
        fc_generator *g = m ? fc_generator_open(m, NULL, 300, &err) : NULL;
        const char *says = g ? NULL : strstr(err.msg, "at least ");
        T_OK((g != NULL) == (i > 0) && (g || says), "memory limit %d: %s", i, err.msg);
        if (says) least = strtoull(says + 9, NULL, 10);
        if (g)
            T_OK(g->engine.capacity < 300 && (i == 1) == (g->engine.capacity == 1),
                 "limit %d: %d rows", i, (int)g->engine.capacity);
        fc_generator_close(g);
        if (g) check_pieces("demo in little memory", m, NULL, &w, 299, 1);
        fc_model_close(m);
    }
    free(w.rows);
}

/* ------------------------------------------------------------------------- picking */

static void set_logits(fc_generator *g, const float *z,
                       size_t n) { /* as if the model had said so */
    size_t vocab = (size_t)g->m->hyper.vocab;
    float *own = g->engine.logits;
    for (size_t i = 0; i < vocab; i++) own[i] = i < n ? z[i] : -INFINITY;
    g->n_ids = g->cache.n_past = 1;
    g->logits = own;
}

static void test_greedy(fc_generator *g) {
    static const float ties[] = {1, 3, 2, 3, 3}, low[] = {-INFINITY, -8};
    float bad[] = {1, 2, 3};
    uint32_t id = 99;
    fc_error err;
    set_logits(g, ties, 5);
    T_OK(fc_generator_next(g, NULL, &id, &err) == FC_OK && id == 1,
         "of equal ones the lowest, got %u", id);
    set_logits(g, low, 2);
    T_OK(fc_generator_next(g, NULL, &id, &err) == FC_OK && id == 1,
         "minus infinity is never picked, got %u", id);
    for (int i = 0; i < 3; i++) {
        bad[0] = i == 0 ? NAN : i == 1 ? INFINITY : -INFINITY;
        if (i == 2) bad[1] = bad[2] = -INFINITY;
        set_logits(g, bad, 3);
        T_OK(fc_generator_next(g, NULL, &id, &err) == FC_ERR_NUMERIC, "logits not finite, case %d",
             i);
    }
}

static void test_sampling(fc_generator *g) {
    enum { DRAWS = 8000 };
    static const float z[] = {0, 1, 2, 3, -INFINITY};
    static const struct {
        float temperature, top_p;
        double share[4];
    } cases[] = {
        {1, 0, {0.0320586, 0.0871443, 0.2368828, 0.6439143}},
        {1, 1, {0.0320586, 0.0871443, 0.2368828, 0.6439143}},
        {2, 0, {0.1015275, 0.1673891, 0.2759767, 0.4551067}}, /* e^(z/2) */
        {1, 0.7f, {0, 0, 0.2689414, 0.7310586}},              /* 0.644 alone is below 0.7 */
        {1, 0.6f, {0, 0, 0, 1}},
        {1, 0.95f, {0, 0.0900306, 0.2447285, 0.6652410}},
    };
    fc_error err;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int count[5] = {0, 0, 0, 0, 0};
        for (uint64_t draw = 0; draw < DRAWS; draw++) {
            const fc_sampling how = {cases[c].temperature, cases[c].top_p, draw};
            uint32_t id = 4, again = 0;
            set_logits(g, z, 5);
            if (fc_generator_next(g, &how, &id, &err) || id > 3) break;
            count[id]++;
            if (draw % 100) continue;
            set_logits(g, z, 5);
            T_OK(fc_generator_next(g, &how, &again, &err) == FC_OK && again == id,
                 "seed %d: %u and %u", (int)draw, id, again);
        }
        for (int i = 0; i < 4; i++) /* five standard deviations */
            T_OK(fabs(count[i] / (double)DRAWS - cases[c].share[i]) < 0.028 &&
                     (cases[c].share[i] > 0) == (count[i] > 0),
                 "case %d: token %d: expected %.4f, got %.4f", (int)c, i, cases[c].share[i],
                 count[i] / (double)DRAWS);
    }
}

static void test_generator_errors(void) {
    fc_error err;
    uint32_t ids[] = {1, 2, 3, 251}, id;
    size_t n;
    const fc_sampling bad[] = {{-1, 0, 0},    {NAN, 0, 0},  {INFINITY, 0, 0},
                               {1, -0.5f, 0}, {1, 1.5f, 0}, {1, NAN, 0}};
    fc_model *m = open_model(DATA "llama_f16_sharded", FC_COMPUTE_F32, 1, FC_SIMD_AUTO, 0);
    if (!m) return;
    T_OK(fc_generator_open(m, NULL, 129, &err) == NULL && err.code == FC_ERR_ARGUMENT &&
             strstr(err.msg, "128"),
         "more positions than the model has");
    fc_generator *g = fc_generator_open(m, NULL, 0, &err);
    T_OK(g && g->max_positions == 128, "0 positions: the model's own");
    fc_generator_close(g);
    g = fc_generator_open(m, NULL, 5, &err);
    if (!T_OK(g != NULL, "%s", err.msg)) exit(1);
    T_OK(fc_generator_logits(g, &err) == NULL && err.code == FC_ERR_ARGUMENT, "no token yet");
    T_OK(fc_generator_next(g, NULL, &id, &err) == FC_ERR_ARGUMENT, "no token yet");
    T_OK(fc_generator_feed(g, ids, 4, &err) == FC_ERR_ARGUMENT && strstr(err.msg, "token 3"),
         "an id too high: %s", err.msg);
    T_OK(fc_generator_feed(g, ids, 3, &err) == FC_OK &&
             fc_generator_feed(g, ids, 3, &err) == FC_ERR_LIMIT,
         "too many: %s", err.msg);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        T_OK(fc_generator_next(g, &bad[i], &id, &err) == FC_ERR_ARGUMENT, "sampling %d", (int)i);
    T_OK(fc_generator_next(g, NULL, &id, &err) == FC_OK &&
             fc_generator_next(g, NULL, &id, NULL) == FC_OK,
         "two more");
    T_OK(fc_generator_next(g, NULL, &id, &err) == FC_ERR_LIMIT && strstr(err.msg, "full"),
         "full: %s", err.msg);
    const uint32_t *all = fc_generator_tokens(g, &n);
    T_OK(n == 5 && all[0] == 1 && all[2] == 3 && all[4] == id, "the tokens so far");
    fc_generator_rewind(g, 99);
    T_OK(fc_generator_tokens(g, &n) && n == 5, "going back to further on does nothing");
    fc_generator_rewind(g, 4);
    T_OK(fc_generator_next(g, NULL, &id, &err) == FC_OK && id == all[4], "the same again");
    fc_generator_rewind(g, 0);
    T_OK(fc_generator_logits(g, &err) == NULL, "back to nothing");
    test_greedy(g);
    test_sampling(g);
    fc_generator_close(g);
    fc_generator_close(NULL);
    fc_model_close(m);
}

/* ------------------------------------------------------------------------- text */

typedef struct heard {
    char text[4096];
    size_t n;
    int pieces, broken, stop_after;
} heard;

static int hear(void *user, const char *bytes, size_t n) {
    heard *h = (heard *)user;
    for (size_t i = 0, k; i < n; i += k) {
        k = fci_utf8_length(bytes + i, n - i);
        if (k == 0) {
            h->broken = 1;
            break;
        }
    }
    if (h->n + n < sizeof h->text) memcpy(h->text + h->n, bytes, n);
    h->n += n;
    return ++h->pieces == h->stop_after;
}

/* What fc_generate gives is what tokenising, picking and detokenising by hand give. */
static void check_text(fc_model *m, const char *prompt, const fc_sampling *how, uint32_t most) {
    const fc_tokenizer *t = fc_model_tokenizer(m, NULL);
    fc_error err;
    fc_generate_desc desc;
    fc_generated out;
    heard h;
    fc_tokens ids, ends;
    fc_text text;
    size_t n;
    uint32_t id = 0, count = 0, ended = 0;
    memset(&h, 0, sizeof h);
    memset(&desc, 0, sizeof desc);
    desc.max_tokens = most;
    desc.sampling = *how;
    desc.piece = hear;
    desc.user = &h;
    T_OK(fc_generate(m, prompt, strlen(prompt), &desc, &out, &err) == FC_OK, "%s", err.msg);
    T_OK(fc_tokenize(t, prompt, strlen(prompt), FINERCUT_TOKENIZE_SPECIAL, &ids, &err) == FC_OK,
         "%s", err.msg);
    T_OK(fc_end_tokens(m, &ends, &err) == FC_OK && ends.starts[1] == 1, "%s", err.msg);
    fc_generator *g = fc_generator_open(m, NULL, (uint32_t)ids.starts[1] + most, &err);
    fc_generator_feed(g, ids.ids, ids.starts[1], &err);
    for (; count < most && !fc_generator_next(g, how, &id, &err) && id != ends.ids[0]; count++)
        continue;
    ended = id == ends.ids[0];
    const uint32_t *all = fc_generator_tokens(g, &n);
    T_OK(fc_detokenize(t, all + ids.starts[1], count, &text, &err) == FC_OK, "%s", err.msg);
    T_OK(out.n_prompt == ids.starts[1] && out.n_tokens == count && out.ended == (int)ended,
         "\"%s\": %u tokens and %u, ended %d", prompt, out.n_tokens, count, out.ended);
    T_OK(!h.broken && h.n == out.text.length && memcmp(h.text, out.text.bytes, h.n) == 0,
         "\"%s\": the pieces are the text", prompt);
    size_t i = 0, k = 0; /* bytes that are no characters became U+FFFD */
    while (i < text.length && k < out.text.length) {
        size_t c = fci_utf8_length(text.bytes + i, text.length - i);
        if (memcmp(out.text.bytes + k, c ? text.bytes + i : "\xef\xbf\xbd", c ? c : 3) != 0) break;
        i += c ? c : 1;
        k += c ? c : 3;
    }
    T_OK(i == text.length && k == out.text.length, "\"%s\": \"%s\" and \"%s\"", prompt, text.bytes,
         out.text.bytes);
    fc_text_free(&text);
    fc_text_free(&out.text);
    fc_tokens_free(&ids);
    fc_tokens_free(&ends);
    fc_generator_close(g);
}

static void test_text(void) {
    const fc_sampling greedy = {0, 0, 0}, hot = {3, 0, 7}, warm = {0.8f, 0.9f, 3};
    fc_generate_desc desc;
    fc_generated out;
    fc_error err;
    heard h;
    fc_model *m = open_model("examples/demo", FC_COMPUTE_AUTO, 2, FC_SIMD_AUTO, 0);
    if (!m) return;
    check_text(m, "In the beginning God created the", &greedy, 40);
    check_text(m, "And", &warm, 60);
    check_text(m, "x", &hot, 100); /* hot enough for single bytes that are no characters */
    T_OK(fc_generate(m, "And the", 7, NULL, &out, &err) == FC_OK && out.n_tokens <= 64 &&
             out.text.length > 0,
         "defaults: %s", err.msg);
    T_OK(out.text.bytes[out.text.length] == 0, "terminated");
    fc_text_free(&out.text);
    memset(&desc, 0, sizeof desc);
    memset(&h, 0, sizeof h);
    h.stop_after = 3;
    desc.piece = hear;
    desc.user = &h;
    size_t n = 0;
    desc.generator = fc_generator_open(m, NULL, 0, &err);
    T_OK(fc_generate(m, "And the", 7, &desc, &out, &err) == FC_ERR_CANCELLED && h.pieces == 3 &&
             out.text.length == h.n,
         "cancelled: %s", err.msg);
    fc_generator_tokens(desc.generator, &n);
    T_OK(out.n_tokens == n - out.n_prompt && out.prompt_seconds > 0 && out.seconds > 0,
         "cancelled: %u tokens of %u, %g s and %g s", out.n_tokens, (uint32_t)n - out.n_prompt,
         out.prompt_seconds, out.seconds);
    fc_text_free(&out.text);
    fc_model *other = open_model("examples/demo", FC_COMPUTE_AUTO, 1, FC_SIMD_AUTO, 0);
    T_OK(other && fc_generate(other, "And the", 7, &desc, &out, &err) == FC_ERR_ARGUMENT &&
             strstr(err.msg, "generator: expected one of this model") &&
             fc_generator_tokens(desc.generator, NULL)[n - 1] < 512,
         "another model's generator: %s", err.msg);
    fc_model_close(other);
    fc_generator_close(desc.generator);
    desc.generator = NULL;
    T_OK(fc_generate(m, "", 0, NULL, &out, &err) == FC_ERR_ARGUMENT && strstr(err.msg, "prompt"),
         "an empty prompt: %s", err.msg);
    T_OK(fc_generate(m, "\xff", 1, NULL, &out, &err) == FC_ERR_FORMAT && strstr(err.msg, "prompt"),
         "a prompt that is no UTF-8: %s", err.msg);
    desc.max_tokens = 512;
    T_OK(fc_generate(m, "And", 3, &desc, &out, &err) == FC_ERR_ARGUMENT &&
             strstr(err.msg, "at most 512"),
         "too long: %s", err.msg);
    desc.sampling.temperature = -1;
    T_OK(fc_generate(m, "And", 3, &desc, &out, &err) == FC_ERR_ARGUMENT, "a bad temperature: %s",
         err.msg);
    fc_model_close(m);
    m = open_model(DATA "llama_f16_sharded", FC_COMPUTE_AUTO, 1, FC_SIMD_AUTO, 0);
    T_OK(m && fc_generate(m, "a", 1, NULL, &out, &err) == FC_ERR_IO && strstr(err.msg, "tokenizer"),
         "no tokenizer: %s", err.msg);
    fc_model_close(m);
}

/* Bytes, whole or in pieces, against characters. */
static void test_stream(void) {
    static const struct {
        const char *raw, *text;
    } cases[] = {
        {"plain", "plain"},
        {"\xc3\xa9t\xc3\xa9", "\xc3\xa9t\xc3\xa9"},
        {"\xf0\x9f\x98\x80!", "\xf0\x9f\x98\x80!"},
        {"a\x80"
         "b",
         "a\xef\xbf\xbd"
         "b"},
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xc3(", "\xef\xbf\xbd("},
        {"\xf5\x80", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    };
    fc_generate_desc desc;
    fci_context c;
    fc_error err;
    fci_context_basic(&c, NULL);
    memset(&desc, 0, sizeof desc);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t step = 1; step <= 4; step++) {
            fci_generate_stream s;
            heard h;
            memset(&s, 0, sizeof s);
            memset(&h, 0, sizeof h);
            s.desc = &desc;
            s.raw.c = s.text.c = &c;
            desc.piece = hear;
            desc.user = &h;
            for (size_t at = 0, n = strlen(cases[i].raw); at < n; at += step) {
                fci_put(&s.raw, cases[i].raw + at, n - at < step ? n - at : step);
                fci_generate_stream_flush(&s, false, &err);
            }
            T_OK(h.n <= strlen(cases[i].text) && memcmp(h.text, cases[i].text, h.n) == 0 &&
                     !h.broken,
                 "case %d: before the end", (int)i);
            T_OK(fci_generate_stream_flush(&s, true, &err) == FC_OK, "case %d", (int)i);
            T_OK(h.n == strlen(cases[i].text) && memcmp(h.text, cases[i].text, h.n) == 0 &&
                     !h.broken,
                 "case %d in steps of %d", (int)i, (int)step);
            fci_buffer_free(&s.raw);
            fci_buffer_free(&s.text);
        }
}

/* ------------------------------------------------------------------------- ends */

static void test_ends(void) {
    static const struct {
        const char *config, *generation;
        size_t n;
        uint32_t last;
        fc_code code;
    } cases[] = {
        {"\"eos_token_id\":2,", NULL, 1, 2, FC_OK},
        {"\"eos_token_id\":[2,7,5],", NULL, 3, 5, FC_OK},
        {"\"eos_token_id\":null,", NULL, 0, 0, FC_OK},
        {"", NULL, 0, 0, FC_OK},
        {"\"eos_token_id\":-1,", NULL, 0, 0, FC_OK},
        {"\"eos_token_id\":4000000000000,", NULL, 0, 0, FC_OK},
        {"\"eos_token_id\":2,", "{\"eos_token_id\":[3,9]}", 2, 9, FC_OK},
        {"\"eos_token_id\":2,", "{\"eos_token_id\":null}", 0, 0, FC_OK},
        {"\"eos_token_id\":2,", "{\"pad_token_id\":1}", 1, 2, FC_OK},
        {"\"eos_token_id\":\"</s>\",", NULL, 0, 0, FC_ERR_FORMAT},
        {"\"eos_token_id\":2,", "{\"eos_token_id\":[[1]]}", 0, 0, FC_ERR_FORMAT},
        {"\"eos_token_id\":2,", "{", 0, 0, FC_ERR_FORMAT},
        {"\"eos_token_id\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],", NULL, 0, 0, FC_ERR_LIMIT},
    };
    size_t config_size, weights_size;
    char *config = t_read(DATA "llama_f32_bias/config.json", &config_size);
    char *weights = t_read(DATA "llama_f32_bias/model.safetensors", &weights_size);
    char *eos = config ? strstr(config, "\"eos_token_id\"") : NULL;
    if (!T_OK(eos && weights, "tests/data")) exit(1);
    char *after = strchr(eos, ',') + 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[2048];
        memory world;
        fc_model_desc desc;
        fc_error err;
        fc_tokens ends;
        memset(&world, 0, sizeof world);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(eos - config), config, cases[i].config,
                 after);
        memory_add(&world, "m/config.json", text, strlen(text));
        memory_add(&world, "m/model.safetensors", weights, weights_size);
        if (cases[i].generation)
            memory_add(&world, "m/generation_config.json", cases[i].generation,
                       strlen(cases[i].generation));
        memset(&desc, 0, sizeof desc);
        desc.env = memory_env(&world);
        desc.env.par.n_threads = 1;
        fc_model *m = open_with("m", &desc);
        fc_code code = m ? fc_end_tokens(m, &ends, &err) : FC_ERR_IO;
        T_OK(code == cases[i].code, "case %d: expected %s, got %s: %s", (int)i,
             fc_code_name(cases[i].code), fc_code_name(code), err.msg);
        if (!code)
            T_OK(ends.n_sequences == 1 && ends.starts[1] == cases[i].n &&
                     (!cases[i].n || ends.ids[cases[i].n - 1] == cases[i].last),
                 "case %d", (int)i);
        if (!code) fc_tokens_free(&ends);
        fc_model_close(m);
        T_OK(world.live == 0, "case %d: %ld left", (int)i, world.live);
    }
    free(config);
    free(weights);
    fc_error err;
    fc_tokens ends;
    fc_model *m = open_model(DATA "llama_f16.gguf", FC_COMPUTE_F32, 1, FC_SIMD_AUTO, 0);
    const fci_kv *kv =
        m ? fci_gguf_find(fc_model_container(m), "tokenizer.ggml.eos_token_id") : NULL;
    uint64_t id = 0;
    T_OK(kv && fci_kv_u64(kv, &id) && fc_end_tokens(m, &ends, &err) == FC_OK &&
             ends.starts[1] == 1 && ends.ids[0] == id,
         "GGUF");
    fc_tokens_free(&ends);
    fc_model_close(m);
}

/* ------------------------------------------------------------------------- memory */

/* Every allocation fails once: an error, nothing left behind, and the model still works. */
static void test_allocations(void) {
    size_t sizes[5];
    static const char *const names[] = {"config.json", "model.safetensors"};
    char *data[2], path[80], inner[2][16];
    memory world;
    fc_model_desc desc;
    fc_error err;
    const uint32_t ids[] = {1, 2, 3};
    long before = 0, tries;
    memset(&world, 0, sizeof world);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, DATA "llama_f32_bias/%s", names[i]);
        snprintf(inner[i], sizeof inner[i], "m/%.12s", names[i]);
        data[i] = t_read(path, &sizes[i]);
        if (!data[i]) exit(2);
    }
    memory_add(&world, "m/config.json", data[0], sizes[0]);
    memory_add(&world, "m/model.safetensors", data[1], sizes[1]);
    memset(&desc, 0, sizeof desc);
    desc.env = memory_env(&world);
    desc.env.par.n_threads = 1;
    fc_model *m = open_with("m", &desc);
    if (!m) exit(1);
    before = world.live;
    for (tries = 1; tries < 200; tries++) {
        world.allocs = 0;
        world.fail_alloc = tries;
        fc_generator *g = fc_generator_open(m, NULL, 20, &err);
        T_OK(g || err.code == FC_ERR_MEMORY, "allocation %ld: %s", tries, err.msg);
        if (g)
            T_OK(fc_generator_feed(g, ids, 3, &err) == FC_OK && fc_generator_logits(g, &err),
                 "allocation %ld: %s", tries, err.msg);
        fc_generator_close(g);
        T_OK(world.live == before, "allocation %ld: %ld left", tries, world.live - before);
        if (world.allocs < tries) break;
    }
    T_OK(tries > 10 && tries < 200, "%ld allocations", tries);
    world.fail_alloc = 0;
    fc_model_close(m);
    T_OK(world.live == 0, "%ld left", world.live);
    free(data[0]);
    free(data[1]);
}

/* ------------------------------------------------------------------------- 8 bits */

/* Logits after the first n tokens: one by one, or at once. */
static int logits_of(fc_model *m, const uint32_t *ids, size_t n, int at_once, float *out) {
    fc_error err;
    fc_generator *g = fc_generator_open(m, NULL, 32, &err);
    const float *z = NULL;
    for (size_t i = 0; g && i < (at_once ? 1 : n); i++)
        z = fc_generator_feed(g, ids + i, at_once ? n : 1, &err) ? NULL
                                                                  : fc_generator_logits(g, &err);
    if (T_OK(z != NULL, "%s", err.msg))
        memcpy(out, z, fc_model_config(m)->vocab_size * sizeof *out);
    fc_generator_close(g);
    return z != NULL;
}

/* Only tokens by themselves are rounded: then the same bits for any threads, and near those of f32.
   Prompts and whole passes are f32's, and what searches or fits refuses. */
static void test_i8(fc_simd simd) {
    enum { N = 12 };
    static const char path[] = DATA "llama_q4_1.gguf";
    fc_model *f32 = open_model(path, FC_COMPUTE_F32, 1, simd, 0),
             *one = open_model(path, FC_COMPUTE_I8, 1, simd, 0),
             *two = open_model(path, FC_COMPUTE_I8, 2, simd, 0);
    if (!f32 || !one || !two) return;
    const size_t vocab = fc_model_config(f32)->vocab_size;
    float *z = (float *)malloc(3 * vocab * sizeof *z), *y = z + vocab, *x = y + vocab;
    double off = 0, size = 0;
    fc_error err;
    whole w, v;
    T_OK(fc_model_config(one)->compute == FC_COMPUTE_I8, "%s", "not what was asked");
    whole_run(&w, f32, NULL, N);
    whole_run(&v, one, NULL, N);
    T_OK(memcmp(w.rows, v.rows, N * vocab * sizeof *w.rows) == 0, "i8: a whole pass, other bits");
    if (logits_of(one, w.ids, N, 0, z) && logits_of(two, w.ids, N, 0, y) &&
        logits_of(one, w.ids, N, 1, x)) {
        T_OK(memcmp(z, y, vocab * sizeof *z) == 0, "i8: 2 threads, other bits");
        T_OK(same_row(&w, N - 1, x), "i8: a prompt does not have f32's bits");
        for (size_t i = 0; i < vocab; i++) {
            const double t = (double)w.rows[(N - 1) * vocab + i];
            off += ((double)z[i] - t) * ((double)z[i] - t);
            size += t * t;
        }
        T_OK(off > 0 && off < 4e-4 * size, "i8: logits are off by %g", sqrt(off / size));
    }
    const fc_tokens text = {.ids = w.ids, .starts = w.starts, .n_sequences = 1};
    const fc_prune_desc prune = {.calibration = &text, .remove = 1};
    fc_estimate estimate;
    T_OK(!fc_prune(one, &prune, &err) && err.code == FC_ERR_ARGUMENT && strstr(err.msg, "got i8"),
         "prune: %s", err.msg);
    T_OK(fc_prune_estimate(one, &prune, &estimate, &err) == FC_ERR_ARGUMENT &&
             strstr(err.msg, "got i8"), "estimate: %s", err.msg);
    free(w.rows), free(v.rows), free(z);
    fc_model_close(f32), fc_model_close(one), fc_model_close(two);
}

/* ------------------------------------------------------------------------- speed */

static uint64_t copies_largest(const fc_model *m) {
    return (m->output.rows + 32) * (m->output.row_bytes + 2);
}

/* Token after token, more than FCI_GENERATE_FEW: logits with copies of all weights (room 2), of
   some (1) or, for want of memory, of none. */
static size_t copies_run(const char *name, fc_model *m, int room, float *logits) {
    enum { N = 2 * FCI_GENERATE_FEW };
    fc_error err;
    fc_generator *g = fc_generator_open(m, NULL, N, &err);
    const size_t vocab = fc_model_config(m)->vocab_size;
    size_t bad = g ? 0 : 1, n = 0, empty = 0;
    const uint64_t limit = m->memory_limit;
    const uint64_t all = g ? g->taken + fci_engine_bytes(m, g->engine.capacity, g->engine.head_rows,
                                                         g->engine.max_length) : 0;
    if (room < 2) m->memory_limit = all + (room ? copies_largest(m) : 0); /* once all is there */
    for (uint32_t i = 0; g && i < N; i++) {
        const uint32_t id = (uint32_t)((i * i * 31 + 7) % vocab);
        const float *z =
            fc_generator_feed(g, &id, 1, &err) ? NULL : fc_generator_logits(g, &err);
        if (z) memcpy(logits + i * vocab, z, vocab * sizeof *z);
        else bad++;
        T_OK(i + 1 >= FCI_GENERATE_FEW || g->copies.n == 0, "%s: copies from token %d on", name,
             (int)i);
    }
    T_OK(bad == 0, "%s: %s", name, err.msg);
    n = g ? g->copies.n : 0;
    for (size_t i = 0; i < n; i++) /* experts that were not chosen have none */
        empty += !*g->copies.all[i].copy.filled;
    T_OK(empty == 0 || (m->hyper.n_experts && empty < n), "%s: %d of %d copies are empty", name,
         (int)empty, (int)n);
    fc_generator_close(g);
    m->memory_limit = limit;
    return n;
}

static void copies_check(const char *name, fc_model *m) {
    float *with = (float *)calloc(1 << 20, sizeof *with),
          *without = (float *)calloc(1 << 20, sizeof *without);
    if (!with || !without) exit(2);
    const size_t n = copies_run(name, m, 2, with);
    T_OK(!n == !m->c.kernels->f32.turns, "%s, %s: %d copies", name,
         fc_simd_name(m->c.kernels->simd), (int)n);
    T_OK(copies_run(name, m, 0, without) == 0, "%s: copies where memory is short", name);
    T_OK(memcmp(with, without, 1 << 22) == 0, "%s, %s: other logits by copies", name,
         fc_simd_name(m->c.kernels->simd));
    const size_t some = copies_run(name, m, 1, without);
    T_OK(n == 0 || (some > 0 && some < n), "%s: %d of %d copies where there is room for some", name,
         (int)some, (int)n);
    T_OK(memcmp(with, without, 1 << 22) == 0, "%s, %s: other logits by some copies", name,
         fc_simd_name(m->c.kernels->simd));
    free(with);
    free(without);
}

static void copies_experts(void) {
    static const char *const names[] = {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "block_sparse_moe.gate", "input_layernorm", "post_attention_layernorm"};
    enum { D = 32, FF = 64, VOCAB = 90, EXPERTS = 4 };
    static tiny t;
    fc_error err;
    char name[96];
    tiny_begin(&t, "\"model_type\":\"mixtral\",\"hidden_size\":32,\"intermediate_size\":64,"
                   "\"num_hidden_layers\":1,\"num_attention_heads\":4,"
                   "\"num_key_value_heads\":4,\"vocab_size\":90,\"rms_norm_eps\":1e-5,"
                   "\"max_position_embeddings\":64,\"num_local_experts\":4,"
                   "\"num_experts_per_tok\":2,\"tie_word_embeddings\":false");
    tiny_add(&t, "model.embed_tokens.weight", VOCAB, D);
    tiny_add(&t, "lm_head.weight", VOCAB, D);
    tiny_add(&t, "model.norm.weight", D, 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(name, sizeof name, "model.layers.0.%s.weight", names[i]);
        tiny_add(&t, name, i == 4 ? EXPERTS : D, i > 4 ? 0 : D);
    }
    for (int e = 0; e < 3 * EXPERTS; e++) {
        snprintf(name, sizeof name, "model.layers.0.block_sparse_moe.experts.%d.w%d.weight", e / 3,
                 e % 3 + 1);
        tiny_add(&t, name, e % 3 == 1 ? D : FF, e % 3 == 1 ? FF : D);
    }
    tiny_random(&t, 0.5);
    fc_model *m = tiny_open(&t, 0, 2, &err);
    if (T_OK(m != NULL, "experts: %s", err.msg)) copies_check("experts", m);
    fc_model_close(m);
    tiny_end(&t);
}

static void test_copies(void) {
    static const char *const models[] = {DATA "llama_f32_bias", DATA "llama_q4_1.gguf",
                                         DATA "llama_bf16_old_config", "examples/demo"};
    for (int simd = FC_SIMD_SCALAR; simd < FC_SIMD_COUNT; simd++) {
        if (simd > (int)fc_simd_best() || !fci_kernel_table((fc_simd)simd)) continue;
        for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
            fc_model *m = open_model(models[i], FC_COMPUTE_F32, 2, (fc_simd)simd, 0);
            if (m) copies_check(models[i], m);
            fc_model_close(m);
        }
    }
    copies_experts();
}

static void slowly(void *job, size_t task, uint32_t worker) {
    const double start = fci_platform_seconds();
    (void)task, (void)worker;
    while (fci_platform_seconds() - start < 0.3) continue;
    ((fci_peak_job *)job)->operations[0]++;
}

static void test_peak(void) {
    fc_peak_info info;
    fc_error err;
    fc_env env;
    fci_context c;
    int best = (int)fc_simd_best();
    memset(&env, 0, sizeof env);
    env.par.n_threads = 2;
    T_OK(fci_context_begin(&c, &env, &err) == FC_OK, "%s", err.msg);
    for (int simd = FC_SIMD_SCALAR; simd < FC_SIMD_COUNT; simd++)
        for (int compute = FC_COMPUTE_F32; compute <= FC_COMPUTE_BF16; compute++) {
            const fci_kernels *k = fci_kernel_table((fc_simd)simd);
            fci_peak_fn loop = fci_peak_loop((fc_simd)simd, (fc_compute)compute);
            T_OK((loop != NULL) == (k && (compute == FC_COMPUTE_F32 || k->native_bf16)),
                 "%s %d: a loop where there is a table", fc_simd_name((fc_simd)simd), compute);
            if (!loop || simd > best) continue;
            float x[32];
            for (int i = 0; i < 32; i++) x[i] = 0.5f;
            T_OK(loop(1000, x) >= 2000 && isfinite(x[0]), "%s %d: %g", fc_simd_name((fc_simd)simd),
                 compute, (double)x[0]);
            memset(&info, 0, sizeof info);
            T_OK(fci_peak_run(&c, loop, (size_t)1 << 20, &info, &err) == FC_OK, "%s", err.msg);
            T_OK(info.gflops_one > 0 && info.gflops >= info.gflops_one && info.gigabytes_one > 0 &&
                     info.gigabytes >= info.gigabytes_one,
                 "%s %d: %g %g %g %g", fc_simd_name((fc_simd)simd), compute, info.gflops_one,
                 info.gflops, info.gigabytes_one, info.gigabytes);
        }
    fci_peak_job slow;
    double operations = 1;
    memset(&slow, 0, sizeof slow);
    slow.operations = &operations;
    T_OK(fci_peak_best(NULL, slowly, &slow, 1, 20) > 0 && operations > 1 && operations < 7,
         "a slow machine: %g runs of 0.3 s", operations - 1);
    fci_context_end(&c);
    env.simd_max = FC_SIMD_SCALAR;
    T_OK(fc_peak(FC_COMPUTE_BF16, &env, &info, &err) == FC_ERR_UNSUPPORTED, "no bf16 there: %s",
         err.msg);
}

int main(void) {
    (void)t_shared;
    test_bits();
    test_long();
    test_generator_errors();
    test_stream();
    test_text();
    test_ends();
    test_allocations();
    if (fci_kernel_table(FC_SIMD_SCALAR)->i8.run) {
        test_i8(FC_SIMD_SCALAR);
        test_i8(FC_SIMD_AUTO);
    }
    test_copies();
    test_peak();
    return t_end("test_generate");
}
