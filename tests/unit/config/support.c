/* SPDX-License-Identifier: MIT */
/* See support.h. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>

enum error load_text(const char *text, const char *const *overrides, struct config **ret_config,
                     struct strbuf *errors)
{
    size_t count = 0;

    while (overrides != NULL && overrides[count] != NULL) {
        count++;
    }
    return config_load_text(slice_from(text), "t.toml", "/nonexistent", overrides, count,
                            ret_config, errors);
}

struct config *load_good(const char *text, const char *const *overrides)
{
    struct config *config = NULL;
    struct strbuf errors;

    strbuf_init(&errors);
    if (load_text(text, overrides, &config, &errors) != ERROR_NONE) {
        printf("Bail out! %s", strbuf_text(&errors));
        exit(1);
    }
    strbuf_done(&errors);
    return config;
}
