// Containers: files made here, good and bad, under failing memory and reads; and the shared corpora
// of bad files.
#include "private.h"
#include "memory.h"
#include "t.h"

typedef struct bytes { // a file being written
    unsigned char p[65536];
    size_t n;
} bytes;

static void put(bytes *b, const void *p, size_t n) {
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void put_int(bytes *b, uint64_t value, int size) {
    for (int i = 0; i < size; i++) b->p[b->n++] = (unsigned char)(value >> 8 * i);
}

static void put_str(bytes *b, const char *s) {
    put_int(b, strlen(s), 8);
    put(b, s, strlen(s));
}

static void put_zero(bytes *b, size_t n) {
    memset(b->p + b->n, 0, n);
    b->n += n;
}

// A safetensors file of a header and n bytes 0, 1, 2 ...
static void make_st(bytes *b, const char *header, size_t n) {
    b->n = 0;
    put_str(b, header);
    for (size_t i = 0; i < n; i++) b->p[b->n++] = (unsigned char)i;
}

static const char st_small[] = "{\"__metadata__\":{\"format\":\"pt\",\"n\\u00e9\":\"\"},"
    "\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                               "\"b\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[24,26]},"
                               "\"z\":{\"shape\":[0,5],\"dtype\":\"U8\",\"data_offsets\":[26,"
                               "26]}} ";

static void gguf_begin(bytes *b, unsigned version, uint64_t n_tensors, uint64_t n_kvs) {
    b->n = 0;
    put(b, "GGUF", 4);
    put_int(b, version, 4);
    put_int(b, n_tensors, 8);
    put_int(b, n_kvs, 8);
}

static void gguf_key(bytes *b, const char *key, uint32_t type, uint64_t value, int size) {
    put_str(b, key);
    put_int(b, type, 4);
    put_int(b, value, size);
}

static void gguf_text(bytes *b, const char *key, const char *value) {
    put_str(b, key);
    put_int(b, FCI_KV_STRING, 4);
    put_str(b, value);
}

static void gguf_tensor(bytes *b, const char *name, int rank, uint64_t fast, uint64_t slow,
                        uint32_t type, uint64_t offset) {
    put_str(b, name);
    put_int(b, (uint64_t)rank, 4);
    if (rank > 0) put_int(b, fast, 8);
    if (rank > 1) put_int(b, slow, 8);
    put_int(b, type, 4);
    put_int(b, offset, 8);
}

static void gguf_data(bytes *b, size_t align, size_t n) {
    while (b->n % align) b->p[b->n++] = 0;
    for (size_t i = 0; i < n; i++) b->p[b->n++] = (unsigned char)i;
}

// every kind of value, two tensors, alignment 64
static void make_gguf(bytes *b, unsigned version) {
    gguf_begin(b, version, 2, 17);
    gguf_text(b, "general.architecture", "llama");
    gguf_key(b, "general.alignment", FCI_KV_U32, 64, 4);
    gguf_key(b, "u8", FCI_KV_U8, 200, 1);
    gguf_key(b, "i8", FCI_KV_I8, 0xff, 1);
    gguf_key(b, "u16", FCI_KV_U16, 65535, 2);
    gguf_key(b, "i16", FCI_KV_I16, 0x8000, 2);
    gguf_key(b, "i32", FCI_KV_I32, 7, 4);
    gguf_key(b, "f32", FCI_KV_F32, 0x3fc00000, 4);
    gguf_key(b, "bool", FCI_KV_BOOL, 1, 1);
    gguf_key(b, "u64", FCI_KV_U64, UINT64_MAX, 8);
    gguf_key(b, "i64", FCI_KV_I64, (uint64_t)1 << 63, 8);
    gguf_key(b, "f64", FCI_KV_F64, 0x3ff8000000000000u, 8);
    gguf_key(b, "ints", FCI_KV_ARRAY, FCI_KV_I16, 4);
    put_int(b, 3, 8);
    put_int(b, 1, 2), put_int(b, 0xfffe, 2), put_int(b, 3, 2);
    gguf_key(b, "floats", FCI_KV_ARRAY, FCI_KV_F32, 4);
    put_int(b, 1, 8);
    put_int(b, 0x40000000, 4);
    gguf_key(b, "strings", FCI_KV_ARRAY, FCI_KV_STRING, 4);
    put_int(b, 3, 8);
    put_str(b, "x"), put_str(b, ""), put_int(b, 2, 8), put(b, "\0\xff", 2);
    gguf_key(b, "many", FCI_KV_ARRAY, FCI_KV_U8, 4);
    put_int(b, 20, 8);
    put_zero(b, 20);
    gguf_key(b, "empty", FCI_KV_ARRAY, FCI_KV_U64, 4);
    put_int(b, 0, 8);
    gguf_tensor(b, "q", 2, 32, 3, 8, 0);    // Q8_0 {32, 3}: 102 bytes
    gguf_tensor(b, "f", 1, 5, 0, 0, 128);   // F32 {5}
    gguf_data(b, 64, 128 + 20);
}

static fc_container *open_memory(memory *m, const char *path, fc_error *err) {
    fc_env env = memory_env(m);
    fc_container *c = fc_container_open(path, &env, err);
    if (!c)
        T_OK(err->code != FC_OK && err->msg[0] && !strchr(err->msg, '\n'), "one line: %s",
             err->msg);
    else T_OK(err->code == FC_OK, "no error");
    return c;
}

// Opens n bytes as a file; the code of the error. The data is at the end of a block, where a
// sanitizer sees it.
static fc_code verdict(const void *data, size_t n, int map, fc_error *err) {
    memory m;
    void *copy = malloc(n ? n : 1);
    memset(&m, 0, sizeof m);
    memcpy(copy, data, n);
    m.map = map;
    memory_add(&m, "dir/file", copy, n);
    fc_container *c = open_memory(&m, "dir/file", err);
    if (c)
        for (size_t i = 0; i < fc_container_tensor_count(c); i++) {
            const fc_tensor *t = fc_container_tensor(c, i);
            T_OK(t->offset <= n && t->bytes <= n - t->offset, "%s lies in the file", t->name);
            T_OK(!t->bytes || !map || memcmp(t->data, (char *)copy + t->offset, t->bytes) == 0,
                 "%s is there", t->name);
        }
    fc_container_close(c);
    T_OK(m.live == 0, "%ld things were not given back", m.live);
    free(copy);
    return err->code;
}

static void test_safetensors(void) {
    static bytes b;
    memory m;
    fc_error err;
    char text[64];
    make_st(&b, st_small, 26);
    for (int map = 0; map < 2; map++) {
        memset(&m, 0, sizeof m);
        m.map = map;
        memory_add(&m, "x.safetensors", b.p, b.n);
        fc_container *c = open_memory(&m, "x.safetensors", &err);
        if (!T_OK(c != NULL, "%s", err.msg)) return;
        const fc_tensor *a = fc_container_find(c, "a.weight"), *s = fc_container_find(c, "b"),
                        *z = fc_container_find(c, "z");
        T_OK(fc_container_tensor_count(c) == 3 && fc_container_bytes(c) == b.n &&
                 !strcmp(fc_container_kind(c), "safetensors"),
             "facts");
        T_OK(a && a->type == FC_DTYPE_F32 && a->rank == 2 && a->shape[0] == 2 && a->shape[1] == 3 &&
                 a->bytes == 24,
             "a.weight");
        T_OK(a && a->offset == b.n - 26 && ((const char *)a->data)[5] == 5 && a->name_length == 8 &&
                 a->file == 0,
             "its data");
        T_OK(s && s->rank == 0 && s->bytes == 2 && ((const char *)s->data)[0] == 24, "a scalar");
        T_OK(z && z->bytes == 0 && z->shape[1] == 5, "an empty one");
        T_OK(!fc_container_find(c, "c") && !fc_container_find(c, "__metadata__") &&
                 !fc_container_find(c, NULL) && !fc_container_tensor(c, 3),
             "absent");
        T_OK(fc_container_metadata_count(c) == 2 &&
                 !strcmp(fc_container_metadata_key(c, 1), "n\xc3\xa9") &&
                 !fc_container_metadata_key(c, 2),
             "metadata");
        T_OK(fc_container_metadata_text(c, 0, text, sizeof text) == 2 && !strcmp(text, "pt"),
             "its text");
        T_OK(fc_container_metadata_text(c, 0, text, 2) == 2 && !strcmp(text, "p") &&
                 fc_container_metadata_text(c, 0, NULL, 0) == 2,
             "cut");
        T_OK(!fci_gguf_find(c, "format"), "no GGUF key");
        fc_container_close(c);
        T_OK(m.live == 0, "all given back");
    }
    T_OK(fc_container_open(NULL, NULL, &err) == NULL && err.code == FC_ERR_ARGUMENT, "no path");
    T_OK(fc_container_open("/no/such/file", NULL, NULL) == NULL, "no file, no error wanted");
    fc_container_close(NULL);
}

static void test_bad_safetensors(void) {
    static const struct {
        const char *header;
        size_t data;
        const char *says;
    } cases[] = {
        {"[]", 0, "expected an object, got an array"},
        {"{}x", 0, "nothing after the value"},
        {"{}", 1, "expected the file to end"},
        {"{\"a\":1}", 0, "tensor \"a\" (byte 13): description: expected an object, got 1"},
        {"{\"a\":[\"U8\",[1],[0,1]]}", 1, "expected an object"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "expected \"dtype\", got none"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "expected \"shape\", got none"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "expected \"data_offsets\", got none"},
        {"{\"a\":{\"dtype\":\"u8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "got \"u8\""},
        {"{\"a\":{\"dtype\":\"Q4_0\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "got \"Q4_0\""},
        {"{\"a\":{\"dtype\":\"\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "got \"\""},
        {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
         "each field only once"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1, "got 1.0"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, "got -1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[[1]],\"data_offsets\":[0,1]}}", 1, "got an array"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]}}", 1,
         "an array of integers"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],\"data_offsets\":["
         "0,1]}}",
         1, "at most 16 integers"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1,
         "expected two integers"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1,
         "at most 2 integers"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1, "begin <= end <= 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 1, "begin <= end <= 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1,
         "expected 2 bytes by shape and dtype, got 1"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "whole bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}", 4,
         "below 2^64 bits"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2,9223372036854775809],\"data_offsets\":[0,2]}}", 2,
         "below 2^64 bits"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2,
         "expected data to begin at"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\","
         "\"shape\":[2],\"data_offsets\":[1,3]}}",
         3, "tensor \"b\""},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\","
         "\"shape\":[1],\"data_offsets\":[2,3]}}",
         3, "tensor \"b\""},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"\\u0061\":{\"dtype\":"
         "\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
         1, "only once"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "expected a string, got 1"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "only once"},
        {"{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", 0, "only once"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"more\":[1e999]}}", 1,
         "header: line 1, column"},
    };
    static bytes b;
    fc_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_st(&b, cases[i].header, cases[i].data);
        fc_code code = verdict(b.p, b.n, 1, &err);
        T_OK(code == FC_ERR_FORMAT && strstr(err.msg, cases[i].says) && strstr(err.msg, "file: "),
             "%s: expected \"%s\", got \"%s\"", cases[i].header, cases[i].says, err.msg);
        T_OK(err.where <= b.n, "place within the file: %d", (int)err.where);
    }
    static const char *const good[] = {
        // 4 bytes of data
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"more\":[{\"x\":1}],"
        "\"again\":{}}}",
        " \n{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[3,4]},\"a\":{\"dtype\":\"U8\","
        "\"shape\":[3],\"data_offsets\":[0,3]}}\t",
        "{\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[0,3]},\"\":{\"dtype\":"
        "\"F4\",\"shape\":[2],\"data_offsets\":[3,4]}}",
        "{\"z\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},\"a\":{\"dtype\":\"F32\","
        "\"shape\":[1],\"data_offsets\":[0,4]}}",
        "{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},\"__metadata__\":{}"
        "}",
        ("{\"c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]},\"b\":{\"dtype\":\"U8\","
         "\"shape\":[1],\"data_offsets\":[1,2]},"
         "\"d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[3,4]},\"a\":{\"dtype\":\"U8\","
         "\"shape\":[1],\"data_offsets\":[0,1]}}"),
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        make_st(&b, good[i], 4);
        T_OK(verdict(b.p, b.n, 1, &err) == FC_OK, "%s: %s", good[i], err.msg);
    }
    static const uint64_t lengths[] = {
        3,         100000000, 100000001, (uint64_t)1 << 32 | 2, (uint64_t)1 << 63, UINT64_MAX - 7,
        UINT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        b.n = 0;
        put_int(&b, lengths[i], 8);
        put(&b, "{}", 2);
        T_OK(verdict(b.p, b.n, 1, &err) == FC_ERR_FORMAT &&
                 strstr(err.msg, "header of at most 2 bytes"),
             "length: %s", err.msg);
    }
}

static void test_gguf(void) {
    static bytes b;
    memory m;
    fc_error err;
    char text[64];
    for (unsigned version = 2; version <= 3; version++) {
        make_gguf(&b, version);
        memset(&m, 0, sizeof m);
        m.map = version == 2;
        memory_add(&m, "m.gguf", b.p, b.n);
        fc_container *c = open_memory(&m, "m.gguf", &err);
        if (!T_OK(c != NULL, "%s", err.msg)) return;
        const fc_tensor *q = fc_container_find(c, "q"), *f = fc_container_find(c, "f");
        T_OK(fc_container_tensor_count(c) == 2 && !strcmp(fc_container_kind(c), "gguf"), "facts");
        T_OK(q && q->type == FC_DTYPE_Q8_0 && q->rank == 2 && q->shape[0] == 3 &&
                 q->shape[1] == 32 && q->bytes == 102,
             "q: slowest first");
        T_OK(f && f->type == FC_DTYPE_F32 && f->bytes == 20 && f->offset == b.n - 20 &&
                 ((const unsigned char *)f->data)[0] == 128,
             "f");
        uint64_t u = 0, position = 0;
        double d = 0;
        bool yes = false;
        fci_str s;
        T_OK(fci_kv_u64(fci_gguf_find(c, "u8"), &u) && u == 200 &&
                 fci_kv_u64(fci_gguf_find(c, "u16"), &u) && u == 65535,
             "small integers");
        T_OK(fci_kv_u64(fci_gguf_find(c, "i32"), &u) && u == 7 &&
                 fci_kv_u64(fci_gguf_find(c, "u64"), &u) && u == UINT64_MAX,
             "integers");
        T_OK(!fci_kv_u64(fci_gguf_find(c, "i8"), &u) && !fci_kv_u64(fci_gguf_find(c, "i64"), &u) &&
                 !fci_kv_u64(fci_gguf_find(c, "bool"), &u) &&
                 !fci_kv_u64(fci_gguf_find(c, "f32"), &u) && !fci_kv_u64(NULL, &u),
             "negative ones and others are no u64");
        T_OK(fci_kv_f64(fci_gguf_find(c, "i8"), &d) && d == -1 &&
                 fci_kv_f64(fci_gguf_find(c, "i16"), &d) && d == -32768,
             "negative");
        T_OK(fci_kv_f64(fci_gguf_find(c, "i64"), &d) && d == -9223372036854775808.0 &&
                 fci_kv_f64(fci_gguf_find(c, "f32"), &d) && d == 1.5 &&
                 fci_kv_f64(fci_gguf_find(c, "f64"), &d) && d == 1.5 &&
                 !fci_kv_f64(fci_gguf_find(c, "ints"), &d),
             "reals");
        T_OK(fci_kv_bool(fci_gguf_find(c, "bool"), &yes) && yes &&
                 !fci_kv_bool(fci_gguf_find(c, "u8"), &yes),
             "bool");
        T_OK(fci_kv_str(fci_gguf_find(c, "general.architecture"), &s) && fci_is(s, "llama") &&
                 !fci_kv_str(fci_gguf_find(c, "strings"), &s),
             "string");
        const fci_kv *ints = fci_gguf_find(c, "ints"), *strings = fci_gguf_find(c, "strings");
        fci_kv item;
        T_OK(ints && ints->count == 3 && fci_kv_item_u64(ints, 2, &u) && u == 3 &&
                 !fci_kv_item_u64(ints, 1, &u) && !fci_kv_item_u64(ints, 3, &u) &&
                 fci_kv_f64(fci_kv_item(ints, 1, &item), &d) && d == -2 &&
                 !fci_kv_item_u64(strings, 0, &u),
             "array");
        T_OK(strings && strings->count == 3 && fci_kv_next_string(strings, &position, &s) &&
                 fci_is(s, "x") && fci_kv_next_string(strings, &position, &s) && s.n == 0 &&
                 fci_kv_next_string(strings, &position, &s) && s.n == 2 &&
                 !fci_kv_next_string(strings, &position, &s),
             "strings");
        position = 0;
        T_OK(!fci_kv_next_string(ints, &position, &s) && !fci_gguf_find(c, "absent"), "no strings");
        static const char *const texts[][2] = {
            {"u8", "200"},
            {"i8", "-1"},
            {"i64", "-9223372036854775808"},
            {"f32", "1.5"},
            {"bool", "true"},
            {"ints", "[1, -2, 3]"},
            {"many", "[0, 0, 0, 0, 0, 0, 0, 0, ...] (20 in all)"},
            {"empty", "[]"},
            {"general.architecture", "llama"}};
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
            for (size_t k = 0; k < fc_container_metadata_count(c); k++)
                if (!strcmp(fc_container_metadata_key(c, k), texts[i][0]))
                    T_OK(fc_container_metadata_text(c, k, text, sizeof text) ==
                                 strlen(texts[i][1]) &&
                             !strcmp(text, texts[i][1]),
                         "%s: %s", texts[i][0], text);
        T_OK(fc_container_metadata_count(c) == 17, "keys");
        fc_container_close(c);
        T_OK(m.live == 0, "all given back");
    }
}

// Changes a good file of one key and one tensor in one place each.
static void test_bad_gguf(void) {
    static bytes b;
    fc_error err;
    enum {
        KEY_TYPE = 33,
        VALUE = 37,
        NAME = 41,
        RANK = 50,
        NE0 = 54,
        NE1 = 62,
        TYPE = 70,
        OFFSET = 74,
        DATA = 96
    };
    static const struct {
        size_t at;
        int size;
        uint64_t value;
        const char *says;
    } cases[] = {
        {0, 4, 0x46554746, "safetensors header"},
        {4, 4, 1, "version: expected 2 or 3, got 1"},
        {4, 4, 0, "expected 2 or 3, got 0"},
        {4, 4, 4, "expected 2 or 3"},
        {4, 4, 0x03000000, "big-endian"},
        {8, 8, 2, "tensor \"\""},
        {8, 8, UINT64_MAX, "number of tensors: expected at most"},
        {8, 8, 100, "number of tensors: expected at most"},
        {16, 8, (uint64_t)1 << 62, "number of keys: expected at most"},
        {16, 8, 2, ""},
        {24, 8, 0, "key: expected a name"},
        {24, 8, UINT64_MAX, "key: expected 18446744073709551615 bytes"},
        {24, 8, (uint64_t)1 << 63, "key: expected"},
        {KEY_TYPE, 4, 13, "key \"k\": type: expected 0 to 12, got 13"},
        {KEY_TYPE, 4, UINT32_MAX, "got 4294967295"},
        {KEY_TYPE, 4, 9, ""},
        {NAME, 8, 64, "at most 63 bytes, got 64"},
        {RANK, 4, 5, "tensor \"t\" (byte 50): expected at most 4 dimensions, got 5"},
        {RANK, 4, UINT32_MAX, "at most 4 dimensions"},
        {NE0, 8, UINT64_MAX, "less than 2^63 elements"},
        {NE0, 8, (uint64_t)1 << 63, "less than 2^63 elements"},
        {NE0, 8, (uint64_t)1 << 62, "less than 2^63 elements"},
        {NE0, 8, (uint64_t)1 << 61, "below 2^64 bits"},
        {NE0, 8, 5, "expected 40 bytes from 96 on"},
        {NE1, 8, 3, "expected 48 bytes"},
        {TYPE, 4, 4, "expected a known type, got 4"},
        {TYPE, 4, 36, "got 36"},
        {TYPE, 4, 43, "got 43"},
        {TYPE, 4, UINT32_MAX, "got 4294967295"},
        {TYPE, 4, 2, "rows of a multiple of 32 elements (Q4_0), got 4"},
        {TYPE, 4, 14, "rows of a multiple of 256 elements (Q6_K)"},
        {OFFSET, 8, 32, "offset: expected 0"},
        {OFFSET, 8, UINT64_MAX, "offset: expected 0"},
    };
    for (int good = 1; good >= 0; good--)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            gguf_begin(&b, 3, 1, 1);
            gguf_key(&b, "k", FCI_KV_U32, 5, 4);
            gguf_tensor(&b, "t", 2, 4, 2, 0, 0);
            gguf_data(&b, 32, 32);
            T_OK(b.n == DATA + 32, "layout");
            if (!good)
                for (int k = 0; k < cases[i].size; k++)
                    b.p[cases[i].at + (size_t)k] = (unsigned char)(cases[i].value >> 8 * k);
            fc_code code = verdict(b.p, b.n, 1, &err);
            if (good) T_OK(code == FC_OK, "the file to change is good: %s", err.msg);
            else
                T_OK(code == FC_ERR_FORMAT && strstr(err.msg, cases[i].says) && err.where <= b.n,
                     "byte %d: expected \"%s\", got \"%s\"", (int)cases[i].at, cases[i].says,
                     err.msg);
        }
    static const struct {
        uint32_t type;
        uint64_t value;
        int good;
    } aligns[] = {
        {FCI_KV_U32, 0, 0},
        {FCI_KV_U32, 3, 0},
        {FCI_KV_U32, 33, 0},
        {FCI_KV_U32, (uint64_t)1 << 31, 0},
        {FCI_KV_U32, (uint64_t)1 << 21, 0},
        {FCI_KV_I32, 32, 0},
        {FCI_KV_F32, 32, 0},
        {FCI_KV_U32, 1, 1},
        {FCI_KV_U32, 8, 1},
        {FCI_KV_U32, 128, 1},
        {FCI_KV_U32, 4096, 1},
    };
    for (size_t i = 0; i < sizeof aligns / sizeof *aligns; i++) {
        size_t align = aligns[i].good ? (size_t)aligns[i].value : 32;
        gguf_begin(&b, 3, 2, 1);
        gguf_key(&b, "general.alignment", aligns[i].type, aligns[i].value, 4);
        gguf_tensor(&b, "a", 1, 1, 0, 0, 0);
        gguf_tensor(&b, "b", 0, 0, 0, 0, align < 4 ? 4 : align);
        gguf_data(&b, align, (align < 4 ? 4 : align) + 4);
        T_OK((verdict(b.p, b.n, 1, &err) == FC_OK) == aligns[i].good, "alignment %d: %s",
             (int)aligns[i].value, err.msg);
    }
    gguf_begin(&b, 3, 0, 1);
    gguf_key(&b, "general.alignment", FCI_KV_U32, (uint64_t)1 << 21, 4);
    T_OK(verdict(b.p, b.n, 1, &err) == FC_ERR_FORMAT, "too large an alignment of nothing: %s",
         err.msg);
    gguf_begin(&b, 3, 1, 0);
    gguf_tensor(&b, "t", 2, 0, (uint64_t)1 << 63, 0, 0);
    gguf_data(&b, 32, 32);
    T_OK(verdict(b.p, b.n, 1, &err) == FC_ERR_FORMAT, "a negative dimension times zero: %s",
         err.msg);
    static const struct {
        const char *why, *first, *second;
        uint64_t offset;
    } pairs[] = {
        {"one name twice", "a", "a", 32},
        {"overlap", "a", "b", 0},
        {"hole", "a", "b", 64},
        {"not aligned", "a", "b", 16},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        gguf_begin(&b, 3, 2, 0);
        gguf_tensor(&b, pairs[i].first, 1, 4, 0, 0, 0);
        gguf_tensor(&b, pairs[i].second, 1, 4, 0, 0, pairs[i].offset);
        gguf_data(&b, 32, 128);
        T_OK(verdict(b.p, b.n, 1, &err) == FC_ERR_FORMAT, "%s", pairs[i].why);
    }
    gguf_begin(&b, 3, 0, 2);
    gguf_key(&b, "k", FCI_KV_U8, 1, 1);
    gguf_key(&b, "k", FCI_KV_U8, 1, 1);
    T_OK(verdict(b.p, b.n, 1, &err) == FC_ERR_FORMAT &&
             strstr(err.msg, "key \"k\": expected it only once"),
         "%s", err.msg);
    static const struct {
        uint32_t type;
        uint64_t count;
    } arrays[] = {{FCI_KV_ARRAY, 0},
                  {13, 0},
                  {FCI_KV_U8, UINT64_MAX},
                  {FCI_KV_U64, (uint64_t)1 << 61},
                  {FCI_KV_U64, ((uint64_t)1 << 61) + 1},
                  {FCI_KV_STRING, (uint64_t)1 << 60},
                  {FCI_KV_STRING, 3},
                  {FCI_KV_U8, 17}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        gguf_begin(&b, 3, 0, 1);
        gguf_key(&b, "k", FCI_KV_ARRAY, arrays[i].type, 4);
        put_int(&b, arrays[i].count, 8);
        put_zero(&b, 16);
        T_OK(verdict(b.p, b.n, 1, &err) == FC_ERR_FORMAT, "array %d: %s", (int)i, err.msg);
    }
}

// Every cut, every changed byte, every failing allocation and read.
static void test_damage(const bytes *b, const char *what, size_t shortest) {
    static bytes copy;
    memory m;
    fc_error err;
    for (size_t n = 0; n < b->n; n++)
        T_OK((verdict(b->p, n, n % 2, &err) == FC_OK) == (n >= shortest), "%s cut at %d: %s", what,
             (int)n, err.msg);
    for (size_t at = 0; at < b->n; at++)
        for (int i = 0; i < 12; i++) {
            static const unsigned char xors[12] = {1,  2,   4,   8,   16,   32,
                                                   64, 128, 255, 127, 0x20, 0x0f};
            copy = *b;
            copy.p[at] ^= xors[i];
            verdict(copy.p, copy.n, 1, &err);
        }
    for (size_t at = 0; at + 8 <= b->n; at++)
        for (int i = 0; i < 8; i++) {
            static const uint64_t values[8] = {0,
                                               1,
                                               (uint64_t)1 << 31,
                                               UINT32_MAX,
                                               INT64_MAX,
                                               (uint64_t)1 << 63,
                                               UINT64_MAX,
                                               (uint64_t)1 << 61};
            copy = *b;
            copy.n = at;
            put_int(&copy, values[i], 8);
            copy.n = b->n;
            verdict(copy.p, copy.n, 1, &err);
        }
    for (int always = 0; always < 2; always++)
        for (long fail = 1;; fail++) {
            memset(&m, 0, sizeof m);
            memory_add(&m, "f", b->p, b->n);
            m.fail_alloc = fail;
            m.fail_always = always;
            fc_container *c = open_memory(&m, "f", &err);
            bool over = m.allocs < fail;
            T_OK(over ? c != NULL : !c && err.code == FC_ERR_MEMORY, "%s: allocation %ld fails: %s",
                 what, fail, err.msg);
            fc_container_close(c);
            T_OK(m.live == 0, "%s: allocation %ld fails, all given back", what, fail);
            if (over) break;
        }
    memset(&m, 0, sizeof m);
    memory_add(&m, "f", b->p, b->n);
    m.fail_read = 1;
    T_OK(!open_memory(&m, "f", &err) && err.code == FC_ERR_IO && m.live == 0,
         "%s: the read fails: %s", what, err.msg);
    memset(&m, 0, sizeof m);
    memory_add(&m, "f", b->p, b->n);
    fc_container *c = open_memory(&m, "f", &err);
    if (FCI_ARENA_CHUNK)
        T_OK(c && m.peak <= 65536, "%s: a small file takes %d bytes", what, (int)m.peak);
    fc_container_close(c);
}

// Peak memory of opening a mapped file is a small multiple of its size.
static void bounded(const char *what, const void *data, size_t n, fc_code want) {
    memory m;
    fc_error err;
    memset(&m, 0, sizeof m);
    m.map = 1;
    memory_add(&m, "f", data, n);
    fc_container *c = open_memory(&m, "f", &err);
    T_OK(err.code == want, "%s: %s", what, err.msg);
    if (FCI_ARENA_CHUNK)
        T_OK(m.peak <= 8 * n + (1 << 20), "%s: %d bytes take %d", what, (int)n, (int)m.peak);
    fc_container_close(c);
}

static void test_amplification(void) {
    enum { N = 100000 };
    char *text = (char *)malloc((size_t)N * 80 + 256), *p = text + 8, name[16];
    *p++ = '{';
    for (int i = 0; i < N; i++)
        p += sprintf(p, "%s\"%x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                     i ? "," : "", i);
    *p++ = '}';
    size_t n = (size_t)(p - text);
    for (int i = 0; i < 8; i++) text[i] = (char)((uint64_t)(n - 8) >> 8 * i);
    bounded("100,000 tensors, safetensors", text, n, FC_OK);
    p = text + 8 + sprintf(text + 8, "{\"\":1");
    for (int i = 0; i < N; i++, p += 5) memcpy(p, ",\"\":1", 5);
    p += sprintf(p, "}");
    n = (size_t)(p - text);
    for (int i = 0; i < 8; i++) text[i] = (char)((uint64_t)(n - 8) >> 8 * i);
    bounded("100,000 names of no tensors", text, n, FC_ERR_FORMAT);
    p = text + 8 + sprintf(text + 8, "{\"__metadata__\":{");
    for (int i = 0; i < N; i++) p += sprintf(p, "%s\"%x\":\"\"", i ? "," : "", i);
    p += sprintf(p, "}}");
    n = (size_t)(p - text);
    for (int i = 0; i < 8; i++) text[i] = (char)((uint64_t)(n - 8) >> 8 * i);
    bounded("100,000 entries of metadata", text, n, FC_OK);
    p = text + 8 +
        sprintf(text + 8, "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],\"x\":[0");
    for (int i = 0; i < N; i++, p += 2) memcpy(p, ",0", 2);
    p += sprintf(p, "]}}");
    n = (size_t)(p - text);
    for (int i = 0; i < 8; i++) text[i] = (char)((uint64_t)(n - 8) >> 8 * i);
    bounded("an ignored array of 100,000 items", text, n, FC_OK);
    for (int kind = 0; kind < 4; kind++) {
        static bytes head;
        p = text;
        if (kind == 3) gguf_begin(&head, 3, 0, (uint64_t)N * 20);
        else gguf_begin(&head, 3, kind == 1 ? 0 : N, kind == 1 ? N : 0);
        memcpy(p, head.p, head.n);
        p += head.n;
        for (int i = 0; i < N && kind < 2; i++) {
            sprintf(name, "%x", (unsigned)i);
            head.n = 0;
            if (kind == 0) gguf_tensor(&head, name, 1, 0, 0, 0, 0);
            else gguf_key(&head, name, FCI_KV_U8, 1, 1);
            memcpy(p, head.p, head.n);
            p += head.n;
        }
        if (kind >= 2) { // promises tensors or keys, brings zeros
            memset(p, 0, (size_t)N * 24);
            p += (size_t)N * 24;
        }
        while ((p - text) % 32) *p++ = 0;
        bounded(kind == 0   ? "100,000 tensors, GGUF"
                : kind == 1 ? "100,000 keys"
                            : "zeros",
                text, (size_t)(p - text), kind >= 2 ? FC_ERR_FORMAT : FC_OK);
    }
    free(text);
}

// ---- directories of shards: the recipes of index_json_cases.tsv, and more

#define ONE "model-00001-of-00002.safetensors"
#define TWO "model-00002-of-00002.safetensors"
#define MAP(entries) "{\"weight_map\":{" entries "}}"

static void add_shard(memory *m, const char *header) { // of a model of this one
    static const char index[] = MAP("\"a\":\"x\"");
    static bytes one;
    make_st(&one, header, 4);
    memset(m, 0, sizeof *m);
    memory_add(m, "d/model.safetensors.index.json", index, sizeof index - 1);
    memory_add(m, "d/x", one.p, one.n);
}

static fc_code open_index(const char *index, size_t n, const char *first, const char *second,
                          fc_error *err, size_t *tensors) {
    static bytes a, b;
    memory m;
    memset(&m, 0, sizeof m);
    make_st(&a, first, 4);
    make_st(&b, second, 4);
    memory_add(&m, "dir/model.safetensors.index.json", index, n);
    memory_add(&m, "dir/" ONE, a.p, a.n);
    memory_add(&m, "dir/" TWO, b.p, b.n);
    memory_add(&m, "dir/Model-00001.safetensors", a.p, a.n);
    memory_add(&m, "dir/mod\xc3\xa8le.safetensors", a.p, a.n);
    memory_add(&m, "evil.safetensors", a.p, a.n); // never to be opened
    memory_add(&m, "dir/../evil.safetensors", a.p, a.n);
    memory_add(&m, "dir/sub/a.safetensors", a.p, a.n);
    memory_add(&m, "/etc/passwd", a.p, a.n);
    memory_add(&m, "dir//etc/passwd", a.p, a.n);
    fc_container *c = open_memory(&m, "dir", err);
    *tensors = c ? fc_container_tensor_count(c) : 0;
    for (size_t i = 0; i < *tensors; i++) {
        const fc_tensor *t = fc_container_tensor(c, i);
        T_OK(((const unsigned char *)t->data)[3] == 3 && t->file < 2, "%s is there", t->name);
    }
    fc_container_close(c);
    T_OK(m.live == 0, "all given back");
    return err->code;
}

static void test_index(void) {
    static const char a[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
                      b[] = "{\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}";
    static const char ab[] = "{\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},\"a\":"
                             "{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}";
    static const char aa[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},\"a\":"
                             "{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}";
    // tensors 0: refused
    static const struct {
        const char *name, *index, *second;
        size_t tensors;
        const char *says;
    } cases[] = {
        {"ok",
         "{\"metadata\":{\"total_size\":8},\"weight_map\":{\"a\":\"" ONE "\",\"b\":\"" TWO "\"}}",
         b, 2, ""},
        {"no_metadata", MAP("\"a\":\"" ONE "\",\"b\":\"" TWO "\""), b, 2, ""},
        {"metadata_extra",
         "{\"metadata\":{\"total_parameters\":2,\"x\":[]},\"weight_map\":{\"a\":\"" ONE "\"}}", b,
         1, ""},
        {"total_float", "{\"metadata\":{\"total_size\":8.0},\"weight_map\":{\"a\":\"" ONE "\"}}", b,
         1, ""},
        {"total_wrong", "{\"metadata\":{\"total_size\":9},\"weight_map\":{\"a\":\"" ONE "\"}}", b,
         1, ""},
        {"total_huge", "{\"metadata\":{\"total_size\":1e300},\"weight_map\":{\"a\":\"" ONE "\"}}",
         b, 1, ""},
        {"no_map", "{\"metadata\":{}}", b, 0, "weight_map: expected an object, got nothing"},
        {"map_empty", MAP(""), b, 0, "got an empty one"},
        {"map_array", "{\"weight_map\":[]}", b, 0, "got an array"},
        {"map_num", MAP("\"a\":1"), b, 0, "same directory, got 1 (at byte"},
        {"dotdot", MAP("\"a\":\"../evil.safetensors\""), b, 0, "same directory, got \"../evil"},
        {"dotdot_mid", MAP("\"a\":\"x/../../evil.safetensors\""), b, 0, "same directory"},
        {"abs_unix", MAP("\"a\":\"/etc/passwd\""), b, 0, "same directory"},
        {"abs_win", MAP("\"a\":\"C:\\\\x.safetensors\""), b, 0, "same directory"},
        {"drive", MAP("\"a\":\"C:x.safetensors\""), b, 0, "same directory"},
        {"unc", MAP("\"a\":\"\\\\\\\\host\\\\share\\\\x\""), b, 0, "same directory"},
        {"backslash", MAP("\"a\":\"..\\\\evil.safetensors\""), b, 0, "same directory"},
        {"slash_ok", MAP("\"a\":\"sub/a.safetensors\""), b, 0, "same directory"},
        {"empty_name", MAP("\"a\":\"\""), b, 0, "same directory"},
        {"dot", MAP("\"a\":\".\""), b, 0, "same directory"},
        {"dotdot_bare", MAP("\"a\":\"..\""), b, 0, "same directory"},
        {"nul", MAP("\"a\":\"" ONE "\\u0000\""), b, 0, "same directory"},
        {"dev", MAP("\"a\":\"/dev/zero\""), b, 0, "same directory"},
        {"missing_shard", MAP("\"a\":\"none.safetensors\""), b, 0, "none.safetensors: cannot open"},
        {"tensor_not_in_shard", MAP("\"a\":\"" ONE "\",\"c\":\"" ONE "\""), b, 0,
         "tensor \"c\": expected in " ONE},
        {"shard_extra_tensor", MAP("\"a\":\"" ONE "\",\"b\":\"" TWO "\""), ab, 2, ""},
        {"dup_across", MAP("\"a\":\"" ONE "\",\"b\":\"" TWO "\""), ab, 2, ""},
        {"map_swapped", MAP("\"a\":\"" TWO "\",\"b\":\"" ONE "\""), b, 0, "expected in " TWO},
        {"dup_key", MAP("\"a\":\"" ONE "\",\"a\":\"" TWO "\""), b, 0, "only once"},
        {"utf8_name", MAP("\"a\":\"mod\xc3\xa8le.safetensors\""), b, 1, ""},
        {"case", MAP("\"a\":\"Model-00001.safetensors\""), b, 1, ""},
        {"twice in a shard", MAP("\"a\":\"" ONE "\",\"b\":\"" TWO "\""), aa, 0, "only once"},
        {"bad shard", MAP("\"a\":\"" ONE "\",\"b\":\"" TWO "\""), "{", 0, TWO ": header"},
        {"not an object", "[]", b, 0, "weight_map"},
        {"not JSON", "{\"weight_map\":{\"a\":\"" ONE "\"}", b, 0,
         "model.safetensors.index.json: line 1"},
        {"empty", "", b, 0, "model.safetensors.index.json: line 1"},
    };
    fc_error err;
    size_t tensors;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        open_index(cases[i].index, strlen(cases[i].index), a, cases[i].second, &err, &tensors);
        T_OK(tensors == cases[i].tensors && (tensors || strstr(err.msg, cases[i].says)),
             "%s: %d tensors, %s", cases[i].name, (int)tensors, err.msg);
    }
    // shard_repeated
    char *many = (char *)malloc(64 * 100000 + 64),
         *p = many + sprintf(many, "{\"weight_map\":{\"a\":\"" ONE "\"");
    for (int i = 0; i < 100000; i++) p += sprintf(p, ",\"t%d\":\"" ONE "\"", i);
    p += sprintf(p, "}}");
    open_index(many, (size_t)(p - many), a, b, &err, &tensors);
    T_OK(strstr(err.msg, "tensor \"t0\": expected in " ONE), "100,000 tensors of one shard: %s",
         err.msg);
    p = many + sprintf(many, "{\"weight_map\":{\"a\":\"" ONE "\"");
    for (int i = 0; i < 100000; i++) p += sprintf(p, ",\"t%d\":\"s%d\"", i, i);
    p += sprintf(p, "}}");
    T_OK(open_index(many, (size_t)(p - many), a, b, &err, &tensors) == FC_ERR_LIMIT,
         "100,000 shards: %s", err.msg);
    free(many);
    for (long fail = 1;; fail++) { // memory runs out anywhere
        memory m;
        add_shard(&m, a);
        m.fail_alloc = fail;
        fc_container *c = open_memory(&m, "d", &err);
        bool over = m.allocs < fail;
        T_OK(over ? c != NULL : !c && err.code == FC_ERR_MEMORY, "shards: allocation %ld fails: %s",
             fail, err.msg);
        fc_container_close(c);
        T_OK(m.live == 0, "shards: allocation %ld fails, all given back", fail);
        if (over) break;
    }
    for (long fail = 1; fail <= 2; fail++) {
        memory m;
        add_shard(&m, a);
        m.fail_read = fail;
        T_OK(!open_memory(&m, "d", &err) && err.code == FC_ERR_IO && m.live == 0,
             "shards: read %ld fails: %s", fail, err.msg);
    }
    memory m; // both present: the single file wins; neither: an error that names both
    static bytes whole;
    make_st(&whole, b, 4);
    memset(&m, 0, sizeof m);
    memory_add(&m, "dir/model.safetensors.index.json", "{}", 2);
    memory_add(&m, "dir/model.safetensors", whole.p, whole.n);
    fc_container *c = open_memory(&m, "dir/", &err);
    T_OK(c && fc_container_find(c, "b"), "model.safetensors before the index: %s", err.msg);
    fc_container_close(c);
    memset(&m, 0, sizeof m);
    T_OK(!open_memory(&m, "dir", &err) && err.code == FC_ERR_IO &&
             strstr(err.msg, "model.safetensors.index.json"),
         "nothing there: %s", err.msg);
}

static void make_split(bytes *b, uint32_t no, uint32_t count, uint64_t total, const char *tensor) {
    gguf_begin(b, 3, 1, 3);
    gguf_key(b, "split.no", FCI_KV_U16, no, 2);
    gguf_key(b, "split.count", FCI_KV_U16, count, 2);
    gguf_key(b, "split.tensors.count", FCI_KV_I32, total, 4);
    gguf_tensor(b, tensor, 1, 8, 0, 0, 0);
    gguf_data(b, 32, 32);
}

static void test_split(void) {
    static const struct {
        const char *why, *path, *second_name;
        uint32_t no, count;
        uint64_t total;
        int good;
        const char *says;
    } cases[] = {
        {"good", "m-00001-of-00002.gguf", "b", 1, 2, 2, 1, ""},
        {"another name", "m.gguf", "b", 1, 2, 2, 0, "named like model-00001-of-00002.gguf"},
        {"the second", "m-00002-of-00002.gguf", "b", 1, 2, 2, 0,
         "named like model-00001-of-00002.gguf"},
        {"wrong number", "m-00001-of-00002.gguf", "b", 0, 2, 2, 0,
         "expected split 1 of 2, got split.no 0"},
        {"wrong count", "m-00001-of-00002.gguf", "b", 1, 3, 2, 0, "split.count 3"},
        {"wrong total", "m-00001-of-00002.gguf", "b", 1, 2, 3, 0,
         "split.tensors.count: expected 2"},
        {"a name in both", "m-00001-of-00002.gguf", "a", 1, 2, 2, 0,
         "only once, got it also in m-00001-of-00002.gguf"},
    };
    static bytes a, b;
    fc_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memory m;
        memset(&m, 0, sizeof m);
        make_split(&a, 0, 2, cases[i].total, "a");
        make_split(&b, cases[i].no, cases[i].count, cases[i].total, cases[i].second_name);
        memory_add(&m, "m-00001-of-00002.gguf", a.p, a.n);
        memory_add(&m, "m-00002-of-00002.gguf", b.p, b.n);
        memory_add(&m, "m.gguf", a.p, a.n);
        fc_container *c = open_memory(&m, cases[i].path, &err);
        T_OK((c != NULL) == cases[i].good && (c || strstr(err.msg, cases[i].says)), "split, %s: %s",
             cases[i].why, err.msg);
        if (c)
            T_OK(fc_container_tensor_count(c) == 2 && fc_container_find(c, "b")->file == 1 &&
                     fc_container_bytes(c) == a.n + b.n,
                 "both files");
        fc_container_close(c);
        T_OK(m.live == 0, "all given back");
    }
    for (long fail = 1;; fail++) {
        memory m;
        memset(&m, 0, sizeof m);
        make_split(&a, 0, 2, 2, "a");
        make_split(&b, 1, 2, 2, "b");
        memory_add(&m, "m-00001-of-00002.gguf", a.p, a.n);
        memory_add(&m, "m-00002-of-00002.gguf", b.p, b.n);
        m.fail_alloc = fail;
        fc_container *c = open_memory(&m, "m-00001-of-00002.gguf", &err);
        bool over = m.allocs < fail;
        T_OK(over ? c != NULL : !c && err.code == FC_ERR_MEMORY, "split: allocation %ld fails: %s",
             fail, err.msg);
        fc_container_close(c);
        T_OK(m.live == 0, "split: all given back");
        if (over) break;
    }
    memory m;
    memset(&m, 0, sizeof m);
    memory_add(&m, "m-00001-of-00002.gguf", a.p, a.n);
    T_OK(!open_memory(&m, "m-00001-of-00002.gguf", &err) && err.code == FC_ERR_IO,
         "split, the second is missing: %s", err.msg);
    make_split(&a, 0, 1, 1, "a");
    T_OK(verdict(a.p, a.n, 1, &err) == FC_OK, "a split of one: %s", err.msg);
    make_split(&a, 0, 65535, 1, "a");
    T_OK(verdict(a.p, a.n, 1, &err) == FC_ERR_LIMIT, "too many splits: %s", err.msg);
}

// Where the corpora leave it to the reader (L).
static const struct { const char *name; char accepted; } choices[] = {
    {"nul_in_name", 'A'}, {"rank64", 'R'}, {"extra_field", 'A'}, {"unaligned_start", 'A'}, {
     "kv_arr_nested", 'R'}, {"kv_bool_2", 'A'},
    {"kv_key_upper", 'A'}, {"align_1", 'A'}, {"align_2", 'A'}, {"t_dim0", 'A'}, {"t_name_nul", 'A'},
     {"t_name_empty", 'A'}, {"d_extra", 'A'},
    {"t_dim0_second", 'A'}, {"t_dim0_huge", 'R'}, {"d_exact_nopad", 'A'},
};

static void test_corpus(const char *kind, int least) { // from real files, mapped and read
    char path[1024], name[128], want[8];
    snprintf(path, sizeof path, "%s/data/corpora/%s_cases/cases.tsv", t_shared(), kind);
    char *rows = t_read(path, NULL);
    int count = 0;
    if (!rows) {
        t_skip(kind, "no shared cases");
        return;
    }
    for (char *row = rows; *row; row += strcspn(row, "\n"), row += *row == '\n') {
        fc_error err;
        fc_env env;
        if (*row == '#' || sscanf(row, "%127[^\t]\t%*[^\t]\t%7[^\t]", name, want) != 2 ||
            strcmp(want, "want") == 0)
            continue;
        for (size_t i = 0; i < sizeof choices / sizeof *choices; i++)
            if (strcmp(choices[i].name, name) == 0 && want[0] == 'L') want[0] = choices[i].accepted;
        bool accept = want[0] == 'A' || want[0] == 'M';
        snprintf(path, sizeof path, "%s/data/corpora/%s_cases/files/%s.%s", t_shared(), kind, name,
                 kind);
        memset(&env, 0, sizeof env);
        for (int map = 0; map < 2; map++) {
            env.io = fci_platform_io();
            if (!map) env.io.map = NULL, env.io.unmap = NULL;
            fc_container *c = fc_container_open(path, &env, &err);
            T_OK(want[0] != 'L' && (c != NULL) == accept &&
                     (c || err.code == FC_ERR_FORMAT || err.code == FC_ERR_LIMIT),
                 "%s %s: want %s, %s", kind, name, want, err.msg);
            fc_container_close(c);
        }
        count++;
    }
    T_OK(count >= least, "%s: %d cases, got %d", kind, least, count);
    free(rows);
}

int main(void) {
    static bytes b;
    test_safetensors();
    test_bad_safetensors();
    test_gguf();
    test_bad_gguf();
    make_st(&b, st_small, 26);
    test_damage(&b, "safetensors", b.n);
    make_gguf(&b, 3);
    test_damage(&b, "GGUF", b.n);
    test_amplification();
    test_index();
    test_split();
    test_corpus("safetensors", 120);
    test_corpus("gguf", 188);
    return t_end("tensorfile");
}
