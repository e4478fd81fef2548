// Lists the tensors of a .safetensors file, a directory of shards or a .gguf file.
//   cc -O2 examples/inspect.c -o inspect -lm -pthread && ./inspect examples/demo
#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"

#include <stdio.h>

// A name comes from the file and may hold anything, so only plain ASCII reaches the terminal.
static void print_name(const fc_tensor *t) {
    for (size_t i = 0; i < t->name_length; i++)
        putchar(t->name[i] > 0x20 && t->name[i] < 0x7f ? t->name[i] : '?');
}

int main(int argc, char **argv) {
    fc_error err;
    if (argc != 2) {
        fprintf(stderr, "usage: inspect FILE.safetensors|FILE.gguf|DIRECTORY\n");
        return 2;
    }
    // NULL: malloc, files, one thread a core
    fc_container *c = fc_container_open(argv[1], NULL, &err);
    if (!c) {
        fprintf(stderr, "inspect: %s\n", err.msg);
        return 1;
    }
    size_t n = fc_container_tensor_count(c);
    printf("%s, %llu bytes, %zu tensors\n", fc_container_kind(c),
           (unsigned long long)fc_container_bytes(c), n);
    for (size_t i = 0; i < n; i++) {
        const fc_tensor *t = fc_container_tensor(c, i);
        print_name(t);
        printf("  %s [", fc_dtype_name(t->type));
        for (uint32_t d = 0; d < t->rank; d++)
            printf("%s%llu", d ? ", " : "", (unsigned long long)t->shape[d]);
        printf("]\n");
    }
    fc_container_close(c);
    return 0;
}
