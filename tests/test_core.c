// What all rooms stand on: errors, checked arithmetic, the allocator, arenas, buffers, maps,
// hashes, numbers as text, file names. Each against a plain account of what it should do.
#include "private.h"
#include "memory.h"
#include "t.h"

static uint64_t state = 88172645463325252u;

static uint64_t random_bits(void) { // xorshift
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static fci_context context_of(memory *w) {
    fc_env env;
    fci_context c;
    memset(w, 0, sizeof *w);
    env = memory_env(w);
    fci_context_basic(&c, &env);
    return c;
}

// ---- errors

static void test_codes(void) {
    for (int a = 0; a < FC_CODE_COUNT; a++) {
        T_OK(strlen(fc_code_name((fc_code)a)) > 1, "code %d has a name", a);
        for (int b = 0; b < a; b++)
            T_OK(strcmp(fc_code_name((fc_code)a), fc_code_name((fc_code)b)) != 0,
                 "%d and %d: one name", a, b);
    }
    T_OK(FC_OK == 0 && strcmp(fc_code_name(FC_OK), "ok") == 0, "success is zero");
}

static void test_messages(void) {
    fc_error err;
    char longer[1200];
    memset(&err, 0xff, sizeof err);
    fci_clear(&err);
    fci_clear(NULL);
    T_OK(err.code == FC_OK && err.where == 0 && err.msg[0] == 0, "cleared");
    T_OK(fci_fail(&err, FC_ERR_FORMAT, 77, "%s: expected %d", "a.json", 5) == FC_ERR_FORMAT &&
             err.code == FC_ERR_FORMAT && err.where == 77 &&
             strcmp(err.msg, "a.json: expected 5") == 0,
         "failed: %s", err.msg);
    T_OK(fci_fail(NULL, FC_ERR_IO, 0, "x") == FC_ERR_IO &&
             fci_wrap(NULL, FC_ERR_IO, "x") == FC_ERR_IO,
         "nowhere to tell");
    T_OK(fci_wrap(&err, FC_OK, "outer") == FC_OK && strcmp(err.msg, "a.json: expected 5") == 0,
         "success adds nothing");
    T_OK(fci_wrap(&err, FC_ERR_FORMAT, "model %d", 3) == FC_ERR_FORMAT && err.where == 77 &&
             strcmp(err.msg, "model 3: a.json: expected 5") == 0,
         "wrapped: %s", err.msg);
    memset(longer, 'a', sizeof longer);
    longer[sizeof longer - 1] = 0;
    fci_fail(&err, FC_ERR_IO, 0, "%s", longer);
    T_OK(strlen(err.msg) == sizeof err.msg - 1, "cut at %d", (int)strlen(err.msg));
    fci_wrap(&err, FC_ERR_IO, "front");
    T_OK(strncmp(err.msg, "front: aaaa", 11) == 0 && strlen(err.msg) == sizeof err.msg - 1,
         "the front stays: %d", (int)strlen(err.msg));
    fci_wrap(&err, FC_ERR_IO, "%s", longer);
    T_OK(strlen(err.msg) == sizeof err.msg - 1 && !strstr(err.msg, "front"),
         "no room for what is inside");
    T_OK(fci_need(true, "f", "x", &err) == FC_OK &&
             fci_need(false, "f", "a model", &err) == FC_ERR_ARGUMENT &&
             strcmp(err.msg, "f: expected a model, got NULL") == 0,
         "%s", err.msg);
}

static void test_shown(void) {
    static const struct {
        const char *in;
        size_t n;
        const char *out;
    } cases[] = {{"", 0, ""},
                 {"plain text", 10, "plain text"},
                 {"a\0b", 3, "a\\x00b"},
                 {"\x1b[31m", 5, "\\x1b[31m"},
                 {"\xc3\xa9", 2, "\\xc3\\xa9"},
                 {"\x7f~ ", 3, "\\x7f~ "}};
    fci_shown shown;
    char all[300];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        T_OK(strcmp(fci_show(fci_sn(cases[i].in, cases[i].n), &shown), cases[i].out) == 0,
             "case %d: %s", (int)i, shown.s);
    for (size_t n = 0; n <= sizeof all; n++) { // the whole, or its front and three dots
        char whole[4 * sizeof all + 1] = "";
        memset(all, n % 2 ? 'x' : 1, sizeof all);
        for (size_t i = 0; i < n; i++) strcat(whole, n % 2 ? "x" : "\\x01");
        const char *s = fci_show(fci_sn(all, n), &shown);
        const size_t k = strlen(s);
        T_OK(strcmp(s, whole) == 0 ||
                 (k > 80 && strcmp(s + k - 3, "...") == 0 && strncmp(s, whole, k - 3) == 0),
             "%d bytes: %s", (int)n, s);
    }
    T_OK(fci_eq(fci_s("ab"), fci_sn("abc", 2)) && !fci_eq(fci_s("ab"), fci_s("ac")) &&
             !fci_eq(fci_s("ab"), fci_s("abc")) && fci_eq(fci_sn(NULL, 0), fci_s("")) &&
             fci_is(fci_sn("model", 5), "model") && !fci_is(fci_sn("model", 4), "model"),
         "views");
}

// ---- arithmetic

static void test_arithmetic(void) {
    static const uint64_t edges[] = {0,
                                     1,
                                     2,
                                     3,
                                     63,
                                     64,
                                     65,
                                     0xffffffffu,
                                     0x100000000u,
                                     0x100000001u,
                                     UINT64_MAX / 2,
                                     UINT64_MAX / 2 + 1,
                                     UINT64_MAX / 3,
                                     UINT64_MAX - 1,
                                     UINT64_MAX};
    uint64_t sum, product;
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        for (size_t k = 0; k < sizeof edges / sizeof *edges; k++) {
            const uint64_t a = edges[i], b = edges[k];
            const bool sums = a + b >= a, fits = a == 0 || a * b / a == b;
            sum = product = 12345;
            T_OK(fci_add(a, b, &sum) == sums && sum == (sums ? a + b : 12345), "%llu + %llu",
                 (unsigned long long)a, (unsigned long long)b);
            T_OK(fci_mul(a, b, &product) == fits && product == (fits ? a * b : 12345),
                 "%llu x %llu", (unsigned long long)a, (unsigned long long)b);
            T_OK(fci_min(a, b) + fci_max(a, b) == a + b && fci_min(a, b) <= fci_max(a, b),
                 "min and max");
        }
    for (uint64_t n = 0; n < 200; n++)
        for (uint64_t to = 1; to < 40; to++) {
            const uint64_t up = fci_round_up(n, to);
            T_OK(up >= n && up < n + to && up % to == 0, "%d rounded up to %d: %d", (int)n, (int)to,
                 (int)up);
        }
}

static void test_bytes(void) {
    const unsigned char b[9] = {0xff, 0x01, 0x82, 0x03, 0x84, 0x05, 0x86, 0x07, 0x88};
    T_OK(fci_le16(b + 1) == 0x8201 && fci_le32(b + 1) == 0x84038201u &&
             fci_le64(b + 1) == 0x8807860584038201u,
         "little-endian, from an odd address");
    T_OK(fci_float_bits(1.0f) == 0x3f800000u && fci_bits_float(0xbf200000u) == -0.625f,
         "floats and bits");
}

// ---- allocations

// Hooks that know what they gave: sizes must come back as they went, alignment must be asked for.
typedef struct ledger {
    void *at[4096];
    size_t size[4096];
    size_t n, wrong;
} ledger;

static void *keep_books(void *user, void *p, size_t old_size, size_t new_size, size_t align) {
    ledger *l = (ledger *)user;
    size_t i = 0;
    void *q = NULL;
    if (p) {
        while (i < l->n && l->at[i] != p) i++;
        if (i == l->n || l->size[i] != old_size) l->wrong++;
    } else if (old_size) l->wrong++;
    if (align == 0 || align > 64 || align & (align - 1)) l->wrong++;
    q = fci_c_realloc(NULL, p, old_size, new_size, align);
    if ((uintptr_t)q % align) l->wrong++;
    if (p && i < l->n) l->at[i] = l->at[--l->n], l->size[i] = l->size[l->n];
    if (q) l->at[l->n] = q, l->size[l->n++] = new_size;
    return q;
}

static size_t not_zero(const unsigned char *p, size_t n) {
    size_t bad = 0;
    for (size_t i = 0; i < n; i++) bad += p[i] != 0;
    return bad;
}

static void test_allocator(void) {
    static ledger l;
    fc_env env;
    fc_error err;
    fci_context c;
    memset(&env, 0, sizeof env);
    env.alloc.realloc = keep_books;
    env.alloc.user = &l;
    fci_context_basic(&c, &env);
    for (uint64_t n = 0; n < 300; n += 7) {
        unsigned char *p = (unsigned char *)fci_alloc(&c, n, 3, "thing", &err);
        if (!T_OK(p && (uintptr_t)p % 64 == 0 && not_zero(p, (size_t)n * 3) == 0,
                  "%d x 3: not zeroed or aligned", (int)n))
            continue;
        memset(p, 0xa5, (size_t)n * 3);
        p = (unsigned char *)fci_grow(&c, p, 2 * n + 5, 3, "thing", &err);
        size_t bad = 0;
        for (size_t i = 0; i < (size_t)n * 3; i++) bad += p[i] != 0xa5;
        T_OK(bad == 0 && (uintptr_t)p % 64 == 0 && not_zero(p + n * 3, (size_t)(n + 5) * 3) == 0,
             "%d grown: %d lost", (int)n, (int)bad);
        fci_free(&c, p);
    }
    fci_free(&c, NULL);
    void *fresh = fci_grow(&c, NULL, 10, 4, "thing", &err);
    T_OK(fresh && not_zero((unsigned char *)fresh, 40) == 0, "made by growing nothing");
    fci_free(&c, fresh);
    T_OK(l.n == 0 && l.wrong == 0, "%d left, %d wrong sizes", (int)l.n, (int)l.wrong);
    T_OK(!fci_alloc(&c, UINT64_MAX, 2, "thing", &err) && err.code == FC_ERR_MEMORY &&
             strstr(err.msg, "thing: 1844674") == err.msg,
         "overflow: %s", err.msg);
    T_OK(!fci_alloc(&c, UINT64_MAX, 1, "thing", &err) &&
             !fci_alloc(&c, SIZE_MAX / 2, 1, "thing", NULL),
         "too large: %s", err.msg);
    fresh = fci_alloc(&c, 4, 1, "thing", &err);
    T_OK(!fci_grow(&c, fresh, UINT64_MAX, 8, "thing", &err) && err.code == FC_ERR_MEMORY &&
             l.n == 1,
         "a failed growth keeps the old one");
    fci_free(&c, fresh);
}

static void test_default_allocator(void) {
    const size_t sizes[] = {1, 15, 16, 4096, 100000, 4 * (size_t)FCI_MEMORY_HUGE};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t align = 8; align <= 64; align *= 2) {
            unsigned char *p = (unsigned char *)fci_c_realloc(NULL, NULL, 0, sizes[i], align);
            if (!T_OK(p && (uintptr_t)p % align == 0, "%d bytes aligned to %d", (int)sizes[i],
                      (int)align))
                continue;
            p[0] = 1;
            p[sizes[i] - 1] = 2;
            p = (unsigned char *)fci_c_realloc(NULL, p, sizes[i], sizes[i] + 33, align);
            T_OK(p && (uintptr_t)p % align == 0 && p[0] == (sizes[i] == 1 ? 2 : 1) &&
                     p[sizes[i] - 1] == 2,
                 "grown from %d", (int)sizes[i]);
            p = (unsigned char *)fci_c_realloc(NULL, p, sizes[i] + 33, 1, align);
            T_OK(p && p[0] == (sizes[i] == 1 ? 2 : 1), "cut to one byte");
            T_OK(!fci_c_realloc(NULL, p, 1, 0, align), "freed");
        }
    T_OK(!fci_c_realloc(NULL, NULL, 0, SIZE_MAX - 8, 64), "more than there is");
    T_OK(!fci_c_realloc(NULL, NULL, 0, 0, 64), "nothing");
}

static void test_arena(void) {
    memory w;
    fc_error err;
    fci_context c = context_of(&w);
    fci_arena a = {&c, NULL};
    char *p[400], *list = NULL;
    for (size_t i = 0; i < 400; i++) {
        const size_t n = i * i % 997;
        p[i] = (char *)fci_arena_alloc(&a, n, 1, "piece", &err);
        if (!T_OK(p[i] && (uintptr_t)p[i] % 16 == 0 && not_zero((unsigned char *)p[i], n) == 0,
                  "piece %d", (int)i))
            return;
        memset(p[i], (int)i, n);
        list = (char *)fci_arena_grow(&a, list, i + 1, 1, "list", &err); // between the pieces
        list[i] = (char)i;
    }
    size_t bad = 0;
    for (size_t i = 0; i < 400; i++) {
        bad += list[i] != (char)i;
        for (size_t k = 0; k < i * i % 997; k++) bad += p[i][k] != (char)i;
    }
    T_OK(bad == 0, "%d bytes were overwritten", (int)bad);
    T_OK(fci_arena_alloc(&a, 1000000, 1, "large", &err) != NULL, "larger than a chunk: %s",
         err.msg);
    const char *copy = fci_arena_copy(&a, fci_sn("abcdef", 3), &err);
    T_OK(copy && strcmp(copy, "abc") == 0 && fci_arena_copy(&a, fci_sn(NULL, 0), &err)[0] == 0,
         "copies");
    T_OK(!fci_arena_alloc(&a, UINT64_MAX, 3, "piece", &err) && err.code == FC_ERR_MEMORY,
         "overflow: %s", err.msg);
    T_OK(!fci_arena_alloc(&a, UINT64_MAX - 8, 1, "piece", &err) && err.code == FC_ERR_MEMORY,
         "overflow: %s", err.msg);
    T_OK(!fci_arena_grow(&a, list, UINT64_MAX, 3, "list", &err) && err.code == FC_ERR_MEMORY &&
             list[1] == 1,
         "overflow: %s", err.msg);
    w.fail_alloc = w.allocs + 1;
    T_OK(!fci_arena_grow(&a, list, 5000, 1, "list", &err) && err.code == FC_ERR_MEMORY &&
             list[399] == (char)399,
         "no memory: %s", err.msg);
    w.fail_alloc = w.allocs + 1;
    T_OK(!fci_arena_alloc(&a, 1000000, 1, "piece", &err) && err.code == FC_ERR_MEMORY,
         "no memory: %s", err.msg);
    fci_arena_free(&a);
    T_OK(w.live == 0 && a.chunks == NULL, "%ld left", w.live);
    fci_arena_free(&a);
}

static void test_path(void) {
    memory w;
    fc_error err;
    fci_context c = context_of(&w);
    fci_arena a = {&c, NULL};
    T_OK(strcmp(fci_path_join(&a, "dir", "x.json", &err), "dir/x.json") == 0 &&
             strcmp(fci_path_join(&a, "dir/", "x", &err), "dir/x") == 0 &&
             strcmp(fci_path_join(&a, "", "x", &err), "x") == 0,
         "joined");
    T_OK(strcmp(fci_base_name("a/b/c.gguf"), "c.gguf") == 0 &&
             strcmp(fci_base_name("c"), "c") == 0 && strcmp(fci_base_name("a/b/"), "b/") == 0 &&
             strcmp(fci_base_name(""), "") == 0 && strcmp(fci_base_name("a//b//"), "b//") == 0 &&
             strcmp(fci_base_name("a\\b"), FCI_WINDOWS ? "b" : "a\\b") == 0,
         "last parts");
    T_OK(fci_ends(fci_s("x.json"), ".json") && !fci_ends(fci_s("json"), ".json") &&
             fci_ends(fci_s("x"), "") && fci_begins(fci_s("GGUF"), "GGUF") &&
             !fci_begins(fci_s("GGU"), "GGUF"),
         "beginnings and ends");
    w.fail_alloc = w.allocs + 1;
    w.fail_always = 1;
    char name[3000];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    T_OK(!fci_path_join(&a, name, name, &err) && err.code == FC_ERR_MEMORY, "no memory: %s",
         err.msg);
    fci_arena_free(&a);
}

// ---- buffers and numbers

static void test_buffer(void) {
    memory w;
    fci_context c = context_of(&w);
    fci_buffer b;
    char want[20000];
    size_t n = 0;
    memset(&b, 0, sizeof b);
    b.c = &c;
    for (int i = 0; i < 1500; i++) {
        n += (size_t)snprintf(want + n, sizeof want - n, "%d,%s;", i, i % 3 ? "ab" : "");
        fci_putf(&b, "%d,", i);
        fci_puts(&b, i % 3 ? "ab" : "");
        fci_put(&b, ";", 1);
    }
    T_OK(!b.error.code && b.n == n && memcmp(b.p, want, n + 1) == 0, "%d bytes of %d", (int)b.n,
         (int)n);
    fci_put(&b, NULL, 0);
    T_OK(b.n == n, "nothing was added");
    fci_putf(&b, "%s", want); // longer than what is there
    T_OK(b.n == 2 * n && memcmp(b.p + n, want, n + 1) == 0, "twice as long");
    w.fail_alloc = w.allocs + 1;
    const size_t before = b.n;
    while (!b.error.code) fci_put(&b, want, n);
    T_OK(b.error.code == FC_ERR_MEMORY && b.n >= before && b.p[b.n] == 0, "full: %s", b.error.msg);
    const size_t full = b.n;
    w.fail_alloc = 0;
    fci_puts(&b, "x");
    fci_putf(&b, "%d", 1);
    T_OK(b.n == full, "the first failure stays");
    fci_buffer_free(&b);
    T_OK(w.live == 0 && !b.p && b.n == 0, "%ld left", w.live);
    memset(&b.error, 0, sizeof b.error);
    T_OK(!fci_buffer_reserve(&b, SIZE_MAX / 2) && b.error.code == FC_ERR_MEMORY &&
             strstr(b.error.msg, "too long"),
         "%s", b.error.msg);
}

static const char *number(fci_buffer *b, double value) {
    b->n = 0;
    fci_put_number(b, value);
    return b->p;
}

// The same double comes back, in no more digits than that takes. (Locales: test_json.)
static void test_numbers(void) {
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},
                 {-0.0, "-0"},
                 {1, "1"},
                 {-2.5, "-2.5"},
                 {0.1, "0.1"},
                 {1e300, "1e+300"},
                 {123456789012345678.0, "1.2345678901234568e+17"},
                 {1.0 / 3, "0.3333333333333333"},
                 {5e-324, "4.94065645841247e-324"}};
    memory w;
    fci_context c = context_of(&w);
    fci_buffer b;
    char text[40];
    memset(&b, 0, sizeof b);
    b.c = &c;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        T_OK(strcmp(number(&b, cases[i].value), cases[i].text) == 0, "%s: %s", cases[i].text, b.p);
    T_OK(strcmp(number(&b, (double)NAN), "null") == 0 &&
             strcmp(number(&b, (double)INFINITY), "null") == 0,
         "not finite");
    fci_format_g(text, sizeof text, 3, 1234.5);
    T_OK(strcmp(text, "1.23e+03") == 0, "%s", text);
    for (int i = 0; i < 5000; i++) {
        const uint64_t bits = random_bits();
        double value, back;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) continue;
        back = strtod(number(&b, value), NULL);
        if (memcmp(&back, &value, sizeof value) != 0)
            T_OK(0, "%.17g came back from %s", value, b.p);
        snprintf(text, sizeof text, "%.15g", value);
        if (strtod(text, NULL) == value) T_OK(strcmp(text, b.p) == 0, "%s: too many digits", b.p);
    }
    fci_buffer_free(&b);
}

// ---- hashes and maps

static void test_hashes(void) {
    static const struct {
        size_t n;
        uint64_t seed, hash;
    } cases[] = {
        // XXH64 as its authors publish it for a buffer of theirs
        {0, 0, 0xef46db3751d8e999u},
        {0, 2654435761u, 0xac75fda2929b17efu},
        {1, 0, 0xe934a84adb052768u},
        {1, 2654435761u, 0x5014607643a9b4c3u},
        {4, 0, 0x9136a0dca57457eeu},
        {14, 0, 0x8282dcc4994e35c8u},
        {14, 2654435761u, 0xc3bd6bf63deb6df0u},
        {222, 0, 0xb641ae8cb691c174u},
        {222, 2654435761u, 0x20cb8ab7ae10c14au},
    };
    unsigned char bytes[225];
    uint64_t seed = 2654435761u;
    for (size_t i = 0; i < 224; i++, seed *= 11400714785074694797u)
        bytes[i] = (unsigned char)(seed >> 56);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint64_t hash = fci_xxh64(cases[i].seed, bytes, cases[i].n);
        T_OK(hash == cases[i].hash, "%d bytes: 0x%016llx", (int)cases[i].n,
             (unsigned long long)hash);
    }
    T_OK(fci_xxh64(0, "abc", 3) == 0x44bc2cf5ad770999u, "abc");
    const uint64_t plain = fci_xxh64(0, bytes, 100);
    memmove(bytes + 1, bytes, 100);
    T_OK(fci_xxh64(0, bytes + 1, 100) == plain, "from an odd address");
    static const unsigned char le[8] = {8, 7, 6, 5, 4, 3, 2, 1};
    T_OK(fci_xxh_add(99, 0x0102030405060708u) == fci_xxh64(99, le, 8),
         "a number is its bytes, the lowest first");
    T_OK(fci_hash(FCI_HASH_START, "", 0) == 0xcbf29ce484222325u &&
             fci_hash(FCI_HASH_START, "a", 1) == 0xaf63dc4c8601ec8cu &&
             fci_hash(FCI_HASH_START, "foobar", 6) == 0x85944171f73967e8u,
         "FNV-1a, as its authors publish it");
}

static void test_map(void) {
    enum { N = 5000 };
    static char keys[N][12];
    memory w;
    fc_error err;
    fci_context c = context_of(&w);
    fci_map m;
    uint32_t value = 0;
    bool there = true;
    size_t bad = 0;
    memset(&m, 0, sizeof m);
    m.c = &c;
    T_OK(!fci_map_get(&m, fci_s("x"), &value), "an empty map has nothing");
    for (uint32_t i = 0; i < N; i++) {
        snprintf(keys[i], sizeof keys[i], "k%u", i * 7919u);
        bad += fci_map_add(&m, fci_s(keys[i]), i, &there, &err) != FC_OK || there;
        bad += fci_map_add(&m, fci_s(keys[i]), i + 1, &there, &err) != FC_OK ||
               !there; // its value stays
    }
    for (uint32_t i = 0; i < N; i++) bad += !fci_map_get(&m, fci_s(keys[i]), &value) || value != i;
    T_OK(bad == 0 && m.count == N && m.capacity >= 2 * N, "%d wrong of %d in %d", (int)bad,
         (int)m.count, (int)m.capacity);
    T_OK(!fci_map_get(&m, fci_s("k"), &value) && !fci_map_get(&m, fci_s("k1"), &value),
         "keys that are not there");
    T_OK(!fci_map_add(&m, fci_sn(NULL, 0), 7, &there, &err) && !there &&
             fci_map_get(&m, fci_s(""), &value) && value == 7,
         "an empty key");
    T_OK(!fci_map_add(&m, fci_sn("a\0b", 3), 8, &there, &err) && !there &&
             !fci_map_get(&m, fci_s("a"), &value) && fci_map_get(&m, fci_sn("a\0b", 3), &value) &&
             value == 8,
         "a key with a zero byte");
    w.fail_alloc = w.allocs + 1;
    T_OK(fci_map_reserve(&m, 10 * N, &err) == FC_ERR_MEMORY &&
             fci_map_get(&m, fci_s(keys[N - 1]), &value) && value == N - 1,
         "no memory: %s", err.msg);
    T_OK(fci_map_reserve(&m, SIZE_MAX / 4, &err) == FC_ERR_MEMORY && strstr(err.msg, "too many"),
         "%s", err.msg);
    fci_map_free(&m);
    T_OK(w.live == 0 && m.count == 0 && !fci_map_get(&m, fci_s(keys[0]), &value), "%ld left",
         w.live);
}

// The same key lies elsewhere in another map, so that a file cannot bring keys that all collide.
static void test_seeds(void) {
    memory w;
    fc_error err;
    fci_context c = context_of(&w);
    fci_map maps[2];
    uint32_t hashes[2];
    bool there = true;
    memset(maps, 0, sizeof maps);
    for (int k = 0; k < 2; k++) {
        maps[k].c = &c;
        T_OK(!fci_map_add(&maps[k], fci_s("model.norm.weight"), 0, &there, &err), "%s", err.msg);
        for (size_t i = 0; i < maps[k].capacity; i++)
            if (maps[k].slots[i].place) hashes[k] = maps[k].slots[i].hash;
    }
    T_OK(hashes[0] != hashes[1], "one hash in two maps: %lx", (unsigned long)hashes[0]);
    for (int k = 0; k < 2; k++) fci_map_free(&maps[k]);
    T_OK(w.live == 0, "%ld left", w.live);
}

// ---- the log

typedef struct heard {
    int n, level;
    char text[400];
} heard;

static void hear(void *user, int level, const char *message) {
    heard *h = (heard *)user;
    h->n++;
    h->level = level;
    snprintf(h->text, sizeof h->text, "%s", message);
}

static void test_log(void) {
    memory w;
    heard h;
    char longer[400];
    fci_context c = context_of(&w);
    memset(&h, 0, sizeof h);
    fci_log(&c, 0, "nobody hears %d", 1);
    c.log.fn = hear;
    c.log.user = &h;
    fci_log(&c, 1, "of %s: %d", "x", 5);
    T_OK(h.n == 1 && h.level == 1 && strcmp(h.text, "of x: 5") == 0, "%d: %s", h.n, h.text);
    memset(longer, 'y', sizeof longer);
    longer[sizeof longer - 1] = 0;
    fci_log(&c, 0, "%s", longer);
    T_OK(h.n == 2 && h.level == 0 && strlen(h.text) == 255, "cut at %d", (int)strlen(h.text));
}

// ---- progress

static int keep_done(void *user, const fc_progress *p) {
    *(double *)user = p->done;
    return p->done > 0.9;
}

static void test_progress(void) {
    static const double done[] = {0.25, 0.5, 0.3, 0, 0.6}, told[] = {0.25, 0.5, 0.5, 0.5, 0.6};
    double is = -1;
    fc_error err;
    fci_watch w;
    const fc_watch hook = {keep_done, &is};
    fci_watch_begin(&w, &hook, "testing");
    for (size_t i = 0; i < sizeof done / sizeof *done; i++) {
        T_OK(fci_watch_tell(&w, done[i], &err) == FC_OK && is >= told[i] && is <= told[i],
             "%g is told as %g", done[i], is);
        w.told = w.start - 1; // long ago
    }
    T_OK(fci_watch_tell(&w, 7, &err) == FC_ERR_CANCELLED && is <= 1 && is >= 1, "%g", is);
}

int main(void) {
    test_codes();
    test_messages();
    test_shown();
    test_arithmetic();
    test_bytes();
    test_allocator();
    test_default_allocator();
    test_arena();
    test_path();
    test_buffer();
    test_numbers();
    test_hashes();
    test_map();
    test_seeds();
    test_log();
    test_progress();
    return t_end("core");
}
