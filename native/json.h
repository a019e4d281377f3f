/* Growing buffers, and a strict reader of RFC 8259 that hands out top-level fields as it meets them.
 *
 * Part of tortie-cni.c, which is one translation unit. Nesting is bounded, since the reader recurses.
 */
#ifndef TORTIE_JSON_H
#define TORTIE_JSON_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 128 };

/* ---- growing buffers ------------------------------------------------------------------------------------------- */

struct buffer {
    char *data;
    size_t length, room;
};

static void append(struct buffer *b, const void *data, size_t length) {
    if (b->length + length > b->room) {
        b->room = (b->length + length) * 2 + 256;
        b->data = realloc(b->data, b->room);
        if (!b->data) abort();
    }
    if (length) memcpy(b->data + b->length, data, length);
    b->length += length;
}

static void append_text(struct buffer *b, const char *text) { append(b, text, strlen(text)); }

/* A JSON string. Bytes above ASCII pass as they are; the agent reads what is no UTF-8 as U+FFFD. */
static void append_quoted(struct buffer *b, const char *text) {
    append_text(b, "\"");
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        char escaped[8];
        if (c == '"' || c == '\\') {
            snprintf(escaped, sizeof escaped, "\\%c", c);
            append_text(b, escaped);
        } else if (c < 0x20 || c == 0x7f) {
            snprintf(escaped, sizeof escaped, "\\u%04x", c);
            append_text(b, escaped);
        } else
            append(b, &c, 1);
    }
    append_text(b, "\"");
}

/* ---- reading JSON ----------------------------------------------------------------------------------------------- */

struct reader {
    const unsigned char *start, *at, *end;
    const char *problem; /* first one found */
};

static int refuse(struct reader *r, const char *problem) {
    if (!r->problem) r->problem = problem;
    return 0;
}

static void skip_space(struct reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')) r->at++;
}

static int take(struct reader *r, const char *literal) {
    size_t n = strlen(literal);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, literal, n)) return refuse(r, "unexpected character");
    r->at += n;
    return 1;
}

/* The length of the well-formed UTF-8 sequence here, or 0. */
static int utf8_length(const unsigned char *p, const unsigned char *end) {
    unsigned char low = 0x80, high = 0xbf;
    int n;
    if (*p < 0x80) return 1;
    if (*p >= 0xc2 && *p <= 0xdf) n = 2;
    else if (*p >= 0xe0 && *p <= 0xef) n = 3;
    else if (*p >= 0xf0 && *p <= 0xf4) n = 4;
    else return 0;
    if (end - p < n) return 0;
    if (*p == 0xe0) low = 0xa0;
    if (*p == 0xed) high = 0x9f;
    if (*p == 0xf0) low = 0x90;
    if (*p == 0xf4) high = 0x8f;
    if (p[1] < low || p[1] > high) return 0;
    for (int i = 2; i < n; i++)
        if (p[i] < 0x80 || p[i] > 0xbf) return 0;
    return n;
}

static int hex4(struct reader *r, uint32_t *out) {
    *out = 0;
    if (r->end - r->at < 4) return refuse(r, "unfinished \\u escape");
    for (int i = 0; i < 4; i++) {
        unsigned char c = *r->at++;
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) return refuse(r, "\\u wants four hexadecimal digits");
        *out = *out << 4 | (uint32_t)digit;
    }
    return 1;
}

static void append_code_point(struct buffer *b, uint32_t c) {
    unsigned char bytes[4];
    int n;
    if (c < 0x80) bytes[0] = (unsigned char)c, n = 1;
    else if (c < 0x800) bytes[0] = (unsigned char)(0xc0 | c >> 6), n = 2;
    else if (c < 0x10000) bytes[0] = (unsigned char)(0xe0 | c >> 12), n = 3;
    else bytes[0] = (unsigned char)(0xf0 | c >> 18), n = 4;
    for (int i = 1; i < n; i++) bytes[i] = (unsigned char)(0x80 | (c >> (6 * (n - 1 - i)) & 0x3f));
    append(b, bytes, (size_t)n);
}

/* Reads a string; into `out`, unescaped, where one is given. */
static int read_string(struct reader *r, struct buffer *out) {
    if (!take(r, "\"")) return 0;
    while (r->at < r->end) {
        unsigned char c = *r->at;
        if (c == '"') {
            r->at++;
            return 1;
        }
        if (c < 0x20) return refuse(r, "control character in a string");
        if (c != '\\') {
            int n = utf8_length(r->at, r->end);
            if (!n) return refuse(r, "a string is not UTF-8");
            if (out) append(out, r->at, (size_t)n);
            r->at += n;
            continue;
        }
        if (++r->at == r->end) break;
        c = *r->at++;
        if (c == 'u') {
            uint32_t point, low;
            if (!hex4(r, &point)) return 0;
            if (point >= 0xdc00 && point <= 0xdfff) return refuse(r, "half a surrogate pair");
            if (point >= 0xd800 && point <= 0xdbff) {
                if (!take(r, "\\u") || !hex4(r, &low) || low < 0xdc00 || low > 0xdfff) {
                    r->problem = NULL;
                    return refuse(r, "half a surrogate pair");
                }
                point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
            }
            if (out) append_code_point(out, point);
        } else {
            static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
            const char *found = c ? strchr(from, c) : NULL;
            if (!found) return refuse(r, "unknown escape in a string");
            if (out) append(out, to + (found - from), 1);
        }
    }
    return refuse(r, "a string without an end");
}

static int digits(struct reader *r) {
    const unsigned char *first = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return r->at > first ? 1 : refuse(r, "a digit is missing");
}

static int read_number(struct reader *r, double *out) {
    const unsigned char *first = r->at;
    if (*r->at == '-') r->at++;
    if (r->at < r->end && *r->at == '0') r->at++;
    else if (!digits(r)) return 0;
    if (r->at < r->end && *r->at == '.' && (r->at++, !digits(r))) return 0;
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-')) r->at++;
        if (!digits(r)) return 0;
    }
    if (out) {
        char text[64] = "";
        size_t n = (size_t)(r->at - first);
        memcpy(text, first, n < sizeof text ? n : sizeof text - 1);
        *out = strtod(text, NULL);
    }
    return 1;
}

static int read_value(struct reader *r, int depth);

static int read_members(struct reader *r, int depth, int (*member)(struct reader *, const struct buffer *key, int depth)) {
    if (!take(r, "{")) return 0;
    skip_space(r);
    if (r->at < r->end && *r->at == '}') return r->at++, 1;
    struct buffer key = {0};
    int good = 0;
    for (;;) {
        skip_space(r);
        key.length = 0;
        if (!read_string(r, &key)) break;
        append(&key, "", 1);
        skip_space(r);
        if (!take(r, ":")) break;
        skip_space(r);
        if (!(member ? member(r, &key, depth) : read_value(r, depth))) break;
        skip_space(r);
        if (r->at < r->end && *r->at == ',') {
            r->at++;
            continue;
        }
        good = take(r, "}");
        break;
    }
    free(key.data);
    return good;
}

static int read_array(struct reader *r, int depth) {
    r->at++;
    skip_space(r);
    if (r->at < r->end && *r->at == ']') return r->at++, 1;
    for (;;) {
        skip_space(r);
        if (!read_value(r, depth)) return 0;
        skip_space(r);
        if (r->at < r->end && *r->at == ',') r->at++;
        else return take(r, "]");
    }
}

static int read_value(struct reader *r, int depth) {
    if (r->at == r->end) return refuse(r, "unexpected end");
    if (depth > MAX_DEPTH) return refuse(r, "nested too deeply");
    switch (*r->at) {
    case '{': return read_members(r, depth + 1, NULL);
    case '[': return read_array(r, depth + 1);
    case '"': return read_string(r, NULL);
    case 't': return take(r, "true");
    case 'f': return take(r, "false");
    case 'n': return take(r, "null");
    default:
        if (*r->at == '-' || (*r->at >= '0' && *r->at <= '9')) return read_number(r, NULL);
        return refuse(r, "unexpected character");
    }
}

#endif
