// What tests of searches share.
#ifndef PLANS_H
#define PLANS_H

// Do two plans remove the same, at the same scores? The first step that differs, from 1, or 0.
T_FN size_t plans_differ(const fc_plan *a, const fc_plan *b) {
    const size_t n = fc_plan_about(a)->n_steps, m = fc_plan_about(b)->n_steps;
    for (size_t i = 0; i < n || i < m; i++) {
        const fc_step *x = fc_plan_step(a, i), *y = fc_plan_step(b, i);
        if (!x || !y || x->removed != y->removed ||
            memcmp(&x->score, &y->score, sizeof x->score) != 0)
            return i + 1;
    }
    return 0;
}
#endif
