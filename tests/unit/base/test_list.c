/* SPDX-License-Identifier: MIT */
/* base/list.h. */
#include "check.h"

#include "base/list.h"

struct item {
    int value;
    struct list_node in_list;
};

LIST_DEFINE(item_list, struct item, in_list);

static void check_items(struct item_list *list, const char *expected)
{
    char text[32];
    size_t length = 0;

    LIST_EACH(item_list, list, struct item, item)
    {
        text[length++] = (char)('0' + item->value);
    }
    text[length] = '\0';
    CHECK_EQ_STR(text, expected);
    CHECK_EQ_INT(list->length, length);
}

TEST(list_keeps_order)
{
    struct item items[5] = {{.value = 0}, {.value = 1}, {.value = 2}, {.value = 3}, {.value = 4}};
    struct item_list list;

    item_list_init(&list);
    CHECK(item_list_empty(&list) && item_list_first(&list) == NULL && item_list_pop(&list) == NULL);
    item_list_append(&list, &items[1]);
    item_list_append(&list, &items[2]);
    item_list_prepend(&list, &items[0]);
    check_items(&list, "012");
    CHECK(item_list_linked(&items[1]) && !item_list_linked(&items[3]));
    item_list_remove(&list, &items[1]);
    CHECK(!item_list_linked(&items[1]));
    check_items(&list, "02");
    CHECK(item_list_pop(&list) == &items[0]);
    check_items(&list, "2");
}

TEST(list_each_allows_removing_the_current)
{
    struct item items[4] = {{.value = 0}, {.value = 1}, {.value = 2}, {.value = 3}};
    struct item_list list;

    item_list_init(&list);
    for (int i = 0; i < 4; i++) {
        item_list_append(&list, &items[i]);
    }
    LIST_EACH(item_list, &list, struct item, item)
    {
        if (item->value % 2 == 0) {
            item_list_remove(&list, item);
        }
    }
    check_items(&list, "13");
}

TEST(list_concat_moves_all)
{
    struct item items[4] = {{.value = 0}, {.value = 1}, {.value = 2}, {.value = 3}};
    struct item_list a, b;

    item_list_init(&a);
    item_list_init(&b);
    item_list_concat(&a, &b);
    check_items(&a, "");
    item_list_append(&b, &items[2]);
    item_list_append(&b, &items[3]);
    item_list_append(&a, &items[0]);
    item_list_append(&a, &items[1]);
    item_list_concat(&a, &b);
    check_items(&a, "0123");
    check_items(&b, "");
    item_list_concat(&b, &a);
    check_items(&b, "0123");
    check_items(&a, "");
    item_list_remove(&b, &items[3]);
    check_items(&b, "012");
}

CHECK_MAIN
