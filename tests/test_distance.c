// Distances: of two rows of logits, for every metric and kernel table, against plain double
// arithmetic; of many positions through the engine, however little of the original's output is
// kept; ties.
#include "private.h"
#include "memory.h"
#include "t.h"
#include "engine.h"
#include "tiny.h"

#define PI 3.14159265358979323846

static uint64_t seed = 88172645463325252u;

static double uniform(void) { // in [-1, 1)
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (double)(seed >> 11) / 4503599627370496.0 - 1;
}

// ---- two rows

static double log_sum(const float *z, size_t n) {
    double most = (double)z[0], sum = 0;
    for (size_t i = 1; i < n; i++) most = fmax(most, (double)z[i]);
    for (size_t i = 0; i < n; i++) sum += exp((double)z[i] - most);
    return most + log(sum);
}

static double divergence(fc_metric metric, const float *p, const float *q, size_t n) {
    const double lp = log_sum(p, n), lq = log_sum(q, n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double a = (double)p[i] - lp, b = (double)q[i] - lq, hi = fmax(a, b);
        const double m =
            hi + log1p(exp(fmin(a, b) - hi)) - log(2); // of the two probabilities' mean
        if (metric == FC_METRIC_JS) sum += (exp(a) * (a - m) + exp(b) * (b - m)) / 2;
        else if (metric == FC_METRIC_KL) sum += exp(a) * (a - b);
        else sum += exp(m) * (m - (a + b) / 2);
    }
    return sum;
}

// The angle of two rows by the lengths of the sum and the difference of their directions.
static double angle(const float *p, const float *q, size_t n) {
    double pp = 0, qq = 0, minus = 0, plus = 0;
    for (size_t i = 0; i < n; i++) {
        pp += (double)p[i] * (double)p[i];
        qq += (double)q[i] * (double)q[i];
    }
    if (!(pp > 0) || !(qq > 0)) return PI / 2;
    for (size_t i = 0; i < n; i++) {
        const double u = (double)p[i] / sqrt(pp), v = (double)q[i] / sqrt(qq);
        minus += (u - v) * (u - v);
        plus += (u + v) * (u + v);
    }
    return 2 * atan2(sqrt(minus), sqrt(plus));
}

static double plain(fc_metric metric, const float *p, const float *q, uint32_t label, size_t n) {
    double sum = 0;
    if (metric == FC_METRIC_NLL) return log_sum(q, n) - (double)q[label];
    if (metric == FC_METRIC_ANGULAR) return angle(p, q, n);
    if (metric != FC_METRIC_EUCLIDEAN) return divergence(metric, p, q, n);
    for (size_t i = 0; i < n; i++)
        sum += ((double)p[i] - (double)q[i]) * ((double)p[i] - (double)q[i]);
    return sum;
}

static bool close_to(double got, double want) {
    return fabs(got - want) <= 2e-5 * fabs(want) + 1e-12;
}

static void check_pair(fc_simd simd, const float *p, const float *q, size_t n, const char *what) {
    const uint32_t label = (uint32_t)(n * 2 / 3);
    for (int k = 0; k < FC_METRIC_COUNT; k++) {
        const fc_metric metric = (fc_metric)k;
        const double want = plain(metric, p, q, label, n),
                     got = fc_distance(metric, p, q, label, n, simd);
        T_OK(close_to(got, want) || (metric == FC_METRIC_NLL && fabs(got - want) < 1e-7),
             "%s %s, %s, %d logits: expected %.12g, got %.12g", fc_simd_name(simd),
             fc_metric_name(metric), what, (int)n, want, got);
        if (metric == FC_METRIC_NLL) continue;
        const double none = fc_distance(metric, p, p, label, n, simd),
                     back = fc_distance(metric, q, p, label, n, simd);
        T_OK(none == 0 || (metric == FC_METRIC_ANGULAR && !(angle(p, p, n) < 1)),
             "%s: %g between equal rows of %d", fc_metric_name(metric), none, (int)n);
        if (metric != FC_METRIC_KL)
            T_OK(close_to(back, got), "%s: %g there, %g back", fc_metric_name(metric), got, back);
    }
}

static void test_rows(fc_simd simd) {
    static const size_t sizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 100, 1009};
    static const double apart[] = {1e-3, 0.1, 1, 20};
    static float p[1009], q[1009];
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t a = 0; a < sizeof apart / sizeof *apart; a++) {
            for (size_t i = 0; i < sizes[s]; i++) {
                p[i] = (float)(6 * uniform());
                q[i] = (float)((double)p[i] + apart[a] * uniform());
            }
            check_pair(simd, p, q, sizes[s], "apart");
            for (size_t i = 0; i < sizes[s]; i++) q[i] = -(float)apart[a] * p[i];
            check_pair(simd, p, q, sizes[s], "opposite");
        }
}

static void test_special(fc_simd simd) {
    enum { N = 19 };
    float x[N], y[N], zero[N], minus[N];
    for (size_t i = 0; i < N; i++) {
        zero[i] = 0;
        x[i] = i % 2 ? 3 : 0;
        y[i] = i % 2 ? 0 : -2;
        minus[i] = -x[i];
    }
    check_pair(simd, x, y, N, "at right angles");
    check_pair(simd, x, minus, N, "opposite");
    check_pair(simd, x, zero, N, "and nothing");
    check_pair(simd, zero, zero, N, "nothing");
    T_OK(close_to(fc_distance(FC_METRIC_ANGULAR, x, y, 0, N, simd), PI / 2) &&
             close_to(fc_distance(FC_METRIC_ANGULAR, x, minus, 0, N, simd), PI),
         "right and straight angles");
    for (size_t i = 0; i < N; i++) x[i] = i == 4 ? 80 : -80, y[i] = i == 5 ? 80 : -80;
    check_pair(simd, x, y, N, "sure of different tokens");
    T_OK(fabs(fc_distance(FC_METRIC_JS, x, y, 0, N, simd) - log(2)) < 1e-6, "js is at most log 2");
    T_OK(close_to(fc_distance(FC_METRIC_NLL, zero, zero, 3, N, simd), log(N)),
         "nll of equal logits");
}

// What is not a number anywhere in either row stays so; nll does not look at the original's.
static void test_nan(fc_simd simd) {
    static const size_t sizes[] = {1, 5, 16, 17, 40};
    float p[40], q[40];
    for (size_t s = 0; s < 5; s++)
        for (size_t at = 0; at < sizes[s]; at++)
            for (int k = 0; k < 2 * FC_METRIC_COUNT; k++) {
                const fc_metric metric = (fc_metric)(k / 2);
                for (size_t i = 0; i < sizes[s]; i++) p[i] = q[i] = (float)i / 8;
                (k % 2 ? p : q)[at] = NAN;
                const double v = fc_distance(metric, p, q, 0, sizes[s], simd);
                T_OK(isnan(v) == !(metric == FC_METRIC_NLL && k % 2),
                     "%s %s: a NaN at %d of %d in %s: %g", fc_simd_name(simd),
                     fc_metric_name(metric), (int)at, (int)sizes[s], k % 2 ? "p" : "q", v);
                (k % 2 ? p : q)[at] = INFINITY;
                T_OK(!isfinite(fc_distance(metric, p, q, at ? 0 : (uint32_t)sizes[s] - 1, sizes[s],
                                           simd)) ||
                         (metric == FC_METRIC_NLL && (k % 2 || sizes[s] == 1)),
                     "%s %s: an infinity at %d of %d", fc_simd_name(simd), fc_metric_name(metric),
                     (int)at, (int)sizes[s]);
            }
}

static void test_divisors(void) {
    size_t starts[] = {3, 8, 9, 20};
    fc_tokens t;
    memset(&t, 0, sizeof t);
    t.starts = starts;
    t.n_sequences = 3;
    const double want[FC_METRIC_COUNT] = {
        17, 17, 3, 17 * 50, 17, 14}; // positions, sequences, positions x logits, labels
    for (int k = 0; k < FC_METRIC_COUNT; k++)
        T_OK(fci_distance_divisor(&fci_distance_rows[k], &t, 50) == want[k], "%s: %g",
             fc_metric_name((fc_metric)k), fci_distance_divisor(&fci_distance_rows[k], &t, 50));
}

// ---- many positions

enum { VOCAB = 40, HIDDEN = 16, N = 30 };

typedef struct world {
    tiny t;
    fc_model *m;
    uint32_t ids[N];
    size_t starts[4];
    fc_tokens tokens;
    float original[N * HIDDEN], pruned[2][N * HIDDEN]; // at the head's entrance
    float p[N * VOCAB], q[2][N * VOCAB];               // logits
} world;

static int keep_rows(void *user, const float *rows, size_t n) {
    float **to = (float **)user;
    memcpy(*to, rows, n * VOCAB * sizeof *rows);
    *to += n * VOCAB;
    return 0;
}

// The rows at the head's entrance and the logits of the whole model and of two pruned ones.
static void run(world *w, const uint8_t *mask, float *x, float *logits) {
    fci_engine e;
    fc_error err;
    fci_lane lane;
    T_OK(fc_logits(w->m, &w->tokens, mask, NULL, keep_rows, &logits, &err) == FC_OK, "%s", err.msg);
    T_OK(open_engine(&e, w->m, N, N, 0, &err) == FC_OK, "%s", err.msg);
    for (size_t i = 0; i < 3; i++) {
        memset(&lane, 0, sizeof lane);
        lane.ids = w->ids + w->starts[i];
        lane.length = (uint32_t)(w->starts[i + 1] - w->starts[i]);
        T_OK(fci_wave_run(&e, &lane, 1, mask, &err) == FC_OK, "%s", err.msg);
        memcpy(x + w->starts[i] * HIDDEN, e.x, lane.length * HIDDEN * sizeof *x);
    }
    fci_engine_close(&e);
}

static bool world_begin(world *w) {
    static const uint8_t masks[3][4] = {{1, 1, 1, 1}, {1, 0, 1, 1}, {1, 1, 0, 1}};
    fc_error err;
    memset(w, 0, sizeof *w);
    tiny_llama(&w->t, 2, HIDDEN, 2, 2, VOCAB);
    w->m = tiny_open(&w->t, 0, 2, &err);
    if (!T_OK(w->m != NULL, "%s", err.msg)) return false;
    for (uint32_t i = 0; i < N; i++) w->ids[i] = i * 17 % VOCAB;
    w->starts[1] = 11;
    w->starts[2] = 12;
    w->starts[3] = N;
    w->tokens.ids = w->ids;
    w->tokens.starts = w->starts;
    w->tokens.n_sequences = 3;
    run(w, masks[0], w->original, w->p);
    run(w, masks[1], w->pruned[0], w->q[0]);
    run(w, masks[2], w->pruned[1], w->q[1]);
    return true;
}

static void world_end(world *w) {
    fc_model_close(w->m);
    T_OK(w->t.world.live == 0, "%ld left", w->t.world.live);
    tiny_end(&w->t);
}

// All positions of both pruned models, in an order that mixes them, with so much room for the
// original's outputs, so many rows at a time, and perhaps others kept than the first.
static void measure(world *w, fc_metric metric, size_t kept, size_t rows, bool other,
                    double *values) {
    fci_engine e;
    fci_reference r;
    fc_error err;
    fci_item items[2 * N];
    uint32_t order[N];
    uint8_t wanted[N];
    memset(&r, 0, sizeof r);
    for (uint32_t i = 0; i < N; i++) order[i] = i * 7 % N;
    for (uint32_t i = 0; i < 2 * N; i++) {
        const uint32_t at = i * 13 % (2 * N);
        memset(&items[i], 0, sizeof items[i]);
        items[i].x = w->pruned[at / N] + at % N * HIDDEN;
        items[i].position = at % N;
        items[i].value = &values[at];
        values[at] = -1;
    }
    fc_code code = open_engine(&e, w->m, N, rows, 0, &err);
    if (!code) code = fci_reference_init(&e, &r, metric, &w->tokens, kept, &err);
    if (!code) code = fci_triangle_factor(&e, &r.triangle, &err);
    if (!code && r.batch > rows) r.batch = rows;
    if (!code) memcpy(r.rows, w->original, sizeof w->original);
    if (!code) code = fci_reference_finish(&e, &r, &err);
    if (!code && other) code = fci_reference_keep(&e, &r, order, wanted, &err);
    for (uint32_t i = 0; !code && other && i < r.n_kept; i++)
        T_OK(r.slots[order[i]] < r.n_kept && r.owners[r.slots[order[i]]] == order[i],
             "position %u is kept", order[i]);
    if (!code) code = fci_reference_items(&e, &r, items, 2 * N, false, &err);
    T_OK(code == FC_OK, "%s: %s", fc_metric_name(metric), err.msg);
    fci_reference_free(w->m, &r);
    fci_engine_close(&e);
}

static void test_items(world *w) {
    static const size_t kept[] = {0, 1, 7, N - 1, N}, batches[] = {2, 3, 16, N};
    double all[2 * N], some[2 * N];
    for (int k = 0; k < FC_METRIC_COUNT; k++) {
        const fc_metric metric = (fc_metric)k;
        measure(w, metric, (size_t)1 << 20, 2 * N, false, all);
        size_t bad = 0;
        for (size_t i = 0; i < 2 * N; i++) { // the last position's next token is whatever follows
            const size_t at = i % N;
            const uint32_t label = w->ids[at + 1 < N ? at + 1 : at];
            bad += !close_to(
                all[i], plain(metric, w->p + at * VOCAB, w->q[i / N] + at * VOCAB, label, VOCAB));
        }
        T_OK(bad == 0, "%s: %d of %d positions are off", fc_metric_name(metric), (int)bad, 2 * N);
        const size_t width = fci_reference_width(w->m, metric) * sizeof(float);
        for (size_t i = 0; i < 5; i++)
            for (size_t b = 0; b < 4; b++) {
                measure(w, metric, kept[i] * width, batches[b], (i + b) % 2 != 0, some);
                T_OK(memcmp(all, some, sizeof all) == 0, "%s: %d kept, %d at a time: other bits",
                     fc_metric_name(metric), (int)kept[i], (int)batches[b]);
            }
    }
}

// An original that is not finite is refused; a pruned output that is not gives no number.
static void test_not_finite(world *w) {
    float good = w->original[5 * HIDDEN], pruned = w->pruned[1][20 * HIDDEN];
    double values[2 * N];
    fci_engine e;
    fci_reference r;
    fc_error err;
    for (int k = 0; k < FC_METRIC_COUNT; k++) {
        w->pruned[1][20 * HIDDEN] = NAN;
        measure(w, (fc_metric)k, 0, N, false, values);
        size_t bad = 0;
        for (size_t i = 0; i < 2 * N; i++) bad += isnan(values[i]) != (i == N + 20);
        T_OK(bad == 0, "%s: a NaN at position 20 of the second", fc_metric_name((fc_metric)k));
        w->pruned[1][20 * HIDDEN] = pruned;
        w->original[5 * HIDDEN] = NAN;
        memset(&r, 0, sizeof r);
        fc_code code = open_engine(&e, w->m, N, N, 0, &err);
        if (!code) code = fci_reference_init(&e, &r, (fc_metric)k, &w->tokens, 0, &err);
        if (!code) code = fci_triangle_factor(&e, &r.triangle, &err);
        memcpy(r.rows, w->original, sizeof w->original);
        if (!code) code = fci_reference_finish(&e, &r, &err);
        T_OK(code == FC_ERR_NUMERIC && strstr(err.msg, "position 5 of the text"), "%s: %s",
             fc_metric_name((fc_metric)k), err.msg);
        fci_reference_free(w->m, &r);
        fci_engine_close(&e);
        w->original[5 * HIDDEN] = good;
    }
}

// Output weights that are not finite are refused by every metric, which R alone would hide.
static void test_weights_not_finite(world *w) {
    const float values[] = {NAN, INFINITY};
    char *at = (char *)(uintptr_t)fci_matrix_row(&w->m->output, 3), kept[4];
    fci_engine e;
    fci_reference r;
    fc_error err;
    memcpy(kept, at, 4);
    for (int k = 0; k < 2 * FC_METRIC_COUNT; k++) {
        fci_number_encode(FC_DTYPE_F32, &values[k % 2], 1, at);
        memset(&r, 0, sizeof r);
        fc_code code = open_engine(&e, w->m, N, N, 0, &err);
        if (!code) code = fci_reference_init(&e, &r, (fc_metric)(k / 2), &w->tokens, 0, &err);
        if (!code) code = fci_triangle_factor(&e, &r.triangle, &err);
        memcpy(r.rows, w->original, sizeof w->original);
        if (!code) code = fci_reference_finish(&e, &r, &err);
        T_OK(code == FC_ERR_NUMERIC && strstr(err.msg, "not finite"), "%s: %s",
             fc_metric_name((fc_metric)(k / 2)), err.msg);
        fci_reference_free(w->m, &r);
        fci_engine_close(&e);
    }
    memcpy(at, kept, 4);
}

static int stop(void *user, double units) {
    (void)units;
    return --*(int *)user < 0;
}

// Each call of the engine's tick can be the last.
static void test_cancelled(world *w, fc_metric metric) {
    for (int n = 0;; n++) {
        int left = n;
        fci_engine e;
        fci_reference r;
        fc_error err;
        double value = 0;
        fci_item item = {w->pruned[0], 3, &value, NULL, NULL};
        memset(&r, 0, sizeof r);
        fc_code code = open_engine(&e, w->m, N, N, 0, &err);
        e.tick = stop;
        e.tick_user = &left;
        if (!code) code = fci_reference_init(&e, &r, metric, &w->tokens, 0, &err);
        if (!code) code = fci_triangle_factor(&e, &r.triangle, &err);
        if (!code) memcpy(r.rows, w->original, sizeof w->original);
        if (!code) code = fci_reference_finish(&e, &r, &err);
        if (!code) code = fci_reference_items(&e, &r, &item, 1, false, &err);
        T_OK(code == (left < 0 ? FC_ERR_CANCELLED : FC_OK), "%s: %d ticks: %s",
             fc_metric_name(metric), n, err.msg);
        fci_reference_free(w->m, &r);
        fci_engine_close(&e);
        if (left >= 0 || n > 100) {
            T_OK(n >= 2 && n < 100, "%d ticks", n);
            return;
        }
    }
}

// ---- ties

// Blocks 1 and 2 add nothing: each is at distance 0, and they go in order.
static void test_ties(void) {
    tiny t;
    fc_error err;
    uint32_t ids[N];
    size_t starts[] = {0, 12, N};
    fc_tokens tokens;
    char name[96];
    tiny_llama(&t, 4, HIDDEN, 2, 2, VOCAB);
    for (int b = 1; b <= 2; b++) {
        snprintf(name, sizeof name, "model.layers.%d.self_attn.o_proj.weight", b);
        memset(tiny_find(&t, name), 0, HIDDEN * 8 * sizeof(float));
        snprintf(name, sizeof name, "model.layers.%d.mlp.down_proj.weight", b);
        memset(tiny_find(&t, name), 0, HIDDEN * 16 * sizeof(float));
    }
    memset(&tokens, 0, sizeof tokens);
    for (uint32_t i = 0; i < N; i++) ids[i] = i * 17 % VOCAB;
    tokens.ids = ids;
    tokens.starts = starts;
    tokens.n_sequences = 2;
    fc_model *m = tiny_open(&t, 0, 2, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    for (int metric = 0; metric < FC_METRIC_NLL; metric++)
        for (int search = 0; search < FC_SEARCH_RANDOM; search++) {
            fc_prune_desc desc;
            memset(&desc, 0, sizeof desc);
            desc.calibration = &tokens;
            desc.metric = (fc_metric)metric;
            desc.search = (fc_search)search;
            desc.remove = 4;
            fc_plan *p = fc_prune(m, &desc, &err);
            for (uint32_t i = 0; T_OK(p != NULL, "%s", err.msg) && i < 4; i++)
                T_OK(fc_plan_step(p, i)->removed == 2 + i && fc_plan_step(p, i)->score == 0,
                     "%s %s: step %u removes %u at %g", fc_metric_name(desc.metric),
                     fc_search_name(desc.search), i + 1, fc_plan_step(p, i)->removed,
                     fc_plan_step(p, i)->score);
            fc_plan_free(p);
        }
    fc_model_close(m);
    tiny_end(&t);
}

int main(void) {
    static world w;
    for (int k = FC_SIMD_SCALAR; k < FC_SIMD_COUNT; k++) {
        if (fci_kernels_pick((fc_simd)k)->simd != (fc_simd)k) continue;
        test_rows((fc_simd)k);
        test_special((fc_simd)k);
        test_nan((fc_simd)k);
    }
    test_divisors();
    if (world_begin(&w)) {
        test_items(&w);
        test_not_finite(&w);
        test_weights_not_finite(&w);
        test_cancelled(&w, FC_METRIC_JS);
        test_cancelled(&w, FC_METRIC_ANGULAR);
    }
    world_end(&w);
    test_ties();
    return t_end("distance");
}
