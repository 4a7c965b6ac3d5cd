/* Signatures against the numbers that AWS publishes: the SigV4 test suite, and the examples of the
 * S3 reference. */
#include "backends/aws/sigv4.h"

#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* ---- the test suite: 2015-08-30, service "service" ---- */

static const struct sigv4_scope suite = {.access_key = "AKIDEXAMPLE",
                                         .secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                                         .region = "us-east-1",
                                         .service = "service"};

static void expect(const struct sigv4_request *request, const struct sigv4_scope *scope,
                   const char *time, const char *authorization)
{
    struct sigv4_key key = {0};
    struct arena arena;

    arena_init(&arena, NULL);
    for (int i = 0; i < 2; i++) /* with a key that is made, and with one that is there */
        assert_string_equal(sigv4_authorization(request, scope, &key, time, &arena), authorization);
    arena_clear(&arena);
}

static void expect_suite(const char *method, const char *query, const char *signature)
{
    static const struct sigv4_header headers[] = {{"host", "example.amazonaws.com"},
                                                  {"x-amz-date", "20150830T123600Z"}};
    const struct sigv4_request request = {.method = method,
                                          .path = "/",
                                          .query = query,
                                          .headers = headers,
                                          .header_count = ARRAY_LEN(headers),
                                          .payload = EMPTY};
    char text[512];

    snprintf(text, sizeof text,
             "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
             "SignedHeaders=host;x-amz-date, Signature=%s",
             signature);
    expect(&request, &suite, "20150830T123600Z", text);
}

static void signs_as_the_test_suite(void **state)
{
    (void)state;
    expect_suite("GET", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    expect_suite("POST", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
    expect_suite("GET", "Param1=value1&Param2=value2",
                 "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
}

/* ---- the examples of the S3 reference: 2013-05-24 ---- */

static const struct sigv4_scope s3 = {.access_key = "AKIAIOSFODNN7EXAMPLE",
                                      .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                                      .region = "us-east-1",
                                      .service = "s3"};

#define S3_DATE "20130524T000000Z"
#define S3_SIGNED(NAMES, SIGNATURE)                                                                \
    "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "        \
    "SignedHeaders=" NAMES ", Signature=" SIGNATURE

static void signs_a_get_of_a_range(void **state)
{
    static const struct sigv4_header headers[] = {{"host", "examplebucket.s3.amazonaws.com"},
                                                  {"range", "bytes=0-9"},
                                                  {"x-amz-content-sha256", EMPTY},
                                                  {"x-amz-date", S3_DATE}};
    const struct sigv4_request request = {.method = "GET",
                                          .path = "/test.txt",
                                          .query = "",
                                          .headers = headers,
                                          .header_count = ARRAY_LEN(headers),
                                          .payload = EMPTY};

    (void)state;
    expect(&request, &s3, S3_DATE,
           S3_SIGNED("host;range;x-amz-content-sha256;x-amz-date",
                     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"));
}

static void signs_a_put(void **state)
{
    static const char payload[] =
        "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    static const struct sigv4_header headers[] = {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
                                                  {"host", "examplebucket.s3.amazonaws.com"},
                                                  {"x-amz-content-sha256", payload},
                                                  {"x-amz-date", S3_DATE},
                                                  {"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
    char path[64] = "/";
    const struct sigv4_request request = {.method = "PUT",
                                          .path = path,
                                          .query = "",
                                          .headers = headers,
                                          .header_count = ARRAY_LEN(headers),
                                          .payload = payload};
    const struct slice body = slice_str("Welcome to Amazon S3.");
    struct digest digest = digest_of(&body, 1);
    char hex[DIGEST_HEX];

    (void)state;
    digest_hex(&digest, hex);
    assert_memory_equal(hex, payload, DIGEST_HEX);
    sigv4_encode(slice_str("test$file.text"), true, path + 1);
    expect(&request, &s3, S3_DATE,
           S3_SIGNED("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"));
}

static void signs_queries(void **state)
{
    static const struct sigv4_header headers[] = {{"host", "examplebucket.s3.amazonaws.com"},
                                                  {"x-amz-content-sha256", EMPTY},
                                                  {"x-amz-date", S3_DATE}};
    struct sigv4_request request = {.method = "GET",
                                    .path = "/",
                                    .query = "lifecycle=",
                                    .headers = headers,
                                    .header_count = ARRAY_LEN(headers),
                                    .payload = EMPTY};

    (void)state;
    expect(&request, &s3, S3_DATE,
           S3_SIGNED("host;x-amz-content-sha256;x-amz-date",
                     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"));
    request.query = "max-keys=2&prefix=J";
    expect(&request, &s3, S3_DATE,
           S3_SIGNED("host;x-amz-content-sha256;x-amz-date",
                     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"));
}

static void the_key_follows_the_day(void **state)
{
    static const struct sigv4_header headers[] = {{"host", "h"}};
    const struct sigv4_request request = {.method = "GET",
                                          .path = "/",
                                          .query = "",
                                          .headers = headers,
                                          .header_count = 1,
                                          .payload = EMPTY};
    struct sigv4_key kept = {0};
    struct arena arena;

    (void)state;
    arena_init(&arena, NULL);
    for (int day = 10; day < 20; day++) {
        struct sigv4_key fresh = {0};
        char time[SIGV4_TIME_BYTES];

        snprintf(time, sizeof time, "201503%02dT000000Z", day);
        assert_string_equal(sigv4_authorization(&request, &suite, &kept, time, &arena),
                            sigv4_authorization(&request, &suite, &fresh, time, &arena));
    }
    sigv4_forget(&kept);
    assert_string_equal(kept.day, "");
    arena_clear(&arena);
}

static void spells_time_and_bytes(void **state)
{
    char time[SIGV4_TIME_BYTES], out[64];

    (void)state;
    sigv4_time(1369353600, time);
    assert_string_equal(time, S3_DATE);
    assert_int_equal(sigv4_encode(slice_of("a/b c~\xff\0=", 9), true, out), 17);
    assert_string_equal(out, "a/b%20c~%FF%00%3D");
    sigv4_encode(slice_str("a/b"), false, out);
    assert_string_equal(out, "a%2Fb");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs_as_the_test_suite),
        cmocka_unit_test(signs_a_get_of_a_range),
        cmocka_unit_test(signs_a_put),
        cmocka_unit_test(signs_queries),
        cmocka_unit_test(the_key_follows_the_day),
        cmocka_unit_test(spells_time_and_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
