/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "protocol/xml.h"

#define HEAD       "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>"
#define LOG(value) HEAD "<data><log value=\"" value "\" /></data>"
#define ACK        HEAD "\n<data>\n<response value=\"ACK\" rawmode=\"false\" />\n</data>"

static int setup(void **state)
{
    *state = xml_splitter_new();
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    xml_splitter_free(*state);
    return 0;
}

static void feed(struct xml_splitter *s, const char *text)
{
    assert_int_equal(xml_splitter_feed(s, text, strlen(text)), 0);
}

static void expect(struct xml_splitter *s, enum xml_kind kind, const char *name, const char *value)
{
    _cleanup_(xml_document_freep) struct xml_document *d = NULL;
    size_t garbage;
    assert_int_equal(xml_splitter_next(s, &d, &garbage), 1);
    assert_int_equal(d->kind, kind);
    const char *found = xml_attribute(d, name);
    if (value)
        assert_string_equal(found, value);
    else
        assert_null(found);
}

static void expect_nothing(struct xml_splitter *s)
{
    struct xml_document *d = NULL;
    size_t garbage;
    assert_int_equal(xml_splitter_next(s, &d, &garbage), 0);
}

static void expect_garbage(struct xml_splitter *s, size_t size)
{
    struct xml_document *d = NULL;
    size_t garbage = 0;
    assert_int_equal(xml_splitter_next(s, &d, &garbage), -EBADMSG);
    assert_int_equal(garbage, size);
}

static void test_kinds(void **state)
{
    feed(*state, LOG("INFO: hello") ACK HEAD "<data><sig a='1'/></data>");
    expect(*state, XML_LOG, "value", "INFO: hello");
    expect(*state, XML_RESPONSE, "RAWMODE", "false");
    expect(*state, XML_OTHER, "A", "1");
    expect_nothing(*state);
}

/* Every place of a cut, with padding of every sort between the documents. */
static void test_split_everywhere(void **state)
{
    static const char text[] = "\r\n" LOG("one") "\0\0\0\n" ACK "\n\n\0 " LOG("two") "\0";
    for (size_t cut = 0; cut < sizeof(text); cut++) {
        struct xml_splitter *s = *state;
        size_t got = 0;
        for (int half = 0; half < 2; half++) {
            assert_int_equal(xml_splitter_feed(s, half ? text + cut : text, half ? sizeof(text) - cut : cut),
                             0);
            for (;;) {
                _cleanup_(xml_document_freep) struct xml_document *d = NULL;
                size_t garbage;
                int r = xml_splitter_next(s, &d, &garbage);
                assert_in_range(r, 0, 1);
                if (r == 0)
                    break;
                assert_int_equal(d->kind, got == 1 ? XML_RESPONSE : XML_LOG);
                got++;
            }
        }
        assert_int_equal(got, 3);
        assert_int_equal(xml_splitter_buffered(s), 0);
    }
}

static void test_byte_by_byte(void **state)
{
    static const char text[] = ACK;
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        expect_nothing(*state);
        assert_int_equal(xml_splitter_feed(*state, text + i, 1), 0);
    }
    expect(*state, XML_RESPONSE, "value", "ACK");
}

static void test_several_children(void **state)
{
    feed(*state, HEAD "<data> <log value='a'/> text <log value='b'></log><response value='NAK'/></data>" ACK);
    expect(*state, XML_LOG, "value", "a");
    expect(*state, XML_LOG, "value", "b");
    expect(*state, XML_RESPONSE, "value", "NAK");
    expect(*state, XML_RESPONSE, "value", "ACK");
    expect_nothing(*state);
}

static void test_empty_data(void **state)
{
    feed(*state, HEAD "<data></data>" ACK);
    expect(*state, XML_RESPONSE, "value", "ACK");
}

static void test_escapes(void **state)
{
    feed(*state, LOG("{&quot;page_size&quot;:4096} &amp;&lt;&gt;&apos; &#65;&#x42;&#10;end"));
    expect(*state, XML_LOG, "value", "{\"page_size\":4096} &<>' AB\nend");
}

/* What programmers put into logs without a thought must not cost the log, and can never become an answer. */
static void test_broken_logs(void **state)
{
    feed(*state, LOG("a & b < c &nosuch; &#0; &#27; &"));
    expect(*state, XML_LOG, "value", "a & b < c &nosuch; &#0; &#27; &");
    feed(*state, LOG("INFO: {\"storage_info\": {\"total_blocks\":2048, \"prod_name\":\"x y\"}}"));
    expect(*state, XML_LOG, "value",
           "INFO: {\"storage_info\": {\"total_blocks\":2048, \"prod_name\":\"x y\"}}");
    feed(*state, LOG("\xf0\xe9\x88\x14 and \xff\x01 caf\xc3\xa9"));
    expect(*state, XML_LOG, "value", "\\xf0\\xe9\\x88\\x14 and \\xff\\x01 caf\xc3\xa9");
    feed(*state, LOG("<response value='ACK' />"));
    expect(*state, XML_LOG, "value", "<response value='ACK' />");
    feed(*state, LOG("x") HEAD "<data><log value='it's \"so\"' level='3'/></data>");
    expect(*state, XML_LOG, "value", "x");
    expect(*state, XML_LOG, "value", "it's \"so\"");
    feed(*state, HEAD "<data><logger value='a'/></data>" HEAD "<data><log value='line\none'/></data>");
    expect(*state, XML_OTHER, "value", "a");
    expect(*state, XML_LOG, "value", "line one");
    expect_nothing(*state);
}

static void test_nul_in_log(void **state)
{
    static const char text[] = HEAD "<data><log value=\"a\0b\" /></data>";
    assert_int_equal(xml_splitter_feed(*state, text, sizeof(text) - 1), 0);
    expect(*state, XML_LOG, "value", "a\\x00b");
}

/* A response is taken as it was sent or not at all. */
static void test_broken_responses(void **state)
{
    static const char *const bad[] = {
        HEAD "<data><response value=\"ACK\" value=\"NAK\" /></data>",
        HEAD "<data><response value=\"ACK\"rawmode=\"true\" /></data>",
        HEAD "<data><response value=\"A&CK\" /></data>",
        HEAD "<data><response value=\"ACK\" </data>",
        HEAD "<data><response value=\"ACK\"></data>",
        HEAD "<patches><response value=\"ACK\" /></data>",
        HEAD "<data><data><response value=\"ACK\" /></data>",
        HEAD "</data>",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        feed(*state, bad[i]);
        expect_garbage(*state, strlen(bad[i]));
        expect_nothing(*state);
    }
    feed(*state, HEAD "<data><response value=\"AC\xffK\" /></data>");
    expect(*state, XML_RESPONSE, "value", "AC\\xffK");
}

static void test_dtd_and_entities(void **state)
{
    static const char *const bad[] = {
        "<?xml version=\"1.0\"?><!DOCTYPE data [<!ENTITY a \"ACK\">]><data><response value=\"&a;\"/></data>",
        "<?xml version=\"1.0\"?><!DOCTYPE data SYSTEM \"file:///etc/passwd\"><data><response "
        "value=\"ACK\"/></data>",
        "<?xml version=\"1.0\"?><!DOCTYPE data [<!ENTITY a \"1111111111\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">"
        "<!ENTITY c \"&b;&b;&b;&b;&b;&b;\">]><data><log value=\"&c;\"/></data>",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        feed(*state, bad[i]);
        expect_garbage(*state, strlen(bad[i]));
    }
    feed(*state, HEAD "<data><response value=\"&a;\"/></data>" ACK);
    expect_garbage(*state, strlen(HEAD "<data><response value=\"&a;\"/></data>"));
    expect(*state, XML_RESPONSE, "value", "ACK");
}

static void test_garbage(void **state)
{
    feed(*state, "garbage" ACK);
    expect_garbage(*state, 7);
    expect(*state, XML_RESPONSE, "value", "ACK");

    feed(*state, "\xf0\xe9\x88\x14<?x"); /* what may become a start stays */
    expect_garbage(*state, 4);
    expect_nothing(*state);
    feed(*state, ACK + 3);
    expect(*state, XML_RESPONSE, "value", "ACK");

    feed(*state, "no document at all");
    expect_garbage(*state, 18);
    assert_int_equal(xml_splitter_buffered(*state), 0);

    /* A document that was cut, and the next one. */
    feed(*state, HEAD "<data><log val" ACK);
    expect_garbage(*state, strlen(HEAD "<data><log val"));
    expect(*state, XML_RESPONSE, "value", "ACK");
}

static void test_long_line(void **state)
{
    char piece[4096];
    memset(piece, 'a', sizeof(piece));
    feed(*state, HEAD "<data><log value=\"");
    int r = 0;
    size_t fed = 0;
    for (; r == 0 && fed < 1024 * 1024; fed += sizeof(piece)) {
        r = xml_splitter_feed(*state, piece, sizeof(piece));
        expect_nothing(*state);
    }
    assert_int_equal(r, -ENOBUFS);
    assert_true(fed <= XML_DOCUMENT_MAX + 2 * sizeof(piece));
    assert_int_equal(xml_splitter_buffered(*state), 0);
    /* Its rest is garbage, and then it goes on. */
    feed(*state, "aaaa\" /></data>" ACK);
    expect_garbage(*state, 15);
    expect(*state, XML_RESPONSE, "value", "ACK");
    char *much = calloc(1, XML_DOCUMENT_MAX + 1);
    assert_non_null(much);
    assert_int_equal(xml_splitter_feed(*state, much, XML_DOCUMENT_MAX + 1), -ENOBUFS);
    free(much);
}

static void test_long_line_within(void **state)
{
    char piece[4000 + 1];
    memset(piece, '"', sizeof(piece)); /* each becomes six bytes in the repair */
    piece[sizeof(piece) - 1] = '\0';
    feed(*state, HEAD "<data><log value=\"");
    for (int i = 0; i < 15; i++)
        feed(*state, piece);
    feed(*state, "\" /></data>");
    struct xml_document *d = NULL;
    size_t garbage;
    assert_int_equal(xml_splitter_next(*state, &d, &garbage), 1);
    assert_int_equal(strlen(xml_attribute(d, "value")), 15 * 4000);
    xml_document_free(d);
}

static void test_raw(void **state)
{
    char buffer[64];
    feed(*state, ACK "<?xml raw </data>\n");
    expect(*state, XML_RESPONSE, "value", "ACK");
    assert_int_equal(xml_splitter_buffered(*state), 18);
    assert_int_equal(xml_splitter_take_raw(*state, buffer, 5), 5);
    assert_memory_equal(buffer, "<?xml", 5);
    assert_int_equal(xml_splitter_take_raw(*state, buffer, sizeof(buffer)), 13);
    assert_memory_equal(buffer, " raw </data>\n", 13);
    assert_int_equal(xml_splitter_take_raw(*state, buffer, sizeof(buffer)), 0);
    feed(*state, ACK);
    expect(*state, XML_RESPONSE, "value", "ACK");
}

static void test_padding(void **state)
{
    assert_int_equal(xml_splitter_feed(*state, "\0\nx", 3), 0);
    assert_false(xml_splitter_drop_padding(*state, 3));
    assert_false(xml_splitter_drop_padding(*state, 4));
    assert_int_equal(xml_splitter_buffered(*state), 3);
    assert_true(xml_splitter_drop_padding(*state, 2));
    assert_int_equal(xml_splitter_buffered(*state), 1);
    assert_true(xml_splitter_drop_padding(*state, 0));
}

static void test_tail(void **state)
{
    size_t tail;
    feed(*state, ACK);
    expect(*state, XML_RESPONSE, "value", "ACK");
    assert_false(xml_splitter_tail(*state, &tail));
    assert_int_equal(xml_splitter_feed(*state, "\0\0", 2), 0);
    expect_nothing(*state);
    feed(*state, "\n" ACK "x");
    expect(*state, XML_RESPONSE, "value", "ACK");
    assert_true(xml_splitter_tail(*state, &tail));
    assert_int_equal(tail, 3);
    expect_garbage(*state, 1); /* teaches nothing */
    feed(*state, ACK);
    expect(*state, XML_RESPONSE, "value", "ACK");
    assert_true(xml_splitter_tail(*state, &tail));
    assert_int_equal(tail, 3);
    feed(*state, ACK);
    expect(*state, XML_RESPONSE, "value", "ACK");
    assert_true(xml_splitter_tail(*state, &tail));
    assert_int_equal(tail, 0);
}

static void test_many_attributes(void **state)
{
    char text[2048] = HEAD "<data><response value=\"ACK\"";
    for (int i = 0; i < XML_ATTRIBUTES_MAX + 10; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), " a%d=\"%d\"", i, i);
    strcat(text, " /></data>");
    feed(*state, text);
    struct xml_document *d = NULL;
    size_t garbage;
    assert_int_equal(xml_splitter_next(*state, &d, &garbage), 1);
    assert_int_equal(d->n_attributes, XML_ATTRIBUTES_MAX);
    assert_string_equal(xml_attribute(d, "VALUE"), "ACK");
    assert_string_equal(xml_attribute(d, "a30"), "30");
    assert_null(xml_attribute(d, "a31"));
    xml_document_free(d);
}

/* Freed with a parsed document whose children were not asked for. */
static void test_left_over(void **state)
{
    feed(*state, HEAD "<data><log value='a'/><log value='b'/></data>");
    expect(*state, XML_LOG, "value", "a");
    assert_null(xml_splitter_free(NULL));
    assert_null(xml_document_free(NULL));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_kinds),
        T(test_split_everywhere),
        T(test_byte_by_byte),
        T(test_several_children),
        T(test_empty_data),
        T(test_escapes),
        T(test_broken_logs),
        T(test_nul_in_log),
        T(test_broken_responses),
        T(test_dtd_and_entities),
        T(test_garbage),
        T(test_long_line),
        T(test_long_line_within),
        T(test_raw),
        T(test_padding),
        T(test_tail),
        T(test_many_attributes),
        T(test_left_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
