// The picture of a plan as pixels, handed to what stands here for stb_image_write.
#define INCLUDE_STB_IMAGE_WRITE_H
typedef void stbi_write_func(void *context, void *data, int size);
static int stbi_write_png_to_func(stbi_write_func *func, void *context, int w, int h, int comp,
                                  const void *data, int stride);
#define FINERCUT_NO_SIMD
#define FINERCUT_NO_EXPORT
#define FINERCUT_NO_GENERATE
#define FINERCUT_NO_TOKENIZER
#define FINERCUT_NO_QUANTS
#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"
#include "memory.h"
#include "random_plan.h"
#include "t.h"

static struct {
    uint8_t *rgb;
    int w, h, fails;
} got;

static int stbi_write_png_to_func(stbi_write_func *func, void *context, int w, int h, int comp,
                                  const void *data, int stride) {
    static char signature[] = "\x89PNG\r\n\x1a\n";
    const size_t size = 3 * (size_t)w * (size_t)h;
    if (got.fails || comp != 3 || stride != 3 * w) return 0;
    free(got.rgb);
    got.rgb = (uint8_t *)malloc(size);
    memcpy(got.rgb, data, size);
    got.w = w;
    got.h = h;
    func(context, signature, 8);
    func(context, signature, 4);
    return 1;
}

static long pixel(int x, int y) { // of the SVG's pixels
    const uint8_t *p = got.rgb + 3 * (2 * y * got.w + 2 * x);
    return p[0] << 16 | p[1] << 8 | p[2];
}

static size_t coloured(int x, int y, int w, int h, long rgb) {
    size_t n = 0;
    for (int v = y; v < y + h; v++)
        for (int u = x; u < x + w; u++) n += pixel(u, v) == rgb;
    return n;
}

// Draws a plan; its size is that of the SVG, twice.
static int drawn(const fc_plan *p) {
    fc_error err;
    fc_text png, svg;
    char size[64];
    if (!T_OK(fc_report_png_memory(p, &png, &err) == FC_OK, "%s", err.msg)) return 0;
    T_OK(png.length == 12 && memcmp(png.bytes, "\x89PNG\r\n\x1a\n\x89PNG", 12) == 0, "the bytes");
    fc_report_svg_memory(p, &svg, &err);
    snprintf(size, sizeof size, " width=\"%d\" height=\"%d\"", got.w / 2, got.h / 2);
    T_OK(got.w == 1920 && strstr(svg.bytes, size), "%s", size);
    fc_text_free(&png);
    fc_text_free(&svg);
    return 1;
}

static void test_plan(void) {
    fc_error err;
    fc_plan *p = fc_plan_load("tests/data/plan.json", NULL, &err);
    if (!T_OK(p != NULL, "%s", err.msg) || !drawn(p)) return;
    T_OK(pixel(2, 2) == 0xffffff && pixel(957, got.h / 2 - 1) == 0xffffff, "the ground");
    T_OK(coloured(40, 40, 200, 30, 0x1c2430) > 100, "the name");
    T_OK(pixel(45, 150) == 0xf5f7f9, "a tile");
    T_OK(coloured(110, 250, 500, 100, 0xa30d44) > 500, "what went first");
    T_OK(coloured(110, 250, 500, 100, 0xfbdd97) > 500, "what went last");
    T_OK(coloured(110, 250, 500, 100, 0xe6eaef) > 500, "what is kept");
    T_OK(coloured(110, 250, 500, 100, 0xd3d9e0) > 200 &&
             coloured(110, 250, 500, 100, 0xf7f8fa) > 500,
         "what is no candidate is hatched");
    T_OK(coloured(40, 400, 880, got.h / 2 - 500, 0xb3123f) > 100, "frames of what went");
    T_OK(coloured(40, 400, 880, got.h / 2 - 500, 0x142c63) > 100, "dear candidates");
    fc_plan_free(p);
}

static void test_any(void) {
    static const fc_candidates kinds[] = {FC_CANDIDATES_SUBLAYERS, FC_CANDIDATES_BLOCKS,
                                          FC_CANDIDATES_FFN};
    for (int i = 0; i < 6; i++) {
        fc_plan *p = make_plan(NULL, kinds[i % 3], i == 4 ? 126 : 1 + (uint32_t)i, 0, 9, i % 2);
        drawn(p);
        fc_plan_free(p);
    }
}

static void test_failures(void) {
    memory m;
    fc_error err;
    fc_text png;
    memset(&m, 0, sizeof m);
    fc_env env = memory_env(&m);
    memory_writable(&env);
    fc_plan *p = make_plan(&env, FC_CANDIDATES_SUBLAYERS, 2, 0, 2, 0);
    const long live = m.live;
    got.fails = 1;
    T_OK(fc_report_png_memory(p, &png, &err) == FC_ERR_MEMORY && !png.bytes && m.live == live,
         "%s", err.msg);
    got.fails = 0;
    long n = 1;
    for (; n < 1000; n++) {
        m.allocs = 0;
        m.fail_alloc = n;
        const fc_code code = fc_report_png_memory(p, &png, &err);
        if (!code) break;
        if (!T_OK(code == FC_ERR_MEMORY && m.live == live, "allocation %ld: %s", n, err.msg)) break;
    }
    T_OK(n > 3, "%ld allocations", n);
    fc_text_free(&png);
    m.fail_alloc = 0;
    T_OK(fc_report_png(p, "p.png", &err) == FC_OK && m.outputs[0].size == 12, "%s", err.msg);
    T_OK(fc_report_png(NULL, "p.png", &err) == FC_ERR_ARGUMENT &&
             fc_report_png(p, NULL, &err) == FC_ERR_ARGUMENT &&
             fc_report_png_memory(NULL, &png, &err) == FC_ERR_ARGUMENT &&
             fc_report_png_memory(p, NULL, &err) == FC_ERR_ARGUMENT,
         "called wrongly");
    fc_plan_free(p);
    memory_forget(&m);
    T_OK(m.live == 0, "%ld left", m.live);
}

int main(void) {
    test_plan();
    test_any();
    test_failures();
    free(got.rgb);
    return t_end("raster");
}
