// The pictures of a plan: one SVG and one CSV byte for byte, well-formed SVG for plans of any size,
// and names that mean harm, which stay text. `test_picture --write` makes the golden SVG anew.
#include "private.h"
#include "memory.h"
#include "random_plan.h"
#include "t.h"

#define PLAN "tests/data/plan.json"
#define GOLDEN "tests/data/plan.svg"
#define VERSION_MARK "@VERSION@" // in the golden SVG

// ---- a small checker

// Tags nest and close, attributes are quoted, text holds no bare '<' or '&'.
static const char *xml_entity(const char *p) {
    static const char *const names[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    for (int i = 0; i < 5; i++)
        if (strncmp(p, names[i], strlen(names[i])) == 0) return p + strlen(names[i]);
    return NULL;
}

static const char *xml_tag(const char *p, const char **name, size_t *n,
                           int *kind) { // kind: 1 opens, -1 closes, 0 both
    *kind = p[1] == '/' ? -1 : 1;
    p += *kind < 0 ? 2 : 1;
    *name = p;
    while ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z')) p++;
    *n = (size_t)(p - *name);
    while (*p == ' ') {
        p += strspn(p, " ");
        if (*p == '/' || *p == '>') break;
        p += strcspn(p, "=<> ");
        if (p[0] != '=' || p[1] != '"') return NULL;
        p += 2;
        while (*p && *p != '"') {
            p = *p == '&' ? xml_entity(p) : *p == '<' ? NULL : p + 1;
            if (!p) return NULL;
        }
        if (*p++ != '"') return NULL;
    }
    if (*p == '/') *kind = 0, p++;
    return *n && *p == '>' ? p + 1 : NULL;
}

static int xml_good(const char *text, size_t size) {
    const char *names[16];
    size_t lengths[16];
    int depth = 0, roots = 0;
    const char *p = text;
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] < 0x20 && text[i] != '\n') return 0;
    for (size_t i = 0, n; i < size; i += n) {
        n = fci_utf8_length(text + i, size - i);
        if (n == 0) return 0;
    }
    while (*p) {
        const char *name;
        size_t n;
        int kind;
        if (*p == '&') p = xml_entity(p);
        else if (*p != '<') p += depth || *p == '\n' ? 1 : (ptrdiff_t)(size + 1);
        else {
            p = xml_tag(p, &name, &n, &kind);
            if (!p) return 0;
            if (kind > 0 && depth == 16) return 0;
            if (kind > 0) names[depth] = name, lengths[depth++] = n;
            if (kind >= 0 && depth == (kind > 0)) roots++;
            if (kind < 0 &&
                (depth-- == 0 || lengths[depth] != n || memcmp(names[depth], name, n) != 0))
                return 0;
        }
        if (!p || p > text + size) return 0;
    }
    return depth == 0 && roots == 1;
}

static size_t count(const char *text, const char *what) {
    size_t n = 0;
    for (const char *p = strstr(text, what); p; p = strstr(p + 1, what)) n++;
    return n;
}

// ---- drawn into memory

typedef fc_code (*report)(const fc_plan *p, const char *path, fc_error *err);

// The bytes of a report, valid until the next one.
static const char *draw(memory *w, report how, const fc_plan *p) {
    fc_error err;
    memory_forget(w);
    if (!T_OK(how(p, "out", &err) == FC_OK && w->outputs[0].whole, "%s", err.msg)) return "";
    w->outputs[0].data[w->outputs[0].size] = 0; // (there is room)
    return w->outputs[0].data;
}

static fc_env world_env(memory *w) {
    memset(w, 0, sizeof *w);
    fc_env env = memory_env(w);
    memory_writable(&env);
    return env;
}

static fc_plan *load(memory *w, const char *text, size_t n) {
    fc_error err;
    fc_env env = world_env(w);
    memory_add(w, "plan.json", text, n);
    fc_plan *p = fc_plan_load("plan.json", &env, &err);
    T_OK(p != NULL, "%s", err.msg);
    return p;
}

static void end(memory *w, fc_plan *p) {
    memory_forget(w);
    fc_plan_free(p);
    T_OK(w->live == 0, "%ld left", w->live);
}

// `text` with the first `from` replaced; the caller frees it.
static char *replaced(const char *text, const char *from, const char *to) {
    const char *at = strstr(text, from);
    char *out = (char *)malloc(strlen(text) + strlen(to) + 1);
    if (!at || !out) {
        free(out);
        return NULL;
    }
    memcpy(out, text, (size_t)(at - text));
    strcpy(out + (at - text), to);
    strcat(out, at + strlen(from));
    return out;
}

// ---- golden files

static void test_golden(bool write) {
    memory w;
    size_t n = 0;
    char *text = t_read(PLAN, &n), *golden = t_read(GOLDEN, NULL), *want, *own;
    fc_plan *p = text ? load(&w, text, n) : NULL;
    if (!T_OK(p != NULL, PLAN ": cannot be read")) return;
    const char *svg = draw(&w, fc_report_svg, p);
    if (write) {
        own = replaced(svg, FINERCUT_VERSION, VERSION_MARK);
        FILE *f = own ? fopen(GOLDEN, "wb") : NULL;
        T_OK(f && fwrite(own, 1, strlen(own), f) == strlen(own), GOLDEN ": cannot be written");
        if (f) fclose(f);
        free(own);
    } else {
        size_t at = 0, line = 1;
        want = golden ? replaced(golden, VERSION_MARK, FINERCUT_VERSION) : NULL;
        for (; want && svg[at] && svg[at] == want[at]; at++) line += svg[at] == '\n';
        T_OK(want && strcmp(svg, want) == 0, GOLDEN ": other from line %d: %.60s", (int)line,
             svg + at);
        free(want);
    }
    T_OK(xml_good(svg, strlen(svg)), "the golden picture is not well-formed");
    own = (char *)malloc(strlen(svg) + 1);
    strcpy(own, svg);
    T_OK(strcmp(draw(&w, fc_report_svg, p), own) == 0, "drawn twice, two pictures");
    p->info.cost.lanes = 0; // of a plan that does not say what it cost
    svg = draw(&w, fc_report_svg, p);
    T_OK(xml_good(svg, strlen(svg)) && strstr(svg, ">n/a<") && strstr(svg, ">cost not recorded<"),
         "a plan without its cost");
    free(own);
    free(text);
    free(golden);
    end(&w, p);
}

// Scores that are no numbers, bounds; candidates in order.
static void test_csv(void) {
    static const char want[] =
        "step,candidate,value,exact,removed,kind,parameters\n"
        "1,attn.2,0.03125,1,0,exact,\n1,ffn.2,0.125,0,0,bound,\n1,attn.3,0.002,0,0,bound,\n"
        "1,ffn.3,0.25,1,0,exact,\n1,attn.4,0.0005,1,1,exact,\n1,ffn.4,nan,1,0,exact,\n"
        "1,attn.5,0.001,1,0,exact,\n1,ffn.5,0.5,0,0,bound,\n2,attn.2,0.0325,1,0,exact,\n"
        "2,ffn.2,0.2,0,0,bound,\n2,attn.3,0.003,0,0,bound,\n2,ffn.3,0.3,0,0,bound,\n"
        "2,ffn.4,0.07,1,0,exact,\n2,attn.5,0.0015,1,1,exact,\n2,ffn.5,0.4,0,0,bound,\n"
        "3,attn.2,0.06125,1,0,exact,\n3,ffn.2,0.35,0,0,bound,\n3,attn.3,0.0625,0,0,bound,\n"
        "3,ffn.3,0.65,0,0,bound,\n3,ffn.4,0.06,1,1,exact,\n3,ffn.5,0.625,0,0,bound,\n"
        "4,attn.2,0.5,0,0,bound,\n4,ffn.2,0.55,0,0,bound,\n4,attn.3,0.475,1,0,exact,\n"
        "4,ffn.3,0.45,1,1,exact,\n4,ffn.5,0.64,0,0,bound,\n";
    memory w;
    size_t n = 0;
    char *text = t_read(PLAN, &n);
    fc_plan *p = text ? load(&w, text, n) : NULL;
    if (!T_OK(p != NULL, PLAN ": cannot be read")) return;
    T_OK(strcmp(draw(&w, fc_report_csv, p), want) == 0, "csv: %s", w.outputs[0].data);
    p->info.n_steps = 0;
    T_OK(strcmp(draw(&w, fc_report_csv, p),
                "step,candidate,value,exact,removed,kind,parameters\n") == 0,
         "csv of no steps: %s", w.outputs[0].data);
    free(text);
    end(&w, p);
}

// ---- any plan

static void test_svg(void) {
    T_OK(xml_good("<a b=\"c\"><d/>x&amp;</a>\n", 24) && !xml_good("<a><b></a></b>", 14) &&
             !xml_good("<a>&x</a>", 9) && !xml_good("<a b=c></a>", 11) &&
             !xml_good("<a/><a/>", 8) && !xml_good("<a>", 3),
         "the checker itself");
    for (size_t i = 0; i < PLAN_CASES; i++) {
        const struct plan_case *of = &plan_cases[i];
        memory w;
        fc_env env = world_env(&w);
        fc_plan *p = make_plan(&env, of->kind, of->blocks, of->first, of->steps, of->wild);
        if (i % 3 == 0) p->info.metric = FC_METRIC_NLL;
        size_t cells = (of->kind == FC_CANDIDATES_BLOCKS ? 2 : 1) * p->info.n_steps;
        const char *svg = draw(&w, fc_report_svg, p);
        T_OK(xml_good(svg, strlen(svg)), "case %d is not well-formed", (int)i);
        T_OK(strstr(
                 svg,
                 "A &quot;model&quot; &lt;b&gt;&amp;amp; &#39;more&#39;\\ \xe6\xbc\xa2</title>") !=
                 NULL,
             "case %d: title", (int)i);
        T_OK(count(svg, ": removed at step ") == cells, "case %d: %d cells are marked, expected %d",
             (int)i, (int)count(svg, ": removed at step "), (int)cells);
        T_OK(count(svg, "nan") + count(svg, "inf\"") == 0, "case %d: a coordinate is not a number",
             (int)i);
        T_OK(count(svg, "x=\"-") + count(svg, "width=\"-") + count(svg, "height=\"-") == 0,
             "case %d: negative", (int)i);
        T_OK(strlen(svg) < 1200000, "case %d: %d bytes", (int)i, (int)strlen(svg));
        T_OK(!strstr(svg, "<script") && count(svg, "http") == 1, "case %d: not self-contained",
             (int)i);
        end(&w, p);
    }
}

// What any plan can say of a model and a text: as many tags as with plain names, and no attribute.
static void test_hostile(void) {
    static const char *const names[] = {
        "</title><script>alert(1)</script>",
        "\"/><image href=\"http://x/\" onload=\"a()\"/>",
        "]]><!--",
        "-->&lt;b&gt;&#x3c;",
        "'onclick='a()",
        "%s%n%d",
        "\x1b[31m\x07\x01",
        "\xff\xfe\xc3",
        "\xef\xbf\xbe\xef\xbf\xbf",
        "\xe2\x80\xae"
        "reversed",
        "\xf0\x9f\x98\x80\xf0\x9f\x98\x80",
        "a\nb\tc",
        "<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<"
        "<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<",
        "\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6"
        "\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2"
        "\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6"
        "\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc"
        "\xa2"};
    memory w;
    fc_env env = world_env(&w);
    fc_plan *p = make_plan(&env, FC_CANDIDATES_SUBLAYERS, 4, 1, 3, 0);
    strcpy(p->info.model.name, "plain");
    const char *svg = draw(&w, fc_report_svg, p);
    const size_t tags = count(svg, "<"), quotes = count(svg, "\"");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(p->info.model.name, sizeof p->info.model.name, "%s", names[i]);
        snprintf(p->info.model.architecture, sizeof p->info.model.architecture, "%s", names[i]);
        snprintf(p->info.model.fingerprint, sizeof p->info.model.fingerprint, "%s", names[i]);
        snprintf(p->info.calibration.source, sizeof p->info.calibration.source, "%s", names[i]);
        svg = draw(&w, fc_report_svg, p);
        T_OK(xml_good(svg, strlen(svg)), "name %d: not well-formed", (int)i);
        T_OK(count(svg, "<") == tags && count(svg, "\"") == quotes,
             "name %d: %d tags for %d, %d quotes for %d", (int)i, (int)count(svg, "<"), (int)tags,
             (int)count(svg, "\""), (int)quotes);
        T_OK(!strstr(draw(&w, fc_report_csv, p), "script"), "name %d: in the table", (int)i);
    }
    end(&w, p);
}

int main(int argc, char **argv) {
    test_golden(argc > 1 && strcmp(argv[1], "--write") == 0);
    test_csv();
    test_svg();
    test_hostile();
    return t_end("picture");
}
