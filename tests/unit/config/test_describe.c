/* SPDX-License-Identifier: MIT */
/*
 * conf/gateway.toml and docs/CONFIGURATION.md are what the schema says. With GATEWAYD_GENERATE set in the environment the test
 * writes them instead (gateway/config/generate.py).
 */
#include "check.h"
#include "support.h"

#include <stdlib.h>

#include "config/describe.h"

/* Tests run in the root of the checkout. */
static void check_file(const char *path, const struct strbuf *expected)
{
    static char text[1 << 20];
    bool generate = getenv("GATEWAYD_GENERATE") != NULL;
    FILE *file = fopen(path, generate ? "w" : "r");

    CHECK(!expected->failed);
    if (file == NULL) {
        printf("# %s: %s\n", path,
               generate ? "cannot be written" : "is missing; run make generate");
        CHECK(file != NULL);
        return;
    }
    if (generate) {
        CHECK_EQ_INT(fwrite(expected->data, 1, expected->length, file), expected->length);
        CHECK_EQ_INT(fclose(file), 0);
        return;
    }
    size_t length = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[length] = '\0';
    if (strcmp(text, strbuf_text(expected)) != 0) {
        printf("# %s is not what gateway/config/schema.def says; run make generate\n", path);
        CHECK(strcmp(text, strbuf_text(expected)) == 0);
    }
}

TEST(the_example_is_current)
{
    struct strbuf text;

    strbuf_init(&text);
    describe_example(&text);
    check_file("conf/gateway.toml", &text);
    strbuf_done(&text);
}

TEST(the_reference_is_current)
{
    struct strbuf text;

    strbuf_init(&text);
    describe_reference(&text);
    check_file("docs/CONFIGURATION.md", &text);
    strbuf_done(&text);
}

/* The example has every option at its default: it is the same as saying nothing. */
TEST(the_example_is_the_defaults)
{
    struct strbuf text, example, minimal;

    strbuf_init(&text);
    strbuf_init(&example);
    strbuf_init(&minimal);
    describe_example(&text);
    struct config *config = load_good(strbuf_text(&text), NULL);
    config_print(config, false, &example);
    config_unref(config);
    config = load_good(MINIMAL, NULL);
    config_print(config, false, &minimal);
    config_unref(config);
    CHECK_EQ_STR(strbuf_text(&example), strbuf_text(&minimal));
    strbuf_done(&text);
    strbuf_done(&example);
    strbuf_done(&minimal);
}

CHECK_MAIN
