/* SPDX-License-Identifier: MIT */
/*
 * Turns toml++'s tree into plain C nodes: the only C++ of the gateway. Its job ends there: it owns nothing that outlives a call,
 * lets no exception out, and knows no option. toml++'s memory comes from base/mem too (operator new below), so that it is
 * counted.
 */
#include <algorithm>
#include <cstddef>
#include <functional>
#include <new>
#include <string_view>
#include <utility>
#include <vector>

#include <toml++/toml.h>

/* The C headers say _Noreturn. */
#define _Noreturn [[noreturn]]
extern "C" {
#include "base/mem.h"
#include "config/toml_tree.h"
}
#include "config/toml_reader.h"

namespace
{

/* toml++ allocates within functions that must not throw, where a failed allocation would end the process. So its memory is
 * taken before it starts, as one block that dies when it is done; what does not fit (a document of nothing but brackets) comes
 * from mem_alloc, and only its failure is fatal. */
struct pool {
    char *memory;
    std::size_t size, used;
};

constexpr std::size_t POOL_BASE = 64 * 1024;
constexpr std::size_t POOL_PER_BYTE = 64; /* of the text */

thread_local pool *active_pool;

void *take(pool *from, std::size_t size)
{
    std::size_t start =
        (from->used + alignof(std::max_align_t) - 1) & ~(alignof(std::max_align_t) - 1);

    if (start > from->size || size > from->size - start) {
        return nullptr;
    }
    from->used = start + size;
    return from->memory + start;
}

bool is_of(const pool *from, const void *memory)
{
    std::less<const void *> before;
    return !before(memory, from->memory) && before(memory, from->memory + from->size);
}

} // namespace

void *operator new(std::size_t size)
{
    void *memory = active_pool != nullptr ? take(active_pool, size) : nullptr;

    if (memory == nullptr) {
        memory = mem_alloc(size > 0 ? size : 1);
    }
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return memory;
}

void operator delete(void *memory) noexcept
{
    if (active_pool == nullptr || !is_of(active_pool, memory)) {
        mem_free(memory);
    }
}

void operator delete(void *memory, std::size_t) noexcept
{
    operator delete(memory);
}

namespace
{

toml_node *new_node(arena *memory, toml_kind kind)
{
    toml_node *node = toml_node_new(memory, kind);
    if (node == nullptr) {
        throw std::bad_alloc();
    }
    return node;
}

slice copy(arena *memory, std::string_view text)
{
    slice bytes = arena_copy(memory, slice{text.data(), text.size()});
    if (bytes.data == nullptr) {
        throw std::bad_alloc();
    }
    return bytes;
}

toml_node *convert(arena *memory, const toml::node &source);

/* toml++ sorts by key; people expect the order of the file. */
void convert_table(arena *memory, const toml::table &table, toml_node *node)
{
    std::vector<std::pair<const toml::key *, const toml::node *>> entries;

    for (const auto &[key, value] : table) {
        entries.emplace_back(&key, &value);
    }
    std::sort(entries.begin(), entries.end(), [](const auto &a, const auto &b) {
        toml::source_position left = a.first->source().begin, right = b.first->source().begin;
        return left.line != right.line ? left.line < right.line : left.column < right.column;
    });
    for (const auto &[key, value] : entries) {
        toml_node *child = convert(memory, *value);
        child->key = copy(memory, key->str());
        child->key_line = key->source().begin.line;
        child->key_column = key->source().begin.column;
        toml_node_append(node, child);
    }
}

toml_node *convert_scalar(arena *memory, const toml::node &source)
{
    toml_node *node;

    switch (source.type()) {
    case toml::node_type::string:
        node = new_node(memory, TOML_KIND_STRING);
        node->string = copy(memory, **source.as_string());
        return node;
    case toml::node_type::integer:
        node = new_node(memory, TOML_KIND_INTEGER);
        node->integer = **source.as_integer();
        return node;
    case toml::node_type::floating_point:
        node = new_node(memory, TOML_KIND_FLOAT);
        node->number = **source.as_floating_point();
        return node;
    case toml::node_type::boolean:
        node = new_node(memory, TOML_KIND_BOOLEAN);
        node->boolean = **source.as_boolean();
        return node;
    default:
        return new_node(memory, TOML_KIND_TIME);
    }
}

/* The depth is bounded by toml++ (TOML_MAX_NESTED_VALUES, TOML_MAX_DOTTED_KEYS_DEPTH). */
toml_node *convert(arena *memory, const toml::node &source)
{
    toml_node *node;

    if (const toml::table *table = source.as_table()) {
        node = new_node(memory, TOML_KIND_TABLE);
        convert_table(memory, *table, node);
    } else if (const toml::array *array = source.as_array()) {
        node = new_node(memory, TOML_KIND_ARRAY);
        for (const toml::node &element : *array) {
            toml_node_append(node, convert(memory, element));
        }
    } else {
        node = convert_scalar(memory, source);
    }
    node->line = source.source().begin.line;
    node->column = source.source().begin.column;
    return node;
}

void set_fault(toml_fault *fault, unsigned line, unsigned column, std::string_view text)
{
    std::size_t length = std::min(text.size(), sizeof(fault->text) - 1);

    fault->line = line;
    fault->column = column;
    memcpy(fault->text, text.data(), length);
    fault->text[length] = '\0';
}

} // namespace

static enum error parse(struct arena *arena, struct slice text, struct toml_node **ret_root,
                        struct toml_fault *ret_fault)
{
    try {
        toml::table table = toml::parse(std::string_view(text.data ? text.data : "", text.length));
        *ret_root = convert(arena, table);
        return ERROR_NONE;
    } catch (const toml::parse_error &failure) {
        set_fault(ret_fault, failure.source().begin.line, failure.source().begin.column,
                  failure.description());
        return ERROR_INVALID;
    } catch (const std::bad_alloc &) {
        return ERROR_NO_MEMORY;
    } catch (...) {
        set_fault(ret_fault, 1, 1, "it cannot be parsed");
        return ERROR_INVALID;
    }
}

extern "C" enum error toml_read(struct arena *arena, struct slice text, struct toml_node **ret_root,
                                struct toml_fault *ret_fault)
{
    pool reserve = {nullptr, POOL_BASE + POOL_PER_BYTE * text.length, 0};

    reserve.memory = static_cast<char *>(mem_alloc(reserve.size));
    if (reserve.memory == nullptr) {
        return ERROR_NO_MEMORY;
    }
    active_pool = &reserve;
    enum error error = parse(arena, text, ret_root, ret_fault);
    active_pool = nullptr;
    mem_free(reserve.memory);
    return error;
}
