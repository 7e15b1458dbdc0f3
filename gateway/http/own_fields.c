/* SPDX-License-Identifier: MIT */
/* RFC 9110 6.6.1 (Date), 10.2.4 (Server), RFC 7838 (Alt-Svc). Owns nothing. */
#include "http/own_fields.h"

enum { OWN_DATE, OWN_SERVER, OWN_ALT_SVC, OWN_EXTRA };

size_t own_fields_most(const struct http_settings *settings)
{
    return OWN_EXTRA + settings->extra_field_count;
}

bool own_fields_get(const struct own_fields *own, size_t index, const struct response_head *head,
                    struct field *ret_field)
{
    const struct http_settings *settings = own->settings;
    const struct slice none = {NULL, 0};
    struct field field;
    switch (index) {
    case OWN_DATE:
        field = (struct field){SLICE("date"), settings->date_header ? own->date : none};
        break;
    case OWN_SERVER:
        field =
            (struct field){SLICE("server"), settings->server_header ? settings->server_name : none};
        break;
    case OWN_ALT_SVC:
        field = (struct field){SLICE("alt-svc"), own->alt_svc};
        break;
    default:
        field = settings->extra_fields[index - OWN_EXTRA];
        break;
    }
    if (field.value.length == 0 || head_find(head->fields, head->field_count, field.name) != NULL) {
        return false;
    }
    *ret_field = field;
    return true;
}
