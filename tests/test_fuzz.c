// Runs every fuzzing target on the files of its corpus: seeds, and what once went wrong. What a
// target expects is checked by the target, which ends the program where it does not hold.
#define FUZZ_REPLAY
#include "fuzz/fuzz_bind.c"
#include "fuzz/fuzz_config.c"
#include "fuzz/fuzz_export.c"
#include "fuzz/fuzz_gguf.c"
#include "fuzz/fuzz_healed.c"
#include "fuzz/fuzz_index.c"
#include "fuzz/fuzz_json.c"
#include "fuzz/fuzz_lines.c"
#include "fuzz/fuzz_plan.c"
#include "fuzz/fuzz_run.c"
#include "fuzz/fuzz_safetensors.c"
#include "fuzz/fuzz_search.c"
#include "fuzz/fuzz_sides.c"
#include "fuzz/fuzz_tokenizer.c"
#include "fuzz/fuzz_tokens.c"
#include "t.h"

typedef int (*replay_fn)(const uint8_t *data, size_t size);

typedef struct replay_target {
    const char *name;
    replay_fn run;
    int n;
} replay_target;

static int replay_file(void *user, const char *name) {
    replay_target *t = (replay_target *)user;
    char path[512];
    size_t size = 0;
    snprintf(path, sizeof path, "tests/fuzz/corpus/%s/%s", t->name, name);
    char *file = t_read(path, &size);
    uint8_t *data = (uint8_t *)malloc(size ? size : 1); // of exactly its size
    snprintf(fuzz_now, sizeof fuzz_now, "%s", path);
    if (T_OK(file && data, "%s: expected to read it", path)) {
        memcpy(data, file, size);
        T_OK(t->run(data, size) == 0, "%s", path);
        fuzz_next();
        t->n++;
    }
    free(file);
    free(data);
    return 0;
}

int main(int argc, char **argv) { // [TARGET FILE]: one file alone, named as it stands in the corpus
    replay_target targets[] = {
        {"bind", fuzz_bind, 0},
        {"config", fuzz_config, 0},
        {"export", fuzz_export, 0},
        {"gguf", fuzz_gguf, 0},
        {"healed", fuzz_healed, 0},
        {"index", fuzz_index, 0},
        {"json", fuzz_json, 0},
        {"lines", fuzz_lines, 0},
        {"plan", fuzz_plan, 0},
        {"run", fuzz_run, 0},
        {"safetensors", fuzz_safetensors, 0},
        {"search", fuzz_search, 0},
        {"sides", fuzz_sides, 0},
        {"tokenizer", fuzz_tokenizer, 0},
        {"tokens", fuzz_tokens, 0},
    };
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        char folder[128];
        replay_target *t = &targets[i];
        if (argc > 1 && strcmp(argv[1], t->name) != 0) continue;
        snprintf(folder, sizeof folder, "tests/fuzz/corpus/%s", t->name);
        if (argc > 2) replay_file(t, argv[2]);
        else if (fci_platform_list(folder, replay_file, t) == ENOSYS)
            t_skip(t->name, "no folders on this platform");
        else T_OK(t->n > 0, "%s: expected files", folder);
    }
    export_end();
    bind_close();
    config_end();
    healed_end();
    lines_end();
    fuzz_world_forget();
    fuzz_drop_all();
    return t_end("test_fuzz");
}
