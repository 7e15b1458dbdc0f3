/* SPDX-License-Identifier: MIT */
/*
 * Typed intrusive doubly linked lists. LIST_DEFINE(conn_list, struct conn, in_server) makes `struct
 * conn_list` and functions that take only `struct conn *`, so that an object cannot be unlinked
 * from a list of another kind. A node that is in no list has next == NULL.
 */
#ifndef GATEWAY_BASE_LIST_H
#define GATEWAY_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"

struct list_node {
    struct list_node *next, *previous;
};

#define LIST_CONTAINER(node, type, member)                                                         \
    ((type *)(void *)((char *)(node) - offsetof(type, member)))

#define LIST_DEFINE(name, type, member)                                                            \
    struct name {                                                                                  \
        struct list_node head;                                                                     \
        size_t length;                                                                             \
    };                                                                                             \
    __attribute__((unused)) static inline void name##_init(struct name *list)                      \
    {                                                                                              \
        list->head.next = list->head.previous = &list->head;                                       \
        list->length = 0;                                                                          \
    }                                                                                              \
    __attribute__((unused)) static inline bool name##_empty(const struct name *list)               \
    {                                                                                              \
        return list->head.next == &list->head;                                                     \
    }                                                                                              \
    /* Whether the object is in a list (of this kind). */                                          \
    __attribute__((unused)) static inline bool name##_linked(const type *object)                   \
    {                                                                                              \
        return object->member.next != NULL;                                                        \
    }                                                                                              \
    __attribute__((unused)) static inline void name##_insert_(struct name *list, type *object,     \
                                                              struct list_node *before)            \
    {                                                                                              \
        REQUIRE(object->member.next == NULL);                                                      \
        object->member.next = before;                                                              \
        object->member.previous = before->previous;                                                \
        before->previous->next = &object->member;                                                  \
        before->previous = &object->member;                                                        \
        list->length++;                                                                            \
    }                                                                                              \
    __attribute__((unused)) static inline void name##_append(struct name *list, type *object)      \
    {                                                                                              \
        name##_insert_(list, object, &list->head);                                                 \
    }                                                                                              \
    __attribute__((unused)) static inline void name##_prepend(struct name *list, type *object)     \
    {                                                                                              \
        name##_insert_(list, object, list->head.next);                                             \
    }                                                                                              \
    __attribute__((unused)) static inline void name##_remove(struct name *list, type *object)      \
    {                                                                                              \
        REQUIRE(object->member.next != NULL && list->length > 0);                                  \
        object->member.next->previous = object->member.previous;                                   \
        object->member.previous->next = object->member.next;                                       \
        object->member.next = object->member.previous = NULL;                                      \
        list->length--;                                                                            \
    }                                                                                              \
    __attribute__((unused)) static inline type *name##_first(const struct name *list)              \
    {                                                                                              \
        return name##_empty(list) ? NULL : LIST_CONTAINER(list->head.next, type, member);          \
    }                                                                                              \
    __attribute__((unused)) static inline type *name##_next(const struct name *list,               \
                                                            const type *object)                    \
    {                                                                                              \
        return object->member.next == &list->head                                                  \
                   ? NULL                                                                          \
                   : LIST_CONTAINER(object->member.next, type, member);                            \
    }                                                                                              \
    /* Removes and returns the first object, NULL when the list is empty. */                       \
    __attribute__((unused)) static inline type *name##_pop(struct name *list)                      \
    {                                                                                              \
        type *object = name##_first(list);                                                         \
        if (object != NULL) {                                                                      \
            name##_remove(list, object);                                                           \
        }                                                                                          \
        return object;                                                                             \
    }                                                                                              \
    /* Moves all objects of `other` to the end of the list, in order; `other` is empty then. */    \
    __attribute__((unused)) static inline void name##_concat(struct name *list,                    \
                                                             struct name *other)                   \
    {                                                                                              \
        if (name##_empty(other)) {                                                                 \
            return;                                                                                \
        }                                                                                          \
        other->head.next->previous = list->head.previous;                                          \
        list->head.previous->next = other->head.next;                                              \
        other->head.previous->next = &list->head;                                                  \
        list->head.previous = other->head.previous;                                                \
        list->length += other->length;                                                             \
        name##_init(other);                                                                        \
    }                                                                                              \
    struct name##_require_semicolon_

/* Walks a list; the current object may be removed (the next one must stay). */
#define LIST_EACH(name, list, type, object)                                                        \
    for (type *object = name##_first(list),                                                        \
              *object##_next = object ? name##_next(list, object) : NULL;                          \
         object != NULL;                                                                           \
         object = object##_next, object##_next = object ? name##_next(list, object) : NULL)

#endif
