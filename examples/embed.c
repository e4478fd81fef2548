// finercut inside a program that gives it everything: memory from one block, files that are bytes,
// two threads, a bar and a stop button. A GGUF model and a text become a plan and its picture.
//   cc -O2 examples/embed.c -o embed -lm -pthread && ./embed MODEL.gguf TEXT [SECONDS]
#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"
#include <pthread.h>

static char block[(size_t)64 << 20]; // all of the library's memory; nothing of it is given back
typedef struct host { char *next, *end; double seconds; } host;

static void *host_realloc(void *user, void *p, size_t old_size, size_t new_size, size_t align) {
    host *h = (host *)user;
    char *q = h->next + (align - (uintptr_t)h->next % align) % align;
    if (new_size == 0 || q > h->end || new_size > (size_t)(h->end - q)) return NULL;
    h->next = q + new_size;
    return p ? memcpy(q, p, old_size < new_size ? old_size : new_size) : q;
}

typedef struct half { fc_task *fn; void *arg; size_t n_tasks; uint32_t worker; } half;

static void *run_half(void *p) {
    half *h = (half *)p;
    for (size_t i = h->worker; i < h->n_tasks; i += 2) h->fn(h->arg, i, h->worker);
    return NULL;
}

static void host_parallel_for(void *user, size_t n_tasks, fc_task *fn, void *arg) {
    half even = {fn, arg, n_tasks, 0}, odd = {fn, arg, n_tasks, 1};
    int alone = pthread_create((pthread_t *)user, NULL, run_half, &odd);
    run_half(&even);
    if (alone) run_half(&odd);
    else pthread_join(*(pthread_t *)user, NULL);
}

static int host_progress(void *user, const fc_progress *p) { // nonzero: stop
    fprintf(stderr, "\r%-11s %3.0f %%", p->what, 100 * p->done);
    return p->seconds > ((host *)user)->seconds;
}

int main(int argc, char **argv) {
    pthread_t thread;
    host h = {block, block + sizeof block, argc > 3 ? atof(argv[3]) : 1e9};
    fc_env env = {.alloc = {host_realloc, &h}, .par = {2, host_parallel_for, &thread}};
    fc_error err = {FC_OK, 0, "usage: embed MODEL.gguf TEXT [SECONDS]"};
    fc_text model, text, json, svg;
    fc_tokens tokens;
    int ok = argc > 2 && !fc_file_read(argv[1], &env, &model, &err) &&
             !fc_file_read(argv[2], &env, &text, &err);
    fc_memory_file file = {"model.gguf", ok ? model.bytes : NULL, ok ? model.length : 0};
    fc_model *m = ok ? fc_model_open_memory(&file, 1, &(fc_model_desc){.env = env}, &err) : NULL;
    const fc_tokenizer *t = m ? fc_model_tokenizer(m, &err) : NULL;
    ok = t && !fc_calibration_cut(t, text.bytes, text.length, 4, 64, &tokens, &err);
    fc_prune_desc desc = {.calibration = &tokens, .fraction = 0.25, .watch = {host_progress, &h}};
    fc_plan *plan = ok ? fc_prune(m, &desc, &err) : NULL;
    ok = plan && !err.code && !fc_plan_save_memory(plan, &json, &err) &&
         !fc_report_svg_memory(plan, &svg, &err);
    if (ok) printf("%s%zu bytes of SVG, %td of memory\n", json.bytes, svg.length, h.next - block);
    else fprintf(stderr, "\n%s\n", err.msg);
    return !ok;
}
