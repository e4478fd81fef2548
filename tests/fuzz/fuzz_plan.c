// A plan.json: what is read is written, drawn and read again. From the top folder:
//   clang -std=c99 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all tests/fuzz/fuzz_plan.c -o build/fuzz/fuzz_plan -lm -pthread
//   build/fuzz/fuzz_plan -max_total_time=60 -dict=tests/fuzz/fuzz_plan.dict build/fuzz/corpus/fuzz_plan tests/fuzz/corpus/plan
#define FINERCUT_IMPLEMENTATION
#include "../../finercut.h"
#include "../memory.h"

typedef struct fuzz_output { // what the last write made
    memory files;
    char *bytes;
    size_t n;
} fuzz_output;

static int fuzz_create(void *user, const char *path, void **file) {
    fuzz_output *o = (fuzz_output *)user;
    (void)path;
    free(o->bytes);
    o->bytes = NULL;
    o->n = 0;
    *file = o;
    return 0;
}

static int fuzz_write(void *user, void *file, const void *data, size_t length) {
    fuzz_output *o = (fuzz_output *)user;
    char *p = (char *)realloc(o->bytes, o->n + length + 1);
    (void)file;
    if (!p) return ENOMEM;
    memcpy(p + o->n, data, length);
    o->bytes = p;
    o->n += length;
    return 0;
}

static int fuzz_commit(void *user, void *file) {
    (void)user, (void)file;
    return 0;
}

static void fuzz_discard(void *user, void *file) {
    (void)user, (void)file;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_output o;
    fc_error err;
    memset(&o, 0, sizeof o);
    memory_add(&o.files, "plan.json", data, size);
    fc_env env = memory_env(&o.files);
    env.io.user = &o; // starts with the files
    env.io.create = fuzz_create;
    env.io.write = fuzz_write;
    env.io.commit = fuzz_commit;
    env.io.discard = fuzz_discard;
    fc_plan *p = fc_plan_load("plan.json", &env, &err);
    if ((p != NULL) != (err.code == FC_OK)) abort();
    if (p) {
        if (fc_report_svg(p, "plan.svg", &err) || fc_report_csv(p, "plan.csv", &err) || fc_plan_save(p, "plan.json", &err)) abort();
        o.files.files[0].data = o.bytes;
        o.files.files[0].size = o.n;
        fc_plan *again = fc_plan_load("plan.json", &env, &err);
        if (!again || fc_plan_get_info(again)->n_steps != fc_plan_get_info(p)->n_steps) abort();
        fc_plan_free(again);
    }
    fc_plan_free(p);
    free(o.bytes);
    if (o.files.live || o.files.bytes) abort();
    return 0;
}
