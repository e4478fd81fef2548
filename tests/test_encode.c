// The encoders: against bytes of ggml's (as fingerprints) and blocks worked out by hand, errors on
// made-up numbers, what they refuse, and rows on any number of threads.
#include "private.h"
#include "t.h"

enum { N = 32 * 4096 };

// Numbers in blocks of 32: of all sizes from denormal to huge, of few bits (so that there are
// ties), and zeros.
static void encode_input(float *x, uint64_t n, int power) {
    uint32_t state = 99;
    for (uint64_t i = 0; i < n; i++) {
        state = state * 1664525 + 1013904223;
        const int bits = i / 32 % 5 ? 24 : 8, up = (int)(i / 32 * 7 % 146) - 149; // below 2^21
        x[i] = i / 32 % 11 ? ldexpf((float)((int32_t)(state >> 8) >> (24 - bits)) -
                                        (float)(1 << (bits - 1)),
                                    up)
                           : 0;
        x[i] = ldexpf(x[i], power);
    }
}

static const struct {
    fc_dtype type;
    int power;            // of two, of the input: minimums are halves
    uint64_t fingerprint; // of bytes: of the K types our own, of others ggml's, all
    double step;          // most error as a part of the block's range, 0 in it
} types[] = {
    {FC_DTYPE_F32, 0, 0x25fe6fdf2c48421d, 0},
    {FC_DTYPE_F16, 0, 0x0673bd0e1444362d, 1.0 / 2047},
    {FC_DTYPE_BF16, 0, 0x15d9a9910480943f, 1.0 / 255},
    {FC_DTYPE_Q8_0, 0, 0x50594782fa8753d6, 0.5 / 127 + 1.0 / 2048},
    {FC_DTYPE_Q4_0, 0, 0x21a4823e6960a6c8, 1.0 / 8},
    {FC_DTYPE_Q4_1, -6, 0xab1e20cd20853f6e, 0.5 / 15 + 1.0 / 1024},
    {FC_DTYPE_Q5_0, 0, 0x4707feca47798c75, 1.0 / 16},
    {FC_DTYPE_Q5_1, -6, 0xb16d756fcfb19b4d, 0.5 / 31 + 1.0 / 1024},
    {FC_DTYPE_Q4_K, -6, 0x4511e2813f17d3b3, 1.0 / 15},
    {FC_DTYPE_Q5_K, -6, 0xd4d7d664a87c3d4b, 1.0 / 31},
    {FC_DTYPE_Q6_K, -6, 0x7777bbbc9a59fac3, 1.0 / 30},
};
enum { N_TYPES = sizeof types / sizeof *types };

static float *x, *back;
static uint8_t *stored, *again;

static void test_bytes(void) {
    for (int i = 0; i < N_TYPES; i++) {
        const fc_dtype type = types[i].type;
        encode_input(x, N, types[i].power);
        const bool fine = fci_number_encode(type, x, N, stored) == N;
        const uint64_t got =
            fci_hash(FCI_HASH_START, stored, (size_t)fci_number_bytes(type, N));
        T_OK(fine && got == types[i].fingerprint, "%s: encoded 0x%016llx, got 0x%016llx",
             fc_dtype_name(type), (unsigned long long)types[i].fingerprint,
             (unsigned long long)got);
    }
    for (int t = 0; t < FC_DTYPE_COUNT; t++) {
        int known = 0;
        for (int i = 0; i < N_TYPES; i++) known += types[i].type == (fc_dtype)t;
        T_OK(fci_number_can_encode((fc_dtype)t) == (known > 0), "%s: encoder",
             fc_dtype_name((fc_dtype)t));
    }
}

// Scale 1 (and minimum 0): the weights are the numbers.
static void test_by_hand(void) {
    float ramp[32];
    uint8_t b[34];
    for (int i = 0; i < 32; i++) ramp[i] = (float)(i % 16 - 8);
    fci_number_encode(FC_DTYPE_Q4_0, ramp, 32, b);
    T_OK(b[0] == 0 && b[1] == 0x3c && b[2] == 0x00 && b[3] == 0x11 && b[17] == 0xff, "Q4_0");
    for (int i = 0; i < 32; i++) ramp[i] = (float)(i % 16) - 1;
    fci_number_encode(FC_DTYPE_Q4_1, ramp, 32, b);
    T_OK(b[1] == 0x3c && b[2] == 0 && b[3] == 0xbc && b[4] == 0x00 && b[19] == 0xff, "Q4_1");
    for (int i = 0; i < 32; i++) ramp[i] = (float)(i - 16);
    fci_number_encode(FC_DTYPE_Q5_0, ramp, 32, b);
    T_OK(b[1] == 0x3c && b[2] == 0 && b[3] == 0 && b[4] == 0xff && b[5] == 0xff && b[6] == 0 &&
             b[7] == 0x11 && b[21] == 0xff,
         "Q5_0");
    for (int i = 0; i < 32; i++) ramp[i] = (float)i + 2;
    fci_number_encode(FC_DTYPE_Q5_1, ramp, 32, b);
    T_OK(b[1] == 0x3c && b[3] == 0x40 && b[4] == 0 && b[7] == 0xff && b[8] == 0 && b[23] == 0xff,
         "Q5_1");
    for (int i = 0; i < 32; i++) ramp[i] = (float)(i == 3 ? -127 : i);
    fci_number_encode(FC_DTYPE_Q8_0, ramp, 32, b);
    T_OK(b[1] == 0x3c && b[2] == 0 && b[5] == 0x81 && b[33] == 31, "Q8_0");
}

static double uniform(uint32_t *state) { // in [-1, 1)
    *state = *state * 1664525 + 1013904223;
    return (double)(int32_t)*state / 2147483648.0;
}

enum { NORMAL, UNIFORM, OUTLIERS, CONSTANT, ZERO, POSITIVE, NEGATIVE, TINY, LARGE, KINDS };
static const char *const kinds[KINDS] = {"normal", "uniform",  "outliers", "constant", "zero",
                                         "positive", "negative", "tiny",   "large"};

static void made_up(int kind, size_t n) {
    uint32_t state = 7;
    for (size_t i = 0; i < n; i++) {
        double v = 0;
        for (int k = 0; k < 6; k++) v += uniform(&state);
        v /= sqrt(2.0);
        if (kind == UNIFORM) v = uniform(&state);
        if (kind == OUTLIERS && i % 97 == 0) v *= 30;
        if (kind == CONSTANT) v = i / 256 % 2 ? 0.7 : -0.3;
        if (kind == ZERO) v = 0;
        if (kind == POSITIVE) v = fabs(v) + 0.1;
        if (kind == NEGATIVE) v = -fabs(v) - 0.1;
        if (kind == TINY) v *= 1e-3;
        if (kind == LARGE) v *= 1e3;
        x[i] = (float)v;
    }
}

// The most error of a block of 32, as a part of the range of the type's block, 0 in it.
static double worst_part(fc_dtype type, size_t n) {
    const size_t block = fci_number_block(type) > 32 ? 256 : 32;
    double worst = 0;
    for (size_t at = 0; at < n; at += block) {
        double low = 0, high = 0, error = 0;
        for (size_t i = at; i < at + block; i++) {
            low = fmin(low, (double)x[i]);
            high = fmax(high, (double)x[i]);
            error = fmax(error, fabs((double)back[i] - (double)x[i]));
        }
        if (error > 0) worst = fmax(worst, error / (high - low));
    }
    return worst;
}

static void test_errors(void) {
    enum { SOME = 256 * 64 };
    for (int i = 0; i < N_TYPES; i++)
        for (int kind = 0; kind < KINDS; kind++) {
            const fc_dtype type = types[i].type;
            const double most = kind == CONSTANT ? 1.0 / 200 : kind == ZERO ? 0 : types[i].step;
            made_up(kind, SOME);
            bool fine = fci_number_encode(type, x, SOME, stored) == SOME;
            fci_number_decode(type, stored, 0, SOME, back);
            const double part = worst_part(type, SOME);
            T_OK(fine && part <= most, "%s, %s: an error of %g of the range, most %g",
                 fc_dtype_name(type), kinds[kind], part, most);
        }
}

// Numbers times a power of two give blocks with scales times that.
static void test_scaled(void) {
    enum { SOME = 256 * 64 };
    float *twice = back + SOME;
    for (int i = 0; i < N_TYPES; i++) {
        const fc_dtype type = types[i].type;
        size_t other = 0;
        made_up(NORMAL, SOME);
        fci_number_encode(type, x, SOME, stored);
        fci_number_decode(type, stored, 0, SOME, back);
        for (size_t k = 0; k < SOME; k++) x[k] *= 4;
        fci_number_encode(type, x, SOME, again);
        fci_number_decode(type, again, 0, SOME, twice);
        for (size_t k = 0; k < SOME; k++) other += twice[k] < back[k] * 4 || twice[k] > back[k] * 4;
        T_OK(other == 0, "%s: %d of the numbers times 4 are others", fc_dtype_name(type),
             (int)other);
    }
}

// Encoding what was decoded changes it by no more than rounding a scale again does.
static void test_repeated(void) {
    enum { SOME = 256 * 64 };
    float *twice = back + SOME;
    for (int i = 0; i < N_TYPES; i++) {
        const fc_dtype type = types[i].type;
        double most = 0;
        if (fci_number_block(type) > 32) continue; // their search may find better
        made_up(NORMAL, SOME);
        fci_number_encode(type, x, SOME, stored);
        fci_number_decode(type, stored, 0, SOME, back);
        fci_number_encode(type, back, SOME, again);
        fci_number_decode(type, again, 0, SOME, twice);
        for (size_t k = 0; k < SOME; k++)
            most = fmax(most, fabs((double)twice[k] - (double)back[k]));
        T_OK(most <= (fci_number_block(type) > 1 ? 4e-3 : 0), "%s: encoded again, off by %g",
             fc_dtype_name(type), most);
    }
}

static fc_code rows(fci_context *c, fc_dtype type, uint64_t n, uint64_t cols, fc_error *err) {
    return fci_encode_rows(c, type, "w", x, 0, n, cols, stored, err);
}

static void test_refused(fci_context *c) {
    static const float bad[] = {INFINITY, -INFINITY, NAN, -1e30f};
    fc_error err;
    for (int i = 0; i < N_TYPES; i++) {
        const fc_dtype type = types[i].type;
        const bool blocks = fci_number_block(type) > 1;
        for (int k = 0; k < 4; k++) {
            made_up(NORMAL, 65536);
            x[40000] = bad[k];
            const bool refused = blocks || (type == FC_DTYPE_F16 && k == 3);
            const fc_code code = rows(c, type, 65536, 512, &err);
            T_OK(code == (refused ? FC_ERR_NUMERIC : FC_OK), "%s of %g: %s", fc_dtype_name(type),
                 (double)bad[k], err.msg);
            T_OK(!refused || (strstr(err.msg, "tensor \"w\": row 78, column 64: ") != NULL &&
                              strstr(err.msg, k < 2 ? "inf" : k == 2 ? "nan" : "-1e+30") != NULL),
                 "%s: %s", fc_dtype_name(type), err.msg);
            const char *use = k < 3 ? "; use F32, F16 or BF16" : "; use F32 or BF16";
            T_OK(!refused || strstr(err.msg, use) != NULL, "%s: %s", fc_dtype_name(type), err.msg);
        }
        T_OK((rows(c, type, 60, 20, &err) == FC_OK) == !blocks, "%s, rows of 20: %s",
             fc_dtype_name(type), err.msg);
    }
    x[3] = 3.4e38f;
    T_OK(rows(c, FC_DTYPE_Q8_0, 64, 64, &err) == FC_ERR_NUMERIC && strstr(err.msg, "; use F32") &&
             !strstr(err.msg, "F16"),
         "past BF16: %s", err.msg);
    for (int k = 0; k < 64; k++) x[k] = k == 50 ? 127 * 65504.0f : 1;
    T_OK(fci_number_encode(FC_DTYPE_Q8_0, x, 64, stored) == 64 && stored[34] == 0xff &&
             stored[35] == 0x7b,
         "the largest scale");
    x[50] = 127 * 65520.0f;
    T_OK(fci_number_encode(FC_DTYPE_Q8_0, x, 64, stored) == 32 && stored[2] == 127,
         "past the largest, and the block before");
    T_OK(fci_number_encode(FC_DTYPE_Q2_K, x, 256, stored) == 0, "no encoder");
}

static void test_threads(void) {
    fc_error err;
    for (uint32_t threads = 1; threads <= 7; threads += 2) {
        fc_env env;
        fci_context c;
        memset(&env, 0, sizeof env);
        memset(&c, 0, sizeof c);
        env.par.n_threads = threads;
        if (!T_OK(fci_context_begin(&c, &env, &err) == FC_OK, "%s", err.msg)) return;
        for (int i = 0; i < N_TYPES; i++) {
            const fc_dtype type = types[i].type;
            const uint64_t n = N - 256 * 3;
            encode_input(x, n, -6);
            fci_number_encode(type, x, n, again);
            T_OK(rows(&c, type, n, 256, &err) == FC_OK &&
                     memcmp(stored, again, (size_t)fci_number_bytes(type, n)) == 0,
                 "%s on %u threads", fc_dtype_name(type), threads);
        }
        if (threads == 3) test_refused(&c);
        fci_context_end(&c);
    }
}

int main(void) {
    x = (float *)malloc(N * sizeof *x);
    back = (float *)malloc(N * sizeof *back);
    stored = (uint8_t *)malloc(N * 4);
    again = (uint8_t *)malloc(N * 4);
    test_bytes();
    test_by_hand();
    test_errors();
    test_scaled();
    test_repeated();
    test_threads();
    free(x);
    free(back);
    free(stored);
    free(again);
    return t_end("encode");
}
