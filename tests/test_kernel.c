/* The kernel room: every table this machine can run against double precision, against the scalar
   table, and against itself with other threads, neighbours and pieces (equal bits). */
#include "private.h"
#include "t.h"

static uint64_t seed = 88172645463325252u;

static double uniform(void) { /* in [-1, 1) */
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (double)(seed >> 11) / 4503599627370496.0 - 1;
}

static fci_context context(fc_simd simd, uint32_t threads) {
    fc_env env;
    fci_context c;
    fc_error err;
    memset(&env, 0, sizeof env);
    env.par.n_threads = threads;
    T_OK(fci_context_begin(&c, &env, &err) == FC_OK, "%s", err.msg);
    c.kernels = fci_kernels_pick(simd);
    return c;
}

/* n floats, GUARD poisoned ones on both sides; p is not aligned to more than a float. */
#define GUARD 37
static float *guarded(size_t n) {
    float *p = (float *)malloc((n + 2 * GUARD) * sizeof *p);
    size_t i;
    if (!p) exit(3);
    for (i = 0; i < n + 2 * GUARD; i++) p[i] = NAN;
    return p + GUARD;
}

static int intact(const float *p, size_t n) {
    size_t i;
    for (i = 0; i < GUARD; i++)
        if (!isnan(p[n + i]) || !isnan((p - GUARD)[i])) return 0;
    return 1;
}

static void drop(float *p) {
    free(p - GUARD);
}

static float *random_floats(size_t n, double scale) {
    float *p = guarded(n);
    size_t i;
    for (i = 0; i < n; i++) p[i] = (float)(uniform() * scale);
    return p;
}

/* Floats become what files hold, little-endian, in place. */
static void store(float *w, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = fci_float_bits(w[i]);
        unsigned char b[4];
        for (int k = 0; k < 4; k++) b[k] = (unsigned char)(bits >> (8 * k) & 255);
        memcpy(w + i, b, 4);
    }
}

static int same(const float *a, const float *b, size_t n) {
    return n == 0 || memcmp(a, b, n * sizeof *a) == 0;
}

static float as_bf16(float x) {
    return fci_bf16_to_f32(fci_f32_to_bf16(x));
}

/* ---- GEMM */

static void gemm_by(const fci_context *c, fc_compute compute, fci_gemm_op op, const float *x,
                    size_t ldx, size_t m, size_t k, const fci_gemm_part *part) {
    fc_error err;
    void *packed = fci_alloc(c, fci_gemm_packed_bytes(c, compute, m, k) + 1, 1, "packed", &err);
    void *scratch = fci_alloc(c, fci_gemm_scratch_bytes(c, compute), 1, "scratch", &err);
    memset(packed, 0xff, (size_t)fci_gemm_packed_bytes(c, compute, m, k));
    memset(scratch, 0xff, fci_gemm_scratch_bytes(c, compute));
    fci_gemm_pack(c, compute, x, ldx, m, k, NULL, packed);
    fci_gemm(c, compute, op, packed, m, k, part, 1, scratch);
    fci_free(c, packed);
    fci_free(c, scratch);
}

static void gemm(const fci_context *c, fc_compute compute, fci_gemm_op op, const float *x,
                 size_t ldx, size_t m, size_t k, const fci_matrix *w, uint64_t first, uint64_t n,
                 const float *bias, float *y, size_t ldy) {
    const fci_gemm_part part = {w, first, n, bias, y, ldy, NULL};
    gemm_by(c, compute, op, x, ldx, m, k, &part);
}

static fci_matrix matrix(const void *data, fc_dtype type, size_t rows, size_t cols,
                         size_t row_bytes) {
    fci_matrix w;
    memset(&w, 0, sizeof w);
    w.data = data;
    w.type = type;
    w.rows = rows;
    w.cols = cols;
    w.row_bytes = row_bytes;
    return w;
}

/* One K: every m and n around the tile's edges, against double precision, with padding watched. */
static void gemm_shapes(const fci_context *c, fc_compute compute, size_t k) {
    const fci_tile *t = fci_gemm_tile(c, compute);
    const size_t ms[] = {1, 2, 3, t->mr - 1, t->mr, t->mr + 1, 3 * t->mr + 2};
    const size_t ns[] = {1, 2, t->nr - 1, t->nr, t->nr + 1, 5 * t->nr + 3};
    const size_t m_max = ms[6], n_max = ns[5], ldx = k + 3;
    float *x = random_floats(m_max * ldx, 2), *w = random_floats(n_max * k, 1),
          *bias = random_floats(n_max, 1);
    double *sum = (double *)malloc(m_max * n_max * sizeof *sum),
           *size = (double *)malloc(m_max * n_max * sizeof *size);
    size_t i, j, l, a, b;
    int op;
    fci_matrix mw = matrix(w, FC_DTYPE_F32, n_max, k, k * 4);
    for (i = 0; i < m_max; i++)
        for (l = k; l < ldx; l++) x[i * ldx + l] = NAN;
    for (i = 0; i < m_max; i++)
        for (j = 0; j < n_max; j++) {
            double s = 0, z = 0;
            for (l = 0; l < k; l++) {
                float p = x[i * ldx + l], q = w[j * k + l];
                double v = compute == FC_COMPUTE_BF16 ? (double)as_bf16(p) * (double)as_bf16(q)
                                                      : (double)p * (double)q;
                s += v;
                z += fabs(v);
            }
            sum[i * n_max + j] = s;
            size[i * n_max + j] = z;
        }
    store(w, n_max * k);
    for (a = 0; a < 7; a++)
        for (b = 0; b < 6; b++)
            for (op = 0; op < 4; op++) {
                size_t m = ms[a], n = ns[b], ldy = n + 5, bad = 0, touched = 0;
                float *y = guarded(m * ldy), *before = random_floats(n, 3);
                for (i = 0; i < m; i++)
                    if (op & 1) memcpy(y + i * ldy, before, n * sizeof *y);
                gemm(c, compute, op & 1 ? FCI_GEMM_ADD : FCI_GEMM_STORE, x, ldx, m, k, &mw, 0, n,
                     op & 2 ? bias : NULL, y, ldy);
                for (i = 0; i < m; i++) {
                    for (j = 0; j < n; j++) {
                        double want = sum[i * n_max + j] + (op & 2 ? (double)bias[j] : 0) +
                                      (op & 1 ? (double)before[j] : 0);
                        double room =
                            6e-8 * ((double)(k + 2) * size[i * n_max + j] + 2 * fabs(want) + 8);
                        if (!(fabs((double)y[i * ldy + j] - want) <= room)) bad++;
                    }
                    for (j = n; j < ldy; j++) touched += !isnan(y[i * ldy + j]);
                }
                T_OK(bad == 0, "%s compute %d m %zu n %zu k %zu op %d: %zu wrong",
                     fc_simd_name(c->kernels->simd), (int)compute, m, n, k, op, bad);
                T_OK(touched == 0 && intact(y, m * ldy), "%s m %zu n %zu k %zu: wrote outside",
                     fc_simd_name(c->kernels->simd), m, n, k);
                drop(y);
                drop(before);
            }
    free(sum);
    free(size);
    drop(x);
    drop(w);
    drop(bias);
}

/* The same bits for any threads, any part of the rows, any part of the weights, any other row's
   NaN. */
static void gemm_bits(fc_simd simd, fc_compute compute) {
    static const uint32_t threads[] = {2, 3, 5};
    const size_t m = 301, k = 600, n = 467;
    fci_context c = context(simd, 1);
    float *x = random_floats(m * k, 1), *w = random_floats(n * k, 1), *bias = random_floats(n, 1);
    float *y = guarded(m * n), *z = guarded(m * n);
    fci_matrix mw = matrix(w, FC_DTYPE_F32, n, k, k * 4);
    size_t i;
    store(w, n * k);
    gemm(&c, compute, FCI_GEMM_STORE, x, k, m, k, &mw, 0, n, bias, y, n);
    for (i = 0; i < 3; i++) {
        fci_context more = context(simd, threads[i]);
        gemm(&more, compute, FCI_GEMM_STORE, x, k, m, k, &mw, 0, n, bias, z, n);
        T_OK(same(y, z, m * n), "%s compute %d: %u threads, other bits", fc_simd_name(simd),
             (int)compute, threads[i]);
        fci_context_end(&more);
    }
    for (i = 0; i < m; i += 50) {
        gemm(&c, compute, FCI_GEMM_STORE, x + i * k, k, 1, k, &mw, 0, n, bias, z, n);
        T_OK(same(y + i * n, z, n), "%s compute %d: row %zu alone, other bits", fc_simd_name(simd),
             (int)compute, i);
    }
    gemm(&c, compute, FCI_GEMM_STORE, x + 7 * k, k, 100, k, &mw, 0, n, bias, z, n);
    T_OK(same(y + 7 * n, z, 100 * n), "%s compute %d: rows 7 to 106, other bits",
         fc_simd_name(simd), (int)compute);
    gemm(&c, compute, FCI_GEMM_STORE, x, k, 1, k, &mw, 33, 100, bias + 33, z, n);
    T_OK(same(y + 33, z, 100), "%s compute %d: outputs 33 to 132, other bits", fc_simd_name(simd),
         (int)compute);
    x[5 * k + 3] = NAN;
    gemm(&c, compute, FCI_GEMM_STORE, x, k, m, k, &mw, 0, n, bias, z, n);
    T_OK(isnan(z[5 * n]) && isnan(z[6 * n - 1]), "%s: a NaN was lost", fc_simd_name(simd));
    T_OK(same(y, z, 5 * n) && same(y + 6 * n, z + 6 * n, (m - 6) * n),
         "%s: a NaN went to other rows", fc_simd_name(simd));
    fci_context_end(&c);
    drop(x);
    drop(w);
    drop(bias);
    drop(y);
    drop(z);
}

/* What is fused has the bits of its steps: several matrices at once, norms before packing, the
   gated activation behind two matrices that feed the next GEMM. */
static void gemm_fused(const fci_context *c, fc_compute compute, size_t m, size_t k, size_t inner,
                       size_t n) {
    fc_error err;
    float *x = random_floats(m * k, 1), *normed = guarded(m * k), *weight = random_floats(k, 1);
    float *wg = random_floats(inner * k, 1), *wu = random_floats(inner * k, 1),
          *wd = random_floats(n * inner, 1);
    float *bias = random_floats(inner, 1), *g = guarded(m * inner), *u = guarded(m * inner),
          *y = guarded(m * n), *z = guarded(m * n);
    const fci_matrix mg = matrix(wg, FC_DTYPE_F32, inner, k, k * 4),
                     mu = matrix(wu, FC_DTYPE_F32, inner, k, k * 4);
    const fci_matrix md = matrix(wd, FC_DTYPE_F32, n, inner, inner * 4);
    const fci_gemm_part gate_up[] = {{&mg, 0, inner, bias, NULL, 0, NULL},
                                     {&mu, 0, inner, NULL, NULL, 0, NULL}},
                        down = {&md, 0, n, NULL, y, n, NULL};
    const fci_rms_norm norm = {weight, 1e-5f};
    const size_t bytes = (size_t)fci_gemm_packed_bytes(c, compute, m, k),
                 fed_bytes = (size_t)fci_gemm_packed_bytes(c, compute, m, inner);
    void *packed = fci_alloc(c, bytes, 1, "packed", &err),
         *fed = fci_alloc(c, fed_bytes, 1, "packed", &err);
    void *scratch = fci_alloc(c, fci_gemm_scratch_bytes(c, compute), 1, "scratch", &err);
    store(wg, inner * k), store(wu, inner * k), store(wd, n * inner);
    memset(packed, 0xff, bytes);
    memset(fed, 0xff, fed_bytes);
    memset(scratch, 0xff, fci_gemm_scratch_bytes(c, compute));
    fci_gemm_pack(c, compute, x, k, m, k, &norm, packed);
    fci_gemm_into(c, compute, packed, m, k, gate_up, 2, FCI_SILU, fed, scratch);
    fci_gemm(c, compute, FCI_GEMM_STORE, fed, m, inner, &down, 1, scratch);
    fci_rows_rmsnorm(c, x, k, weight, 1e-5f, m, k, normed, k);
    gemm(c, compute, FCI_GEMM_STORE, normed, k, m, k, &mg, 0, inner, bias, g, inner);
    gemm(c, compute, FCI_GEMM_STORE, normed, k, m, k, &mu, 0, inner, NULL, u, inner);
    for (size_t i = 0; i < m; i++)
        c->kernels->activate(FCI_SILU, g + i * inner, u + i * inner, inner);
    gemm(c, compute, FCI_GEMM_STORE, g, inner, m, inner, &md, 0, n, NULL, z, n);
    T_OK(same(y, z, m * n) && intact(y, m * n),
         "%s compute %d: m %zu k %zu inner %zu: fused FFN, other bits",
         fc_simd_name(c->kernels->simd), (int)compute, m, k, inner);
    const fci_gemm_part both[] = {{&mg, 0, inner, bias, g, inner, NULL},
                                  {&mu, 3, inner - 3, NULL, u, inner, NULL},
                                  {&mg, 1, 1, NULL, z, 1, NULL}};
    float *a = guarded(m * inner), *b = guarded(m * inner), *one = guarded(m);
    fci_gemm(c, compute, FCI_GEMM_STORE, packed, m, k, both, 3, scratch);
    gemm(c, compute, FCI_GEMM_STORE, normed, k, m, k, &mg, 0, inner, bias, a, inner);
    gemm(c, compute, FCI_GEMM_STORE, normed, k, m, k, &mu, 3, inner - 3, NULL, b, inner);
    gemm(c, compute, FCI_GEMM_STORE, normed, k, m, k, &mg, 1, 1, NULL, one, 1);
    size_t bad = 0;
    for (size_t i = 0; i < m; i++) bad += !same(u + i * inner, b + i * inner, inner - 3);
    T_OK(same(g, a, m * inner) && bad == 0 && same(z, one, m),
         "%s compute %d: m %zu: three matrices at once, other bits", fc_simd_name(c->kernels->simd),
         (int)compute, m);
    fci_free(c, packed);
    fci_free(c, fed);
    fci_free(c, scratch);
    float *all[] = {x, normed, weight, wg, wu, wd, bias, g, u, y, z, a, b, one};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(all[i]);
}

/* A storage type gives what its decoded floats give, also from odd addresses, and a single row what
   it gives among others, but where it is rounded. */
static void gemm_type(const fci_context *c, fc_compute compute, const char *name, fc_dtype type,
                      size_t k, size_t row) {
    const size_t m = 9, n = 70;
    float *x = random_floats(m * k, 1), *w = guarded(n * k), *y = guarded(m * n),
          *z = guarded(m * n);
    unsigned char *data = (unsigned char *)malloc(n * row + 1);
    fci_matrix stored = matrix(data + 1, type, n, k, row),
               plain = matrix(w, FC_DTYPE_F32, n, k, k * 4);
    size_t i;
    for (i = 0; i <= n * row; i++)
        data[i] = (unsigned char)((uniform() + 1) * 128) & 0xbf; /* finite in every type */
    for (i = 0; i < n; i++) fci_number_decode(type, data + 1 + i * row, 0, k, w + i * k);
    store(w, n * k);
    gemm(c, compute, FCI_GEMM_STORE, x, k, m, k, &plain, 0, n, NULL, y, n);
    gemm(c, compute, FCI_GEMM_STORE, x, k, m, k, &stored, 0, n, NULL, z, n);
    T_OK(same(y, z, m * n), "%s compute %d: %s weights differ from their floats, k %d",
         fc_simd_name(c->kernels->simd), (int)compute, name, (int)k);
    gemm(c, compute, FCI_GEMM_STORE, x, k, 1, k, &stored, 0, n, NULL, z, n);
    T_OK(same(y, z, n) != (compute == FC_COMPUTE_I8 && fci_turned_has(FCI_TURNED_ROUNDED, type)),
         "%s compute %d: a single row of %s weights differs from the first of nine, k %d",
         fc_simd_name(c->kernels->simd), (int)compute, name, (int)k);
    free(data);
    drop(x);
    drop(w);
    drop(y);
    drop(z);
}

/* A copy is filled by a single row, whose bits stay, some panels by one call and the rest by the
   next, and read by those after them, when the stored rows are gone. Rows from an odd place on take
   no copy. */
static void gemm_copy(const fci_context *c, fc_compute compute, fc_dtype type, size_t k) {
    const size_t n = 70, row = (size_t)fci_number_bytes(type, k), panels = (n + 15) / 16;
    const fci_tile *tile = fci_gemm_tile(c, compute);
    fci_turned t;
    if (!fci_turned_has(tile->turns, type)) return;
    if (!T_OK(fci_turned_of(tile->turns, type, &t), "%s: not turned", fc_dtype_name(type))) return;
    T_OK(t.size == fci_number_bytes(type, t.per), "%s: %d in %d bytes", fc_dtype_name(type), t.per,
         t.size);
    const size_t bytes = panels * FCI_TURNED_ROWS * row;
    float *x = random_floats(k, 1), *y = guarded(n), *z = guarded(n);
    unsigned char *data = (unsigned char *)malloc(n * row + 1);
    char *turned = (char *)malloc(bytes + 1), *twin = (char *)malloc(FCI_TURNED_ROWS * row);
    bool filled[5] = {false};
    const fci_gemm_copy copy = {turned, filled};
    const fci_matrix w = matrix(data + 1, type, n, k, row);
    const size_t firsts[] = {0, 32, 0, 5, 32}, rows[] = {32, 38, 35, 9, 38};
    turned[bytes] = 0x5a;
    for (size_t i = 0; i <= n * row; i++)
        data[i] = (unsigned char)((uniform() + 1) * 128) & 0xbf; /* finite in every type */
    gemm(c, compute, FCI_GEMM_STORE, x, k, 1, k, &w, 0, n, NULL, y, n);
    for (size_t i = 0; i < 5; i++) {
        const fci_gemm_part part = {&w, firsts[i], rows[i], NULL, z, n, &copy};
        gemm_by(c, compute, FCI_GEMM_STORE, x, k, 1, k, &part);
        T_OK(same(y + firsts[i], z, rows[i]) == (i != 3),
             "%s compute %d: %s weights turned differ from stored ones, k %d, %d rows from %d",
             fc_simd_name(c->kernels->simd), (int)compute, fc_dtype_name(type), (int)k,
             (int)rows[i], (int)firsts[i]);
        T_OK(filled[1] && filled[4] == (i > 0), "%s compute %d: %s: what is filled",
             fc_simd_name(c->kernels->simd), (int)compute, fc_dtype_name(type));
        const char *first[FCI_TURNED_ROWS];
        for (size_t r = 0; r < FCI_TURNED_ROWS; r++) first[r] = fci_matrix_row(&w, r);
        if (i == 0) fci_turned_turn(&t, first, k / t.per, 0, twin);
        T_OK(memcmp(twin, turned, FCI_TURNED_ROWS * row) == 0, "%s: %s turned otherwise",
             fc_simd_name(c->kernels->simd), fc_dtype_name(type));
        if (i == 1) memset(data, 0, n * row + 1);
    }
    T_OK(turned[bytes] == 0x5a, "%s: written past the copy", fc_dtype_name(type));
    free(data);
    free(turned);
    free(twin);
    drop(x), drop(y), drop(z);
}

/* Every storage type that there is a decoder for, with one block of K and more, of whole blocks of
   weights or not. */
static void gemm_types(const fci_context *c, fc_compute compute) {
    static const size_t ks[] = {768, 800, 2304, 32};
    size_t seen = 0;
    for (int t = 1; t < FC_DTYPE_COUNT; t++) {
        const fc_dtype type = (fc_dtype)t;
        if (!fci_number_can_decode(type)) continue;
        seen++;
        for (size_t i = 0; i < sizeof ks / sizeof *ks; i++)
            if (ks[i] % fci_number_block(type) == 0) {
                gemm_type(c, compute, fc_dtype_name(type), type, ks[i],
                          (size_t)fci_number_bytes(type, ks[i]));
                if (i < 2) gemm_copy(c, compute, type, ks[i]); /* two blocks of K */
            }
    }
    T_OK(seen == 17, "%d storage types", (int)seen);
}

/* Matrices of different types in one product, some of their panels alone, and as gate and up of an
   FFN: a single row is what it is among others. */
static void gemm_mixed(const fci_context *c, fc_compute compute) {
    static const fc_dtype types[] = {FC_DTYPE_Q4_K, FC_DTYPE_Q6_K, FC_DTYPE_BF16, FC_DTYPE_Q4_0};
    enum { M = 9, K = 1280, N = 48, PARTS = 4 };
    fc_error err;
    fci_matrix w[PARTS];
    fci_gemm_part parts[PARTS], alone[PARTS];
    float *x = random_floats(M * K, 1), *many = guarded(M * N * PARTS), *one = guarded(N * PARTS);
    void *packed = fci_alloc(c, fci_gemm_packed_bytes(c, compute, M, K), 1, "packed", &err),
         *single = fci_alloc(c, fci_gemm_packed_bytes(c, compute, 1, K), 1, "packed", &err),
         *fed = fci_alloc(c, fci_gemm_packed_bytes(c, compute, M, N), 1, "packed", &err),
         *scratch = fci_alloc(c, fci_gemm_scratch_bytes(c, compute), 1, "scratch", &err);
    memset(scratch, 0xff, fci_gemm_scratch_bytes(c, compute));
    for (size_t p = 0; p < PARTS; p++) {
        const size_t row = (size_t)fci_number_bytes(types[p], K), n = p % 2 ? N : 17;
        unsigned char *data = (unsigned char *)malloc(N * row);
        for (size_t i = 0; i < N * row; i++)
            data[i] = (unsigned char)((uniform() + 1) * 128) & 0xbf; /* finite in every type */
        w[p] = matrix(data, types[p], N, K, row);
        const fci_gemm_part m = {&w[p], 0, n, NULL, many + M * N * p, N, NULL},
                            s = {&w[p], 0, n, NULL, one + N * p, N, NULL};
        parts[p] = m;
        alone[p] = s;
    }
    fci_gemm_pack(c, compute, x, K, M, K, NULL, packed);
    fci_gemm_pack(c, compute, x, K, 1, K, NULL, single);
    fci_gemm(c, compute, FCI_GEMM_STORE, packed, M, K, parts, PARTS, scratch);
    fci_gemm(c, compute, FCI_GEMM_STORE, single, 1, K, alone, PARTS, scratch);
    for (size_t p = 0; p < PARTS; p++)
        T_OK(same(many + M * N * p, one + N * p, parts[p].n_rows),
             "%s compute %d: a single row of part %d of several types, other bits",
             fc_simd_name(c->kernels->simd), (int)compute, (int)p);
    for (size_t p = 0; p + 1 < PARTS; p++) {
        parts[p].n_rows = parts[p + 1].n_rows = N;
        fci_gemm_into(c, compute, packed, M, K, parts + p, 2, FCI_SILU, fed, scratch);
        fci_gemm_unpack(c, compute, fed, M, N, 0, many);
        fci_gemm_into(c, compute, single, 1, K, parts + p, 2, FCI_SILU, fed, scratch);
        fci_gemm_unpack(c, compute, fed, 1, N, 0, one);
        T_OK(same(many, one, N), "%s compute %d: a single row gated by another type, other bits",
             fc_simd_name(c->kernels->simd), (int)compute);
    }
    void *all[] = {packed, single, fed, scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) fci_free(c, all[i]);
    for (size_t p = 0; p < PARTS; p++) free((void *)(uintptr_t)w[p].data);
    drop(x), drop(many), drop(one);
}

/* ---- Activations of 8 bits */

/* A row in blocks of 32: usual numbers, zeros, tiny, huge, equal, and whole ones, some halfway. */
static void extreme_row(float *x, size_t k) {
    for (size_t i = 0; i < k; i++) {
        const double u = uniform();
        switch (i / 32 % 7) {
        case 1: x[i] = 0; break;
        case 2: x[i] = (float)(u * 1e-35); break;
        case 3: x[i] = (float)(u * 1e30); break;
        case 4: x[i] = i % 2 ? 3.0f : -3.0f; break;
        case 5: x[i] = (float)(i / 32) * (i % 32 ? (float)floor(u * 254) / 2 : 127.0f); break;
        default: x[i] = (float)u;
        }
    }
}

/* What x becomes: d and whole numbers, by the definition. */
static void rounded_twin(const float *x, size_t k, float *d, double *q) {
    for (size_t b = 0; b < k / 32; b++) {
        float most = 0;
        for (size_t i = 32 * b; i < 32 * b + 32; i++) most = fmaxf(most, fabsf(x[i]));
        d[b] = most < ldexpf(1, -100) ? 0 : most / 127;
        for (size_t i = 32 * b; i < 32 * b + 32; i++)
            q[i] = d[b] > 0 ? nearbyint((double)(x[i] / d[b])) : 0;
    }
}

static void rounded_rows(const fci_context *c) {
    enum { K = 32 * 35 };
    fci_rounded got[K / 16];
    float x[K], d[K / 32];
    double q[K];
    size_t bad = 0;
    extreme_row(x, K);
    rounded_twin(x, K, d, q);
    c->kernels->round(x, K / 32, got);
    for (size_t h = 0; h < K / 16; h++) {
        double sum = 0;
        for (size_t i = 0; i < 16; i++) {
            bad += (double)got[h].q[i] != q[16 * h + i];
            sum += q[16 * h + i];
        }
        bad += !same(&got[h].d, &d[h / 2], 1) || (double)got[h].sum != sum;
    }
    T_OK(bad == 0, "%s: %d numbers are rounded otherwise", fc_simd_name(c->kernels->simd),
         (int)bad);
    for (int i = 0; i < 2; i++) {
        x[3] = i ? NAN : -INFINITY;
        c->kernels->round(x, 1, got);
        T_OK(!isfinite(got[0].d) && !isfinite(got[1].d) && got[0].q[3] == 0 && got[0].q[0] == 0,
             "%s: a block with %g has the factor %g", fc_simd_name(c->kernels->simd),
             (double)x[3], (double)got[0].d);
    }
}

/* One type: the scalar table's bits and the sum in double; with `low`, the lowest weights there
   are, by the largest activations, where sums of 16 bits are fullest. */
static void rounded_type(const fci_context *c, const fci_context *scalar, fc_dtype type, size_t k,
                         int low) {
    enum { N = 70 };
    const size_t row = (size_t)fci_number_bytes(type, k);
    float *x = guarded(k), *w = guarded(k), *d = guarded(k / 32), *y = guarded(N),
          *z = guarded(N), *bias = random_floats(N, 1);
    double *q = (double *)malloc(k * sizeof *q);
    unsigned char *data = (unsigned char *)malloc(N * row + 1);
    fci_matrix stored = matrix(data + 1, type, N, k, row);
    size_t bad = 0;
    extreme_row(x, k);
    for (size_t i = 0; low && i < k; i++) x[i] = i % 3 ? -1.0f : 1.0f;
    for (size_t i = 0; i <= N * row; i++) /* finite in every type */
        data[i] = low == 1 ? 0x80 : low ? 0x3f : (unsigned char)((uniform() + 1) * 128) & 0xbf;
    rounded_twin(x, k, d, q);
    gemm(c, FC_COMPUTE_I8, FCI_GEMM_STORE, x, k, 1, k, &stored, 0, N, bias, y, N);
    gemm(scalar, FC_COMPUTE_I8, FCI_GEMM_STORE, x, k, 1, k, &stored, 0, N, bias, z, N);
    T_OK(same(y, z, N) && intact(y, N), "%s: %s weights by rounded activations, k %d: other bits",
         fc_simd_name(c->kernels->simd), fc_dtype_name(type), (int)k);
    for (size_t r = 0; r < N; r++) {
        double want = (double)bias[r], size = fabs(want);
        fci_number_decode(type, data + 1 + r * row, 0, k, w);
        for (size_t i = 0; i < k; i++) {
            want += (double)w[i] * q[i] * (double)d[i / 32];
            size += fabs((double)w[i] * q[i] * (double)d[i / 32]);
        }
        bad += !(fabs((double)y[r] - want) <= 2e-6 * (double)(k / 16 + 4) * size);
    }
    T_OK(bad == 0, "%s: %s weights by rounded activations, k %d: %d wrong",
         fc_simd_name(c->kernels->simd), fc_dtype_name(type), (int)k, (int)bad);
    x[k - 1] = NAN;
    gemm(c, FC_COMPUTE_I8, FCI_GEMM_STORE, x, k, 1, k, &stored, 0, N, bias, y, N);
    for (size_t r = 0; r < N; r++) bad += !isnan(y[r]);
    T_OK(bad == 0, "%s: %s: a NaN was lost", fc_simd_name(c->kernels->simd), fc_dtype_name(type));
    float *all[] = {x, w, d, y, z, bias};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(all[i]);
    free(q);
    free(data);
}

/* How far rounding moves a product: half a step of each activation at most. */
static void rounded_error(const fci_context *c, fc_dtype type) {
    enum { K = 768, N = 40 };
    const size_t row = (size_t)fci_number_bytes(type, K);
    float *x = random_floats(K, 1), *w = guarded(K), *y = guarded(N), *z = guarded(N);
    unsigned char *data = (unsigned char *)malloc(N * row);
    const fci_matrix stored = matrix(data, type, N, K, row);
    size_t bad = 0;
    for (size_t i = 0; i < N * row; i++)
        data[i] = (unsigned char)((uniform() + 1) * 128) & 0xbf;
    gemm(c, FC_COMPUTE_I8, FCI_GEMM_STORE, x, K, 1, K, &stored, 0, N, NULL, y, N);
    gemm(c, FC_COMPUTE_F32, FCI_GEMM_STORE, x, K, 1, K, &stored, 0, N, NULL, z, N);
    for (size_t r = 0; r < N; r++) {
        double room = 0;
        fci_number_decode(type, data + r * row, 0, K, w);
        for (size_t i = 0; i < K; i++) room += fabs((double)w[i]) * 1.001 / 254;
        bad += !(fabs((double)y[r] - (double)z[r]) <= room);
    }
    T_OK(bad == 0, "%s: %s: %d products too far from those of floats",
         fc_simd_name(c->kernels->simd), fc_dtype_name(type), (int)bad);
    drop(x), drop(w), drop(y), drop(z);
    free(data);
}

/* Parts of several types at once, as gate and up, and on several threads: each as by itself. */
static void rounded_mixed(const fci_context *c) {
    static const fc_dtype types[] = {FC_DTYPE_Q4_K, FC_DTYPE_Q6_K, FC_DTYPE_BF16, FC_DTYPE_Q4_0};
    enum { K = 1280, N = 48, PARTS = 4 };
    const fc_compute i8 = FC_COMPUTE_I8;
    fci_context more = context(c->kernels->simd, 3);
    fc_error err;
    fci_matrix w[PARTS];
    fci_gemm_part parts[PARTS];
    float *x = random_floats(K, 1), *each = guarded(N * PARTS), *all = guarded(N * PARTS),
          *fed = guarded(N);
    void *packed = fci_alloc(c, fci_gemm_packed_bytes(c, i8, 1, K), 1, "packed", &err),
         *next = fci_alloc(c, fci_gemm_packed_bytes(c, i8, 1, N), 1, "packed", &err),
         *scratch = fci_alloc(c, fci_gemm_scratch_bytes(&more, i8), 1, "scratch", &err);
    for (size_t p = 0; p < PARTS; p++) {
        const size_t row = (size_t)fci_number_bytes(types[p], K);
        unsigned char *data = (unsigned char *)malloc(N * row);
        for (size_t i = 0; i < N * row; i++)
            data[i] = (unsigned char)((uniform() + 1) * 128) & 0xbf; /* finite in every type */
        w[p] = matrix(data, types[p], N, K, row);
        const fci_gemm_part part = {&w[p], 0, N, NULL, all + N * p, N, NULL};
        parts[p] = part;
        gemm(c, i8, FCI_GEMM_STORE, x, K, 1, K, &w[p], 0, N, NULL, each + N * p, N);
    }
    fci_gemm_pack(c, i8, x, K, 1, K, NULL, packed);
    fci_gemm(&more, i8, FCI_GEMM_STORE, packed, 1, K, parts, PARTS, scratch);
    T_OK(same(each, all, N * PARTS), "%s: rounded, parts of several types on 3 threads, other bits",
         fc_simd_name(c->kernels->simd));
    for (size_t p = 0; p + 1 < PARTS; p++) {
        fci_gemm_into(&more, i8, packed, 1, K, parts + p, 2, FCI_SILU, next, scratch);
        fci_gemm_unpack(c, i8, next, 1, N, 0, fed);
        c->kernels->activate(FCI_SILU, each + N * p, each + N * (p + 1), N);
        T_OK(same(fed, each + N * p, N), "%s: rounded, gated by another type, other bits",
             fc_simd_name(c->kernels->simd));
    }
    void *pieces[] = {packed, next, scratch};
    for (size_t i = 0; i < 3; i++) fci_free(c, pieces[i]);
    for (size_t p = 0; p < PARTS; p++) free((void *)(uintptr_t)w[p].data);
    drop(x), drop(each), drop(all), drop(fed);
    fci_context_end(&more);
}

/* Panels of 32 rows, as other tables have, are two turned ones. */
static void wide_copies(const fci_context *c) {
    fci_kernels wide = *c->kernels;
    fci_context other = *c;
    if (c->kernels->simd != FC_SIMD_AVX2) return;
    wide.f32.nr = wide.i8.nr = 32;
    other.kernels = &wide;
    for (int t = 1; t < FC_DTYPE_COUNT; t++) {
        gemm_copy(&other, FC_COMPUTE_F32, (fc_dtype)t, 768);
        gemm_copy(&other, FC_COMPUTE_I8, (fc_dtype)t, 2304);
    }
}

static void rounded(const fci_context *c, const fci_context *scalar) {
    static const size_t ks[] = {32, 800, 1280};
    int seen = 0;
    rounded_rows(c);
    for (int t = 1; t < FC_DTYPE_COUNT; t++) {
        const fc_dtype type = (fc_dtype)t;
        if (!fci_turned_has(FCI_TURNED_ROUNDED, type)) continue;
        seen++;
        for (size_t i = 0; i < 9; i++)
            if (ks[i % 3] % fci_number_block(type) == 0)
                rounded_type(c, scalar, type, ks[i % 3], (int)i / 3);
        rounded_error(c, type);
    }
    T_OK(seen == 8, "%d types are multiplied by rounded activations", seen);
    rounded_mixed(c);
    wide_copies(c);
    gemm_shapes(c, FC_COMPUTE_I8, 513);
    gemm_fused(c, FC_COMPUTE_I8, 1, 67, 93, 50);
    gemm_types(c, FC_COMPUTE_I8);
}

/* The public function, by the definition. */
static void matmul(void) {
    enum { M = 3, K = 64, N = 5 };
    fc_error err;
    static float x[M * K], w[N * K], stored[N * K], y[M * N];
    const fc_product p = {
        .m = M, .n = N, .k = K, .x = x, .w = stored, .y = y, .type = FC_DTYPE_F32};
    for (size_t i = 0; i < M * K; i++) x[i] = (float)(i * 7 % 13) / 13 - 0.5f;
    for (size_t i = 0; i < N * K; i++) stored[i] = w[i] = (float)(i * 5 % 11) / 11 - 0.5f;
    store(stored, N * K);
    T_OK(fc_matmul(&p, NULL, &err) == FC_OK, "%s", err.msg);
    for (size_t i = 0; i < M * N; i++) {
        double want = 0;
        for (size_t k = 0; k < K; k++) want += (double)x[i / N * K + k] * (double)w[i % N * K + k];
        T_OK(fabs(want - (double)y[i]) < 1e-5, "matmul [%d]: expected %g, got %g", (int)i, want,
             (double)y[i]);
    }
}

/* Sizes whose products have more than 32 bits: a row of activations alone and beside another. */
static void matmul_long(void) {
    enum { K = 131072, BYTES = K / 32 * 34 };
    fc_error err;
    fci_context c;
    static float x[2 * K], y[2];
    static uint8_t w[BYTES];
    fc_product p = {.m = 1, .n = 1, .k = K, .x = x, .w = w, .y = y, .type = FC_DTYPE_Q8_0};
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) x[i] = 1;
    for (size_t b = 0; b < K / 32; b++) {
        w[b * 34 + 1] = 0x3c;
        memset(w + b * 34 + 2, (int)(b / 32 % 7), 32);
    }
    double want = 0;
    for (size_t b = 0; b < K / 32; b++) want += 32 * (double)(b / 32 % 7);
    for (p.m = 1; p.m <= 2; p.m++) {
        T_OK(fc_matmul(&p, NULL, &err) == FC_OK, "%s", err.msg);
        for (size_t i = 0; i < p.m; i++)
            T_OK((double)y[i] == want, "%d rows: expected %g, got %g", (int)p.m, want,
                 (double)y[i]);
    }
    memset(&c, 0, sizeof c);
    c.kernels = fci_kernels_pick(FC_SIMD_SCALAR);
    T_OK(fci_gemm_packed_bytes(&c, FC_COMPUTE_F32, K, 65536) >= (uint64_t)K * 65536 * 4,
         "packed bytes of many rows");
}

/* What the tile instruction does, one step at a time: of 32 numbers the even ones' products summed
   in order, the odd ones' too, both sums added, then added to the accumulator. */
static float tiles_twin(const float *x, const float *w, size_t k) {
    float sum = 0;
    for (size_t at = 0; at < k; at += 32) {
        float even = 0, odd = 0;
        for (size_t i = at; i < at + 32 && i < k; i++) {
            float product = as_bf16(x[i]) * as_bf16(w[i]);
            if (i % 2) odd += product;
            else even += product;
        }
        sum += even + odd;
    }
    return sum;
}

/* Rounded to odd, as BFDOT and BFMMLA do: towards zero, but the last bit set where anything was
   lost. */
static float add_to_odd(float a, float b) {
    double sum = (double)a + (double)b, back = sum - (double)a,
           lost = ((double)a - (sum - back)) + ((double)b - back);
    float f = (float)sum;
    if (fabs((double)f) > fabs(sum) || ((double)f == sum && lost != 0 && (lost < 0) != (sum < 0)))
        f = nextafterf(f, 0);
    return (double)f == sum && lost == 0 ? f : fci_bits_float(fci_float_bits(f) | 1);
}

static float odd_twin(const float *x, const float *w,
                      size_t k) { /* pairs' products are added, then their sum to the accumulator */
    float sum = 0;
    for (size_t i = 0; i < k; i += 2) {
        float low = as_bf16(x[i]) * as_bf16(w[i]),
              high = i + 1 < k ? as_bf16(x[i + 1]) * as_bf16(w[i + 1]) : 0;
        sum = add_to_odd(sum, add_to_odd(low, high));
    }
    return sum;
}

/* The scalar table's bfloat16 is that of AVX-512, bit for bit; others' have twins of their own. */
static void gemm_bf16_twin(const fci_context *c, const fci_context *scalar) {
    const size_t m = 20, k = 701, n = 50;
    float *x = random_floats(m * k, 4), *w = random_floats(n * k, 1), *y = guarded(m * n),
          *z = guarded(m * n);
    fci_matrix mw = matrix(w, FC_DTYPE_F32, n, k, k * 4);
    store(w, n * k); /* the other twins are of little-endian machines */
    gemm(c, FC_COMPUTE_BF16, FCI_GEMM_STORE, x, k, m, k, &mw, 0, n, NULL, y, n);
    gemm(scalar, FC_COMPUTE_BF16, FCI_GEMM_STORE, x, k, m, k, &mw, 0, n, NULL, z, n);
    for (size_t i = 0; i < m * n && c->kernels->simd == FC_SIMD_AMX; i++)
        z[i] = tiles_twin(x + i / n * k, w + i % n * k, k);
    for (size_t i = 0; i < m * n && c->kernels->simd == FC_SIMD_NEON_BF16; i++)
        z[i] = odd_twin(x + i / n * k, w + i % n * k, k);
    T_OK(same(y, z, m * n), "%s: bf16 differs from the scalar twin",
         fc_simd_name(c->kernels->simd));
    drop(x);
    drop(w);
    drop(y);
    drop(z);
}

static void bf16_pairs(const fci_context *c) { /* and back, from an odd address */
    const uint32_t odd[] = {0x7f800000u, 0xff800000u, 0x7fc00001u, 0x7f800001u, 0xffffffffu,
                            0x7f7fffffu, 0x3f808000u, 0x3f818000u, 0x3f808001u, 0x00000001u,
                            0x80008000u, 0x00018000u, 0,           0x80000000u};
    float x[54];
    uint32_t pairs[27];
    char stored[109];
    size_t i, bad = 0;
    for (i = 0; i < 54; i++) x[i] = i < 28 ? fci_bits_float(odd[i % 14]) : (float)(uniform() * 100);
    c->kernels->bf16_pairs(x, 27, pairs);
    for (i = 0; i < 54; i++)
        bad += (uint16_t)(pairs[i / 2] >> (16 * (i % 2))) != fci_f32_to_bf16(x[i]);
    T_OK(bad == 0, "%s: %zu of 54 roundings to bf16 differ", fc_simd_name(c->kernels->simd), bad);
    for (i = 0; i < 54; i++) {
        uint16_t h = fci_f32_to_bf16(x[i]);
        stored[1 + 2 * i] = (char)(h & 255);
        stored[2 + 2 * i] = (char)(h >> 8);
    }
    c->kernels->decode(FC_DTYPE_BF16, stored + 1, 0, 53, x);
    for (i = 0; i < 53; i++)
        bad +=
            fci_float_bits(x[i]) != fci_float_bits(fci_bf16_to_f32(fci_le16(stored + 1 + 2 * i)));
    T_OK(bad == 0, "%s: %zu of 53 bf16 widened differ", fc_simd_name(c->kernels->simd), bad);
}

/* ---- Attention */

static void attention(const fci_context *c, const fci_attention *a, const fci_attention_lane *lanes,
                      size_t n) {
    fc_error err;
    void *scratch = fci_alloc(c, fci_attention_scratch_bytes(c, a), 1, "scratch", &err);
    memset(scratch, 0xff, fci_attention_scratch_bytes(c, a));
    fci_attention_run(c, a, lanes, n, scratch);
    fci_free(c, scratch);
}

/* The largest error of one lane against double precision, relative to the largest value. */
static double attention_error(const fci_attention *a, const fci_attention_lane *l) {
    double *p = (double *)malloc(l->n_kv * sizeof *p), worst = 0;
    size_t i, h, j, d;
    for (i = 0; i < l->n_q; i++)
        for (h = 0; h < a->n_heads; h++) {
            const float *q = l->q + i * a->ldq + h * a->head_dim,
                        *out = l->out + i * a->ldo + h * a->head_dim;
            size_t kv = h / (a->n_heads / a->n_kv_heads) * a->head_dim,
                   seen = l->n_kv - l->n_q + i + 1;
            double max = -1e300, sum = 0;
            size_t from = a->window && seen > a->window ? seen - a->window : 0;
            for (j = from; j < seen; j++) {
                double s = 0;
                for (d = 0; d < a->head_dim; d++)
                    s += (double)q[d] * (double)l->k[j * a->ldkv + kv + d];
                p[j] = s * (double)a->scale;
                if (a->cap > 0) p[j] = (double)a->cap * tanh(p[j] / (double)a->cap);
                if (p[j] > max) max = p[j];
            }
            for (j = from; j < seen; j++) sum += p[j] = exp(p[j] - max);
            for (d = 0; d < a->head_dim; d++) {
                double o = 0;
                for (j = from; j < seen; j++) o += p[j] * (double)l->v[j * a->ldkv + kv + d];
                double e = fabs((double)out[d] - o / sum);
                if (!(e <= worst)) worst = isnan(e) ? 1e9 : e;
            }
        }
    free(p);
    return worst;
}

typedef struct shape {
    uint32_t n_heads, n_kv_heads, head_dim;
    size_t n_q, n_kv;
    double size; /* of queries: large ones make sharp weights */
    uint32_t window;
    float cap;
} shape;

static void attention_shape(const fci_context *c, const shape *s) {
    fci_attention a;
    fci_attention_lane l;
    memset(&a, 0, sizeof a);
    memset(&l, 0, sizeof l);
    a.n_heads = s->n_heads;
    a.n_kv_heads = s->n_kv_heads;
    a.head_dim = s->head_dim;
    a.ldq = (size_t)s->n_heads * s->head_dim + 3;
    a.ldkv = (size_t)s->n_kv_heads * s->head_dim + 1;
    a.ldo = (size_t)s->n_heads * s->head_dim + 2;
    a.scale = 1 / sqrtf((float)s->head_dim);
    a.window = s->window;
    a.cap = s->cap;
    float *q = random_floats(s->n_q * a.ldq, s->size), *k = random_floats(s->n_kv * a.ldkv, 2),
          *v = random_floats(s->n_kv * a.ldkv, 1);
    float *out = guarded(s->n_q * a.ldo), *part = guarded(s->n_q * a.ldo);
    size_t i, j, touched = 0;
    l.q = q;
    l.k = k;
    l.v = v;
    l.out = out;
    l.n_q = s->n_q;
    l.n_kv = s->n_kv;
    attention(c, &a, &l, 1);
    double e = attention_error(&a, &l);
    T_OK(e < 4e-6 * (1 + s->size),
         "%s attention %u/%u heads of %u, %zu queries on %zu, window %u, cap %g: error %g",
         fc_simd_name(c->kernels->simd), s->n_heads, s->n_kv_heads, s->head_dim, s->n_q, s->n_kv,
         s->window, (double)s->cap, e);
    for (i = 0; i < s->n_q; i++)
        for (j = (size_t)s->n_heads * s->head_dim; j < a.ldo; j++)
            touched += !isnan(out[i * a.ldo + j]);
    T_OK(touched == 0 && intact(out, s->n_q * a.ldo), "attention wrote outside");
    for (i = 1; i <= s->n_q;
         i = i * 3 + 1) { /* the last i queries by themselves, and the first i */
        l.q = q + (s->n_q - i) * a.ldq;
        l.out = part;
        l.n_q = i;
        attention(c, &a, &l, 1);
        T_OK(same(part, out + (s->n_q - i) * a.ldo, (i - 1) * a.ldo + a.ldo - 2),
             "%s attention: last %zu queries, other bits", fc_simd_name(c->kernels->simd), i);
        l.q = q;
        l.n_kv = s->n_kv - s->n_q + i;
        attention(c, &a, &l, 1);
        T_OK(same(part, out, (i - 1) * a.ldo + a.ldo - 2),
             "%s attention: first %zu queries, other bits", fc_simd_name(c->kernels->simd), i);
        l.n_kv = s->n_kv;
    }
    drop(q);
    drop(k);
    drop(v);
    drop(out);
    drop(part);
}

static void attention_lanes(fc_simd simd) { /* many lanes at once, any threads, as each by itself */
    enum { LANES = 9, HEAD = 24, Q = 6 * HEAD, KV = 2 * HEAD };
    static const uint32_t threads[] = {1, 2, 3, 5};
    static const size_t lengths[LANES] = {1, 0, 7, 64, 65, 200, 1, 129, 33};
    fci_attention a;
    fci_attention_lane lanes[LANES];
    size_t i, t, n = 0;
    memset(&a, 0, sizeof a);
    memset(lanes, 0, sizeof lanes);
    a.n_heads = 6;
    a.n_kv_heads = 2;
    a.head_dim = HEAD;
    a.ldq = a.ldo = Q;
    a.ldkv = KV;
    a.scale = 0.2f;
    for (i = 0; i < LANES; i++) n += lengths[i];
    float *q = random_floats(n * Q, 1), *k = random_floats(n * KV, 1),
          *v = random_floats(n * KV, 1);
    float *alone = guarded(n * Q), *all = guarded(n * Q);
    for (i = n = 0; i < LANES; n += lengths[i++]) {
        lanes[i].q = q + n * Q;
        lanes[i].k = k + n * KV;
        lanes[i].v = v + n * KV;
        lanes[i].out = alone + n * Q;
        lanes[i].n_q = lanes[i].n_kv = lengths[i];
        fci_context c = context(simd, 1);
        attention(&c, &a, &lanes[i], 1);
        fci_context_end(&c);
        lanes[i].out = all + n * Q;
    }
    for (t = 0; t < 4; t++) {
        fci_context c = context(simd, threads[t]);
        memset(all, 0xff, n * Q * sizeof *all);
        attention(&c, &a, lanes, LANES);
        T_OK(same(alone, all, n * Q) && intact(all, n * Q),
             "%s attention: %d lanes on %u threads, other bits", fc_simd_name(simd), (int)LANES,
             threads[t]);
        fci_context_end(&c);
    }
    drop(q);
    drop(k);
    drop(v);
    drop(alone);
    drop(all);
}

/* Lanes that have their first keys from another one, which has some from a third: the bits of whole
   lanes, though those keys lie elsewhere. */
static void attention_from(fc_simd simd) {
    enum { LANES = 3, HEAD = 24, Q = 4 * HEAD, KV = 2 * HEAD, N = 300 };
    static const size_t from[LANES] = {0, 131, 250}, lengths[LANES] = {251, 270, N};
    fci_attention a;
    fci_attention_lane whole, lanes[LANES];
    float *q = random_floats(N * Q, 1), *k = random_floats(N * KV, 1),
          *v = random_floats(N * KV, 1);
    float *alone = guarded(N * Q), *out = guarded(N * Q), *own = guarded(2 * LANES * N * KV);
    memset(&a, 0, sizeof a);
    a.n_heads = 4;
    a.n_kv_heads = 2;
    a.head_dim = HEAD;
    a.ldq = a.ldo = Q;
    a.ldkv = KV;
    a.scale = 0.2f;
    for (uint32_t window = 0; window < N; window += 140) {
        fci_context c = context(simd, 2);
        a.window = window;
        memset(&whole, 0, sizeof whole);
        memset(lanes, 0, sizeof lanes);
        whole.q = q, whole.k = k, whole.v = v, whole.out = alone;
        whole.n_q = whole.n_kv = N;
        attention(&c, &a, &whole, 1);
        for (size_t i = 0; i < LANES; i++) { // what is not a lane's own stays NaN there
            float *keys = own + 2 * i * N * KV, *values = keys + N * KV;
            memcpy(keys, k + from[i] * KV, (lengths[i] - from[i]) * KV * sizeof *k);
            memcpy(values, v + from[i] * KV, (lengths[i] - from[i]) * KV * sizeof *v);
            lanes[i].from = i ? &lanes[i - 1] : NULL;
            lanes[i].n_from = from[i];
            lanes[i].n_kv = lengths[i];
            lanes[i].n_q = lengths[i] - from[i];
            lanes[i].q = q + from[i] * Q;
            lanes[i].k = keys;
            lanes[i].v = values;
            lanes[i].out = out;
        }
        for (size_t i = 0; i < LANES; i++) { // one by one, as they write to the same place
            fci_attention_lane one = lanes[i];
            attention(&c, &a, &one, 1);
            T_OK(same(alone + from[i] * Q, out, one.n_q * Q) && intact(out, N * Q),
                 "%s attention, window %u: lane %d has other bits", fc_simd_name(simd), window,
                 (int)i);
        }
        fci_context_end(&c);
    }
    drop(q);
    drop(k);
    drop(v);
    drop(alone);
    drop(out);
    drop(own);
}

/* ---- Rows */

static void rows(const fci_context *c, size_t n) {
    const size_t m = 5, ld = n + 2;
    const char *name = fc_simd_name(c->kernels->simd);
    float *x = random_floats(m * ld, 3), *w = random_floats(n, 2), *u = random_floats(m * ld, 2),
          *y = guarded(m * ld);
    double worst = 0;
    size_t i, j, touched = 0;
    fci_rows_rmsnorm(c, x, ld, w, 1e-5f, m, n, y, ld);
    for (i = 0; i < m; i++) {
        double sum = 0;
        for (j = 0; j < n; j++) sum += (double)x[i * ld + j] * (double)x[i * ld + j];
        for (j = 0; j < n; j++) {
            double want = (double)x[i * ld + j] / sqrt(sum / (double)n + 1e-5) * (double)w[j];
            worst = fmax(worst, fabs((double)y[i * ld + j] - want) / (fabs(want) + 1e-30));
        }
        for (j = n; j < ld; j++) touched += !isnan(y[i * ld + j]);
    }
    T_OK(worst < 3e-7 && touched == 0 && intact(y, m * ld), "%s rmsnorm n %zu: relative error %g",
         name, n, worst);
    memcpy(y, x, m * ld * sizeof *y);
    y[0] = -200;
    y[n - 1] = 200;
    memcpy(x, y, m * ld * sizeof *y);
    for (i = 0; i < m; i++) c->kernels->activate(FCI_SILU, y + i * ld, u + i * ld, n);
    for (worst = 0, i = 0; i < m; i++)
        for (j = 0; j < n; j++) {
            double g = (double)x[i * ld + j], want = g / (1 + exp(-g)) * (double)u[i * ld + j];
            worst = fmax(worst, fabs((double)y[i * ld + j] - want) / (fabs(want) + 1e-30));
        }
    T_OK(worst < 6e-7 && same(x + n, y + n, 2) && intact(y, m * ld),
         "%s swiglu n %zu: relative error %g", name, n, worst);
    memcpy(y, x, m * ld * sizeof *y);
    fci_rows_add_scaled(c, y, ld, u, ld, 0.5f, m, n);
    for (touched = 0, i = 0; i < m; i++)
        for (j = 0; j < n; j++) touched += y[i * ld + j] != x[i * ld + j] + 0.5f * u[i * ld + j];
    T_OK(touched == 0 && same(x + n, y + n, 2), "%s add n %zu: %zu wrong", name, n, touched);
    drop(x);
    drop(w);
    drop(u);
    drop(y);
}

static double activation_of(fci_activation kind, double x) {
    const double pi = 3.14159265358979323846;
    switch (kind) {
    case FCI_SILU: return x / (1 + exp(-x));
    case FCI_GELU: return 0.5 * x * erfc(-x / sqrt(2));
    case FCI_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x * x * x)));
    case FCI_RELU: return x > 0 ? x : 0;
    default: return x > 0 ? x * x : 0;
    }
}

/* LayerNorm, every activation with and without a gate, soft caps: against double precision. */
static void more_rows(const fci_context *c, size_t n) {
    const size_t m = 4, ld = n + 3;
    const char *name = fc_simd_name(c->kernels->simd);
    float *x = random_floats(m * ld, 6), *w = random_floats(n, 2), *b = random_floats(n, 1),
          *u = random_floats(m * ld, 2), *y = guarded(m * ld);
    int bias, kind;
    for (bias = 0; bias < 2; bias++) {
        double worst = 0;
        fci_rows_layernorm(c, x, ld, w, bias ? b : NULL, 1e-5f, m, n, y, ld);
        for (size_t i = 0; i < m; i++) {
            double mean = 0, square = 0;
            for (size_t j = 0; j < n; j++) mean += (double)x[i * ld + j] / (double)n;
            for (size_t j = 0; j < n; j++)
                square +=
                    ((double)x[i * ld + j] - mean) * ((double)x[i * ld + j] - mean) / (double)n;
            for (size_t j = 0; j < n; j++) {
                double want = ((double)x[i * ld + j] - mean) / sqrt(square + 1e-5) * (double)w[j] +
                              (bias ? (double)b[j] : 0);
                double lost = fabs(mean * (double)w[j]) /
                              sqrt(square + 1e-5); /* the mean is rounded to float */
                worst = fmax(worst, fabs((double)y[i * ld + j] - want) / (1 + fabs(want) + lost));
            }
        }
        T_OK(worst < 1e-6 && intact(y, m * ld), "%s layernorm n %zu: error %g", name, n, worst);
    }
    for (kind = 0; kind < 10; kind++) {
        fci_activation a = (fci_activation)(kind / 2);
        const float *up = kind % 2 ? u : NULL;
        double worst = 0;
        x[0] = -30;
        x[n - 1] = 30;
        memcpy(y, x, m * ld * sizeof *y);
        for (size_t i = 0; i < m; i++)
            c->kernels->activate(a, y + i * ld, up ? up + i * ld : NULL, n);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double want =
                    activation_of(a, (double)x[i * ld + j]) * (up ? (double)u[i * ld + j] : 1);
                worst = fmax(worst, fabs((double)y[i * ld + j] - want) / (1e-6 + fabs(want)));
            }
        T_OK(worst < 3e-6 && same(x + n, y + n, 3), "%s activation %d n %zu: error %g", name, kind,
             n, worst);
    }
    for (kind = 0; kind < 3; kind++) {
        const float cap = kind == 0 ? 0 : kind == 1 ? 0.5f : 30;
        double worst = 0;
        memcpy(y, x, m * ld * sizeof *y);
        fci_rows_cap(c, y, ld, 0.7f, cap, m, n);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double want = (double)(0.7f * x[i * ld + j]);
                if (cap > 0) want = (double)cap * tanh(want / (double)cap);
                worst = fmax(worst, fabs((double)y[i * ld + j] - want) / (1e-9 + fabs(want)));
            }
        T_OK(worst < 5e-7 && same(x + n, y + n, 3), "%s cap %g n %zu: error %g", name, (double)cap,
             n, worst);
    }
    drop(x), drop(w), drop(b), drop(u), drop(y);
}

/* Views of stored matrices give the bits of the same matrix stored plainly. */
static void gemm_views(const fci_context *c, fc_compute compute) {
    enum { M = 19, K = 77, RUN = 6, PARTS = 3, HEADS = 15, N = RUN * HEADS };
    float *x = random_floats(M * K, 1), *w = random_floats(N * K, 1), *y = guarded(M * N),
          *z = guarded(M * N);
    float *turned = random_floats(K * (N + 7), 1), *runs = random_floats((size_t)PARTS * N * K, 1);
    fci_matrix plain = matrix(w, FC_DTYPE_F32, N, K, K * 4),
               t = matrix(turned + 4, FC_DTYPE_F32, N, K, (N + 7) * 4);
    fci_matrix r = matrix(runs + 2 * RUN * K, FC_DTYPE_F32, N, K, K * 4);
    t.transposed = true;
    r.run = RUN;
    r.step = PARTS * RUN;
    store(w, N * K);
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < K; k++) {
            turned[k * (N + 7) + 4 + i] = w[i * K + k];
            runs[((i / RUN * PARTS + 2) * RUN + i % RUN) * K + k] = w[i * K + k];
        }
    for (size_t first = 0; first < N; first += 41) {
        const size_t n = N - first;
        gemm(c, compute, FCI_GEMM_STORE, x, K, M, K, &plain, first, n, NULL, y, N);
        gemm(c, compute, FCI_GEMM_STORE, x, K, M, K, &t, first, n, NULL, z, N);
        for (size_t i = 0; i < M; i++)
            T_OK(same(y + i * N, z + i * N, n), "%s compute %d: transposed, row %zu",
                 fc_simd_name(c->kernels->simd), (int)compute, i);
        gemm(c, compute, FCI_GEMM_STORE, x, K, M, K, &r, first, n, NULL, z, N);
        for (size_t i = 0; i < M; i++)
            T_OK(same(y + i * N, z + i * N, n), "%s compute %d: in runs, row %zu",
                 fc_simd_name(c->kernels->simd), (int)compute, i);
    }
    drop(x), drop(w), drop(y), drop(z), drop(turned), drop(runs);
}

static void rope(const fci_context *c, uint32_t rotary, int interleaved) {
    enum { M = 7, HEADS = 3, DIM = 40, LD = HEADS * DIM + 1 };
    const uint32_t positions[M] = {0, 1, 2, 9, 4, 4, 63};
    const uint32_t half = rotary / 2;
    float *x = random_floats(M * LD, 1), *y = guarded(M * LD), *table = guarded(64 * rotary);
    double worst = 0;
    uint32_t i, h, j;
    for (i = 0; i < 64; i++)
        for (j = 0; j < half; j++) {
            double angle = i * pow(10000, -2.0 * j / rotary);
            table[2 * i * half + j] = (float)cos(angle);
            table[(2 * i + 1) * half + j] = (float)sin(angle);
        }
    memcpy(y, x, M * LD * sizeof *y);
    fci_rows_rope(c, y, LD, M, HEADS, DIM, rotary, interleaved != 0, table, positions);
    for (i = 0; i < M; i++)
        for (h = 0; h < HEADS; h++)
            for (j = 0; j < DIM; j++) {
                const float *from = x + i * LD + h * DIM;
                double want = (double)from[j], angle;
                if (j < rotary &&
                    interleaved) { /* the pair as a complex number times e^(i angle) */
                    angle = positions[i] * pow(10000, -2.0 * (j / 2) / rotary);
                    want = j % 2 ? (double)from[j - 1] * sin(angle) + want * cos(angle)
                                 : want * cos(angle) - (double)from[j + 1] * sin(angle);
                } else if (j < rotary) { /* x cos + rotate_half(x) sin */
                    angle = positions[i] * pow(10000, -2.0 * (j % half) / rotary);
                    want =
                        want * cos(angle) +
                        (j < half ? -(double)from[j + half] : (double)from[j - half]) * sin(angle);
                }
                worst = fmax(worst, fabs((double)y[i * LD + h * DIM + j] - want));
            }
    T_OK(worst < 4e-7 && intact(y, M * LD), "rope of %u, interleaved %d: error %g", rotary,
         interleaved, worst);
    for (worst = 0, i = 0; i < M; i++) worst += x[i * LD + LD - 1] != y[i * LD + LD - 1];
    T_OK(worst == 0, "rope wrote between the rows");
    drop(x);
    drop(y);
    drop(table);
}

/* ---- Distances */

static double ulps(double got, double want) {
    int e;
    frexp(want, &e);
    return fabs(got - want) / ldexp(1, e - 24);
}

typedef struct worst {
    double ulps, at;
} worst;

static void measure(worst *w, void (*f)(fci_lanes *v), float x, double want) {
    float r[FCI_LANES];
    fci_lanes v;
    for (size_t i = 0; i < FCI_LANES; i++) r[i] = x;
    memcpy(&v, r, sizeof v);
    f(&v);
    memcpy(r, &v, sizeof r);
    if (ulps((double)r[0], want) <= w->ulps) return;
    w->ulps = ulps((double)r[0], want);
    w->at = (double)x;
}

static void functions(void) {
    worst e = {0, 0}, a = {0, 0};
    for (float x = -87.3f; x < 88; x += 0.0037f) measure(&e, fci_lanes_exp, x, exp((double)x));
    T_OK(e.ulps < 1.2, "exp(%g): %g ulp", e.at, e.ulps);
    for (float x = 1e-30f; x < 0.33333f; x = x * 1.003f)
        measure(&a, fci_reductions_atanh2, x, 2 * atanh((double)x));
    T_OK(a.ulps < 2, "2 atanh(%g): %g ulp", a.at, a.ulps);
}

typedef struct divergences {
    double lse_p, lse_q, js, js_reference, kl;
} divergences;

static double log_sum_exp(const float *z, size_t n) {
    long double max = (long double)z[0], sum = 0;
    size_t i;
    for (i = 0; i < n; i++)
        if ((long double)z[i] > max) max = (long double)z[i];
    for (i = 0; i < n; i++) sum += expl((long double)z[i] - max);
    return (double)(max + logl(sum));
}

/* By the definitions; the terms of first order cancel, which long double can afford. */
static divergences reference(const float *p, const float *q, size_t n) {
    divergences r;
    long double js = 0, jr = 0, kl = 0, lp, lq, max = (long double)p[0], maxq = (long double)q[0],
                sp = 0, sq = 0;
    size_t i;
    for (i = 0; i < n; i++) {
        if ((long double)p[i] > max) max = (long double)p[i];
        if ((long double)q[i] > maxq) maxq = (long double)q[i];
    }
    for (i = 0; i < n; i++) {
        sp += expl((long double)p[i] - max);
        sq += expl((long double)q[i] - maxq);
    }
    lp = max + logl(sp);
    lq = maxq + logl(sq);
    for (i = 0; i < n; i++) {
        long double a = (long double)p[i] - lp, b = (long double)q[i] - lq, hi = a > b ? a : b,
                    lo = a > b ? b : a;
        long double lm = hi + log1pl(expl(lo - hi)) - logl(2);
        js += expl(a) * (a - lm) / 2 + expl(b) * (b - lm) / 2;
        jr += expl(lm) * (lm - a + lm - b) / 2;
        kl += expl(a) * (a - b);
    }
    r.lse_p = (double)lp;
    r.lse_q = (double)lq;
    r.js = (double)js;
    r.js_reference = (double)jr;
    r.kl = (double)kl;
    return r;
}

static int close_to(double got, double want, double relative, double absolute) {
    return got >= 0 && fabs(got - want) <= relative * fabs(want) + absolute;
}

static void divergence_pair(const fci_context *c, const float *p, const float *q, size_t n,
                            const char *what) {
    const fci_kernels *k = c->kernels;
    const char *name = fc_simd_name(k->simd);
    divergences r = reference(p, q, n);
    double a = k->lse(p, n), b = k->lse(q, n), v;
    T_OK(fabs(a - r.lse_p) <= 2e-8 * (1 + fabs(a)), "%s %s n %zu: lse %.12g for %.12g", name, what,
         n, a, r.lse_p);
    v = k->js(p, q, a, b, n);
    T_OK(close_to(v, r.js, 3e-6, 1e-13) && v <= 0.6931472, "%s %s n %zu: js %.9g for %.9g", name,
         what, n, v, r.js);
    T_OK(v == k->js(q, p, b, a, n), "%s %s n %zu: js is not symmetric", name, what, n);
    v = k->js_reference(p, q, a, b, n);
    T_OK(close_to(v, r.js_reference, 3e-6, 1e-13), "%s %s n %zu: js-reference %.9g for %.9g", name,
         what, n, v, r.js_reference);
    v = k->kl(p, q, a, b, n);
    T_OK(close_to(v, r.kl, 3e-6, 1e-13), "%s %s n %zu: kl %.9g for %.9g", name, what, n, v, r.kl);
    v = k->js(p, p, a, a, n);
    T_OK(v == 0 && k->kl(p, p, a, a, n) == 0 && k->js_reference(p, p, a, a, n) == 0,
         "%s %s: not 0 for equal outputs: %g", name, what, v);
}

/* Single terms over the whole range of log Q - log P: one element of probability 1 or less on each
   side. */
static void terms(const fci_context *c) {
    double worst[3] = {0, 0, 0};
    int i, j;
    for (i = -4000; i <= 4000; i++) {
        float p = i > 0 ? -(float)i / 256 : 0, q = i < 0 ? (float)i / 256 : 0;
        long double a = (long double)p, b = (long double)q, m = (expl(a) + expl(b)) / 2, want[3];
        double got[3];
        want[0] = (expl(a) * (a - logl(m)) + expl(b) * (b - logl(m))) / 2;
        want[1] = m * (logl(m) - (a + b) / 2);
        want[2] = expl(b) - expl(a) - expl(a) * (b - a);
        got[0] = c->kernels->js(&p, &q, 0, 0, 1);
        got[1] = c->kernels->js_reference(&p, &q, 0, 0, 1);
        got[2] = c->kernels->kl(&p, &q, 0, 0, 1);
        for (j = 0; j < 3; j++)
            worst[j] = fmax(worst[j], fabs(got[j] - (double)want[j]) / ((double)want[j] + 1e-30));
    }
    T_OK(worst[0] < 2e-6 && worst[1] < 2e-6 && worst[2] < 4e-6,
         "%s: terms of js, js-reference, kl: errors %g %g %g", fc_simd_name(c->kernels->simd),
         worst[0], worst[1], worst[2]);
}

static void sums(const fci_context *c, const float *p, const float *q, size_t n) {
    double want[4] = {0, 0, 0, 0}, got[4];
    size_t i;
    for (i = 0; i < n; i++) {
        double a = (double)p[i], b = (double)q[i];
        want[0] += a * a;
        want[1] += a * b;
        want[2] += b * b;
        want[3] += (a - b) * (a - b);
    }
    c->kernels->dots(p, q, n, got);
    got[3] = c->kernels->squared_difference(p, q, n);
    for (i = 0; i < 4; i++)
        T_OK(fabs(got[i] - want[i]) <= 1e-12 * (want[0] + want[2]),
             "%s n %zu sum %zu: %.15g for %.15g", fc_simd_name(c->kernels->simd), n, i, got[i],
             want[i]);
}

static void distances(const fci_context *c) {
    static const size_t sizes[] = {1, 2, 15, 16, 17, 1000, 32003};
    static const double apart[] = {1e-3, 1e-2, 0.1, 1, 10};
    size_t s, e, i;
    for (s = 0; s < 7; s++) {
        size_t n = sizes[s];
        float *p = random_floats(n, 8), *q = guarded(n), *odd = guarded(n);
        char what[40];
        for (e = 0; e < 5; e++) {
            for (i = 0; i < n; i++) q[i] = (float)((double)p[i] + apart[e] * uniform());
            snprintf(what, sizeof what, "apart by %g", apart[e]);
            divergence_pair(c, p, q, n, what);
            sums(c, p, q, n);
        }
        for (i = 0; i < n; i++) {
            p[i] = i % 3 ? -1e4f : 1e4f;
            q[i] = i % 2 ? -1e4f : 1e4f;
        }
        divergence_pair(c, p, q, n, "at +-1e4");
        for (i = 0; i < n; i++) odd[i] = (float)i - (float)n;
        odd[n / 2] = NAN;
        T_OK(isnan(c->kernels->lse(odd, n)), "lse lost a NaN of %zu", n);
        T_OK(isnan(c->kernels->js(odd, p, 0, 0, n)) && isnan(c->kernels->kl(p, odd, 0, 0, n)),
             "js or kl lost a NaN of %zu", n);
        odd[n / 2] = INFINITY;
        T_OK(!isfinite(c->kernels->lse(odd, n)), "lse lost an infinity of %zu", n);
        drop(p);
        drop(q);
        drop(odd);
    }
}

static void distances_large(const fci_context *c) { /* a large vocabulary, small differences */
    const size_t n = 262144;
    float *p = random_floats(n, 6), *q = guarded(n);
    size_t i;
    for (i = 0; i < n; i++) q[i] = p[i] + (float)(1e-3 * uniform());
    T_OK(fabs(c->kernels->lse(p, n) - log_sum_exp(p, n)) < 1e-8 * 20, "%s: lse of %zu",
         fc_simd_name(c->kernels->simd), n);
    divergence_pair(c, p, q, n, "large");
    for (i = 0; i < n; i++) q[i] = p[i] = 1.5f;
    T_OK(fabs(c->kernels->lse(p, n) - (1.5 + log((double)n))) < 1e-12, "lse of equal logits");
    drop(p);
    drop(q);
}

static void names(void) {
    int i;
    T_OK(fci_kernels_pick(FC_SIMD_SCALAR)->simd == FC_SIMD_SCALAR, "scalar is not there");
    T_OK(fci_kernels_pick(FC_SIMD_AUTO)->simd == fc_simd_best(), "auto is not the best");
    for (i = 1; i < FC_SIMD_COUNT; i++) {
        const fci_kernels *k = fci_kernels_pick((fc_simd)i);
        T_OK((int)k->simd <= i, "%s picked %s", fc_simd_name((fc_simd)i), fc_simd_name(k->simd));
        T_OK(strlen(fc_simd_name((fc_simd)i)) > 2, "no name");
    }
    T_OK(strstr(fc_build_info(), "scalar") != NULL &&
             strstr(fc_build_info(), FINERCUT_VERSION) != NULL,
         "%s", fc_build_info());
}

static void table(fc_simd simd) {
    static const size_t ks[] = {0, 1, 2, 3, 4, 7, 255, 256, 257, 513, 700};
    static const size_t ns[] = {1, 2, 15, 16, 17, 31, 33, 576};
    static const shape shapes[] = {{1, 1, 16, 1, 1, 1, 0, 0},       {2, 2, 16, 5, 5, 1, 0, 0},
                                   {4, 2, 24, 33, 70, 1, 0, 0},     {9, 3, 64, 64, 64, 1, 0, 0},
                                   {3, 3, 100, 20, 300, 1, 0, 0},   {8, 1, 128, 17, 140, 1, 0, 0},
                                   {2, 1, 33, 129, 129, 8, 0, 0},   {15, 5, 40, 130, 257, 2, 0, 0},
                                   {2, 2, 64, 400, 700, 4, 0, 0},   {140, 1, 8, 3, 5, 1, 0, 0},
                                   {2, 1, 24, 9, 9, 1, 1, 0},       {4, 2, 24, 33, 70, 1, 5, 0},
                                   {3, 1, 40, 300, 300, 2, 16, 0},  {2, 2, 16, 50, 700, 1, 64, 30},
                                   {2, 1, 33, 300, 300, 8, 130, 5}, {4, 2, 24, 33, 70, 6, 0, 2},
                                   {1, 1, 16, 20, 20, 1, 400, 0}};
    fci_context c = context(simd, 2), scalar = context(FC_SIMD_SCALAR, 1);
    size_t i;
    int compute;
    for (compute = FC_COMPUTE_F32; compute <= FC_COMPUTE_BF16; compute++) {
        if (!fci_gemm_tile(&c, (fc_compute)compute)->run) continue;
        gemm_fused(&c, (fc_compute)compute, 37, 67, 93, 50);
        gemm_fused(&c, (fc_compute)compute, 3, 600, 1101, 37);
        gemm_fused(&c, (fc_compute)compute, 130, 64, 1500, 70);
        for (i = 0; i < sizeof ks / sizeof *ks; i++) gemm_shapes(&c, (fc_compute)compute, ks[i]);
        gemm_bits(simd, (fc_compute)compute);
        gemm_types(&c, (fc_compute)compute);
        gemm_mixed(&c, (fc_compute)compute);
        gemm_views(&c, (fc_compute)compute);
    }
    if (c.kernels->bf16.run) gemm_bf16_twin(&c, &scalar);
    if (c.kernels->i8.run) rounded(&c, &scalar);
    bf16_pairs(&c);
    for (i = 0; i < sizeof shapes / sizeof *shapes; i++) attention_shape(&c, &shapes[i]);
    attention_lanes(simd);
    attention_from(simd);
    for (i = 0; i < sizeof ns / sizeof *ns; i++) rows(&c, ns[i]), more_rows(&c, ns[i]);
    for (i = 0; i < 2; i++) {
        rope(&c, 40, (int)i);
        rope(&c, 16, (int)i);
    }
    terms(&c);
    distances(&c);
    distances_large(&c);
    fci_context_end(&c);
    fci_context_end(&scalar);
}

int main(void) {
    int i;
    (void)t_read;
    (void)t_shared;
    names();
    matmul();
    matmul_long();
    functions();
    for (i = FC_SIMD_SCALAR; i < FC_SIMD_COUNT; i++) {
        if (fci_kernels_pick((fc_simd)i)->simd == (fc_simd)i) table((fc_simd)i);
        else if (fci_kernel_table((fc_simd)i))
            t_skip(fc_simd_name((fc_simd)i), "this processor lacks it");
    }
    return t_end("kernel");
}
