// float16, bfloat16 and the block decoders: against definitions here, against
// fingerprints of what agreed with ggml bit for bit, and against ggml's own vectors where they are.
// Every kernel table's decoders against the plain ones.
#include "private.h"
#include "t.h"

static double half_value(unsigned h) { // by definition
    int exponent = (int)(h >> 10 & 31);
    double fraction = (double)(h & 1023) / 1024;
    double value = exponent ? ldexp(1 + fraction, exponent - 15) : ldexp(fraction, -14);
    return h & 0x8000 ? -value : value;
}

static void test_halves(void) {
    int wrong = 0, back = 0, ties = 0;
    for (unsigned h = 0; h < 65536; h++) {
        float f = fci_halves_to_f32((uint16_t)h);
        bool special = (h & 0x7c00) == 0x7c00;
        if (special)
            wrong += (h & 1023) ? !isnan(f) || !(fci_float_bits(f) & 0x400000)
                                : !isinf(f) || (f < 0) != (h >= 0x8000);
        else wrong += fci_float_bits(f) != fci_float_bits((float)half_value(h));
        back += isnan(f) ? fci_f32_to_f16(f) != ((h & 0x8000) | 0x7e00)
                         : fci_f32_to_f16(f) != h;
    }
    T_OK(wrong == 0, "%d halves read wrongly", wrong);
    T_OK(back == 0, "%d halves do not come back", back);
    for (unsigned h = 0; h < 0x7c00; h++) { // between h and h + 1: below, on and above the middle
        double next = h == 0x7bff ? 65536 : half_value(h + 1);
        float middle = (float)((half_value(h) + next) / 2);
        unsigned even = h % 2 ? h + 1 : h;
        ties += fci_f32_to_f16(middle) != even ||
                fci_f32_to_f16(-middle) != (even | 0x8000);
        ties += fci_f32_to_f16(nextafterf(middle, 0)) != h ||
                fci_f32_to_f16(nextafterf(middle, 1e9f)) != h + 1;
    }
    T_OK(ties == 0, "%d roundings to halves are wrong", ties);
    T_OK(fci_f32_to_f16(1e30f) == 0x7c00 && fci_f32_to_f16(-INFINITY) == 0xfc00 &&
             fci_f32_to_f16(1e-30f) == 0,
         "far away");
}

static void test_brain(void) {
    static const struct {
        uint32_t bits;
        unsigned want;
    } cases[] = {
        {0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81},
        {0x3f807fff, 0x3f80}, {0x80000000, 0x8000}, {0x00008000, 0x0000}, {0x00018000, 0x0002},
        {0x7f7fffff, 0x7f80}, {0x7f7f7fff, 0x7f7f}, {0xff800000, 0xff80}, {0x7f800001, 0x7fc0},
        {0xffc12345, 0xffc1}, {0x7fffffff, 0x7fff},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        T_OK(fci_f32_to_bf16(fci_bits_float(cases[i].bits)) == cases[i].want,
             "%08x to bf16: expected %04x, got %04x", cases[i].bits, cases[i].want,
             fci_f32_to_bf16(fci_bits_float(cases[i].bits)));
    int wrong = 0;
    for (unsigned h = 0; h < 65536; h++) {
        float f = fci_bf16_to_f32((uint16_t)h);
        wrong += fci_float_bits(f) != (uint32_t)h << 16 || (!isnan(f) && fci_f32_to_bf16(f) != h);
    }
    T_OK(wrong == 0, "%d bfloat16 values do not come back", wrong);
}

// type, file of the golden vectors, bytes a block, fingerprint of decode_fingerprint
static const struct { fc_dtype type; const char *name; unsigned bytes; uint64_t fingerprint; }
    formats[] = {
    {FC_DTYPE_F32, "", 4, 0xe836493272b71834}, {FC_DTYPE_F16, "", 2, 0xab541848425b3880}, {
     FC_DTYPE_BF16, "", 2, 0xedc8617eb4b94dad}, {FC_DTYPE_F64, "", 8, 0x543467e65327bfe8},
    {FC_DTYPE_Q4_0, "q4_0", 18, 0xf0578c343661fa24}, {FC_DTYPE_Q4_1, "q4_1", 20,
     0xbf1983fad454ec96}, {FC_DTYPE_Q5_0, "q5_0", 22, 0xd3338d5d3cdc89be}, {FC_DTYPE_Q5_1, "q5_1",
     24, 0xc5937c551e9c8864},
    {FC_DTYPE_Q8_0, "q8_0", 34, 0xbd33ee8125f4a202}, {FC_DTYPE_Q2_K, "q2_K", 84,
     0x60c9992f2d89d764}, {FC_DTYPE_Q3_K, "q3_K", 110, 0xbdca013dedd31a3e}, {FC_DTYPE_Q4_K, "q4_K",
     144, 0xe733cdd4de7da261},
    {FC_DTYPE_Q5_K, "q5_K", 176, 0x9fed6b798f66e22e}, {FC_DTYPE_Q6_K, "q6_K", 210,
     0xdb6e56a0a8443e8a}, {FC_DTYPE_IQ4_NL, "iq4_nl", 18, 0xb5b372ef73bd9e61},
    {FC_DTYPE_IQ4_XS, "iq4_xs", 136, 0x21ae6cbc7518a30c}, {FC_DTYPE_MXFP4, "mxfp4", 17,
     0x172926ff04d1b11e},
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

// Hash of the floats of 64 blocks of pseudo-random bytes (all NaN as one value: which one comes out
// is the processor's business), decoded whole and in pieces from an odd address.
static uint64_t decode_fingerprint(fc_dtype type) {
    enum { BLOCKS = 64 };
    uint32_t block = fci_number_block(type);
    uint64_t elements = (uint64_t)BLOCKS * block, bytes = fci_number_bytes(type, elements),
             h = FCI_HASH_START;
    uint8_t *row = (uint8_t *)malloc(bytes + 1) + 1; // unaligned
    float *all = (float *)malloc(elements * sizeof *all),
          *piece = (float *)malloc(elements * sizeof *piece);
    uint32_t state = 12345;
    for (uint64_t i = 0; i < bytes; i++) {
        state = state * 1664525 + 1013904223;
        row[i] = (uint8_t)(state >> 24);
    }
    fci_number_decode(type, row, 0, elements, all);
    for (uint64_t first = 0; first < elements; first += 3 * block) {
        uint64_t n = fci_min(3 * block, elements - first);
        fci_number_decode(type, row, first, n, piece);
        T_OK(memcmp(piece, all + first, n * sizeof *piece) == 0,
             "%s: a piece at %d is as in the whole", fc_dtype_name(type), (int)first);
    }
    for (uint64_t i = 0; i < elements; i++) {
        uint32_t bits = isnan(all[i]) ? 0x7fc00000 : fci_float_bits(all[i]);
        uint8_t le[4] = {(uint8_t)bits, (uint8_t)(bits >> 8), (uint8_t)(bits >> 16),
                         (uint8_t)(bits >> 24)};
        h = fci_hash(h, le, 4);
    }
    free(row - 1);
    free(all);
    free(piece);
    return h;
}

static void test_formats(void) {
    for (int i = 0; i < N_FORMATS; i++) {
        fc_dtype type = formats[i].type;
        uint64_t got = decode_fingerprint(type);
        T_OK(fci_number_can_decode(type) &&
                 fci_number_bytes(type, fci_number_block(type)) == formats[i].bytes,
             "%s: size", fc_dtype_name(type));
        T_OK(got == formats[i].fingerprint, "%s: fingerprint 0x%016llx, got 0x%016llx",
             fc_dtype_name(type), (unsigned long long)formats[i].fingerprint,
             (unsigned long long)got);
    }
    for (int type = 0; type < FC_DTYPE_COUNT; type++) {
        int known = 0;
        for (int i = 0; i < N_FORMATS; i++) known += formats[i].type == (fc_dtype)type;
        T_OK(fci_number_can_decode((fc_dtype)type) == (known > 0), "%s: decoder",
             fc_dtype_name((fc_dtype)type));
        T_OK(strlen(fc_dtype_name((fc_dtype)type)) > 1, "type %d has a name", type);
    }
    T_OK(!strcmp(fc_dtype_name((fc_dtype)999), "unknown") &&
             !strcmp(fc_dtype_name((fc_dtype)-1), "unknown"),
         "unknown types");
}

// Bytes of every kind: random ones, and those of which infinities, NaN, zeros and the smallest
// halves are made.
static void fill(uint8_t *p, size_t n, size_t block) {
    static const uint8_t special[] = {0x00, 0x7c, 0xfc, 0x01, 0x7e, 0x80, 0xff, 0x03};
    static uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525 + 1013904223;
        p[i] = i / block % 2 ? special[state >> 29] : (uint8_t)(state >> 24);
    }
}

// Of blocks with a scale and a minimum either NaN may come out.
static uint64_t differences(const float *a, const float *b, uint64_t n, bool any_nan) {
    uint64_t bad = 0;
    for (uint64_t i = 0; i < n; i++)
        bad += fci_float_bits(a[i]) != fci_float_bits(b[i]) &&
               !(any_nan && isnan(a[i]) && isnan(b[i]));
    return bad;
}

// One row at every address modulo 4: every run of whole blocks, nothing written after it. The row
// ends where its allocation does, so that the sanitizer sees what is read after it.
static void table_runs(const fci_kernels *k, fc_dtype type) {
    enum { BLOCKS = 7, SINGLES = 37, MARK = 0x12345678 };
    const uint64_t block = fci_number_block(type), blocks = block == 1 ? SINGLES : BLOCKS,
                   n = blocks * block;
    const size_t bytes = (size_t)fci_number_bytes(type, n);
    float *want = (float *)malloc(n * sizeof *want), *got = (float *)malloc((n + 1) * sizeof *got);
    uint64_t bad = 0;
    for (size_t offset = 0; offset < 4; offset++) {
        uint8_t *memory = (uint8_t *)malloc(offset + bytes), *row = memory + offset;
        fill(row, bytes, bytes / blocks);
        fci_number_decode(type, row, 0, n, want);
        for (uint64_t first = 0; first < n; first += block)
            for (uint64_t count = 0; count <= n - first; count += block) {
                got[count] = fci_bits_float(MARK);
                k->decode(type, row, first, count, got);
                bad += differences(got, want + first, count, block > 1) +
                       (fci_float_bits(got[count]) != MARK);
            }
        free(memory);
    }
    T_OK(bad == 0, "%s: %s: %d floats of its runs differ from the twin's", fc_simd_name(k->simd),
         fc_dtype_name(type), (int)bad);
    free(want);
    free(got);
}

// Many blocks; of float16 and bfloat16, every number there is.
static void table_blocks(const fci_kernels *k, fc_dtype type) {
    const uint64_t n = 65536 * 4;
    const size_t bytes = (size_t)fci_number_bytes(type, n);
    uint8_t *row = (uint8_t *)malloc(bytes);
    float *want = (float *)malloc(n * sizeof *want), *got = (float *)malloc(n * sizeof *got);
    fill(row, bytes, bytes / (n / fci_number_block(type)));
    for (size_t i = 0; i < 65536 && bytes == 2 * n; i++) {
        row[2 * i] = (uint8_t)i;
        row[2 * i + 1] = (uint8_t)(i >> 8);
    }
    fci_number_decode(type, row, 0, n, want);
    k->decode(type, row, 0, n, got);
    uint64_t bad = differences(got, want, n, fci_number_block(type) > 1);
    T_OK(bad == 0, "%s: %s: %d floats differ from the twin's", fc_simd_name(k->simd),
         fc_dtype_name(type), (int)bad);
    free(row);
    free(want);
    free(got);
}

// Decoded to bfloat16 in one go: the twin's floats, rounded by the twin. Types without a way of
// their own say so, and ARM's table rounds floats.
static void table_blocks_bf16(const fci_kernels *k, fc_dtype type) {
    const uint64_t n = 65536;
    const size_t bytes = (size_t)fci_number_bytes(type, n);
    uint8_t *row = (uint8_t *)malloc(bytes);
    float *want = (float *)malloc(n * sizeof *want);
    uint32_t *got = (uint32_t *)malloc(n / 2 * sizeof *got);
    fill(row, bytes, bytes / (n / fci_number_block(type)));
    fci_number_decode(type, row, 0, n, want);
    if (k->decode_bf16 && k->decode_bf16(type, row, 0, n, got)) {
        uint64_t bad = 0;
        for (uint64_t i = 0; i < n; i++) {
            const uint16_t half = (uint16_t)(got[i / 2] >> (i % 2 ? 16 : 0));
            bad += isnan(want[i]) ? !isnan(fci_bits_float((uint32_t)half << 16))
                                  : half != fci_f32_to_bf16(want[i]);
        }
        T_OK(bad == 0, "%s: %s: %d bfloat16 differ from the twin's", fc_simd_name(k->simd),
             fc_dtype_name(type), (int)bad);
    } else
        T_OK(!k->native_bf16 || k->simd == FC_SIMD_NEON_BF16 || type == FC_DTYPE_MXFP4 ||
                 fci_number_block(type) == 1,
             "%s: %s decodes to bfloat16", fc_simd_name(k->simd), fc_dtype_name(type));
    free(row);
    free(want);
    free(got);
}

// Rounding to bfloat16: numbers of every exponent, then the same without the smallest, which some
// tables round elsewhere, at every length modulo 32.
static void table_pairs(const fci_kernels *k) {
    enum { N = 1 << 16 };
    float *x = (float *)malloc(N * sizeof *x);
    uint32_t *pairs = (uint32_t *)malloc(N / 2 * sizeof *pairs);
    for (int tiny = 1; tiny >= 0; tiny--) {
        int bad = 0;
        fill((uint8_t *)x, N * sizeof *x, 256);
        for (int i = 0; i < N && !tiny; i++)
            if (!(fci_float_bits(x[i]) & 0x7f800000))
                x[i] = fci_bits_float(fci_float_bits(x[i]) << 16 | 0x800000);
        for (int at = 0, words; at < N; at += 2 * words) {
            words = (int)fci_min((uint64_t)at % 67, (uint64_t)(N - at) / 2);
            if (words == 0) words = 1;
            k->bf16_pairs(x + at, (size_t)words, pairs + at / 2);
        }
        for (int i = 0; i < N; i++)
            bad += (pairs[i / 2] >> (i % 2 * 16) & 0xffff) != fci_f32_to_bf16(x[i]);
        T_OK(bad == 0, "%s: %d of %d roundings to bfloat16 differ", fc_simd_name(k->simd), bad, N);
    }
    free(x);
    free(pairs);
}

static void test_tables(void) {
    for (int simd = FC_SIMD_SCALAR; simd < FC_SIMD_COUNT; simd++) {
        const fci_kernels *k = fci_kernels_pick((fc_simd)simd);
        if (k->simd != (fc_simd)simd) {
            if (fci_kernel_table((fc_simd)simd))
                t_skip(fc_simd_name((fc_simd)simd), "this processor lacks it");
            continue;
        }
        table_pairs(k);
        for (int i = 0; i < N_FORMATS; i++) {
            table_runs(k, formats[i].type);
            table_blocks(k, formats[i].type);
            table_blocks_bf16(k, formats[i].type);
        }
    }
}

static void test_by_hand(void) { // small blocks whose values can be checked by eye
    uint8_t b[144];
    float out[256];
    memset(b, 0, sizeof b);
    b[1] = 0x40; // d = 2
    b[2] = 0x80; // first weight 0 - 8, 17th 8 - 8
    fci_number_decode(FC_DTYPE_Q4_0, b, 0, 32, out);
    T_OK(out[0] == -16 && out[16] == 0 && out[1] == -16, "Q4_0");
    b[2] = 0x00, b[3] = 0xbc, b[4] = 0x2f; // m = -1
    fci_number_decode(FC_DTYPE_Q4_1, b, 0, 32, out);
    T_OK(out[0] == 29 && out[16] == 3 && out[1] == -1, "Q4_1");
    b[2] = 0x80, b[3] = 0x7f;
    fci_number_decode(FC_DTYPE_Q8_0, b, 0, 32, out);
    T_OK(out[0] == -256 && out[1] == 254 && out[31] == 0, "Q8_0");
    memset(b, 0, sizeof b);
    b[1] = 0x3c, b[3] = 0x38; // d = 1, dmin = 0.5
    b[4] = 3, b[8] = 4;       // first 32: scale 3, minimum 4
    b[16] = 0x05;
    fci_number_decode(FC_DTYPE_Q4_K, b, 0, 256, out);
    T_OK(out[0] == 13 && out[1] == -2 && out[32] == 0 && out[255] == 0, "Q4_K");
}

static void test_sizes(void) { // bits a block and elements a block of what is only read past
    T_OK(fci_number_bytes(FC_DTYPE_F4, 6) == 3 && fci_number_bytes(FC_DTYPE_F6_E2M3, 4) == 3,
         "parts of bytes");
    T_OK(fci_number_bytes(FC_DTYPE_Q8_1, 32) == 36 && fci_number_bytes(FC_DTYPE_IQ1_M, 512) == 112,
         "blocks");
    T_OK(fci_number_bytes(FC_DTYPE_Q4_K, (uint64_t)1 << 60) == ((uint64_t)1 << 52) * 144,
         "no overflow on the way");
    bool ids[64] = {false};
    for (int type = 1; type < FC_DTYPE_COUNT; type++) {
        const fci_dtype *d = fci_dtype_info((fc_dtype)type);
        T_OK(d->bits && d->elements && (d->gguf >= 0 || d->safetensors[0]), "%s: is somewhere",
             fc_dtype_name((fc_dtype)type));
        if (d->gguf >= 0)
            T_OK(d->gguf < 64 && !ids[d->gguf] && d->bits % 8 == 0, "%s: GGUF id %d is its own",
                 fc_dtype_name((fc_dtype)type), d->gguf);
        if (d->gguf >= 0) ids[d->gguf] = true;
        for (int other = 1; other < type; other++)
            T_OK(!d->safetensors[0] ||
                     strcmp(d->safetensors, fci_dtype_info((fc_dtype)other)->safetensors),
                 "%s: its own name", fc_dtype_name((fc_dtype)type));
    }
}

static void test_golden(void) {
    char path[1024];
    size_t n = 0, m = 0;
    for (int i = 0; i < N_FORMATS; i++) {
        if (!formats[i].name[0]) continue;
        snprintf(path, sizeof path, "%s/data/corpora/gguf_quants/%s.blocks", t_shared(),
                 formats[i].name);
        char *blocks = t_read(path, &n);
        snprintf(path, sizeof path, "%s/data/corpora/gguf_quants/%s.f32", t_shared(),
                 formats[i].name);
        char *want = t_read(path, &m);
        if (blocks && want) {
            uint64_t elements = m / 4, wrong = 0;
            float *got = (float *)malloc(m);
            T_OK(fci_number_bytes(formats[i].type, elements) == n, "%s: %d bytes for %d elements",
                 formats[i].name, (int)n, (int)elements);
            fci_number_decode(formats[i].type, blocks, 0, elements, got);
            for (uint64_t k = 0; k < elements; k++) {
                float w = fci_bits_float(fci_le32(want + 4 * k));
                wrong += isnan(w) ? !isnan(got[k]) : fci_float_bits(w) != fci_float_bits(got[k]);
            }
            T_OK(wrong == 0, "%s: %d of %d elements differ from ggml", formats[i].name, (int)wrong,
                 (int)elements);
            free(got);
        } else t_skip(formats[i].name, "no golden vectors");
        free(blocks);
        free(want);
    }
    snprintf(path, sizeof path, "%s/data/corpora/gguf_quants/f32_to_f16_bf16.tsv", t_shared());
    char *rows = t_read(path, &n);
    if (!rows) t_skip("f32_to_f16_bf16.tsv", "not there");
    for (char *row = rows; row && *row; row += strcspn(row, "\n"), row += *row == '\n') {
        unsigned bits, half, brain;
        if (*row == '#' || sscanf(row, "%x %x %x", &bits, &half, &brain) != 3) continue;
        float f = fci_bits_float(bits);
        T_OK(fci_f32_to_f16(f) == half && fci_f32_to_bf16(f) == brain,
             "%08x: expected %04x %04x, got %04x %04x", bits, half, brain, fci_f32_to_f16(f),
             fci_f32_to_bf16(f));
    }
    free(rows);
}

int main(void) {
    test_halves();
    test_brain();
    test_formats();
    test_tables();
    test_by_hand();
    test_sizes();
    test_golden();
    return t_end("number");
}
