/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a configuration, with the bytes behind a NUL as an override: it is refused with complaints, or loads, prints and
 * loads to the same again. Nothing is left behind.
 */
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/strbuf.h"
#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum error load(struct slice text, const char *override, struct config **ret_config,
                       struct strbuf *errors)
{
    const char *const overrides[] = {override};
    return config_load_text(text, "fuzz.toml", "/nonexistent", overrides, override != NULL,
                            ret_config, errors);
}

/* A complaint is lines of a place and a sentence, whatever the text was. */
static void check_errors(const struct strbuf *errors)
{
    REQUIRE(errors->length > 0 && errors->data[errors->length - 1] == '\n');
    REQUIRE(strncmp(errors->data, "fuzz.toml:", 10) == 0 || strncmp(errors->data, "-o ", 3) == 0);
}

static void check_round_trip(const struct config *config)
{
    struct strbuf first, second, errors;
    struct config *again = NULL;

    strbuf_init(&first);
    strbuf_init(&second);
    strbuf_init(&errors);
    config_print(config, false, &first);
    REQUIRE(load((struct slice){first.data, first.length}, NULL, &again, &errors) == ERROR_NONE);
    config_print(again, false, &second);
    REQUIRE(first.length == second.length && memcmp(first.data, second.data, first.length) == 0);
    config_unref(again);
    strbuf_done(&first);
    strbuf_done(&second);
    strbuf_done(&errors);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size > 0 ? memchr(data, 0, size) : NULL;
    size_t length = nul != NULL ? (size_t)(nul - data) : size;
    char *override = NULL;
    struct config *config = NULL;
    struct strbuf errors;
    uint64_t live = mem_live();

    if (nul != NULL) {
        override =
            mem_strndup((const char *)nul + 1, strnlen((const char *)nul + 1, size - length - 1));
    }
    strbuf_init(&errors);
    if (load((struct slice){(const char *)data, length}, override, &config, &errors) ==
        ERROR_NONE) {
        check_round_trip(config);
    } else {
        check_errors(&errors);
    }
    config_unref(config);
    strbuf_done(&errors);
    mem_free(override);
    REQUIRE(mem_live() == live);
    return 0;
}
