// A plan.json, or results of an evaluation: what is read is written, drawn and read again.
//   make build/fuzz/fuzz_plan && build/fuzz/fuzz_plan -max_total_time=60 tests/fuzz/corpus/plan
#include "fuzz.h"
#define FUZZ_SKIP 0
#include "mutate.h"

FUZZ_TARGET(plan) {
    fuzz_disk o;
    fc_error err;
    memset(&o, 0, sizeof o);
    memory_add(&o.files, "plan.json", data, size);
    fc_env env = fuzz_disk_env(&o);
    fc_plan *p = fc_plan_load("plan.json", &env, &err);
    FUZZ_MUST((p != NULL) == (err.code == FC_OK));
    const fc_memory_file file = {"plan.json", data, size};
    const fc_plan *const plans[] = {p};
    fc_page_desc page;
    memset(&page, 0, sizeof page);
    page.env = env;
    page.files = &file;
    page.n_files = 1;
    FUZZ_MUST(fc_report_page(&page, "file.html", &err) == err.code);
    if (p) {
        page.n_files = 0;
        page.plans = plans;
        page.n_plans = 1;
        FUZZ_MUST(!fc_report_page(&page, "plan.html", &err));
        FUZZ_MUST(!fc_report_svg(p, "plan.svg", &err) && !fc_report_csv(p, "plan.csv", &err));
        FUZZ_MUST(!fc_plan_save(p, "again.json", &err));
        fc_plan *again = fc_plan_load("again.json", &env, &err);
        FUZZ_GOOD(again && fc_plan_about(again)->n_steps == fc_plan_about(p)->n_steps, err);
        fc_plan_free(again);
    }
    fc_plan_free(p);
    fuzz_disk_end(&o);
    return 0;
}
