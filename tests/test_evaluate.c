// Perplexity, logits, calibration texts, windows and the loops that measure: on a model whose
// logits are known by hand, and on small files whose bytes can be counted.
#include "private.h"
#include "memory.h"
#include "t.h"
#include "tokens.h"
#include "tiny.h"

#define DATA "tests/data/"

static fc_model *open_model(const char *path, uint32_t threads) {
    fc_model_desc desc;
    fc_error err;
    memset(&desc, 0, sizeof desc);
    desc.compute = FC_COMPUTE_F32;
    desc.env.par.n_threads = threads;
    fc_model *m = fc_model_open(path, &desc, &err);
    T_OK(m != NULL, "%s: %s", path, err.msg);
    return m;
}

// ---- by hand

// Without any sublayer a token's logits are its own embedding, of length 2, times the output rows.
// After token 0 they are the logarithms of 1, 2, 3, 2 and 8, of which the next one has 1/16, 1/8,
// 3/16, 1/8 and 1/2; after tokens 1 to 4 all are equal.
static void by_hand(tiny *t) {
    static const double of_0[5] = {1, 2, 3, 2, 8};
    float *in, *out, *norm;
    tiny_llama(t, 2, 4, 1, 1, 5);
    in = tiny_find(t, "model.embed_tokens.weight");
    out = tiny_find(t, "lm_head.weight");
    norm = tiny_find(t, "model.norm.weight");
    for (int k = 0; k < 4; k++) {
        norm[k] = 1;
        for (int id = 0; id < 5; id++) {
            in[id * 4 + k] =
                id == 0 || k < 2 ? 1 : -1; // numbers of mean square 1: the norm keeps them
            out[id * 4 + k] = (float)(log(of_0[id]) / 4);
        }
    }
}

static const uint8_t nothing[4] = {0, 0, 0, 0};

static void test_by_hand(void) {
    tiny t;
    fc_error err;
    fc_perplexity p;
    uint32_t ids[] = {0, 4, 2, 0, 1, 3, 0};
    size_t one[] = {0, 7}, three[] = {0, 2, 6, 7}, short_one[] = {2, 4}, single[] = {0, 1};
    const double h = log(5);
    by_hand(&t);
    fc_model *m = tiny_open(&t, 0, 1, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    fc_tokens text =
        tokens_of(ids, one, 1); // 4 after 0, 2 after 4, 0 after 2, 1 after 0, 3 after 1, 0 after 3
    T_OK(fc_eval_perplexity(m, &text, nothing, NULL, &p, &err) == FC_OK, "%s", err.msg);
    double want = (log(2) + h + h + log(8) + h + h) / 6;
    T_OK(fabs(p.nll - want) < 1e-6 && p.n_positions == 6 && p.n_windows == 1,
         "one: %.9g for %.9g, %d", p.nll, want, (int)p.n_positions);
    T_OK(fabs(p.perplexity - exp(want)) < 1e-5 && p.seconds >= 0, "perplexity %.9g", p.perplexity);
    T_OK(p.hash == UINT64_C(0xe6fb6f986f9e6ed6), "hash: %llx", (unsigned long long)p.hash);
    text = tokens_of(ids, three, 3); // the last has nothing to predict
    want = (log(2) + h + log(8) + h) / 4;
    T_OK(fc_eval_perplexity(m, &text, nothing, NULL, &p, &err) == FC_OK &&
             fabs(p.nll - want) < 1e-6 && p.n_positions == 4 && p.n_windows == 3,
         "three: %.9g for %.9g, %d of %d windows", p.nll, want, (int)p.n_positions,
         (int)p.n_windows);
    T_OK(p.hash == UINT64_C(0xe8325228771cf636), "of three: %llx", (unsigned long long)p.hash);
    text = tokens_of(ids, short_one, 1); // a part of the array: 0 after 2
    T_OK(fc_eval_perplexity(m, &text, nothing, NULL, &p, &err) == FC_OK && fabs(p.nll - h) < 1e-6 &&
             p.n_positions == 1,
         "a part: %.9g for %.9g", p.nll, h);
    text = tokens_of(ids, single, 1);
    T_OK(fc_eval_perplexity(m, &text, nothing, NULL, &p, &err) == FC_ERR_ARGUMENT &&
             strstr(err.msg, "at least 2 tokens"),
         "a single token: %s", err.msg);
    fc_model_close(m);
    tiny_end(&t);
}

// The second half of each sequence, as llama-perplexity counts: of n tokens those from n/2 + 1 on.
static void test_protocols(void) {
    tiny t;
    fc_error err;
    fc_perplexity p, each[4];
    fc_eval_desc desc;
    uint32_t ids[] = {0, 1, 0, 4, 2, 0, 0, 2, 0, 2, 4, 0, 1};
    size_t starts[] = {0, 5, 11, 13, 13}; // the last one is set below
    const double h = log(5), want[3] = {(h + log(2)) / 2, (log(16.0 / 3) + h) / 2, (double)NAN};
    by_hand(&t);
    fc_model *m = tiny_open(&t, 0, 1, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    const fc_tokens text = tokens_of(ids, starts, 3);
    memset(&desc, 0, sizeof desc);
    desc.mask = nothing;
    desc.each = each;
    T_OK(fc_eval_sequences(m, &text, &desc, &p, &err) == FC_OK && p.n_positions == 10 &&
             each[0].n_positions == 4 && each[1].n_positions == 5 && each[2].n_positions == 1,
         "all: %s", err.msg);
    T_OK(fabs(4 * each[0].nll + 5 * each[1].nll + each[2].nll - 10 * p.nll) < 1e-12 &&
             fabs(each[1].perplexity - exp(each[1].nll)) < 1e-12 && each[1].n_windows == 1,
         "parts make the whole");
    fc_perplexity plain;
    T_OK(fc_eval_perplexity(m, &text, nothing, NULL, &plain, &err) == FC_OK &&
             memcmp(&plain.nll, &p.nll, sizeof p.nll) == 0, "the same by the short way");
    desc.protocol = FC_PROTOCOL_LLAMA_CPP;
    T_OK(fc_eval_sequences(m, &text, &desc, &p, &err) == FC_OK && p.n_positions == 4 &&
             p.n_windows == 3, "llama.cpp: %d: %s", (int)p.n_positions, err.msg);
    for (int i = 0; i < 2; i++)
        T_OK(each[i].n_positions == 2 && fabs(each[i].nll - want[i]) < 1e-6,
             "sequence %d: %.9g for %.9g", i, each[i].nll, want[i]);
    T_OK(each[2].n_positions == 0 && isnan(each[2].nll) && isnan(each[2].perplexity),
         "2 tokens have nothing to count");
    T_OK(fabs(p.nll - (want[0] + want[1]) / 2) < 1e-6, "the mean: %.9g", p.nll);
    const fc_tokens two = tokens_of(ids, starts + 2, 1);
    T_OK(fc_eval_sequences(m, &two, &desc, &p, &err) == FC_ERR_ARGUMENT &&
             strstr(err.msg, "at least 3 tokens"), "2 tokens: %s", err.msg);
    fc_model_close(m);
    tiny_end(&t);
}

static void test_not_finite(void) {
    tiny t;
    fc_error err;
    fc_perplexity p;
    uint32_t ids[] = {1, 2, 3, 4, 0};
    size_t starts[] = {0, 5};
    const fc_tokens text = tokens_of(ids, starts, 1);
    by_hand(&t);
    tiny_find(&t, "model.embed_tokens.weight")[3 * 4] = NAN;
    fc_model *m = tiny_open(&t, 0, 1, &err);
    T_OK(m && fc_eval_perplexity(m, &text, nothing, NULL, &p, &err) == FC_ERR_NUMERIC &&
             strstr(err.msg, "not finite"),
         "a NaN: %s", err.msg);
    fc_model_close(m);
    tiny_end(&t);
}

typedef struct watcher {
    int calls, stop_at;
    double done;
} watcher;

static int look(void *user, const fc_progress *p) {
    watcher *w = (watcher *)user;
    T_OK(strcmp(p->what, "evaluating") == 0 && p->done >= w->done && p->done <= 1 && !p->plan,
         "progress %s %g after %g", p->what, p->done, w->done);
    w->done = p->done;
    return ++w->calls == w->stop_at;
}

static void test_watch(void) {
    tiny t;
    fc_error err;
    fc_perplexity p;
    watcher w = {0, 0, 0};
    const fc_watch watch = {look, &w};
    uint32_t ids[] = {1, 2, 3, 4, 0};
    size_t starts[] = {0, 5};
    const fc_tokens text = tokens_of(ids, starts, 1);
    by_hand(&t);
    fc_model *m = tiny_open(&t, 0, 1, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    const long live = t.world.live;
    T_OK(fc_eval_perplexity(m, &text, NULL, &watch, &p, &err) == FC_OK && w.calls > 0 &&
             w.done > 0 && w.done < 1 && p.seconds >= 0 && p.seconds < 1000,
         "heard %d times, %g done first: %s", w.calls, w.done, err.msg);
    w.calls = 0;
    w.done = 0;
    w.stop_at = 1;
    T_OK(fc_eval_perplexity(m, &text, NULL, &watch, &p, &err) == FC_ERR_CANCELLED && w.calls == 1 &&
             t.world.live == live,
         "cancelled after %d, %ld left: %s", w.calls, t.world.live - live, err.msg);
    size_t single[] = {0, 1};
    const fc_tokens one = tokens_of(ids, single, 1);
    w.calls = 0;
    T_OK(fc_eval_perplexity(m, &one, NULL, &watch, &p, &err) == FC_ERR_ARGUMENT && w.calls == 0 &&
             t.world.live == live, "a single token is refused after %d: %s", w.calls, err.msg);
    w.calls = 0;
    w.done = 0; // without sublayers only the head reports
    T_OK(fc_eval_perplexity(m, &text, nothing, &watch, &p, &err) == FC_ERR_CANCELLED &&
             w.calls == 1 && t.world.live == live,
         "cancelled at the head after %d: %s", w.calls, err.msg);
    fc_model_close(m);
    T_OK(t.world.live == 0, "%ld left", t.world.live);
    tiny_end(&t);
}

// ---- logits in pieces

typedef struct rows {
    float *all;
    size_t n, vocab, most, calls, stop_at; // most: rows at a time
} rows;

static int take(void *user, const float *from, size_t n) {
    rows *r = (rows *)user;
    if (++r->calls == r->stop_at) return 1;
    memcpy(r->all + r->n * r->vocab, from, n * r->vocab * sizeof *from);
    r->n += n;
    if (n > r->most) r->most = n;
    return 0;
}

// Perplexity and logits are the same bits in little memory, where few rows of logits fit.
static void test_pieces(void) {
    enum { VOCAB = 400, N = 50 };
    tiny t;
    fc_error err;
    uint32_t ids[N];
    size_t starts[] = {0, 30, 31, N};
    const fc_tokens text = tokens_of(ids, starts, 3);
    char second[40] = "";
    fc_perplexity whole, p;
    rows a = {NULL, 0, VOCAB, 0, 0, 0}, b = a;
    tiny_llama(&t, 2, 16, 2, 1, VOCAB);
    a.all = (float *)calloc((size_t)N * VOCAB, sizeof(float));
    b.all = (float *)calloc((size_t)N * VOCAB, sizeof(float));
    for (uint32_t i = 0; i < N; i++) ids[i] = i * 37 % VOCAB;
    fc_model *m = tiny_open(&t, 1000, 1, &err);
    T_OK(m && fc_logits(m, &text, NULL, NULL, take, &a, &err) == FC_ERR_LIMIT && a.calls == 0,
         "1000 bytes: %s", err.msg);
    const char *says = strstr(err.msg, "at least ");
    const uint64_t least = says ? strtoull(says + 9, NULL, 10) : 0;
    fc_model_close(m);
    m = tiny_open(&t, 0, 1, &err);
    T_OK(m && fc_logits(m, &text, NULL, NULL, take, &a, &err) == FC_OK && a.n == N, "%s", err.msg);
    T_OK(fc_eval_perplexity(m, &text, NULL, NULL, &whole, &err) == FC_OK, "%s", err.msg);
    fc_model_close(m);
    for (int i = 0; i < 4 && least; i++) {
        /* perplexity keeps a number for each position */
        const uint64_t limit = least + N * sizeof(double) + (uint64_t)i * 7000;
        b.n = b.most = b.calls = 0;
        m = tiny_open(&t, limit, 1, &err);
        const size_t before = t.world.bytes;
        t.world.peak = before;
        T_OK(m && fc_logits(m, &text, NULL, NULL, take, &b, &err) == FC_OK && b.n == N, "%d: %s", i,
             err.msg);
        T_OK(t.world.peak - before <= limit, "%d: took %d of %d", i, (int)(t.world.peak - before),
             (int)limit);
        T_OK(memcmp(a.all, b.all, (size_t)N * VOCAB * sizeof(float)) == 0, "%d: other bits", i);
        T_OK(b.most >= 2 && b.most < a.most, "%d: %d rows at a time", i, (int)b.most);
        if (i == 0) snprintf(second, sizeof second, "position %d of sequence 0", (int)b.most);
        T_OK(fc_eval_perplexity(m, &text, NULL, NULL, &p, &err) == FC_OK && p.nll == whole.nll,
             "%d: %.17g for %.17g", i, p.nll, whole.nll);
        fc_model_close(m);
    }
    b.calls = b.n = 0;
    b.stop_at = 2;
    m = tiny_open(&t, least, 1, &err);
    const long live = t.world.live;
    fc_code code = m ? fc_logits(m, &text, NULL, NULL, take, &b, &err) : FC_OK;
    T_OK(code == FC_ERR_CANCELLED &&
         strstr(err.msg, second) && b.calls == 2 && t.world.live == live,
         "stopped after %d: %s", (int)b.calls, err.msg);
    fc_model_close(m);
    free(a.all);
    free(b.all);
    tiny_end(&t);
}

// Tokens that begin late in a long list: the same numbers in the same little memory.
static void test_late(void) {
    enum { VOCAB = 400, N = 50, LATE = 1000000 };
    tiny t;
    fc_error err;
    uint32_t *ids = (uint32_t *)calloc(LATE + N, sizeof *ids);
    size_t starts[2][3] = {{0, 30, N}, {LATE, LATE + 30, LATE + N}};
    static const uint8_t mask[] = {1, 0, 1, 1};
    fc_perplexity p[2], each[2][2];
    double distances[2][FC_METRIC_COUNT];
    rows r[2];
    tiny_llama(&t, 2, 16, 2, 1, VOCAB);
    tiny_random(&t, 0.5);
    fc_model *m = tiny_open(&t, 1 << 20, 1, &err);
    if (!T_OK(m && ids, "%s", err.msg)) exit(2);
    for (uint32_t i = 0; i < N; i++) ids[i] = ids[LATE + i] = i * 37 % VOCAB;
    for (int i = 0; i < 2; i++) {
        const fc_tokens text = tokens_of(ids, starts[i], 2);
        fc_eval_desc d;
        memset(&d, 0, sizeof d);
        d.each = each[i];
        memset(&r[i], 0, sizeof r[i]);
        r[i].vocab = VOCAB;
        r[i].all = (float *)calloc((size_t)N * VOCAB, sizeof(float));
        T_OK(fc_eval_sequences(m, &text, &d, &p[i], &err) == FC_OK, "%d: %s", i, err.msg);
        T_OK(fc_distances(m, &text, mask, NULL, distances[i], &err) == FC_OK, "%d: %s", i, err.msg);
        T_OK(fc_logits(m, &text, NULL, NULL, take, &r[i], &err) == FC_OK, "%d: %s", i, err.msg);
    }
    T_OK(p[0].nll == p[1].nll && p[0].nll > 0 && p[0].n_positions == p[1].n_positions &&
             each[0][1].nll == each[1][1].nll,
         "%.17g late, %.17g early", p[1].nll, p[0].nll);
    T_OK(!memcmp(distances[0], distances[1], sizeof *distances) && distances[0][0] > 0,
         "%.17g late, %.17g early", distances[1][0], distances[0][0]);
    T_OK(r[0].n == N && !memcmp(r[0].all, r[1].all, (size_t)N * VOCAB * sizeof(float)),
         "other logits");
    for (int i = 0; i < 2; i++) free(r[i].all);
    free(ids);
    fc_model_close(m);
    tiny_end(&t);
}

// ---- texts

static void check_windows(const fc_tokens *text, uint32_t length, const char *want) {
    fc_tokens out;
    fc_error err;
    char got[256] = "";
    if (!T_OK(fc_tokens_windows(text, length, &out, &err) == FC_OK, "windows of %u: %s", length,
              err.msg))
        return;
    for (size_t i = 0; i < out.n_sequences; i++) {
        for (size_t k = out.starts[i]; k < out.starts[i + 1]; k++)
            snprintf(got + strlen(got), sizeof got - strlen(got), "%u ", out.ids[k]);
        strcat(got, "/ ");
    }
    T_OK(strcmp(got, want) == 0, "windows of %u: expected %s, got %s", length, want, got);
    fc_tokens_free(&out);
    T_OK(!out.ids && !out.starts && out.n_sequences == 0, "freed tokens are zeroed");
}

static void test_windows(void) {
    uint32_t ids[] = {5, 6, 7, 8, 9, 10, 11};
    size_t whole[] = {0, 7}, several[] = {0, 3, 7}, part[] = {2, 6};
    const fc_tokens a = tokens_of(ids, whole, 1), b = tokens_of(ids, several, 2),
                    c = tokens_of(ids, part, 1);
    check_windows(&a, 1, "5 / 6 / 7 / 8 / 9 / 10 / 11 / ");
    check_windows(&a, 3, "5 6 7 / 8 9 10 / ");
    check_windows(&a, 7, "5 6 7 8 9 10 11 / ");
    check_windows(&a, 8, "5 6 7 8 9 10 11 / ");
    check_windows(&b, 5, "5 6 7 8 9 / "); // of all its sequences together
    check_windows(&c, 3, "7 8 9 / ");
}

// By llama.cpp's protocol a bos, where the tokenizer has one, begins every window.
static void check_eval_windows(const fc_tokenizer *t, const char *text, fc_protocol protocol,
                               const char *want) {
    fc_tokens out;
    fc_error err;
    char got[600] = "";
    const fc_code code = fc_eval_windows(t, text, strlen(text), protocol, 3, &out, &err);
    if (code) snprintf(got, sizeof got, "%s", err.msg);
    for (size_t i = 0; !code && i < out.n_sequences; i++) {
        for (size_t k = out.starts[i]; k < out.starts[i + 1]; k++)
            snprintf(got + strlen(got), sizeof got - strlen(got), "%u ", out.ids[k]);
        strcat(got, "/ ");
    }
    T_OK(code ? strstr(got, want) != NULL : strcmp(got, want) == 0,
         "\"%s\" by %s: expected %s, got %s", text, fc_protocol_name(protocol), want, got);
    fc_tokens_free(&out);
}

static void test_eval_windows(void) {
#define VOCAB "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"single_word\":false,"            \
    "\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}],"                   \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"<s>\":0,\"a\":1,\"b\":2,\"c\":3,\"\xc4\x8a\":4},"    \
    "\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"         \
    "\"trim_offsets\":true,\"use_regex\":false},"                                                  \
    "\"decoder\":{\"type\":\"ByteLevel\"},\"post_processor\":"
#define TEMPLATE(parts) "{\"type\":\"TemplateProcessing\",\"single\":[" parts "],\"pair\":[],"     \
    "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[0],\"tokens\":[\"<s>\"]}}}}"
#define BOS "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}"
#define TEXT "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"
    static const char *const json[] = {VOCAB "null}", VOCAB TEMPLATE(BOS "," TEXT),
                                       VOCAB TEMPLATE(TEXT "," BOS)};
    fc_error err;
    fc_tokenizer *t[3];
    for (int i = 0; i < 3; i++) {
        const fc_memory_file file = {"tokenizer.json", json[i], strlen(json[i])};
        t[i] = fc_tokenizer_open_memory(&file, 1, NULL, &err);
        if (!T_OK(t[i] != NULL, "%s", err.msg)) return;
    }
    check_eval_windows(t[0], "abcabca\n", FC_PROTOCOL_ALL, "1 2 3 / 1 2 3 / ");
    check_eval_windows(t[0], "ab", FC_PROTOCOL_ALL, "1 2 / ");
    check_eval_windows(t[0], "\xef\xbb\xbf""ab", FC_PROTOCOL_ALL, "1 2 / ");
    check_eval_windows(t[0], "\xef\xbb\xbf""ab\xff", FC_PROTOCOL_ALL, "text: byte 5: expected");
    check_eval_windows(t[0], "abcab\n", FC_PROTOCOL_ALL, "1 2 3 / 1 2 4 / ");
    check_eval_windows(t[0], "abcabca\n", FC_PROTOCOL_LLAMA_CPP, "1 2 3 / 1 2 3 / ");
    check_eval_windows(t[0], "abcab\n\n", FC_PROTOCOL_LLAMA_CPP, "1 2 3 / 1 2 4 / ");
    check_eval_windows(t[0], "abcab\n", FC_PROTOCOL_LLAMA_CPP, "at least 2 windows of 3 tokens");
    check_eval_windows(t[1], "abcabcabc", FC_PROTOCOL_ALL, "0 1 2 / 3 1 2 / 3 1 2 / ");
    check_eval_windows(t[1], "abcabcabc", FC_PROTOCOL_LLAMA_CPP, "0 1 2 / 0 1 2 / 0 1 2 / ");
    check_eval_windows(t[2], "abcabc", FC_PROTOCOL_ALL, "1 2 3 / 1 2 3 / ");
    check_eval_windows(t[2], "abcabc", FC_PROTOCOL_LLAMA_CPP, "adds nothing after a text");
    for (int i = 0; i < 3; i++) fc_tokenizer_close(t[i]);
}

// The calibration text is the lines, without a byte order mark, joined by one blank, cut into whole
// sequences from the start.
static void test_calibration(void) {
    static const char lines[] =
        "\xef\xbb\xbfIn the beginning\r\n\n\r\nGod created\nthe heaven and the earth.\n",
                      joined[] = "In the beginning God created the heaven and the earth.";
    fc_error err;
    fc_tokens all, cut;
    fc_model *m = open_model("examples/demo", 1);
    const fc_tokenizer *t = m ? fc_model_tokenizer(m, &err) : NULL;
    if (!T_OK(t && fc_tokenize(t, joined, sizeof joined - 1, FINERCUT_TOKENIZE_SPECIAL, &all,
                               &err) == FC_OK,
              "%s", err.msg))
        return;
    const size_t n = all.starts[1];
    for (uint32_t length = 1; length <= n + 1; length++)
        for (uint32_t samples = 1; samples <= 4; samples++) {
            const size_t each = length < n ? length : n, most = n / each,
                         count = samples < most ? samples : most;
            bool same = fc_calibration_cut(t, lines, sizeof lines - 1, samples, length, &cut,
                                           &err) == FC_OK &&
                        cut.n_sequences == count && cut.starts[count] == count * each;
            for (size_t i = 0; same && i < count; i++) same = cut.starts[i] == i * each;
            T_OK(same && memcmp(cut.ids, all.ids, count * each * sizeof *cut.ids) == 0,
                 "%u of %u tokens: %s", samples, length, err.msg);
            fc_tokens_free(&cut);
        }
    for (size_t most = 0; most <= n; most++) { // no more is tokenised than is wanted
        const bool some = fci_tokenizer_some(t, joined, sizeof joined - 1,
                                             FINERCUT_TOKENIZE_SPECIAL, most, &cut,
                                             &err) == FC_OK;
        T_OK(some && cut.starts[1] >= most && cut.starts[1] < most + 8 &&
                 memcmp(cut.ids, all.ids, most * sizeof *cut.ids) == 0,
             "the first %u: %u: %s", (unsigned)most, (unsigned)(some ? cut.starts[1] : 0), err.msg);
        if (some) fc_tokens_free(&cut);
    }
    fc_tokens_free(&all);
    if (T_OK(fc_tokenize(t, "a b\r", 4, FINERCUT_TOKENIZE_SPECIAL, &all, &err) == FC_OK &&
                 fc_calibration_cut(t, "a\r\nb\r", 5, 1, 64, &cut, &err) == FC_OK,
             "%s", err.msg)) {
        T_OK(cut.starts[1] == all.starts[1] &&
                 memcmp(cut.ids, all.ids, all.starts[1] * sizeof *all.ids) == 0,
             "a carriage return is part of a line's end before a newline only");
        fc_tokens_free(&cut);
        fc_tokens_free(&all);
    }
    T_OK(fc_calibration_cut(t, "\xef\xbb\xbf""a\r\n\n\nb\xff", 10, 1, 1, &cut, &err) ==
                 FC_ERR_FORMAT && strstr(err.msg, "text: byte 9: expected UTF-8"),
         "a byte of the text as it is: %s", err.msg);
    fc_model_close(m);
}

static void test_parse(void) {
    static const char good[] = "\xef\xbb\xbf[[1, 2, 3], [4]]"; // as editors may begin it
    static const char *const bad[] = {"",        "[]",     "[1, 2]",         "[[1], []]",
                                      "[[1.5]]", "[[-1]]", "[[4294967296]]", "[[\"1\"]]",
                                      "{}",      "[[1]",   "[[1]] x"};
    fc_tokens t;
    fc_error err;
    T_OK(fc_tokens_parse_json(good, strlen(good), NULL, &t, &err) == FC_OK && t.n_sequences == 2 &&
             t.starts[1] == 3 && t.starts[2] == 4 && t.ids[3] == 4,
         "parse: %s", err.msg);
    T_OK(fci_tokens_hash(&t) == 0x80fe13eccc99e643, "plans have this hash of tokens: %016llx",
         (unsigned long long)fci_tokens_hash(&t));
    fc_tokens_free(&t);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        T_OK(fc_tokens_parse_json(bad[i], strlen(bad[i]), NULL, &t, &err) == FC_ERR_FORMAT &&
                 !t.ids && err.msg[0],
             "tokens %s must be refused", bad[i]);
}

// ---- speed

#define ASK(...) &(fc_speed_desc){__VA_ARGS__}
#define PRODUCT(M, N, K, W, type_) &(fc_product){.m = M, .n = N, .k = K, .w = W, .type = type_}

static void check_bytes(const char *what, const fc_speed *s, double want) {
    T_OK(s->bytes == want, "%s: expected %.10g bytes, got %.10g", what, want, s->bytes);
}

// One token reads the output matrix, its attentions, routers, and of 4 experts the 2 that it
// chooses; many read all. hidden 24, expert 24, 4 heads of 6 on 2, vocabulary 70, 2 blocks:
// output 70 * 24, attention (24 + 12 + 12 + 24) * 24, router 4 * 24, an expert 3 * 24 * 24.
static void test_expert_bytes(const char *path) {
    enum {
        OUTPUT = 2 * 70 * 24,
        ATTENTION = 2 * 72 * 24,
        ROUTER = 2 * 4 * 24,
        EXPERT = 2 * 3 * 24 * 24
    };
    static const uint8_t no_ffn[] = {1, 0, 1, 1}, no_attention[] = {0, 1, 0, 1};
    fc_speed s;
    fc_error err;
    fc_model *m = open_model(path, 1);
    if (!m) return;
    const double one = ROUTER + 2 * EXPERT, all = ROUTER + 4 * EXPERT;
    T_OK(fc_speed_generate(m, ASK(.tokens = 3, .repeat = 1), &s, &err) == FC_OK, "%s", err.msg);
    check_bytes(path, &s, 3 * (OUTPUT + 2 * (ATTENTION + one)));
    T_OK(fc_speed_generate(m, ASK(.mask = no_ffn, .tokens = 3, .repeat = 1), &s, &err) == FC_OK,
         "%s", err.msg);
    check_bytes("without an FFN", &s, 3 * (OUTPUT + 2 * ATTENTION + one));
    T_OK(fc_speed_generate(m, ASK(.mask = no_attention, .tokens = 3, .repeat = 1),
                           &s, &err) == FC_OK, "%s", err.msg);
    check_bytes("without attentions", &s, 3 * (OUTPUT + 2 * one));
    T_OK(fc_speed_prompt(m, ASK(.tokens = 1, .repeat = 1), &s, &err) == FC_OK, "%s", err.msg);
    check_bytes("a prompt of one token", &s, OUTPUT + 2 * (ATTENTION + one));
    T_OK(fc_speed_prompt(m, ASK(.tokens = 8, .sequences = 2, .all_logits = 1, .repeat = 1),
                         &s, &err) == FC_OK, "%s", err.msg);
    check_bytes("a prompt of 8", &s, OUTPUT + 2 * (ATTENTION + all));
    fc_model_close(m);
}

// Block 0 has 4 experts of 16 and a router, block 1 is dense, of 40; heads of 8.
static void test_mixed_bytes(void) {
    fc_speed s;
    fc_error err;
    fc_model *m = open_model(DATA "qwen3_moe", 1);
    if (!m) return;
    const double output = 2 * 70 * 24, attention = 2 * (32 + 16 + 16 + 32) * 24,
                 router = 2 * 4 * 24, expert = 2 * 3 * 16 * 24, dense = 2 * 3 * 40 * 24;
    T_OK(fc_speed_generate(m, ASK(.tokens = 1, .repeat = 1), &s, &err) == FC_OK, "%s", err.msg);
    check_bytes("experts and dense", &s, output + 2 * attention + router + 2 * expert + dense);
    fc_model_close(m);
}

// Matrices that are stored transposed, q, k and v in one.
static void test_transposed_bytes(void) {
    fc_speed s;
    fc_error err;
    fc_model *m = open_model(DATA "gpt2", 1);
    if (!m) return;
    T_OK(fc_speed_generate(m, ASK(.tokens = 1, .repeat = 1), &s, &err) == FC_OK, "%s", err.msg);
    check_bytes("gpt2", &s, 2 * (70 * 24 + 3 * 12 * 24 * 24));
    fc_model_close(m);
}

static void test_speed(void) {
    fc_speed s;
    fc_error err;
    const uint8_t mask[6] = {1, 1, 0, 1, 1, 0};
    float w[64 * 5];
    fc_model *m = open_model(DATA "llama_f16_sharded", 2);
    if (!m) return;
    const fc_config *c = fc_model_config(m);
    const double head = 2.0 * c->hidden_size * c->vocab_size,
                 attention = 2.0 * c->hidden_size * c->head_dim * 2 * (c->n_heads + c->n_kv_heads),
                 ffn = 2.0 * 3 * c->hidden_size * c->intermediate_size;
    for (int all = 0; all <= 1; all++) {
        T_OK(fc_speed_prompt(m, ASK(.tokens = 20, .sequences = 3, .all_logits = all, .repeat = 2),
                             &s, &err) == FC_OK && s.work == 60 &&
                 s.per_second > 0 && s.seconds > 0,
             "%s", err.msg);
        check_bytes("a prompt", &s, head + c->n_blocks * (attention + ffn));
        T_OK(fc_speed_prompt(m, ASK(.mask = mask, .tokens = 20, .sequences = 3,
                                    .all_logits = all, .repeat = 2),
                             &s, &err) == FC_OK, "pruned: %s", err.msg);
        check_bytes("a prompt, pruned", &s, head + (c->n_blocks - 1) * (attention + ffn));
    }
    T_OK(fc_speed_prompt(m, ASK(.tokens = 200, .repeat = 1), &s, &err) == FC_ERR_ARGUMENT,
         "more than the model's positions: %s", err.msg);
    T_OK(fc_speed_prompt(m, ASK(.tokens = 1u << 13, .sequences = 1u << 12, .repeat = 1),
                         &s, &err) == FC_ERR_LIMIT,
         "far too much: %s", err.msg);
    T_OK(fc_speed_generate(m, ASK(.tokens = 10, .repeat = 1),
                           &s, &err) == FC_OK && s.work == 10 && s.per_second > 0,
         "%s", err.msg);
    check_bytes("10 tokens", &s, 10 * (head + c->n_blocks * (attention + ffn)));
    T_OK(fc_speed_generate(m, ASK(.tokens = 128, .repeat = 1), &s, &err) == FC_ERR_ARGUMENT,
         "more than the model's positions: %s", err.msg);
    memset(w, 0, sizeof w);
    T_OK(fc_speed_matmul(m, PRODUCT(7, 5, 64, w, FC_DTYPE_F32), ASK(.repeat = 3),
                         &s, &err) == FC_OK &&
             s.work == 2 * 7 * 64 * 5 && s.bytes == sizeof w,
         "%s", err.msg);
    T_OK(fc_speed_matmul(m, PRODUCT(7, 5, 60, w, FC_DTYPE_Q8_0), ASK(.repeat = 3),
                         &s, &err) == FC_ERR_ARGUMENT,
         "not a multiple of the block: %s", err.msg);
    T_OK(fc_speed_matmul(m, PRODUCT(7, 5, 60, w, FC_DTYPE_I32), ASK(.repeat = 3),
                         &s, &err) == FC_ERR_UNSUPPORTED,
         "no weights: %s", err.msg);
    fc_model_close(m);
}

// Every allocation of the loops fails once.
static void test_speed_memory(void) {
    tiny t;
    fc_error err;
    fc_speed s;
    float w[16];
    memset(w, 0, sizeof w);
    tiny_llama(&t, 1, 8, 2, 1, 20);
    fc_model *m = tiny_open(&t, 0, 1, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    const long live = t.world.live;
    for (int what = 0; what < 4; what++)
        for (long n = 1;; n++) {
            t.world.allocs = 0;
            t.world.fail_alloc = n;
            fc_code code = FC_OK;
            if (what < 2)
                code = fc_speed_prompt(
                    m, ASK(.tokens = 4, .sequences = 2, .all_logits = what, .repeat = 1), &s, &err);
            else if (what == 2)
                code = fc_speed_generate(m, ASK(.tokens = 4, .repeat = 1), &s, &err);
            else
                code = fc_speed_matmul(m, PRODUCT(2, 4, 4, w, FC_DTYPE_F32), ASK(.repeat = 1), &s,
                                       &err);
            T_OK(code == (t.world.allocs < n ? FC_OK : FC_ERR_MEMORY) && t.world.live == live,
                 "%d: allocation %ld: %s, %ld left", what, n, fc_code_name(code),
                 t.world.live - live);
            if (t.world.allocs < n || n > 200) break;
        }
    t.world.fail_alloc = 0;
    fc_model_close(m);
    m = tiny_open(&t, 10, 1, &err);
    T_OK(m && fc_speed_matmul(m, PRODUCT(2, 4, 4, w, FC_DTYPE_F32), ASK(.repeat = 1),
                              &s, &err) == FC_ERR_LIMIT,
         "10 bytes: %s", err.msg);
    fc_model_close(m);
    tiny_end(&t);
}

int main(void) {
    test_by_hand();
    test_protocols();
    test_not_finite();
    test_watch();
    test_pieces();
    test_late();
    test_windows();
    test_eval_windows();
    test_calibration();
    test_parse();
    test_expert_bytes(DATA "mixtral");
    test_expert_bytes(DATA "mixtral.gguf"); // where experts are one tensor
    test_mixed_bytes();
    test_transposed_bytes();
    test_speed();
    test_speed_memory();
    return t_end("evaluate");
}
