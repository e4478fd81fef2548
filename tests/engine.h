// An engine opened by a test. Include after finercut.h.
#ifndef ENGINE_H
#define ENGINE_H

// For waves of up to `rows` rows, of sequences of up to `length` tokens; `taken`: bytes of the
// memory limit used by the caller.
static fc_code open_engine(fci_engine *e, fc_model *m, size_t length, size_t rows, uint64_t taken,
                           fc_error *err) {
    const fci_engine_wish wish = {length, rows, rows < 16 ? 16 : rows, length, taken};
    return fci_engine_begin(e, m, &wish, err);
}
#endif
