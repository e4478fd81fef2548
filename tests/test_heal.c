// Healing: against a plain reference in double of the same equations, over models of all families;
// the same bytes for any threads, waves and memory, and after a run that was cancelled; nothing
// removed, nothing changed; what is refused. And own text: the same whatever the batches.
#include "private.h"
#include "memory.h"
#include "t.h"
#include "engine.h"
#include "open.h"
#include "tokens.h"

#include <math.h>
#ifndef _WIN32
#  include <signal.h>
#  include <sys/wait.h>
#endif

#define DATA "tests/data/"

enum { N_SEQUENCES = 16, LENGTH = 24, N_ROWS = N_SEQUENCES * LENGTH, MOST = 256 };

static char out[128], partial[160], other[128];

static void own_paths(void) {
    const char *root = fci_platform_is_folder("/dev/shm") ? "/dev/shm" : "build";
    fci_platform_make_folder("build");
    snprintf(out, sizeof out, "%s/test_heal.%d.safetensors", root, (int)getpid());
    snprintf(partial, sizeof partial, "%s.partial", out);
    snprintf(other, sizeof other, "%s/test_heal.%d.other", root, (int)getpid());
}

static void remove_files(void) {
    remove(out);
    remove(partial);
    remove(other);
}

// ---- The reference: one sublayer in double, straight from the definition.

typedef struct reference {
    fc_model *m;
    uint32_t ids[N_ROWS];
    size_t starts[N_SEQUENCES + 1], n_fit, d, s;
    double *rows[2], *inputs[2]; // [N_ROWS, d] of the whole model, of the healed one
    double *x, *z, *e;           // [N_ROWS, MOST] inputs of the projection, its results, the error
    double *weight[64];          // [d, k] of this sublayer, by expert
    size_t k;
    double share[N_ROWS][64];    // of the experts
} reference;

static void decode(const fci_matrix *w, size_t row, double *to) {
    float values[MOST];
    fci_matrix_decode(w, row, 0, w->cols, values);
    for (size_t i = 0; i < w->cols; i++) to[i] = (double)values[i];
}

static void times(const fci_weight *w, const double *x, double *y) {
    double row[MOST];
    for (size_t o = 0; o < w->matrix.rows; o++) {
        y[o] = w->bias ? (double)w->bias[o] : 0;
        decode(&w->matrix, o, row);
        for (size_t i = 0; i < w->matrix.cols; i++) y[o] += row[i] * x[i];
    }
}

// y = norm(x); y = x where there is none. Returns the factor.
static double norm(const fc_model *m, const fci_norm *w, const double *x, size_t n, double *y) {
    double mean = 0, square = 0;
    const bool layer = (m->hyper.traits & FCI_TRAIT_LAYER_NORM) != 0;
    for (size_t i = 0; i < n; i++) mean += layer ? x[i] / (double)n : 0;
    for (size_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean) / (double)n;
    const double scale = 1 / sqrt(square + m->hyper.norm_eps);
    for (size_t i = 0; i < n; i++)
        y[i] = w->weight ? (x[i] - mean) * scale * (double)w->weight[i] +
                               (w->bias ? (double)w->bias[i] : 0)
                         : x[i];
    return scale;
}

static void turn(const fc_model *m, const fci_layer *l, size_t length, size_t position, double *x) {
    const fci_hyper *h = &m->hyper;
    const fci_rope *r = &h->ropes[l->kind.rope ? l->kind.rope - 1 : 0];
    const size_t half = (size_t)h->rotary_dim / 2,
                 form = h->ropes[0].factors[1] && (double)length > h->ropes[0].original;
    for (size_t j = 0; l->kind.rope && j < half; j++) {
        const double angle = (double)position * fci_rope_frequency(r, h->rotary_dim, form, j),
                     c = cos(angle) * r->attention, s = sin(angle) * r->attention;
        double *a = x + (h->rope_interleaved ? 2 * j : j),
               *b = x + (h->rope_interleaved ? 2 * j + 1 : j + half), was = *a;
        *a = was * c - *b * s;
        *b = *b * c + was * s;
    }
}

static void head_norms(const fc_model *m, const fci_norm *w, double *x, size_t heads) {
    const size_t head = (size_t)m->hyper.head_dim;
    if (!w->weight) return;
    if (m->hyper.traits & FCI_TRAIT_QK_NORM) norm(m, w, x, heads * head, x);
    else
        for (size_t i = 0; i < heads; i++) norm(m, w, x + i * head, head, x + i * head);
}

// The heads' results of one sequence, rows at x [LENGTH, d].
static void attention(const fc_model *m, const fci_layer *l, const double *x, double *to) {
    static double q[LENGTH][MOST], k[LENGTH][MOST], v[LENGTH][MOST];
    const fci_hyper *h = &m->hyper;
    const size_t d = (size_t)h->hidden, head = (size_t)h->head_dim,
                 group = (size_t)(h->n_heads / h->n_kv_heads);
    double n[MOST], p[LENGTH];
    for (size_t i = 0; i < LENGTH; i++) {
        norm(m, &l->attn_norm, x + i * d, d, n);
        times(&l->q, n, q[i]);
        times(&l->k, n, k[i]);
        times(&l->v, n, v[i]);
        head_norms(m, &l->q_norm, q[i], (size_t)h->n_heads);
        head_norms(m, &l->k_norm, k[i], (size_t)h->n_kv_heads);
        for (size_t a = 0; a < h->n_heads; a++) turn(m, l, LENGTH, i, q[i] + a * head);
        for (size_t a = 0; a < h->n_kv_heads; a++) turn(m, l, LENGTH, i, k[i] + a * head);
    }
    for (size_t i = 0; i < LENGTH; i++)
        for (size_t a = 0; a < h->n_heads; a++) {
            const size_t kv = a / group * head;
            const size_t from = l->kind.window && i >= l->kind.window ? i - l->kind.window + 1 : 0;
            double sum = 0;
            for (size_t j = from; j <= i; j++) {
                double score = 0;
                for (size_t c = 0; c < head; c++) score += q[i][a * head + c] * k[j][kv + c];
                score *= h->attention_scale;
                if (h->attention_cap > 0)
                    score = h->attention_cap * tanh(score / h->attention_cap);
                sum += p[j] = exp(score);
            }
            for (size_t c = 0; c < head; c++) {
                double *one = &to[i * MOST + a * head + c];
                *one = 0;
                for (size_t j = from; j <= i; j++) *one += p[j] / sum * v[j][kv + c];
            }
        }
}

static double activation(fci_activation kind, double x) {
    switch (kind) {
    case FCI_SILU: return x / (1 + exp(-x));
    case FCI_GELU: return x * (1 + erf(x / sqrt(2.0))) / 2;
    case FCI_GELU_TANH:
        return x * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x))) / 2;
    case FCI_RELU: return x > 0 ? x : 0;
    default: return x > 0 ? x * x : 0;
    }
}

static void inner(const fc_model *m, const fci_weight *gate, const fci_weight *up, const double *n,
                  double *to) {
    double g[MOST];
    times(up, n, to);
    if (gate->matrix.data) times(gate, n, g);
    for (size_t i = 0; i < up->matrix.rows; i++)
        to[i] = gate->matrix.data ? activation(m->hyper.activation, g[i]) * to[i]
                                  : activation(m->hyper.activation, to[i]);
}

// The experts' weights in r->share, by the router.
static void route(reference *r, const fci_layer *l, const double *n, size_t row) {
    const fci_hyper *h = &r->m->hyper;
    double scores[64], all = 0, used = 0;
    times(&l->router, n, scores);
    for (size_t i = 0; i < h->n_experts; i++) all += exp(scores[i]);
    memset(r->share[row], 0, sizeof r->share[row]);
    for (size_t k = 0; k < h->n_used; k++) {
        size_t best = 0;
        for (size_t i = 1; i < h->n_experts; i++)
            if (scores[i] > scores[best]) best = i;
        used += r->share[row][best] = exp(scores[best]);
        scores[best] = -(double)INFINITY;
    }
    for (size_t i = 0; i < h->n_experts; i++)
        r->share[row][i] *= h->residual_scale / (h->traits & FCI_TRAIT_TOP_SUM ? used : all);
}

// Inputs of expert `which` (or of the one projection) for all rows of a stream, in r->x.
static void inputs(reference *r, int stream, size_t which) {
    const fci_layer *l = &r->m->layers[r->s / 2];
    const double *from = r->rows[stream];
    if (r->m->hyper.traits & FCI_TRAIT_PARALLEL) from = r->inputs[stream];
    double n[MOST];
    for (size_t i = 0; i < N_SEQUENCES && r->s % 2 == 0; i++)
        attention(r->m, l, r->rows[stream] + i * LENGTH * r->d, r->x + i * LENGTH * MOST);
    for (size_t i = 0; i < N_ROWS && r->s % 2; i++) {
        norm(r->m, &l->ffn_norm, from + i * r->d, r->d, n);
        if (l->experts) route(r, l, n, i);
        const fci_expert *one = l->experts ? &l->experts[which] : NULL;
        inner(r->m, one ? &one->gate : &l->gate, one ? &one->up : &l->up, n, r->x + i * MOST);
    }
}

// z = W x + bias by the reference's weights.
static void project(reference *r, size_t which) {
    const fci_weight *w = fci_heal_weight(r->m, r->s, which);
    for (size_t i = 0; i < N_ROWS; i++)
        for (size_t o = 0; o < r->d; o++) {
            double *z = &r->z[i * MOST + o];
            *z = w->bias ? (double)w->bias[o] : 0;
            for (size_t k = 0; k < r->k; k++)
                *z += r->weight[which][o * r->k + k] * r->x[i * MOST + k];
        }
}

static const fci_norm *post_norm(const reference *r) {
    const fci_layer *l = &r->m->layers[r->s / 2];
    return r->s % 2 ? &l->ffn_post : &l->attn_post;
}

// Adds the sublayer to a stream.
static void run(reference *r, int stream) {
    const bool experts = r->s % 2 && r->m->layers[r->s / 2].experts;
    const size_t n = experts ? (size_t)r->m->hyper.n_experts : 1;
    double *after = (double *)calloc(N_ROWS * r->d, sizeof *after), y[MOST];
    memcpy(after, r->rows[stream], N_ROWS * r->d * sizeof *after);
    for (size_t which = 0; which < n; which++) {
        inputs(r, stream, which);
        project(r, which);
        for (size_t i = 0; i < N_ROWS; i++) {
            norm(r->m, post_norm(r), r->z + i * MOST, r->d, y);
            const double scale = experts ? r->share[i][which] : r->m->hyper.residual_scale;
            for (size_t o = 0; o < r->d; o++) after[i * r->d + o] += scale * y[o];
        }
    }
    memcpy(r->rows[stream], after, N_ROWS * r->d * sizeof *after);
    free(after);
}

static void load(reference *r) { // the weights as stored
    const size_t n = fci_heal_weights(r->m, r->s);
    r->k = (size_t)fci_heal_weight(r->m, r->s, 0)->matrix.cols;
    for (size_t i = 0; i < n; i++)
        for (size_t o = 0; o < r->d; o++)
            decode(&fci_heal_weight(r->m, r->s, i)->matrix, o, r->weight[i] + o * r->k);
}

// ---- The equations.

// Solves A x = b for n right sides, by elimination; A [k, k], b [k, n] become nothing and x.
static void eliminate(double *a, double *b, size_t k, size_t n) {
    for (size_t p = 0; p < k; p++)
        for (size_t i = p + 1; i < k; i++) {
            const double f = a[i * k + p] / a[p * k + p];
            for (size_t j = p; j < k; j++) a[i * k + j] -= f * a[p * k + j];
            for (size_t j = 0; j < n; j++) b[i * n + j] -= f * b[p * n + j];
        }
    for (size_t i = k; i-- > 0;)
        for (size_t j = 0; j < n; j++) {
            for (size_t l = i + 1; l < k; l++) b[i * n + j] -= a[i * k + l] * b[l * n + j];
            b[i * n + j] /= a[i * k + i];
        }
}

// Row i of X and of E for projection `which`, as they count; false: not of this expert.
static bool counted(const reference *r, size_t which, size_t i, double *x, double *e) {
    const fci_norm *post = post_norm(r);
    const bool experts = r->s % 2 && r->m->layers[r->s / 2].experts;
    double length = 0, y[MOST], of_x = 1, of_e = 1, squares = 0;
    for (size_t o = 0; o < r->d; o++) length += pow(r->rows[0][i * r->d + o], 2);
    if (post->weight) of_x = norm(r->m, post, r->z + i * MOST, r->d, y);
    for (size_t k = 0; experts && k < r->m->hyper.n_experts; k++) squares += pow(r->share[i][k], 2);
    if (experts) of_x = r->share[i][which], of_e = of_x * of_x / squares;
    for (size_t k = 0; k < r->k; k++) x[k] = r->x[i * MOST + k] * of_x / sqrt(length);
    for (size_t o = 0; o < r->d; o++) e[o] = r->e[i * r->d + o] * of_e / sqrt(length);
    return of_x != 0;
}

static double gain(const reference *r, size_t o) {
    const float *gains = post_norm(r)->weight;
    if (r->s % 2 && r->m->layers[r->s / 2].experts) return 1;
    return r->m->hyper.residual_scale * (gains ? (double)gains[o] : 1);
}

// The change by one factor, of the rows to fit by, in c [k, d].
static void scale(const reference *r, size_t which, double *c) {
    double x[MOST], e[MOST], zz = 0, ze = 0;
    const double *w = r->weight[which];
    for (size_t i = 0; i < r->n_fit * LENGTH; i++)
        for (size_t o = 0; counted(r, which, i, x, e) && o < r->d; o++) {
            double z = 0;
            for (size_t a = 0; a < r->k; a++) z += x[a] * w[o * r->k + a] * gain(r, o);
            zz += z * z;
            ze += z * e[o];
        }
    for (size_t o = 0; o < r->d; o++)
        for (size_t a = 0; a < r->k; a++)
            c[a * r->d + o] = ze / zz * w[o * r->k + a] * gain(r, o);
}

// Adds the change to r->weight (ridge 0: by one factor); returns the held out error that it leaves,
// a share.
static double fit(reference *r, size_t which, double ridge) {
    const size_t k = r->k, d = r->d;
    double *g = (double *)calloc(k * k, sizeof *g), *c = (double *)calloc(k * d, sizeof *c);
    double x[MOST], e[MOST], before = 0, after = 0, trace = 0;
    size_t n = 0;
    for (size_t i = 0; i < r->n_fit * LENGTH; i++) {
        if (!counted(r, which, i, x, e)) continue;
        n++;
        for (size_t a = 0; a < k; a++) {
            for (size_t b = 0; b < k; b++) g[a * k + b] += x[a] * x[b];
            for (size_t o = 0; o < d; o++) c[a * d + o] += x[a] * e[o];
        }
    }
    for (size_t a = 0; a < k; a++) trace += g[a * k + a];
    for (size_t a = 0; a < k; a++) g[a * k + a] += ridge * trace / (double)k;
    if (n >= k / 4 && n && ridge > 0) eliminate(g, c, k, d);
    if (n >= k / 4 && n && !(ridge > 0)) scale(r, which, c);
    for (size_t i = r->n_fit * LENGTH; i < N_ROWS; i++) {
        if (!counted(r, which, i, x, e)) continue;
        for (size_t o = 0; o < d; o++) {
            double left = e[o];
            for (size_t a = 0; a < k; a++) left -= x[a] * c[a * d + o];
            before += e[o] * e[o];
            after += left * left;
        }
    }
    for (size_t o = 0; o < d && n >= k / 4; o++)
        for (size_t a = 0; a < k; a++)
            r->weight[which][o * k + a] += c[a * d + o] / gain(r, o);
    free(g);
    free(c);
    return n >= k / 4 && before > 0 ? after / before : 1;
}

// ---- Comparison.

static size_t text_starts[N_SEQUENCES + 1];

static fc_tokens text_of(uint32_t *ids, uint32_t vocab) {
    uint32_t state = 7;
    for (size_t i = 0; i < N_ROWS; i++) {
        state = state * 1664525u + 1013904223u;
        ids[i] = (state >> 8) % (vocab < 40 ? vocab : 40);
    }
    for (size_t i = 0; i <= N_SEQUENCES; i++) text_starts[i] = i * LENGTH;
    return tokens_of(ids, text_starts, N_SEQUENCES);
}

static uint32_t repeats; // as in fc_heal_desc

static void reference_begin(reference *r, fc_model *m, const fc_tokens *text) {
    memset(r, 0, sizeof *r);
    r->m = m;
    r->d = (size_t)m->hyper.hidden;
    for (int held = 0; held < 2; held++) // as fc_heal orders them
        for (size_t i = 0, *n = &r->n_fit; i < N_SEQUENCES; i++) {
            static size_t to;
            if (i == 0 && !held) to = 0;
            if ((i % 8 == 7) != held) continue;
            uint32_t *ids = r->ids + LENGTH * to++;
            memcpy(ids, text->ids + LENGTH * i, LENGTH * sizeof *ids);
            if (repeats && (held ? i / 8 : i) % repeats == 1 % repeats)
                memcpy(ids + LENGTH / 2, ids, LENGTH / 2 * sizeof *ids);
            *n += !held;
        }
    for (size_t i = 0; i < 2; i++) {
        r->rows[i] = (double *)calloc(N_ROWS * r->d, sizeof(double));
        r->inputs[i] = (double *)calloc(N_ROWS * r->d, sizeof(double));
    }
    r->x = (double *)calloc(N_ROWS * MOST, sizeof(double));
    r->z = (double *)calloc(N_ROWS * MOST, sizeof(double));
    r->e = (double *)calloc(N_ROWS * r->d, sizeof(double));
    for (size_t i = 0; i < 64; i++)
        r->weight[i] = (double *)calloc(r->d * MOST, sizeof(double));
    for (size_t i = 0; i < N_ROWS; i++) {
        double row[MOST];
        decode(&m->embedding, r->ids[i], row);
        for (size_t o = 0; o < r->d; o++)
            r->rows[0][i * r->d + o] = row[o] * m->hyper.embedding_scale;
        if (!m->positions.data) continue;
        decode(&m->positions, i % LENGTH, row);
        for (size_t o = 0; o < r->d; o++) r->rows[0][i * r->d + o] += row[o];
    }
    memcpy(r->rows[1], r->rows[0], N_ROWS * r->d * sizeof(double));
}

static void reference_end(reference *r) {
    for (size_t i = 0; i < 2; i++) {
        free(r->rows[i]);
        free(r->inputs[i]);
    }
    free(r->x);
    free(r->z);
    free(r->e);
    for (size_t i = 0; i < 64; i++) free(r->weight[i]);
}

// The healed weights of the file, or those of the reference's fit: are they the same?
static void compare(reference *r, const fc_container *c, size_t which, double ridge,
                    double *worst) {
    const fci_matrix *w = &fci_heal_weight(r->m, r->s, which)->matrix;
    const fc_tensor *of = fci_heal_stored(r->m, w), *t = of ? fc_container_find(c, of->name) : NULL;
    double *was = (double *)calloc(r->d * r->k, sizeof *was), row[MOST], moved = 0, off = 0;
    memcpy(was, r->weight[which], r->d * r->k * sizeof *was);
    const double left = fit(r, which, ridge);
    fci_heal_tensor as = {of, FC_DTYPE_F32, NULL, 0};
    if (t) as.data = (char *)(uintptr_t)t->data;
    const fci_matrix view = t ? fci_heal_view(&as, w) : *w;
    for (size_t o = 0; o < r->d; o++) {
        decode(&view, o, row);
        for (size_t k = 0; k < r->k; k++) {
            const double d = r->weight[which][o * r->k + k] - was[o * r->k + k];
            moved += d * d;
            off += pow(row[k] - was[o * r->k + k], 2) > 0
                       ? pow(row[k] - r->weight[which][o * r->k + k], 2)
                       : d * d;
        }
    }
    const bool kept = !t || off >= moved * (1 - 1e-9);
    if (kept) {
        T_OK(left > 1 - 1e-4 || post_norm(r)->weight,
             "sublayer %d, %d: kept, yet the error becomes %g", (int)r->s, (int)which, left);
        memcpy(r->weight[which], was, r->d * r->k * sizeof *was);
    } else {
        T_OK(left < 1 + 1e-4, "sublayer %d, %d: changed, yet the error becomes %g", (int)r->s,
             (int)which, left);
        if (sqrt(off / moved) > *worst) *worst = sqrt(off / moved);
    }
    free(was);
}

static fc_heal_result healed; // by the last call of heal

static fc_code heal(fc_model *m, const fc_tokens *text, const uint8_t *mask, fc_heal_desc *d,
                    fc_error *err) {
    d->mask = mask;
    d->text = text;
    d->path = out;
    return fc_heal(m, d, &healed, err);
}

static double distance(const double *a, const double *b, size_t n) {
    double off = 0, size = 0;
    for (size_t i = 0; i < n; i++) off += (a[i] - b[i]) * (a[i] - b[i]), size += b[i] * b[i];
    return sqrt(off / size);
}

// The healed model's rows at the head, by the engine.
static void healed_rows(const char *path, const reference *r, double *to) {
    fc_error err;
    fci_engine e;
    fc_model *m = open_f32(path, out, NULL, 1, 0);
    memset(&e, 0, sizeof e);
    if (!m || !T_OK(!open_engine(&e, m, LENGTH, LENGTH, 0, &err), "%s", err.msg)) return;
    for (size_t i = 0; i < N_SEQUENCES; i++) {
        fci_lane lane;
        memset(&lane, 0, sizeof lane);
        lane.ids = r->ids + i * LENGTH;
        lane.length = LENGTH;
        T_OK(fci_wave_run(&e, &lane, 1, m->mask, &err) == FC_OK, "%s", err.msg);
        for (size_t k = 0; k < LENGTH * r->d; k++)
            to[i * LENGTH * r->d + k] = (double)e.x[k];
    }
    fci_engine_close(&e);
    fc_model_close(m);
}

static void test_family(const char *path, double ridge) { // 0: one factor for each
    static reference r;
    uint32_t ids[N_ROWS];
    uint8_t mask[64];
    fc_heal_desc d;
    fc_error err;
    double worst = 0;
    fc_model *m = open_f32(path, NULL, NULL, 2, 0);
    if (!m) return;
    const fc_tokens text = text_of(ids, (uint32_t)m->hyper.vocab);
    memset(&d, 0, sizeof d);
    d.ridge = ridge;
    d.scale = !(ridge > 0);
    d.repeats = repeats;
    d.type = FC_DTYPE_F32;
    memset(mask, 1, sizeof mask);
    mask[0] = mask[3] = 0;
    remove_files();
    if (!T_OK(heal(m, &text, mask, &d, &err) == FC_OK, "%s: %s", path, err.msg)) return;
    fc_container *c = fc_container_open(out, NULL, &err);
    if (!T_OK(c != NULL, "%s: %s", path, err.msg)) return;
    reference_begin(&r, m, &text);
    for (r.s = 0; r.s < 2 * m->hyper.n_blocks; r.s++) {
        for (size_t i = 0; i < 2 && r.s % 2 == 0; i++)
            memcpy(r.inputs[i], r.rows[i], N_ROWS * r.d * sizeof(double));
        load(&r);
        run(&r, 0);
        if (!mask[r.s]) continue;
        double *before = (double *)calloc(N_ROWS * r.d, sizeof *before);
        memcpy(before, r.rows[1], N_ROWS * r.d * sizeof *before);
        run(&r, 1);
        for (size_t i = 0; i < N_ROWS * r.d; i++) r.e[i] = r.rows[0][i] - r.rows[1][i];
        memcpy(r.rows[1], before, N_ROWS * r.d * sizeof *before);
        for (size_t i = 0; i < fci_heal_weights(m, r.s); i++) {
            inputs(&r, 1, i);
            project(&r, i);
            compare(&r, c, i, d.ridge, &worst);
        }
        run(&r, 1);
        free(before);
    }
    double *rows = (double *)calloc(N_ROWS * r.d, sizeof *rows);
    healed_rows(path, &r, rows);
    const double off = distance(rows, r.rows[1], N_ROWS * r.d);
    T_OK(off < 1e-4, "%s: healed rows are off by %g", path, off);
    T_OK(worst < 1e-3 && worst > 0, "%s: changes are off by %g", path, worst);
    free(rows);
    fc_container_close(c);
    reference_end(&r);
    fc_model_close(m);
}

// ---- What else it promises.

static uint32_t ids_of_text[N_ROWS];
static uint32_t other_text; // changes an id of it
static int own_only;        // none of it

// fc_heal of a model by text and own text, without attn.0 and ffn.1.
static fc_code heal_some(const char *path, uint32_t threads, uint64_t limit, fc_heal_desc *d,
                         fc_error *err) {
    uint8_t mask[64];
    fc_model *m = open_f32(path, NULL, NULL, threads, limit);
    if (!m) exit(2);
    const fc_tokens text = text_of(ids_of_text, (uint32_t)m->hyper.vocab);
    memset(mask, 1, sizeof mask);
    mask[0] = mask[3] = 0;
    ids_of_text[3] ^= other_text;
    fc_code code = heal(m, own_only ? NULL : &text, mask, d, err);
    fc_model_close(m);
    return code;
}

static uint32_t own_tokens = 160;

static fc_heal_desc some_desc(const char *path) {
    fc_heal_desc d;
    memset(&d, 0, sizeof d);
    d.own = strstr(path, ".gguf") ? 0 : own_tokens; // those name no token to start with
    d.length = 16;
    d.text_name = "caf\xe9.txt"; // no UTF-8
    return d;
}

static char *heal_bytes(const char *path, uint32_t threads, uint64_t limit, size_t *size) {
    fc_heal_desc d = some_desc(path);
    fc_error err;
    remove_files();
    T_OK(heal_some(path, threads, limit, &d, &err) == FC_OK, "%s: %s", path, err.msg);
    return t_read(out, size);
}

static uint64_t least_memory(const char *path) { // as the error of too little says
    fc_heal_desc d = some_desc(path);
    fc_error err;
    unsigned long long least = 0;
    remove_files();
    const uint64_t little = own_tokens > 160 ? 1 << 22 : 3 << 19; // own text can be written
    T_OK(heal_some(path, 2, little, &d, &err) == FC_ERR_LIMIT && strstr(err.msg, "would fit"),
         "too little memory: %s", err.msg);
    const char *at = strstr(err.msg, "at least ");
    T_OK(at && sscanf(at, "at least %llu", &least) == 1, "%s", err.msg);
    return least;
}

// Rows that a limit has no room for are in a file; one that cannot be made is an error.
static void test_scratch(const char *path, uint64_t limit, const char *want, size_t size) {
    fc_heal_desc d = some_desc(path);
    fc_error err;
    size_t n = 0;
    remove_files();
    d.scratch = "build";
    const fc_code code = heal_some(path, 2, limit, &d, &err);
    if (code == FC_ERR_UNSUPPORTED) {
        t_skip("rows in a file", err.msg);
        return;
    }
    T_OK(code == FC_OK, "rows in a file: %s", err.msg);
    char *got = t_read(out, &n);
    T_OK(got && want && n == size && memcmp(got, want, n) == 0, "%s: rows in a file: other bytes",
         path);
    free(got);
    remove_files();
    d.scratch = "build/no folder";
    T_OK(heal_some(path, 2, limit, &d, &err) == FC_ERR_IO &&
             strstr(err.msg, "build/no folder: residual rows: expected room"),
         "rows in no folder: %s", err.msg);
}

static void test_same_bytes(const char *path) {
    size_t size = 0, n = 0;
    char *first = heal_bytes(path, 1, 0, &size);
    const uint64_t least = least_memory(path), limits[] = {0, 0, least + 100000};
    test_scratch(path, least - 1, first, size);
    for (uint32_t i = 0; i < 3; i++) {
        char *again = heal_bytes(path, i < 2 ? i + 2 : 2, limits[i], &n);
        T_OK(first && again && n == size && memcmp(first, again, n) == 0,
             "%s: other bytes with %u threads, limit %llu", path, i + 2,
             (unsigned long long)limits[i]);
        free(again);
    }
    free(first);
}

static int stop_at(void *user, const fc_progress *p) {
    return strcmp(p->what, "healing") == 0 && (*(int *)user)-- == 0;
}

static void write_file(const char *path, const char *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!T_OK(f != NULL, "%s", path)) return;
    T_OK(fwrite(bytes, 1, n, f) == n, "%s", path);
    fclose(f);
}

static int count_writing(void *user, const fc_progress *p) {
    *(int *)user += strcmp(p->what, "writing") == 0;
    return 0;
}

static int count_all(void *user, const fc_progress *p) {
    (void)p;
    ++*(int *)user;
    return 0;
}

// A whole result of the same settings is what the call gives, at once and by all it records.
static void test_whole(const char *path, const char *first, size_t size) {
    fc_heal_desc d = some_desc(path);
    fc_error err;
    size_t n = 0;
    int calls = 0;
    d.resume = 1;
    d.watch.progress = count_all;
    d.watch.user = &calls;
    const fc_heal_result was = healed;
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_OK && calls == 0, "resumed when done: %d, %s", calls,
         err.msg);
    T_OK(fabs(healed.whole / was.whole - 1) < 1e-4 && fabs(healed.healed / was.healed - 1) < 1e-4 &&
             fabs(healed.pruned / was.pruned - 1) < 1e-4 && healed.n_changed == was.n_changed &&
             healed.n_fits == was.n_fits && healed.n_tokens == was.n_tokens && healed.n_there,
         "%s: when done: %g %g %g", path, healed.whole, healed.pruned, healed.healed);
    other_text = 1;
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_ERR_MISMATCH &&
             strstr(err.msg, d.own ? "heal.text_tokens" : "heal.calibration"),
         "%s: by another text: %s", path, err.msg);
    other_text = 0;
    d.length = 8; // as many own tokens, but no sequence is as long as the text's
    T_OK(!d.own || (heal_some(path, 2, 0, &d, &err) == FC_ERR_MISMATCH &&
                    strstr(err.msg, ", own ones by 8\", got \"")),
         "%s: by shorter own ones: %s", path, err.msg);
    T_OK(!d.own || calls == 0, "%s: own text is written again", path);
    char *again = t_read(out, &n);
    T_OK(again && n == size && memcmp(first, again, n) == 0, "%s: it does not stay", path);
    free(again);
}

// What is whole by own text only comes back without a word; its damage is seen.
static void test_whole_own(const char *path) {
    fc_heal_desc d = some_desc(path);
    fc_error err;
    size_t size = 0, n = 0;
    int calls = 0;
    own_only = 1;
    remove_files();
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_OK, "%s: %s", path, err.msg);
    char *first = t_read(out, &size), *again = NULL;
    d.resume = 1;
    d.watch.progress = count_all;
    d.watch.user = &calls;
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_OK && calls == 0, "%s: %d calls", path, calls);
    again = t_read(out, &n);
    T_OK(again && n == size && memcmp(first, again, n) == 0, "%s: it does not stay", path);
    d.seed = 1;
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_ERR_MISMATCH && strstr(err.msg, "seed"), "%s",
         err.msg);
    d.seed = 0;
    first[size - 1] ^= 1;
    write_file(out, first, size);
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_ERR_FORMAT && strstr(err.msg, "damaged"), "%s",
         err.msg);
    own_only = 0;
    free(first);
    free(again);
}

// Writes a file of a healing after what changed in it, with the hash that heal expects then.
static void write_hashed(const char *path, const char *model, char *bytes, size_t n) {
    static const char said[] = "tensors and metadata, ", key[] = "finercut.content\":\"";
    fc_heal_desc d = some_desc(model);
    fc_error err;
    d.resume = 1;
    write_file(path, bytes, n);
    T_OK(heal_some(model, 2, 0, &d, &err) == FC_ERR_FORMAT, "%s: %s", path, err.msg);
    const char *hash = strstr(err.msg, said);
    if (!T_OK(hash != NULL, "%s: %s", path, err.msg)) return;
    memcpy(strstr(bytes + 8, key) + sizeof key - 1, hash + sizeof said - 1, 16);
    write_file(path, bytes, n);
}

// Earlier builds said nothing of the text alone, and kept no own text: it is written again.
static void test_earlier(const char *path) {
    static const char own[] = "\"finercut.heal.own\":{";
    fc_heal_desc d = some_desc(path);
    fc_error err;
    size_t size = 0, n = 0;
    int left = 0, written = 0;
    char *first = heal_bytes(path, 2, 0, &size), *older = t_read(out, &n);
    memcpy(strstr(older + 8, "finercut.heal.text_tokens"), "otherones", 9);
    write_hashed(out, path, older, n);
    d.resume = 1;
    d.watch.progress = count_writing;
    d.watch.user = &written;
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_OK && written, "%s: a result: %s", path, err.msg);
    other_text = 1;
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_ERR_MISMATCH && strstr(err.msg, "heal.calibration"),
         "%s: another text: %s", path, err.msg);
    other_text = 0;
    free(older);
    remove_files();
    d.resume = 0;
    d.watch.progress = stop_at;
    d.watch.user = &left;
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_ERR_CANCELLED, "%s: %s", path, err.msg);
    older = t_read(partial, &n);
    memcpy(strstr(older + 8, "finercut.heal.text_tokens"), "otherones", 9);
    char *at = strstr(older + 8, own);
    if (at[-1] == ',') at--;
    memset(at, ' ', (size_t)(strchr(at, '}') + 1 - at));
    write_hashed(partial, path, older, n - 4 * own_tokens);
    d.resume = 1;
    written = 0;
    d.watch.progress = count_writing;
    d.watch.user = &written;
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_OK && written, "%s: a checkpoint: %s", path,
         err.msg);
    free(older);
    older = t_read(out, &n);
    T_OK(older && n == size && memcmp(first, older, n) == 0, "%s: resumed: other bytes", path);
    free(older);
    free(first);
}

// Own text is in the checkpoint as soon as it is written, and is read back as it was.
static void test_own_kept(const char *path) {
    static const char said[] = "tensors and metadata, ", key[] = "finercut.content\":\"";
    fc_heal_desc d = some_desc(path);
    fc_error err;
    size_t size = 0, n = 0;
    int left = 0, written = 0;
    char *first = heal_bytes(path, 2, 0, &size), *kept = NULL, *again = NULL;
    remove_files();
    d.watch.progress = stop_at;
    d.watch.user = &left;
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_ERR_CANCELLED && healed.n_there == 1,
         "%s: %s, %u are there", path, err.msg, healed.n_there);
    kept = t_read(partial, &n);
    d.resume = 1;
    d.watch.progress = count_writing;
    d.watch.user = &written;
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_OK && written == 0, "%s: written again: %d, %s",
         path, written, err.msg);
    again = t_read(out, NULL);
    T_OK(again && memcmp(first, again, size) == 0, "%s: resumed: other bytes", path);
    remove_files();
    if (!T_OK(kept && n > 4 * own_tokens, "%s: no own text is kept", path)) return;
    for (int i = 0; i < 3; i++) { // too large, another, of another length; with a right hash
        char *content = strstr(kept + 8, key) + sizeof key - 1, *shape = strstr(kept, "[10,16]");
        if (!shape) shape = strstr(kept + 8, "[10,16]");
        if (!T_OK(shape != NULL, "its shape")) break;
        if (i < 2) kept[n - 4 + (i ? 0 : 3)] ^= 1;
        else memcpy(shape, "[16,10]", 7);
        write_file(partial, kept, n);
        T_OK(heal_some(path, 2, 0, &d, &err) == FC_ERR_FORMAT, "%s", err.msg);
        const char *hash = strstr(err.msg, said);
        if (!T_OK(hash != NULL, "own text, %d: %s", i, err.msg)) break;
        memcpy(content, hash + sizeof said - 1, 16);
        write_file(partial, kept, n);
        T_OK(heal_some(path, 2, 0, &d, &err) == (i == 1 ? FC_ERR_MISMATCH : FC_ERR_FORMAT) &&
                 strstr(err.msg, i == 0   ? "token 159: expected an id below"
                                 : i == 1 ? "finercut.heal.calibration"
                                          : "10 sequences of 16 own tokens"),
             "own text, %d: %s", i, err.msg);
        if (i < 2) kept[n - 4 + (i ? 0 : 3)] ^= 1;
    }
    remove_files();
    free(first);
    free(kept);
    free(again);
}

// Cancelled after every sublayer in turn, and again: the bytes of an undisturbed run.
static void test_resume(const char *path) {
    size_t size = 0, n = 0, there = 0, most = 0;
    char *first = heal_bytes(path, 2, 0, &size);
    for (int stop = 1; stop < 40; stop++) {
        fc_heal_desc d = some_desc(path);
        fc_error err;
        int left = stop, more = 2;
        d.watch.progress = stop_at;
        d.watch.user = &left;
        remove_files();
        fc_code code = heal_some(path, 2, 0, &d, &err);
        if (code == FC_OK) break;
        T_OK(code == FC_ERR_CANCELLED, "stopped at %d: %s", stop, err.msg);
        there = 0;
        free(t_read(partial, &there));
        most += there > 0;
        T_OK((healed.n_there > 0) == (there > 0), "stopped at %d: %u are there", stop,
             healed.n_there);
        d.resume = 1;
        d.seed = 1;
        T_OK(!there || heal_some(path, 2, 0, &d, &err) == FC_ERR_MISMATCH,
             "resumed with another seed: %s", err.msg);
        d.seed = 0;
        d.date = 20240726;
        T_OK(!there || (heal_some(path, 2, 0, &d, &err) == FC_ERR_MISMATCH &&
                        strstr(err.msg, "finercut.heal.date: expected \"2024-07-26\", got \"\"")),
             "resumed on another day: %s", err.msg);
        d.date = 0;
        d.watch.user = &more; // once more
        code = heal_some(path, 1, 0, &d, &err);
        memset(&d.watch, 0, sizeof d.watch);
        if (code) code = heal_some(path, 2, 0, &d, &err);
        char *again = t_read(out, &n), *rest = t_read(partial, NULL);
        T_OK(!code && again && n == size && memcmp(first, again, n) == 0,
             "stopped at %d: other bytes: %s", stop, err.msg);
        T_OK(!rest, "stopped at %d: the checkpoint is still there", stop);
        test_whole(path, first, size);
        free(again);
        free(rest);
    }
    T_OK(most > 2, "%s: %d checkpoints", path, (int)most);
    free(first);
}

// A checkpoint with another bit in it, of its tensors or of where it stopped, or cut off, and a
// result with one: refused, and the file stays.
static void test_damaged(const char *path) {
    static const char next[] = "finercut.heal.next\":\"";
    size_t size = 0, n = 0;
    fc_heal_desc d = some_desc(path);
    fc_error err;
    char *good = NULL;
    for (int stop = 1; stop < 40 && !good; stop++) { // until it has tensors
        int left = stop;
        d.watch.progress = stop_at;
        d.watch.user = &left;
        remove_files();
        heal_some(path, 2, 0, &d, &err);
        good = t_read(partial, &size);
        if (good && strstr(good + 8, "data_offsets")) break;
        free(good);
        good = NULL;
    }
    memset(&d.watch, 0, sizeof d.watch);
    d.resume = 1;
    char *at = good ? strstr(good + 8, next) : NULL;
    if (!T_OK(at != NULL, "%s: no checkpoint", path)) return;
    char *bytes[] = {good + size - 1, at + sizeof next - 1, NULL};
    for (size_t i = 0; i < 3; i++) {
        if (bytes[i]) *bytes[i] ^= 1;
        write_file(partial, good, size - (bytes[i] == NULL));
        T_OK(heal_some(path, 2, 0, &d, &err) == FC_ERR_FORMAT &&
                 strstr(err.msg, bytes[i] ? "the file is damaged" : "partial") &&
                 strstr(err.msg, "; `force` instead of `resume` begins anew"),
             "%s, %d: %s", path, (int)i, err.msg);
        if (bytes[i]) *bytes[i] ^= 1;
        free(t_read(partial, &n));
        T_OK(n == size - (bytes[i] == NULL), "the checkpoint stays");
    }
    for (const char *wrong = "09x "; *wrong; wrong++) { // with a hash that is right
        static const char said[] = "tensors and metadata, ", key[] = "finercut.content\":\"";
        char was[16], kept = at[sizeof next - 1], *content = strstr(good + 8, key) + sizeof key - 1;
        at[sizeof next - 1] = *wrong;
        write_file(partial, good, size);
        heal_some(path, 2, 0, &d, &err);
        const char *hash = strstr(err.msg, said);
        if (!T_OK(hash != NULL, "next '%c': %s", *wrong, err.msg)) break;
        memcpy(was, content, 16);
        memcpy(content, hash + sizeof said - 1, 16);
        write_file(partial, good, size);
        T_OK(heal_some(path, 2, 0, &d, &err) == FC_ERR_FORMAT &&
                 strstr(err.msg, "expected a number from 1 to"),
             "next '%c': %s", *wrong, err.msg);
        memcpy(content, was, 16);
        at[sizeof next - 1] = kept;
    }
    memcpy(at, "finercut.heal.none", 18); // would be whole
    write_file(partial, good, size);
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_ERR_MISMATCH && strstr(err.msg, "a checkpoint"),
         "%s: %s", path, err.msg);
    remove(partial);
    write_file(out, good, size);
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_ERR_FORMAT && strstr(err.msg, "damaged"), "%s: %s",
         path, err.msg);
    remove(out);
    memcpy(at, next, 18);
    write_file(partial, good, size);
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_OK, "%s: %s", path, err.msg);
    free(good);
    good = t_read(out, &size);
    good[size - 1] ^= 1;
    write_file(out, good, size);
    T_OK(heal_some(path, 2, 0, &d, &err) == FC_ERR_FORMAT && strstr(err.msg, "damaged"), "%s: %s",
         path, err.msg);
    free(good);
}

#ifndef _WIN32
static int kill_at(void *user, const fc_progress *p) {
    if (strcmp(p->what, "healing") == 0 && (*(int *)user)-- == 0) raise(SIGKILL);
    return 0;
}

static int come_to(void *user, const fc_progress *p) { // where nothing is yet
    FILE *there = fopen((const char *)user, "rb");
    (void)p;
    if (there) fclose(there);
    else write_file((const char *)user, "mine", 4);
    return 0;
}

// A stranger's file that comes to the result's name or its checkpoint's stays; what was healed is
// kept in the checkpoint then, unless that is the stranger's.
static void test_came_since(const char *path) {
    fc_error err;
    size_t size = 0, n = 0;
    char *first = heal_bytes(path, 2, 0, &size);
    for (int i = 0; first && i < 2; i++) {
        fc_heal_desc d = some_desc(path);
        char *to = i ? partial : out;
        remove_files();
        d.watch.progress = come_to;
        d.watch.user = to;
        T_OK(heal_some(path, 1, 0, &d, &err) == FC_ERR_IO &&
                 strstr(err.msg, ": cannot finish: expected no file there") &&
                 (strstr(err.msg, "`resume`") == NULL) == (i == 1),
             "%s", err.msg);
        char *mine = t_read(partial, &n);
        T_OK(mine && (i == 1) == (n == 4), "what was healed is kept");
        free(mine);
        mine = t_read(to, &n);
        T_OK(mine && n == 4 && !memcmp(mine, "mine", 4), "%s stays", to);
        free(mine);
        remove(to);
        d = some_desc(path);
        d.resume = 1;
        T_OK(heal_some(path, 2, 0, &d, &err) == FC_OK, "%s", err.msg);
        char *again = t_read(out, &n);
        T_OK(again && n == size && memcmp(first, again, n) == 0, "resumed: other bytes");
        free(again);
    }
    free(first);
}

// Killed in every sublayer in turn, twice, and resumed: the bytes of an undisturbed run.
static void test_killed(const char *path) {
    size_t size = 0, n = 0, there = 0, most = 0;
    char *first = heal_bytes(path, 2, 0, &size);
    for (int at = 0, killed[2] = {1, 0}; killed[0] && at < 40; at++) {
        fc_heal_desc d = some_desc(path);
        fc_error err;
        remove_files();
        for (int again = 0; again < 1 + killed[0]; again++) {
            const pid_t child = fork();
            int status = 0, left = at;
            if (child == 0) {
                d.watch.progress = kill_at;
                d.watch.user = &left;
                d.resume = again;
                _exit(heal_some(path, 1, 0, &d, &err) != FC_OK);
            }
            T_OK(child > 0 && waitpid(child, &status, 0) == child, "fork");
            killed[again] = WIFSIGNALED(status) != 0;
        }
        there = 0;
        free(t_read(partial, &there));
        T_OK(!killed[0] || !killed[1] || there > 0, "killed at %d: own text is kept at once", at);
        most += there > 0;
        d.resume = 1;
        T_OK(heal_some(path, 2, 0, &d, &err) == FC_OK, "killed at %d: %s", at, err.msg);
        char *again = t_read(out, &n);
        T_OK(again && n == size && memcmp(first, again, n) == 0, "killed at %d: other bytes", at);
        free(again);
    }
    T_OK(most > 2, "%s: %d checkpoints", path, (int)most);
    free(first);
}
#endif

// What is said to be used is: whole sequences of the text and of own ones.
static void test_tokens_used(const char *path) {
    fc_heal_desc d = some_desc(path);
    fc_error err;
    fc_heal_result result;
    fci_str own = {"", 0};
    uint8_t mask[64];
    fc_model *m = open_f32(path, NULL, NULL, 1, 0);
    if (!m) return;
    const fc_tokens text = text_of(ids_of_text, (uint32_t)m->hyper.vocab);
    memset(mask, 1, sizeof mask);
    mask[0] = 0;
    d.mask = mask;
    d.text = &text;
    d.path = out;
    d.own = 71;
    remove_files();
    T_OK(fc_heal(m, &d, &result, &err) == FC_OK && result.n_tokens == N_ROWS + 64,
         "%llu tokens: %s", (unsigned long long)result.n_tokens, err.msg);
    fc_container *c = fc_container_open(out, NULL, &err);
    T_OK(c && fci_kv_str(fci_container_kv(c, "finercut.heal.own"), &own) && fci_is(own, "64"),
         "own: %.*s", (int)own.n, own.p);
    fc_container_close(c);
    fc_tokens late = text; // the second half of what the ids are of
    late.n_sequences = N_SEQUENCES / 2;
    late.starts = text_starts + N_SEQUENCES / 2;
    d.text = &late;
    remove_files();
    T_OK(fc_heal(m, &d, &result, &err) == FC_OK &&
             result.n_tokens == N_SEQUENCES / 2 * LENGTH + 64,
         "%llu tokens of a text that begins late: %s", (unsigned long long)result.n_tokens,
         err.msg);
    late.starts = NULL;
    remove_files();
    T_OK(fc_heal(m, &d, &result, &err) == FC_ERR_ARGUMENT && strstr(err.msg, "one sequence"),
         "a text without starts: %s", err.msg);
    fc_model_close(m);
}

static void test_nothing_removed(const char *path) {
    fc_heal_desc d;
    fc_error err;
    uint8_t mask[64];
    fc_heal_result result;
    fc_model *m = open_f32(path, NULL, NULL, 1, 0);
    memset(mask, 1, sizeof mask);
    memset(&d, 0, sizeof d);
    d.mask = mask;
    d.path = out;
    remove_files();
    T_OK(fc_heal(m, &d, &result, &err) == FC_OK && result.n_removed == 0 && result.n_changed == 0,
         "nothing removed: %s", err.msg);
    fc_container *c = fc_container_open(out, NULL, &err);
    T_OK(c && fc_container_tensor_count(c) == 0, "nothing removed: %s", err.msg);
    fc_container_close(c);
    fc_model_close(m);
    m = open_f32(path, out, NULL, 1, 0);
    T_OK(m && fc_model_healed(m), "nothing removed: not read");
    fc_model_close(m);
}

static void refused(fc_model *m, const fc_tokens *text, const uint8_t *mask, fc_heal_desc *d,
                    fc_code code, const char *word) {
    fc_error err;
    const fc_code got = heal(m, text, mask, d, &err);
    T_OK(got == code && strstr(err.msg, word), "expected %s, got %s: %s", word, fc_code_name(got),
         err.msg);
}

static void test_refusals(const char *path) {
    uint8_t mask[64];
    fc_heal_desc d;
    fc_error err;
    fc_model *m = open_f32(path, NULL, NULL, 1, 0);
    fc_tokens text = text_of(ids_of_text, (uint32_t)m->hyper.vocab), one = text;
    FILE *f;
    memset(mask, 1, sizeof mask);
    memset(&d, 0, sizeof d);
    remove_files();
    mask[1] = 0;
    refused(m, NULL, mask, &d, FC_ERR_ARGUMENT, "at least 2 sequences");
    one.n_sequences = 1;
    refused(m, &one, mask, &d, FC_ERR_ARGUMENT, "at least 2 sequences");
    refused(m, &text, NULL, &d, FC_ERR_ARGUMENT, "no mask");
    d.ridge = -1;
    refused(m, &text, mask, &d, FC_ERR_ARGUMENT, "ridge");
    d.scale = 1;
    d.ridge = 0.1;
    refused(m, &text, mask, &d, FC_ERR_ARGUMENT, "0 where a factor is fitted");
    d.scale = 0;
    d.ridge = 0;
    d.type = FC_DTYPE_Q8_0;
    refused(m, &text, mask, &d, FC_ERR_ARGUMENT, "type");
    d.type = FC_DTYPE_INVALID;
    d.date = FCI_DATES;
    refused(m, &text, mask, &d, FC_ERR_ARGUMENT, "date");
    d.date = 0;
    mask[1] = 2;
    refused(m, &text, mask, &d, FC_ERR_ARGUMENT, "mask");
    mask[1] = 0;
    ids_of_text[5] = (uint32_t)m->hyper.vocab;
    refused(m, &text, mask, &d, FC_ERR_ARGUMENT, "below");
    text = text_of(ids_of_text, (uint32_t)m->hyper.vocab);
    for (int i = 0; i < 2; i++) {
        f = fopen(i ? partial : out, "wb");
        if (f) fclose(f);
        refused(m, &text, mask, &d, FC_ERR_MISMATCH, i ? "checkpoint" : "no file there");
        remove_files();
    }
    d.path = path;
    d.mask = mask;
    d.text = &text;
    T_OK(fc_heal(m, &d, NULL, &err) == FC_ERR_ARGUMENT && strstr(err.msg, "another path"), "%s",
         err.msg);
    d.path = "/proc/x";
    if (fci_platform_free_bytes("/proc/") == 0)
        T_OK(fc_heal(m, &d, NULL, &err) == FC_ERR_IO && strstr(err.msg, "free space, got 0"),
             "no room: %s", err.msg);
    else t_skip("no room for what is healed", "no file system without room here");
    fc_model_close(m);
}

// Rows that are not finite are no result.
static void test_not_finite(const char *path) {
    uint8_t mask[64];
    fc_heal_desc d;
    fc_model *m = open_f32(path, NULL, NULL, 1, 0);
    const fc_tokens text = text_of(ids_of_text, (uint32_t)m->hyper.vocab);
    float *norm_weight = (float *)(uintptr_t)m->layers[1].attn_norm.weight, was = norm_weight[0];
    memset(mask, 1, sizeof mask);
    memset(&d, 0, sizeof d);
    mask[1] = 0;
    remove_files();
    norm_weight[0] = (float)NAN;
    refused(m, &text, mask, &d, FC_ERR_NUMERIC, "not finite");
    norm_weight[0] = was;
    fc_model_close(m);
}

// Every allocation fails in turn: an error, and nothing is left behind.
static void test_no_memory(const char *path) {
    static memory world;
    uint8_t mask[64];
    fc_error err;
    fc_model_desc desc;
    memset(&world, 0, sizeof world);
    memset(&desc, 0, sizeof desc);
    desc.env.alloc = memory_env(&world).alloc;
    desc.env.par.n_threads = 1;
    fc_model *m = fc_model_open(path, &desc, &err);
    if (!T_OK(m != NULL, "%s: %s", path, err.msg)) return;
    const fc_tokens text = text_of(ids_of_text, (uint32_t)m->hyper.vocab);
    memset(mask, 1, sizeof mask);
    mask[0] = mask[3] = 0;
    fc_heal_desc d = some_desc(path);
    d.own = 64;
    fc_code code = FC_ERR_MEMORY;
    long n = 1, live = 0;
    for (; n < 1000 && code; n++) {
        if (n == 2) live = world.live; // the tokenizer is looked for once
        remove_files();
        world.allocs = 0;
        world.fail_alloc = n;
        code = heal(m, &text, mask, &d, &err);
        T_OK(code == FC_OK || code == FC_ERR_MEMORY, "allocation %ld: %s", n, err.msg);
        T_OK(n < 2 || world.live == live, "allocation %ld: %ld are left", n, world.live - live);
    }
    T_OK(code == FC_OK && n > 20, "%ld allocations: %s", n, err.msg);
    world.fail_alloc = 0;
    fc_model_close(m);
    T_OK(world.live == 0, "%ld allocations are left", world.live);
}

static long writes, full_at;
static int (*write_on)(void *user, void *file, const void *data, size_t n);

static int write_till_full(void *user, void *file, const void *data, size_t n) {
    return ++writes == full_at ? ENOSPC : write_on(user, file, data, n);
}

// Every write fails in turn: an error, and no result.
static void test_no_room(const char *path) {
    fc_error err;
    uint8_t mask[64];
    fc_model *m = fc_model_open(path, NULL, &err);
    if (!T_OK(m != NULL, "%s: %s", path, err.msg)) return;
    const fc_tokens text = text_of(ids_of_text, (uint32_t)m->hyper.vocab);
    memset(mask, 1, sizeof mask);
    mask[0] = mask[3] = 0;
    fc_heal_desc d = some_desc(path);
    fc_code code = FC_ERR_IO;
    write_on = m->c.io.write;
    m->c.io.write = write_till_full;
    for (full_at = 1; full_at < 1000 && code; full_at++) {
        remove_files();
        writes = 0;
        code = heal(m, &text, mask, &d, &err);
        T_OK(code ? code == FC_ERR_IO && strstr(err.msg, "write") && !fci_platform_same(out, out)
                  : fci_platform_same(out, out),
             "write %ld: %s", full_at, err.msg);
    }
    T_OK(code == FC_OK && full_at > 20, "%ld writes: %s", full_at, err.msg);
    fc_model_close(m);
}

static uint64_t least_of(const fc_error *err) {
    unsigned long long least = 0;
    const char *at = strstr(err->msg, "at least ");
    T_OK(err->code == FC_ERR_LIMIT && at && sscanf(at, "at least %llu", &least) == 1, "%s",
         err->msg);
    return least;
}

static int never(void *user, const fc_progress *p) {
    (void)user;
    T_OK(0, "%s has begun", p->what);
    return 1;
}

/* Too little memory is told before a token is written, and by numbers that are true. */
static void test_little(const char *path) {
    fc_heal_desc d = some_desc(path);
    fc_error err;
    unsigned long long fit = 0;
    d.own = 4000;
    d.watch.progress = never;
    remove_files();
    T_OK(heal_some(path, 1, 6000000, &d, &err) == FC_ERR_LIMIT, "little memory: %s", err.msg);
    const char *at = strstr(err.msg, "; about ");
    if (!T_OK(at && sscanf(at, "; about %llu tokens would fit", &fit) == 1 && fit > N_ROWS &&
                  fit < 4000, "%s", err.msg))
        return;
    d.own = (size_t)fit - N_ROWS;
    d.watch.progress = NULL;
    T_OK(heal_some(path, 1, 6000000, &d, &err) == FC_OK, "%llu tokens: %s", fit, err.msg);
    remove_files();
    T_OK(heal_some(path, 1, 1, &d, &err) == FC_ERR_LIMIT &&
             strstr(err.msg, "; no number of tokens would fit"), "a byte: %s", err.msg);
}

/* With the bytes that the error asks for it runs. */
static void test_own_least(const char *path) {
    fc_error err;
    fc_own_desc how;
    fc_tokens t;
    memset(&how, 0, sizeof how);
    how.tokens = 640;
    how.length = 16;
    fc_model *m = open_f32(path, NULL, NULL, 1, 1);
    fc_tokens_own(m, &how, &t, &err);
    fc_model_close(m);
    m = open_f32(path, NULL, NULL, 1, least_of(&err));
    T_OK(fc_tokens_own(m, &how, &t, &err) == FC_OK && t.n_sequences == 40, "%s", err.msg);
    fc_tokens_free(&t);
    fc_model_close(m);
}

static void test_own(const char *path) {
    fc_tokens all, some;
    fc_error err;
    fc_own_desc how;
    fc_model *m = open_f32(path, NULL, NULL, 2, 0);
    memset(&how, 0, sizeof how);
    how.tokens = 200;
    how.length = 20;
    T_OK(fc_tokens_own(m, &how, &all, &err) == FC_OK && all.n_sequences == 10, "%s", err.msg);
    fc_model_close(m);
    m = open_f32(path, NULL, NULL, 1, 650000); // few at a time
    how.tokens = 100;
    T_OK(fc_tokens_own(m, &how, &some, &err) == FC_OK && some.n_sequences == 5, "%s", err.msg);
    T_OK(all.ids && some.ids && memcmp(all.ids, some.ids, 100 * sizeof *all.ids) == 0,
         "own text: other tokens in other batches");
    fc_tokens_free(&some);
    how.seed = 5;
    T_OK(fc_tokens_own(m, &how, &some, &err) == FC_OK &&
             memcmp(all.ids, some.ids, 100 * sizeof *all.ids) != 0,
         "own text: the same with another seed");
    fc_tokens_free(&some);
    fc_tokens_free(&all);
    how.length = 1 << 20;
    how.tokens = 1 << 21;
    T_OK(fc_tokens_own(m, &how, &some, &err) == FC_ERR_ARGUMENT, "own text: too long");
    fc_model_close(m);
}

int main(int argc, char **argv) {
    static const char *const families[] = {
        DATA "llama_f32_bias", DATA "llama_q4_1.gguf", DATA "mistral",     DATA "mixtral",
        DATA "mixtral.gguf",   DATA "qwen2",           DATA "qwen3",       DATA "qwen3_moe",
        DATA "gemma",          DATA "gemma2",          DATA "gemma3.gguf", DATA "phi3",
        DATA "phi3_long",      DATA "olmo2",           DATA "granite",     DATA "smollm3",
        DATA "stablelm",       DATA "starcoder2",      DATA "gpt_neox",    DATA "gpt2",
        DATA "gpt2.gguf",      DATA "gpt_neox_sequential"};
    own_paths();
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (argc < 2 || strstr(families[i], argv[1])) test_family(families[i], 0.1);
    if (argc < 2) {
        for (repeats = 4; repeats > 1; repeats--) test_family(DATA "llama_f32_bias", 0.1);
        test_family(DATA "qwen2", 0);
        test_family(DATA "gemma2", 0);
        test_family(DATA "mixtral", 0);
        repeats = 0;
        test_same_bytes(DATA "llama_f32_bias");
        test_same_bytes(DATA "qwen3_moe");
        own_tokens = 5000; // more than a chunk: with little memory, X is computed again
        test_same_bytes(DATA "llama_f32_bias");
        test_same_bytes(DATA "gemma2");
        own_tokens = 160;
        test_resume(DATA "llama_bf16_old_config");
        test_resume(DATA "mixtral.gguf");
        test_whole_own(DATA "llama_bf16_old_config");
        test_earlier(DATA "llama_bf16_old_config");
        test_own_kept(DATA "llama_bf16_old_config");
        test_damaged(DATA "llama_bf16_old_config");
#ifndef _WIN32
        test_killed(DATA "llama_bf16_old_config");
        test_came_since(DATA "llama_bf16_old_config");
#endif
        test_tokens_used(DATA "llama_f32_bias");
        test_nothing_removed(DATA "llama_f32_bias");
        test_refusals(DATA "llama_f16.gguf");
        test_not_finite(DATA "llama_f32_bias");
        test_no_memory(DATA "llama_f16_sharded");
    test_no_room(DATA "llama_f16_sharded");
        test_own(DATA "llama_f32_bias");
        test_own_least(DATA "llama_f32_bias");
        test_little(DATA "llama_f32_bias");
    }
    remove_files();
    return t_end("test_heal");
}
