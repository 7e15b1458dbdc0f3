/* SPDX-License-Identifier: MIT */
/* What config cannot see without opening files: do keys fit certificates? */
#include "tls_load.h"

#include <stdio.h>

#include "config/config.h"
#include "net/tls_context.h"

static bool any_tls(const struct config *config)
{
    for (size_t i = 0; i < config->listener_count; i++) {
        if (config->listeners[i].tls) {
            return true;
        }
    }
    return false;
}

enum error tls_load(const struct config *config, struct file_set *files,
                    struct tls_keyring **keyring, struct tls_context **ret_tls, char *text,
                    size_t text_size)
{
    struct tls_settings settings = config->tls;
    char place[256], why[512];

    if (!any_tls(config)) {
        *ret_tls = NULL;
        return ERROR_NONE;
    }
    if (*keyring == NULL) {
        *keyring = tls_keyring_new(settings.ticket_key_life_ns, settings.ticket_keys_kept);
    }
    if (*keyring == NULL) {
        snprintf(text, text_size, "out of memory");
        return ERROR_NO_MEMORY;
    }
    settings.files = files;
    enum error error = tls_context_new(&settings, *keyring, ret_tls, why, sizeof(why));
    if (error != ERROR_NONE) {
        config_place(config, "tls.certificates", place, sizeof(place));
        snprintf(text, text_size, "%s: %s", place,
                 error == ERROR_NO_MEMORY ? "out of memory" : why);
    }
    return error;
}
