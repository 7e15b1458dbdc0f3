/* SPDX-License-Identifier: MIT */
/*
 * What a running server cannot take over: the options that schema.def lists as FIXED.
 */
#include <stdio.h>
#include <string.h>

#include "config/config.h"
#include "config/option.h"

static bool same(const struct config *running, const struct config *wanted,
                 const struct option *option)
{
    struct strbuf texts[2];
    const struct config *configs[2] = {running, wanted};

    for (int i = 0; i < 2; i++) {
        strbuf_init(&texts[i]);
        option->type->print(configs[i], option, (const char *)configs[i] + option->offset,
                            &texts[i]);
    }
    bool equal = strcmp(strbuf_text(&texts[0]), strbuf_text(&texts[1])) == 0;
    strbuf_done(&texts[0]);
    strbuf_done(&texts[1]);
    return equal;
}

static bool had_h3(const struct config *running, struct slice bind)
{
    for (size_t i = 0; i < running->listener_count; i++) {
        if (running->listeners[i].h3 && slice_equal(running->listeners[i].bind, bind)) {
            return true;
        }
    }
    return false;
}

/* UDP sockets stay as they are for as long as a server runs. */
static void compare_h3(struct config *config, const struct config *running, struct strbuf *out)
{
    char name[96], place[256];

    for (size_t i = 0; i < config->listener_count; i++) {
        const struct listener_settings *listener = &config->listeners[i];
        if (listener->h3 == had_h3(running, listener->bind)) {
            continue;
        }
        snprintf(name, sizeof(name), "listen[%zu].protocols", i);
        config_place(config, name, place, sizeof(place));
        strbuf_printf(out,
                      "%s: %s: \"h3\" comes and goes only by an upgrade or a restart; until then "
                      "it stays as it was\n",
                      place, name);
    }
}

void config_keep_fixed(struct config *config, const struct config *running, struct strbuf *out)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &option_table[i];
        const char *fix = option_fix(option);
        char name[96], place[256];
        if (fix == NULL || same(running, config, option)) {
            continue;
        }
        snprintf(name, sizeof(name), "%s.%s", option_sections[option->section].name, option->key);
        config_place(config, name, place, sizeof(place));
        strbuf_printf(out, "%s: %s changes only by %s; until then it stays as it was\n", place,
                      name, fix);
        /* A number is put back; texts are not looked at again by anything that runs. */
        if (option->size <= sizeof(uint64_t)) {
            memcpy((char *)config + option->offset, (const char *)running + option->offset,
                   option->size);
        }
    }
    config->http.window = config->ipc.window;
    config->tls.quic |= running->tls.quic; /* connections are there that need it */
    compare_h3(config, running, out);
}
