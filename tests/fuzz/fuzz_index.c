// model.safetensors.index.json beside two small shards, one of which has a tensor of the other.
//   build/fuzz/fuzz_index -max_total_time=60 -max_len=256 build/fuzz/corpus/fuzz_index
// tests/fuzz/corpus/index
#include "container.h"
#define FUZZ_SKIP 0
#include "mutate.h"

static const char index_a[] = "\x80\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"U8\",\"shape\":[2],"
    "\"data_offsets\":[0,2]},"
                              "\"b\":{\"dtype\":\"F16\",\"shape\":[1,1],\"data_offsets\":[2,4]},"
                              "\"__metadata__\":{}}"
                              "  1234";
static const char index_b[] = "\x34\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"U8\",\"shape\":[],"
    "\"data_offsets\":[0,1]}}5";

FUZZ_TARGET(index) {
    memory m;
    fc_error err;
    memset(&m, 0, sizeof m);
    m.map = 1;
    memory_add(&m, "m/model.safetensors.index.json", data, size);
    memory_add(&m, "m/a", index_a, sizeof index_a - 1);
    memory_add(&m, "m/b", index_b, sizeof index_b - 1);
    fc_env env = fuzz_env(&m);
    fc_container *c = fc_container_open("m", &env, &err);
    FUZZ_MUST((c != NULL) == (err.code == FC_OK) && (c || *err.msg));
    if (c) fuzz_use(c);
    fc_container_close(c);
    FUZZ_MUST(m.live == 0 && m.bytes == 0);
    return 0;
}
