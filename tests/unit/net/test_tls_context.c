/* SPDX-License-Identifier: MIT */
/* The certificate store's checks with the sentences that people get, and the ticket keyring. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/tls_context.h"
#include "net/tls_keyring.h"
#include "support.h"

#define MINUTE (UINT64_C(60) * CLOCK_NS_PER_S)

static char error_text[512];

/* What tls_context_new says of one pair of files. */
static enum error try_files(const char *cert, const char *key, const char *password)
{
    char cert_path[128], key_path[128];
    snprintf(cert_path, sizeof(cert_path), "%s/%s", support_directory(), cert);
    snprintf(key_path, sizeof(key_path), "%s/%s", support_directory(), key);
    struct tls_certificate_settings pair = {.cert = slice_from(cert_path),
                                            .key = slice_from(key_path),
                                            .key_password = slice_from(password)};
    struct tls_settings settings = {.certificates = &pair,
                                    .certificate_count = 1,
                                    .min_version = 0x0303,
                                    .ticket_key_life_ns = MINUTE,
                                    .ticket_keys_kept = 24,
                                    .key_updates_per_second = 100,
                                    .tickets = 1};
    struct tls_context *context = NULL;
    strcpy(error_text, "");
    enum error error = tls_context_new(&settings, NULL, &context, error_text, sizeof(error_text));
    tls_context_unref(context);
    return error;
}

static const struct {
    const char *cert, *key, *password;
    const char *says; /* NULL: good */
} file_rows[] = {
    {"good.pem", "good.key", NULL, NULL},
    {"good.pem", "other.key", NULL, "does not belong to the key"},
    {"missing.pem", "good.key", NULL, "missing.pem: cannot open: No such file or directory"},
    {"good.pem", "missing.key", NULL, "missing.key: cannot open: No such file or directory"},
    {"good.pem", "open.key", NULL, "open.key: the private key is open to every user (mode 0644)"},
    {"good.pem", "group.key", NULL, NULL},
    {"good.pem", "secret.key", "pass word", NULL},
    {"good.pem", "secret.key", "wrong", "is the password the right one?"},
    {"good.pem", "secret.key", NULL, "encrypted and no password is set"},
    {"good.key", "good.key", NULL, "no certificate in PEM form"},
    {"good.pem", "empty", NULL, "empty: no private key in PEM form"},
    {"empty", "good.key", NULL, "empty: no certificate in PEM form"},
    {"damaged.pem", "good.key", NULL, "damaged.pem: certificate 1 is damaged"},
    {"chain.pem", "leaf.key", NULL, NULL},
    {"backwards.pem", "leaf.key", NULL, "does not belong to the key"},
    {"unrelated.pem", "leaf.key", NULL, "certificate 2 did not issue the one before it"},
    {"weak.pem", "weak.key", NULL, "key too small"},
    {"old.pem", "old.key", NULL, NULL}, /* a warning only */
    {".", "good.key", NULL, "not a regular file"},
};

/* The files that the rows name. */
static void write_files(void)
{
    struct authority root = support_issue(&(struct wish){"Root", NULL, KEY_EC, 0, 0, true}, NULL);
    struct authority leaf =
        support_issue(&(struct wish){"leaf", "DNS:leaf", KEY_EC, 0, 0, false}, &root);
    struct authority good = support_issue(&(struct wish){"good", NULL, KEY_EC, 0, 0, false}, NULL);
    support_write_certificate("good.pem", good.certificate, NULL);
    support_write_key("good.key", good.key, NULL, 0600);
    support_write_key("open.key", good.key, NULL, 0644);
    support_write_key("group.key", good.key, NULL, 0640);
    support_write_key("secret.key", good.key, "pass word", 0600);
    support_write_key("other.key", leaf.key, NULL, 0600);
    support_write_key("leaf.key", leaf.key, NULL, 0600);
    support_write_certificate("chain.pem", leaf.certificate, root.certificate);
    support_write_certificate("backwards.pem", root.certificate, leaf.certificate);
    support_write_certificate("unrelated.pem", leaf.certificate, good.certificate);
    support_write("empty", "", 0600);
    support_write("damaged.pem",
                  "-----BEGIN CERTIFICATE-----\nTUlJQg==\n-----END CERTIFICATE-----\n", 0600);
    support_pair("old", &(struct wish){"old", NULL, KEY_EC, -7200, -3600, false}, NULL);
    struct authority weak = {.key = EVP_RSA_gen(1024), .certificate = X509_dup(good.certificate)};
    X509_set_pubkey(weak.certificate, weak.key);
    X509_sign(weak.certificate, weak.key, EVP_sha256());
    support_write_certificate("weak.pem", weak.certificate, NULL);
    support_write_key("weak.key", weak.key, NULL, 0600);
    support_authority_done(&root);
    support_authority_done(&leaf);
    support_authority_done(&good);
    support_authority_done(&weak);
}

TEST(tls_context_explains_bad_files)
{
    write_files();
    for (size_t i = 0; i < sizeof(file_rows) / sizeof(file_rows[0]); i++) {
        uint64_t live = mem_live();
        enum error error = try_files(file_rows[i].cert, file_rows[i].key, file_rows[i].password);
        CHECK_EQ_INT(mem_live(), live);
        if (file_rows[i].says == NULL) {
            CHECK_EQ_STR(error_text, "");
            CHECK_EQ_INT(error, ERROR_NONE);
            continue;
        }
        CHECK_EQ_INT(error, ERROR_INVALID);
        if (strstr(error_text, file_rows[i].says) == NULL) {
            CHECK_EQ_STR(error_text, file_rows[i].says);
        }
    }
}

static enum error try_settings(void (*change)(struct tls_settings *settings))
{
    char cert[128], key[128];
    support_pair("base", &(struct wish){"base", NULL, KEY_EC, 0, 0, false}, NULL);
    snprintf(cert, sizeof(cert), "%s/base.pem", support_directory());
    snprintf(key, sizeof(key), "%s/base.key", support_directory());
    struct tls_certificate_settings pair = {.cert = slice_from(cert), .key = slice_from(key)};
    struct tls_settings settings = {.certificates = &pair,
                                    .certificate_count = 1,
                                    .min_version = 0x0303,
                                    .ticket_key_life_ns = MINUTE,
                                    .ticket_keys_kept = 24,
                                    .key_updates_per_second = 100};
    struct tls_context *context = NULL;
    change(&settings);
    strcpy(error_text, "");
    enum error error = tls_context_new(&settings, NULL, &context, error_text, sizeof(error_text));
    tls_context_unref(context);
    return error;
}

static void no_certificates(struct tls_settings *settings)
{
    settings->certificate_count = 0;
}
static void bad_ciphers(struct tls_settings *settings)
{
    settings->ciphers = SLICE("NO-SUCH-CIPHER");
}
static void bad_groups(struct tls_settings *settings)
{
    settings->groups = SLICE("X25519:curve-of-mine");
}
static void good_lists(struct tls_settings *settings)
{
    settings->groups = SLICE("P-256:X25519");
    settings->ciphers = SLICE("ECDHE-RSA-AES128-GCM-SHA256");
}
static void verify_without_authorities(struct tls_settings *settings)
{
    settings->verify = TLS_VERIFY_OPTIONAL;
}
static void missing_authorities(struct tls_settings *settings)
{
    settings->verify = TLS_VERIFY_REQUIRED;
    settings->client_ca = SLICE("/nonexistent/ca.pem");
}

TEST(tls_context_explains_bad_settings)
{
    CHECK_EQ_INT(try_settings(good_lists), ERROR_NONE);
    CHECK_EQ_INT(try_settings(no_certificates), ERROR_INVALID);
    CHECK(strstr(error_text, "at least one certificate") != NULL);
    CHECK_EQ_INT(try_settings(bad_ciphers), ERROR_INVALID);
    CHECK(strstr(error_text, "tls.ciphers") != NULL && strstr(error_text, "NO-SUCH-CIPHER"));
    CHECK_EQ_INT(try_settings(bad_groups), ERROR_INVALID);
    CHECK(strstr(error_text, "tls.groups") != NULL && strstr(error_text, "curve-of-mine"));
    CHECK_EQ_INT(try_settings(verify_without_authorities), ERROR_INVALID);
    CHECK(strstr(error_text, "tls.client_ca") != NULL);
    CHECK_EQ_INT(try_settings(missing_authorities), ERROR_INVALID);
    CHECK_EQ_STR(error_text, "/nonexistent/ca.pem: cannot open: No such file or directory");
}

/* Every allocation of ours fails once: an error, never a crash or a leak. */
TEST(tls_context_survives_failing_allocations)
{
    support_pair("oom", &(struct wish){"oom", "DNS:a,DNS:b", KEY_EC, 0, 0, false}, NULL);
    CHECK_EQ_INT(try_files("oom.pem", "oom.key", NULL), ERROR_NONE);
    uint64_t live = mem_live(), made = mem_made();
    CHECK_EQ_INT(try_files("oom.pem", "oom.key", NULL), ERROR_NONE);
    uint64_t count = mem_made() - made;
    CHECK(count > 5);
    for (uint64_t n = 1; n <= count; n++) {
        mem_fail_nth(n, 0);
        CHECK_EQ_INT(try_files("oom.pem", "oom.key", NULL), ERROR_NO_MEMORY);
        mem_fail_nth(0, 0);
        CHECK_EQ_INT(mem_live(), live);
    }
}

/* --- the keyring ---------------------------------------------------------------------------------------------------- */

TEST(keyring_rotates_and_forgets)
{
    struct tls_keyring *keyring = tls_keyring_new(MINUTE, 3);
    struct tls_ticket_key first, key, found;
    bool renew = true;
    uint64_t start = 1000 * MINUTE;
    tls_keyring_current(keyring, start, &first);
    tls_keyring_current(keyring, start + MINUTE - 1, &key);
    CHECK_EQ_MEM(&key, &first, sizeof(key));
    tls_keyring_current(keyring, start - MINUTE,
                        &key); /* another thread's clock was read earlier */
    CHECK_EQ_MEM(&key, &first, sizeof(key));
    CHECK(tls_keyring_find(keyring, start + MINUTE - 1, first.name, &found, &renew));
    CHECK(!renew);
    CHECK_EQ_MEM(&found, &first, sizeof(key));

    /* Too old to seal with, good to open; then one and two newer ones. */
    CHECK(tls_keyring_find(keyring, start + MINUTE, first.name, &found, &renew));
    CHECK(renew);
    tls_keyring_current(keyring, start + MINUTE, &key);
    CHECK(memcmp(key.name, first.name, sizeof(key.name)) != 0);
    CHECK(memcmp(key.aes, first.aes, sizeof(key.aes)) != 0);
    CHECK(memcmp(key.hmac, first.hmac, sizeof(key.hmac)) != 0);
    CHECK(tls_keyring_find(keyring, start + MINUTE, first.name, &found, &renew));
    CHECK(renew);
    CHECK_EQ_MEM(&found, &first, sizeof(key));
    tls_keyring_current(keyring, start + 2 * MINUTE, &key);
    CHECK(tls_keyring_find(keyring, start + 2 * MINUTE, first.name, &found, &renew));
    tls_keyring_current(keyring, start + 3 * MINUTE, &key); /* three are kept: the first goes */
    CHECK(!tls_keyring_find(keyring, start + 3 * MINUTE, first.name, &found, &renew));

    /* Without traffic nothing rotates, and yet a key ends with its time. */
    CHECK(tls_keyring_find(keyring, start + 5 * MINUTE, key.name, &found, &renew));
    CHECK(!tls_keyring_find(keyring, start + 6 * MINUTE, key.name, &found, &renew));
    static const uint8_t unknown[TLS_TICKET_NAME_SIZE];
    CHECK(!tls_keyring_find(keyring, start, unknown, &found, &renew));
    tls_keyring_free(keyring);
}

struct hammer {
    struct tls_keyring *keyring;
    _Atomic uint64_t *now;
    bool torn;
};

/* A key is torn when one name comes with two secrets. */
static void *hammer_run(void *argument)
{
    struct hammer *hammer = argument;
    for (int i = 0; i < 20000; i++) {
        struct tls_ticket_key key, found;
        bool renew = false;
        uint64_t now = atomic_fetch_add(hammer->now, MINUTE / 50);
        tls_keyring_current(hammer->keyring, now, &key);
        if (tls_keyring_find(hammer->keyring, now, key.name, &found, &renew) &&
            memcmp(&key, &found, sizeof(key)) != 0) {
            hammer->torn = true;
        }
    }
    return NULL;
}

TEST(keyring_serves_threads)
{
    _Atomic uint64_t now = 1000 * MINUTE;
    struct hammer hammers[3];
    pthread_t threads[3];
    struct tls_keyring *keyring = tls_keyring_new(MINUTE, 24);
    for (int i = 0; i < 3; i++) {
        hammers[i] = (struct hammer){keyring, &now, false};
        CHECK_EQ_INT(pthread_create(&threads[i], NULL, hammer_run, &hammers[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        CHECK(!hammers[i].torn);
    }
    tls_keyring_free(keyring);
}

CHECK_MAIN
