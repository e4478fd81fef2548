// A tree of JSON as its text. Include after finercut.h.
#ifndef TREE_H
#define TREE_H

static void json_write(fci_buffer *b, const fci_json *n) {
    const fci_json *child = fci_json_first(n);
    bool object = n->type == FCI_JSON_OBJECT;
    if (n->type == FCI_JSON_NUMBER) fci_put(b, n->text.p, n->text.n);
    else if (n->type == FCI_JSON_STRING) fci_json_put_string(b, n->text);
    else if (n->type == FCI_JSON_BOOL) fci_puts(b, n->truth ? "true" : "false");
    else if (n->type == FCI_JSON_NULL) fci_puts(b, "null");
    else {
        fci_puts(b, object ? "{" : "[");
        for (uint32_t i = 0; i < n->count; i++) {
            if (i) fci_puts(b, ",");
            if (object) {
                fci_json_put_string(b, child->text);
                fci_puts(b, ":");
                child = fci_json_next(child);
            }
            json_write(b, child);
            child = fci_json_next(child);
        }
        fci_puts(b, object ? "}" : "]");
    }
}
#endif
