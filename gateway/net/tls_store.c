/* SPDX-License-Identifier: MIT */
/*
 * Which certificates serve which name: built once, then only read, by every loop.
 */
#include "net/tls_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static int compare_entries(const void *a, const void *b)
{
    const struct tls_entry *left = a, *right = b;
    return strcmp(left->name, right->name);
}

/* For one name and kind the certificate that was configured first wins. */
static void merge(struct tls_entry *into, const struct tls_certificate *certificate)
{
    const struct tls_certificate **slot = &into->by_kind[certificate->kind];
    if (*slot == NULL || certificate < *slot) {
        *slot = certificate;
    }
}

static void fill_entries(struct tls_store *store)
{
    size_t count = 0;
    for (size_t i = 0; i < store->certificate_count; i++) {
        const struct tls_certificate *certificate = &store->certificates[i];
        for (size_t n = 0; n < certificate->name_count; n++) {
            store->entries[count] = (struct tls_entry){.name = certificate->names[n]};
            merge(&store->entries[count++], certificate);
        }
    }
    if (count == 0) {
        return;
    }
    qsort(store->entries, count, sizeof(*store->entries), compare_entries);
    size_t last = 0;
    for (size_t i = 1; i < count; i++) {
        if (strcmp(store->entries[last].name, store->entries[i].name) != 0) {
            store->entries[++last] = store->entries[i];
            continue;
        }
        for (int kind = 0; kind < TLS_KEY_KINDS; kind++) {
            if (store->entries[i].by_kind[kind] != NULL) {
                merge(&store->entries[last], store->entries[i].by_kind[kind]);
            }
        }
    }
    store->entry_count = last + 1;
}

/* The first certificate, and those of other kinds that serve its first name. */
static void choose_fallback(struct tls_store *store)
{
    const struct tls_certificate *first = &store->certificates[0];
    const struct tls_entry *entry =
        first->name_count > 0 ? tls_store_find(store, first->names[0]) : NULL;
    if (entry != NULL) {
        store->fallback = *entry;
    }
    store->fallback.by_kind[first->kind] = first;
}

enum error tls_store_init(struct tls_store *store, const struct tls_settings *settings, char *text,
                          size_t text_size)
{
    memset(store, 0, sizeof(*store));
    if (settings->certificate_count == 0) {
        snprintf(text, text_size,
                 "tls.certificates is empty: a TLS listener needs at least one certificate");
        return ERROR_INVALID;
    }
    size_t names = 0;
    enum error error = ERROR_NONE;
    store->certificates = mem_calloc(settings->certificate_count, sizeof(*store->certificates));
    for (size_t i = 0; store->certificates != NULL && i < settings->certificate_count; i++) {
        error = tls_certificate_load(settings->files, &settings->certificates[i],
                                     &store->certificates[i], text, text_size);
        if (error != ERROR_NONE) {
            tls_store_done(store);
            return error;
        }
        store->certificate_count++;
        names += store->certificates[i].name_count;
    }
    store->entries = mem_calloc(names + 1, sizeof(*store->entries));
    if (store->certificates == NULL || store->entries == NULL) {
        snprintf(text, text_size, "out of memory");
        tls_store_done(store);
        return ERROR_NO_MEMORY;
    }
    fill_entries(store);
    choose_fallback(store);
    return ERROR_NONE;
}

void tls_store_done(struct tls_store *store)
{
    for (size_t i = 0; i < store->certificate_count; i++) {
        tls_certificate_done(&store->certificates[i]);
    }
    mem_free(store->certificates);
    mem_free(store->entries);
    memset(store, 0, sizeof(*store));
}

static const struct tls_entry *find_exact(const struct tls_store *store, const char *name)
{
    if (store->entry_count == 0) {
        return NULL;
    }
    const struct tls_entry wanted = {.name = name};
    return bsearch(&wanted, store->entries, store->entry_count, sizeof(*store->entries),
                   compare_entries);
}

const struct tls_entry *tls_store_find(const struct tls_store *store, const char *name)
{
    const struct tls_entry *entry = find_exact(store, name);
    const char *dot = strchr(name, '.');
    char wildcard[258];
    if (entry != NULL || dot == NULL || dot == name || strlen(dot) + 2 > sizeof(wildcard)) {
        return entry;
    }
    wildcard[0] = '*';
    memcpy(wildcard + 1, dot, strlen(dot) + 1);
    return find_exact(store, wildcard);
}
