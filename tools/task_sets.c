/* Tasks after the removal of given sets of sublayers, a line a set: what a study would have asked
   with --task, of sets that it has. tools/predict_tasks.py calls it.
   Build: cc -O2 tools/task_sets.c -o build/task_sets -lm -pthread
   Run: build/task_sets MODEL LIMIT TASK.jsonl... <SETS  (attn.6-7,ffn.9; an empty line: whole) */
#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"

static fc_error err;

static void need(int good) {
    if (good) return;
    fprintf(stderr, "task_sets: %s\n", err.msg);
    exit(1);
}

int main(int argc, char **argv) {
    fc_task_desc descs[8] = {{0}};
    char line[4096];
    const size_t n_tasks = argc > 3 ? (size_t)argc - 3 : 0;
    snprintf(err.msg, sizeof err.msg, "usage: task_sets MODEL LIMIT TASK.jsonl... <SETS");
    need(n_tasks && n_tasks <= 8);
    fc_model *m = fc_model_open(argv[1], NULL, &err);
    need(m != NULL);
    const uint32_t n_blocks = fc_model_config(m)->n_blocks;
    const size_t n = 2 * (size_t)n_blocks;
    uint8_t *mask = (uint8_t *)malloc(n);
    for (size_t i = 0; i < n_tasks; i++) {
        const char *name = strrchr(argv[3 + i], '/');
        static char names[8][64];
        snprintf(names[i], sizeof names[i], "%s", name ? name + 1 : argv[3 + i]);
        names[i][strcspn(names[i], ".")] = 0;
        descs[i].name = names[i];
        descs[i].path = argv[3 + i];
        descs[i].limit = (uint32_t)atoi(argv[2]);
    }
    fc_tasks *tasks = fc_tasks_open(m, descs, n_tasks, &err);
    need(tasks && mask);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        memset(mask, 0, n);
        need(!*line || !fc_sublayers_parse(line, n_blocks, mask, n, &err));
        for (size_t s = 0; s < n; s++) mask[s] ^= 1; // what is present
        const fc_task_result *r = fc_tasks_run(tasks, mask, NULL, &err);
        need(r != NULL);
        printf("{\"removed\": \"%s\"", line);
        for (size_t i = 0; i < n_tasks; i++) {
            printf(", \"%s.acc\": %.6f", r[i].name, r[i].acc);
            if (r[i].acc_norm == r[i].acc_norm)
                printf(", \"%s.acc_norm\": %.6f", r[i].name, r[i].acc_norm);
            if (r[i].perplexity == r[i].perplexity)
                printf(", \"%s.perplexity\": %.6g", r[i].name, r[i].perplexity);
        }
        puts("}");
        fflush(stdout);
    }
    fc_tasks_close(tasks);
    fc_model_close(m);
    free(mask);
    return 0;
}
