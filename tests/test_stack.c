// How much stack calls take, in a thread whose stack was filled before: what the manual promises
// (THREADS). Measured with one thread, which then does the workers' part, too.
#include "private.h"
#include "t.h"

#define MOST (24 * 1024) // of the calls; a thread's own start is not counted

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#  define INFLATED 1
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#    define INFLATED 1
#  endif
#endif

#if defined(INFLATED) || !defined(T_LINKED) || !FCI_POSIX || defined(FINERCUT_NO_THREADS)
int main(void) {
    (void)t_check;
    t_skip("stack", "sanitizers make frames larger; else it needs POSIX and test/private.o");
    return t_end("stack");
}
#else
#include <sys/mman.h>

enum { ROOM = 1 << 20, FILL = 0xa5 };
static char folder[200], path[300];
static fc_error err;
static fc_model *model;
static fc_plan *plan;
static uint32_t ids[32];
static size_t starts[] = {0, 8, 16, 24, 32};
static fc_tokens calibration = {ids, starts, 4, {NULL, NULL}};
static fc_tokens held = {ids, starts, 3, {NULL, NULL}};

static const char *in_folder(const char *name) {
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

// ---- what is called: true where it went as it should

static bool nothing(void) { return true; }

static bool call_open(void) {
    fc_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.env.par.n_threads = 1;
    model = fc_model_open("tests/data/llama_f16.gguf", &desc, &err);
    return model && fc_model_tokenizer(model, &err);
}

static bool prune(fc_search search) {
    fc_prune_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.calibration = &calibration;
    desc.search = search;
    desc.remove = 2;
    fc_plan_free(plan);
    plan = fc_prune(model, &desc, &err);
    return plan != NULL;
}

static bool call_random(void) { return prune(FC_SEARCH_RANDOM); }
static bool call_exhaustive(void) { return prune(FC_SEARCH_EXHAUSTIVE); }
static bool call_confident(void) { return prune(FC_SEARCH_CONFIDENT); }
static bool call_race(void) { return prune(FC_SEARCH_RACE); }

static bool call_plan(void) {
    fc_plan *back = NULL;
    if (!fc_plan_save(plan, in_folder("plan.json"), &err)) back = fc_plan_load(path, NULL, &err);
    fc_plan_free(back);
    return back != NULL;
}

static bool call_heal(void) {
    uint8_t mask[64];
    fc_heal_desc desc;
    fc_heal_result result;
    memset(&desc, 0, sizeof desc);
    desc.mask = mask;
    desc.text = &calibration;
    desc.path = in_folder("healed.safetensors");
    const size_t size = 2 * (size_t)fc_model_config(model)->n_blocks;
    return !fc_plan_mask(plan, model, 2, mask, size, &err) &&
           !fc_heal(model, &desc, &result, &err);
}

static bool write_as(fc_export_format format, const char *name) {
    fc_export_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.format = format;
    desc.path = in_folder(name);
    return !fc_export(model, plan, &desc, &err);
}

static bool call_gguf(void) { return write_as(FC_EXPORT_GGUF, "out.gguf"); }
static bool call_hf(void) { return write_as(FC_EXPORT_HF, "hf"); }

static bool call_generate(void) {
    fc_generate_desc desc;
    fc_generated result;
    memset(&desc, 0, sizeof desc);
    desc.max_tokens = 4;
    const fc_code code = fc_generate(model, "The fox", 7, &desc, &result, &err);
    fc_text_free(&result.text);
    return !code;
}

static bool call_tasks(void) {
    static const char items[] = "{\"question\":\"a?\",\"choices\":[\"x\",\"y\"],\"answer\":1}\n"
                                "{\"question\":\"b?\",\"choices\":[\"x\",\"y\"],\"answer\":0}\n";
    const fc_task_desc desc = {.name = "choices", .path = "t", .text = items,
                               .length = sizeof items - 1, .shots = 1};
    fc_tasks *t = fc_tasks_open(model, &desc, 1, &err);
    const bool ran = t && fc_tasks_run(t, NULL, NULL, &err);
    fc_tasks_close(t);
    return ran;
}

static bool call_study(void) {
    fc_study_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.folder = in_folder("study");
    desc.calibration = &calibration;
    desc.eval = &held;
    desc.metrics = 1u << FC_METRIC_KL;
    desc.random_plans = 1;
    fc_study *s = fc_study_open(model, &desc, &err);
    const bool ran = s && !fc_study_run(s, &err);
    fc_study_close(s);
    return ran;
}

static bool call_report(void) { return !fc_report_svg(plan, in_folder("plan.svg"), &err); }

static bool call_nested(void) { // is refused
    static char text[4000];
    memset(text, '[', sizeof text);
    return !fc_plan_load_memory(text, sizeof text, NULL, &err);
}

// ---- how much that takes

typedef struct job {
    bool (*call)(void);
    bool well;
} job;

static void *work(void *arg) {
    job *j = (job *)arg;
    j->well = j->call();
    return NULL;
}

static size_t used_by(const char *name, bool (*call)(void)) {
    job j = {call, false};
    pthread_attr_t attributes;
    pthread_t thread;
    size_t left = 0;
    void *map = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *stack = (unsigned char *)map;
    if (map == MAP_FAILED) exit(2);
    memset(stack, FILL, ROOM);
    if (pthread_attr_init(&attributes) || pthread_attr_setstack(&attributes, stack, ROOM) ||
        pthread_create(&thread, &attributes, work, &j) || pthread_join(thread, NULL))
        exit(2);
    pthread_attr_destroy(&attributes);
    while (left < ROOM && stack[left] == FILL) left++;
    munmap(stack, ROOM);
    T_OK(j.well, "%s: %s", name, err.msg);
    return ROOM - left;
}

static int drop(void *user, const char *name) {
    char inner[600];
    snprintf(inner, sizeof inner, "%s/%s", (const char *)user, name);
    if (remove(inner) != 0) {
        fci_platform_list(inner, drop, inner);
        remove(inner);
    }
    return 0;
}

int main(void) {
    static const struct {
        const char *name;
        bool (*call)(void);
    } calls[] = {{"open", call_open},           {"random", call_random},
                 {"exhaustive", call_exhaustive}, {"confident", call_confident},
                 {"race", call_race},           {"plan", call_plan},
                 {"heal", call_heal},           {"gguf", call_gguf},
                 {"hf", call_hf},               {"generate", call_generate},
                 {"tasks", call_tasks},         {"study", call_study},
                 {"report", call_report},       {"nested", call_nested}};
    const char *tmp = getenv("TMPDIR");
    size_t most = 0;
    snprintf(folder, sizeof folder, "%s/finercut-stack-%ld", tmp ? tmp : "/tmp", (long)getpid());
    if (mkdir(folder, 0700) != 0) exit(2);
    for (size_t i = 0; i < 32; i++) ids[i] = (uint32_t)(i * i % 61 + 1);
    const size_t own = used_by("nothing", nothing);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        const size_t used = used_by(calls[i].name, calls[i].call) - own;
        T_OK(used <= MOST, "%s: %llu bytes of stack", calls[i].name, (unsigned long long)used);
        most = used > most ? used : most;
    }
    printf("at most %llu bytes of stack\n", (unsigned long long)most);
    fc_plan_free(plan);
    fc_model_close(model);
    fci_platform_list(folder, drop, folder);
    remove(folder);
    return t_end("stack");
}
#endif
